"""`label`: the answer against the measured truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlvr.types import Completion, Evidence, Question, Reason, Verdict
from rlvr.verifier import Verifier


@dataclass(frozen=True)
class Label(Verifier):
    """1.0 if the answer is `truth["answer"]`, else 0.0. A question without that key is an error."""

    name: ClassVar[str] = "label"

    def verify(self, question: Question, completion: Completion) -> Verdict:
        measured = question.truth["answer"]
        if completion.answer is None:
            return Verdict(0.0, Reason.UNPARSED)
        right = completion.answer == measured
        evidence = Evidence(question.source, question.id, f"measured: {measured}", right)
        return Verdict(float(right), Reason.CORRECT if right else Reason.WRONG, (evidence,))
