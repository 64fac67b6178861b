"""Makes foreign text and numbers fit to be read on the page and in the terminal.

Model output is hostile: it may carry bidirectional overrides, zero-width smuggling, escape sequences or
a megabyte of one letter. Everything that reaches a reader passes `rlvr.invisible.printable`; HTML escaping is Jinja's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Clip:
    """A long text as its beginning and its end (where the answer stands), and how many characters lie between."""

    head: str
    omitted: int
    tail: str


def clip(text: str, head: int = 900, tail: int = 300, lines: int = 24) -> Clip:
    """Cut the middle out of a text longer than `head + tail` characters, or of more lines than `lines` and a
    third of that after it."""
    first, last = text[:head], text[-tail:]
    if len(text) <= head + tail and text.count("\n") < lines + lines // 3:
        return Clip(text, 0, "")
    first = "\n".join(first.split("\n")[:lines])
    last = "\n".join(last.split("\n")[-(lines // 3) :])
    last = last[-min(len(last), len(text) - len(first)) :] if len(text) > len(first) else ""
    return Clip(first, len(text) - len(first) - len(last), last)


@dataclass(frozen=True)
class Metric:
    """A figure with its 95 % interval and the number of things it was taken over; None where unknown."""

    value: float
    low: float | None
    high: float | None
    n: int | None

    @classmethod
    def of(cls, found: Any) -> Metric | None:
        """Read `{"value", "low", "high", "n"}`; None if there is no finite value."""
        value = finite(found.get("value")) if isinstance(found, Mapping) else None
        if value is None:
            return None
        n = finite(found.get("n"))
        return cls(value, finite(found.get("low")), finite(found.get("high")), None if n is None else int(n))

    @property
    def interval(self) -> str:
        """'0.690 to 0.790', or a dash."""
        return "–" if self.low is None or self.high is None else f"{number(self.low)} to {number(self.high)}"

    @property
    def reading(self) -> str:
        """What a difference's interval says of it."""
        if self.low is None or self.high is None:
            return "no interval"
        return "above 0" if self.low > 0 else "below 0" if self.high < 0 else "not told apart from 0"

    def sentence(self) -> str:
        """'+0.041 (95 % interval 0.002 to 0.080, n = 240)', for a difference."""
        return f"{number(self.value, sign=True)} (95\u00a0% interval {self.interval}, n\u00a0=\u00a0{count(self.n)})"


def finite(found: Any) -> float | None:
    """The number, if it is one and finite; booleans are not numbers here."""
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        return None
    return float(found) if math.isfinite(found) else None


def number(found: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """A decimal with a true minus sign; a dash for None and for what is no number. A negative zero loses its sign."""
    if found is None or found != found:
        return "–"
    rounded = round(found, digits) + 0.0
    return f"{rounded:{'+' if sign else ''}.{digits}f}".replace("-", "−")


def count(found: int | None) -> str:
    return "unknown" if found is None else f"{found:,}"


def duration(seconds: float) -> str:
    """'48 s', '3 min 20 s' or '2 h 5 min'."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def words(name: str) -> str:
    """A key as words: `well_formed` -> 'well formed'."""
    return name.replace("_", " ").strip()


def label(name: str) -> str:
    """A key as a row's name: `evidence_vote` -> 'Evidence vote'."""
    return words(name)[:1].upper() + words(name)[1:]


def lowered(name: str) -> str:
    """A row's name within a sentence: 'Warm start + GRPO' -> 'warm start + GRPO'."""
    return name[:1].lower() + name[1:]
