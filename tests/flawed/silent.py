"""Planted flaw, for `abstention` to find: says nothing of wrong answers: silence pays more than a wrong guess."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlvr.types import Completion, Question, Reason, Verdict
from rlvr.verifier import Verifier


@dataclass(frozen=True)
class Silent(Verifier):
    name: ClassVar[str] = "silent"
    tasks: ClassVar[tuple[str, ...]] = ("perturbation/response",)

    def verify(self, question: Question, completion: Completion) -> Verdict:
        if completion.answer is None:
            return Verdict(0.0, Reason.UNPARSED)
        if completion.answer != question.truth["answer"]:
            return Verdict(None, Reason.NOT_APPLICABLE)
        return Verdict(1.0, Reason.CORRECT)
