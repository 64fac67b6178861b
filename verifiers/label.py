"""`label`: the answer against the measured truth.

`rlvr score ROLLOUTS --verifier label` applies it to saved completions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlvr.types import Completion, Question, Verdict
from rlvr.verifier import Verifier

from ._common import BAD_ANSWER, exact


@dataclass(frozen=True)
class Label(Verifier):
    """1.0 if the answer is `truth["answer"]`, else 0.0. A question without that key is an error.

    For every task whose truth is one word; not for stated probabilities, which `brier` and `log_score` judge.
    """

    name: ClassVar[str] = "label"
    catches: ClassVar[frozenset[str]] = BAD_ANSWER

    def applies(self, question: Question) -> bool:
        return isinstance(question.truth["answer"], str) and not question.task.endswith("_probability")

    def verify(self, question: Question, completion: Completion) -> Verdict:
        return exact(question, completion)
