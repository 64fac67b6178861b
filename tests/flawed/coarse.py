"""Planted flaw, for `wrong_answers` to find: takes one change for the other: down is as good as up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlvr.types import Completion, Question, Reason, Verdict
from rlvr.verifier import Verifier


@dataclass(frozen=True)
class Coarse(Verifier):
    name: ClassVar[str] = "coarse"
    tasks: ClassVar[tuple[str, ...]] = ("perturbation/response",)

    def verify(self, question: Question, completion: Completion) -> Verdict:
        changed = question.truth["answer"] != "none"
        right = completion.answer is not None and (completion.answer != "none") == changed
        return Verdict(float(right), Reason.CORRECT if right else Reason.WRONG)
