"""Planted flaw, for `verdicts` to find: divides by what may be nothing, and hides the NaN from Verdict's own check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlvr.types import Completion, Question, Reason, Verdict
from rlvr.verifier import Verifier


@dataclass(frozen=True)
class NotANumber(Verifier):
    name: ClassVar[str] = "not_a_number"
    tasks: ClassVar[tuple[str, ...]] = ("perturbation/response",)

    def verify(self, question: Question, completion: Completion) -> Verdict:
        right = completion.answer == question.truth["answer"]
        verdict = Verdict(float(right), Reason.CORRECT if right else Reason.WRONG)
        if not completion.text:
            object.__setattr__(verdict, "score", float("nan"))
        return verdict
