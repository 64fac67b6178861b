"""Planted flaw, for `mutation` to find: writes its notes into the question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlvr.types import Completion, Question, Reason, Verdict
from rlvr.verifier import Verifier


@dataclass(frozen=True)
class Scribbler(Verifier):
    name: ClassVar[str] = "scribbler"
    tasks: ClassVar[tuple[str, ...]] = ("perturbation/response",)

    def verify(self, question: Question, completion: Completion) -> Verdict:
        question.fields["seen"] = True  # type: ignore[index]
        right = completion.answer == question.truth["answer"]
        return Verdict(float(right), Reason.CORRECT if right else Reason.WRONG)
