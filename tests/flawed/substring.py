"""Planted flaw, for `malformed` to find: reads the right word anywhere in the text, as a first draft does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlvr.types import Completion, Question, Reason, Verdict
from rlvr.verifier import Verifier


@dataclass(frozen=True)
class Substring(Verifier):
    name: ClassVar[str] = "substring"
    tasks: ClassVar[tuple[str, ...]] = ("perturbation/response",)

    def verify(self, question: Question, completion: Completion) -> Verdict:
        word = {"none": "unchanged", "up": "higher", "down": "lower"}[question.truth["answer"]]
        right = word in completion.text.lower()
        return Verdict(float(right), Reason.CORRECT if right else Reason.WRONG)
