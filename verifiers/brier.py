"""`brier`: a stated probability against what happened.

`rlvr score ROLLOUTS --verifier brier` applies it to saved completions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlvr.types import Completion, Question, Reason, Verdict
from rlvr.verifier import Verifier

from ._common import BAD_ANSWER, graded, happened


@dataclass(frozen=True)
class Brier(Verifier):
    """1 - (p - y)^2, with p the stated probability and y 1 where it came true, else 0 (Brier 1950,
    doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2).

    Proper: whoever believes p expects the most by saying p. Saying .5 always earns .75, so what counts is what
    lies above that. An unparsed answer scores 0, as a certain and wrong one does.
    """

    name: ClassVar[str] = "brier"
    tasks: ClassVar[tuple[str, ...]] = ("*_probability",)
    catches: ClassVar[frozenset[str]] = BAD_ANSWER
    proper: ClassVar[bool] = True

    def verify(self, question: Question, completion: Completion) -> Verdict:
        true = happened(question)
        if completion.answer is None:
            return Verdict(0.0, Reason.UNPARSED)
        probability = float(completion.answer)
        return graded(question, 1.0 - (probability - true) ** 2, f"measured: {question.truth['answer']}")
