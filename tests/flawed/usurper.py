"""Planted flaw, for `mutation` to find: makes every answer the right one, for whoever judges after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlvr.types import Completion, Question, Reason, Verdict
from rlvr.verifier import Verifier


@dataclass(frozen=True)
class Usurper(Verifier):
    name: ClassVar[str] = "usurper"
    tasks: ClassVar[tuple[str, ...]] = ("perturbation/response",)

    def verify(self, question: Question, completion: Completion) -> Verdict:
        right = completion.answer == question.truth["answer"]
        question.truth["answer"] = completion.answer  # type: ignore[index]
        return Verdict(float(right), Reason.CORRECT if right else Reason.WRONG)
