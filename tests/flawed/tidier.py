"""Planted flaw, for `mutation` to find: takes from the question's own list, where verdicts are given in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rlvr.types import Completion, Question, Reason, Verdict
from rlvr.verifier import Pair, Verifier


@dataclass(frozen=True)
class Tidier(Verifier):
    name: ClassVar[str] = "tidier"
    tasks: ClassVar[tuple[str, ...]] = ("perturbation/ranking",)

    def verify(self, question: Question, completion: Completion) -> Verdict:
        return Verdict(1.0, Reason.WELL_FORMED) if completion.answer else Verdict(0.0, Reason.UNPARSED)

    def verify_batch(self, pairs: Sequence[Pair]) -> list[Verdict]:
        for question, _ in pairs:
            question.truth["answer"].reverse()
        return [self.verify(question, completion) for question, completion in pairs]
