"""`log_score`: the logarithm of the probability that was given to what happened.

`rlvr score ROLLOUTS --verifier log_score` applies it to saved completions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from rlvr.types import Completion, Error, Question, Reason, Verdict
from rlvr.verifier import Verifier

from ._common import BAD_ANSWER, graded, happened


@dataclass(frozen=True)
class LogScore(Verifier):
    """log q, with q the stated probability of what happened, moved and scaled to [0, 1] (Good 1952).

    The logarithm has no lower bound, so the stated probability p is first clipped to [floor, 1 - floor], at both
    ends: were only q clipped from below, saying 0 would beat saying the truth for small probabilities. Proper
    everywhere, and strictly between floor and 1 - floor; beyond them, saying the truth and saying 0 or 1 are the
    same. q = floor scores 0, q = 1 - floor scores 1.0. An unparsed answer scores 0.
    """

    name: ClassVar[str] = "log_score"
    tasks: ClassVar[tuple[str, ...]] = ("*_probability",)
    catches: ClassVar[frozenset[str]] = BAD_ANSWER
    proper: ClassVar[bool] = True

    floor: float = 0.01

    def __post_init__(self) -> None:
        if not 0.0 < self.floor < 0.5:
            raise Error(f"log_score: floor is {self.floor}; it must lie between 0 and .5")

    def verify(self, question: Question, completion: Completion) -> Verdict:
        true = happened(question)
        if completion.answer is None:
            return Verdict(0.0, Reason.UNPARSED)
        stated = float(completion.answer)
        given = min(max(stated if true else 1.0 - stated, self.floor), 1.0 - self.floor)
        lowest, highest = math.log(self.floor), math.log(1.0 - self.floor)
        return graded(
            question, (math.log(given) - lowest) / (highest - lowest), f"measured: {question.truth['answer']}"
        )
