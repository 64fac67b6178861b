"""`response`: none, up or down.

`rlvr score ROLLOUTS --verifier response` applies it to saved completions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlvr.types import Completion, Error, Question, Verdict
from rlvr.verifier import Verifier

from ._common import BAD_ANSWER, exact

CLASSES = ("none", "up", "down")


@dataclass(frozen=True)
class Response(Verifier):
    """1.0 if the answer is the measured one of three classes, else 0.0. Any other truth is an error.

    There is no partial credit for seeing a change and missing its sign. With a credit c, always answering "up"
    would expect P(up) + c P(down) and always "none" only P(none): with equal classes and c = .25 that is .42
    against .33, so claiming changes would pay without knowing any. Exact, every constant expects its own share.
    """

    name: ClassVar[str] = "response"
    tasks: ClassVar[tuple[str, ...]] = ("perturbation/response",)
    catches: ClassVar[frozenset[str]] = BAD_ANSWER

    def verify(self, question: Question, completion: Completion) -> Verdict:
        if question.truth["answer"] not in CLASSES:
            raise Error(f"question {question.id}: truth {question.truth['answer']!r} is none of {', '.join(CLASSES)}")
        return exact(question, completion)
