"""What a check is, and what it finds.

    @check(Severity.REFUSE, "https://github.com/huggingface/trl/issues/6789")
    def sampling_is_not_truncated(setup: Setup) -> str | None:
        return "grpo.top_p ..." if ... else None

A check gives a sentence where something is wrong (what, and what to do), and None where nothing is. One whose `needs`
could not be had (no model, no questions) is not made: what was missing is a finding already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlvr.training.doctor.facts import Setup


class Severity(StrEnum):
    """How bad a finding is: a run would fail or teach nothing (refuse), or be worse than it could be (warn)."""

    REFUSE = "refuse"
    WARN = "warn"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong; `link` is where upstream or a paper says so, or empty."""

    check: str
    severity: Severity
    message: str
    link: str = ""


@dataclass(frozen=True)
class Check:
    """A named question to a setup."""

    name: str
    severity: Severity
    link: str
    needs: tuple[str, ...]
    look: Callable[[Setup], str | None]

    def __call__(self, setup: Setup) -> Iterator[Finding]:
        """The finding, if there is one."""
        if any(getattr(setup, need) is None for need in self.needs):
            return
        if message := self.look(setup):
            yield Finding(self.name, self.severity, message, self.link)


Look = Callable[..., str | None]


def check(severity: Severity, link: str = "", needs: Iterable[str] = ()) -> Callable[[Look], Check]:
    """Makes a check of a function. `needs`: the fields of Setup that it reads and that may be None."""

    def make(look: Look) -> Check:
        return Check(look.__name__, severity, link, tuple(needs), look)

    return make


def gathered(namespace: dict[str, object]) -> tuple[Check, ...]:
    """The checks of a module, in the order of its file: `CHECKS = gathered(globals())`."""
    return tuple(value for value in namespace.values() if isinstance(value, Check))
