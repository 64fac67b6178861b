"""Planted flaw, for `picklable` to find: holds a lock: it cannot be sent to a worker."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, ClassVar

from rlvr.types import Completion, Question, Reason, Verdict
from rlvr.verifier import Verifier


@dataclass(frozen=True)
class Locked(Verifier):
    name: ClassVar[str] = "locked"
    tasks: ClassVar[tuple[str, ...]] = ("perturbation/response",)

    lock: Any = field(default_factory=threading.Lock)

    def verify(self, question: Question, completion: Completion) -> Verdict:
        right = completion.answer == question.truth["answer"]
        return Verdict(float(right), Reason.CORRECT if right else Reason.WRONG)
