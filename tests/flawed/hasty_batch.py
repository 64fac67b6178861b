"""Planted flaw, for `batch` to find: its batch form forgets what its single form checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rlvr.types import Completion, Question, Reason, Verdict
from rlvr.verifier import Pair, Verifier


@dataclass(frozen=True)
class HastyBatch(Verifier):
    name: ClassVar[str] = "hasty_batch"
    tasks: ClassVar[tuple[str, ...]] = ("perturbation/response",)

    def verify(self, question: Question, completion: Completion) -> Verdict:
        right = completion.answer == question.truth["answer"]
        return Verdict(float(right), Reason.CORRECT if right else Reason.WRONG)

    def verify_batch(self, pairs: Sequence[Pair]) -> Sequence[Verdict]:
        return [self.verify(*pair) for pair in pairs if pair[1].answer is not None]
