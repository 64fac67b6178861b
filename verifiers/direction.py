"""`direction`: up or down, among true effects.

`rlvr score ROLLOUTS --verifier direction` applies it to saved completions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlvr.types import Completion, Question, Reason, Verdict
from rlvr.verifier import Verifier

from ._common import BAD_ANSWER, exact


@dataclass(frozen=True)
class Direction(Verifier):
    """1.0 if the answer has the direction that was measured, else 0.0.

    Of `perturbation/response` it judges true effects alone and abstains where nothing changed, so "none" is
    simply wrong for it: beside `response`, which judges all three, it weighs the direction more.
    """

    name: ClassVar[str] = "direction"
    tasks: ClassVar[tuple[str, ...]] = ("perturbation/direction", "perturbation/response")
    catches: ClassVar[frozenset[str]] = BAD_ANSWER

    def applies(self, question: Question) -> bool:
        return super().applies(question) and question.truth["answer"] in ("up", "down")

    def verify(self, question: Question, completion: Completion) -> Verdict:
        if not self.applies(question):
            return Verdict(None, Reason.NOT_APPLICABLE)
        return exact(question, completion)
