"""A verifier for tests of the loop: rewards that need no policy that knows anything.

Tests put `verifiers()` in the place of what a recipe names; as a program it trains such a recipe, on any number
of ranks: accelerate launch tests/chance.py CONFIG
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, ClassVar

from rlvr.recipe import Recipe, load
from rlvr.schedules import Schedule
from rlvr.types import Completion, Question, Reason, Verdict
from rlvr.verifier import Verifier


def coin(text: str) -> int:
    """0 or 1, the same for the same text."""
    return sha256(text.encode()).digest()[0] % 2


@dataclass(frozen=True)
class Chance(Verifier):
    """1 or 0 by the text of a completion, and 0 whatever is written on every other question."""

    name: ClassVar[str] = "label"
    never: bool = False

    def verify(self, question: Question, completion: Completion) -> Verdict:
        right = coin(question.id) and coin(completion.text) and not self.never
        return Verdict(float(right), Reason.CORRECT if right else Reason.WRONG)


def verifiers(never: bool = False) -> dict[str, Any]:
    return {"label": (Chance(never), Schedule.parse(1.0, "here"), False)}


if __name__ == "__main__":
    from rlvr.training.run import Run

    Recipe.open_verifiers = lambda self: verifiers()  # type: ignore[method-assign]
    Run(load(sys.argv[1])).grpo()
