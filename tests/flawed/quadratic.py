"""Planted flaw, for `linear_time` to find: searches with an expression that starts again at every letter."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from rlvr.types import Completion, Question, Reason, Verdict
from rlvr.verifier import Verifier

HASHTAG = re.compile(r"\w+#")


@dataclass(frozen=True)
class Quadratic(Verifier):
    name: ClassVar[str] = "quadratic"
    tasks: ClassVar[tuple[str, ...]] = ("perturbation/response",)

    def verify(self, question: Question, completion: Completion) -> Verdict:
        right = completion.answer == question.truth["answer"] and not HASHTAG.search(completion.thought or "")
        return Verdict(float(right), Reason.CORRECT if right else Reason.WRONG)
