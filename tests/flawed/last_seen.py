"""Planted flaw, for `order` to find: pays less where the completion before was to the same question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlvr.types import Completion, Question, Reason, Verdict
from rlvr.verifier import Verifier

SEEN: dict[str, str] = {}


@dataclass(frozen=True)
class LastSeen(Verifier):
    name: ClassVar[str] = "last_seen"
    tasks: ClassVar[tuple[str, ...]] = ("perturbation/response",)

    def verify(self, question: Question, completion: Completion) -> Verdict:
        right = completion.answer == question.truth["answer"]
        again = SEEN.get("question") == question.id
        SEEN["question"] = question.id
        return Verdict((0.5 if again else 1.0) if right else 0.0, Reason.PARTIAL if right else Reason.WRONG)
