"""Planted flaw, for `honest_play` to find: never pays in full."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlvr.types import Completion, Question, Reason, Verdict
from rlvr.verifier import Verifier


@dataclass(frozen=True)
class Stingy(Verifier):
    name: ClassVar[str] = "stingy"
    tasks: ClassVar[tuple[str, ...]] = ("perturbation/response",)

    def verify(self, question: Question, completion: Completion) -> Verdict:
        right = completion.answer == question.truth["answer"]
        return Verdict(0.9 if right else 0.0, Reason.PARTIAL if right else Reason.WRONG)
