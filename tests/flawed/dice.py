"""Planted flaw, for `repeatable` to find: adds a little chance."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from rlvr.types import Completion, Question, Reason, Verdict
from rlvr.verifier import Verifier


@dataclass(frozen=True)
class Dice(Verifier):
    name: ClassVar[str] = "dice"
    tasks: ClassVar[tuple[str, ...]] = ("perturbation/response",)

    def verify(self, question: Question, completion: Completion) -> Verdict:
        right = completion.answer == question.truth["answer"]
        return Verdict(1.0 if right else random.random() / 100, Reason.CORRECT if right else Reason.WRONG)
