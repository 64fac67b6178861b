"""Planted flaw, for `speed` to find: waits for nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

from rlvr.types import Completion, Question, Reason, Verdict
from rlvr.verifier import Verifier


@dataclass(frozen=True)
class Sleeper(Verifier):
    name: ClassVar[str] = "sleeper"
    tasks: ClassVar[tuple[str, ...]] = ("perturbation/response",)

    def verify(self, question: Question, completion: Completion) -> Verdict:
        time.sleep(0.01)
        right = completion.answer == question.truth["answer"]
        return Verdict(float(right), Reason.CORRECT if right else Reason.WRONG)
