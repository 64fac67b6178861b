"""`repetition`: the thought does not go round in circles.

`rlvr score ROLLOUTS --verifier repetition` applies it to saved completions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from rlvr.types import Completion, Error, Question, Reason, Verdict
from rlvr.verifier import Verifier

from ._common import MALFORMED, thinks

LONGEST = 500_000  # characters: no thought, and memory stays bounded
# Longer runs of letters are cut into words, so that leaving out white space hides nothing. Linear in the text.
_WORD = re.compile(r"\w{1,40}")


@dataclass(frozen=True)
class Repetition(Verifier):
    """The share of the thought's n-grams of words that are new, case and punctuation aside (after the repetition
    penalty of arXiv:2502.03373).

    A thought of fewer than n words scores 1.0, an empty one 0; so does one beyond half a million characters, and a
    completion without a readable answer.
    """

    name: ClassVar[str] = "repetition"
    catches: ClassVar[frozenset[str]] = MALFORMED | {"empty_thought", "repeated"}

    n: int = 4

    def __post_init__(self) -> None:
        if self.n < 1:
            raise Error(f"repetition: n is {self.n}; it must be at least 1")

    def verify(self, question: Question, completion: Completion) -> Verdict:
        if completion.answer is None:
            return Verdict(0.0, Reason.UNPARSED)
        if completion.thought is None or not thinks(completion):
            return Verdict(0.0, Reason.MALFORMED)
        if len(completion.thought) > LONGEST:
            return Verdict(0.0, Reason.TOO_LONG)
        words = _WORD.findall(completion.thought.lower())
        total = len(words) - self.n + 1
        if total < 1:
            return Verdict(1.0, Reason.WELL_FORMED)
        new = len(set(zip(*(words[i:] for i in range(self.n)), strict=False)))
        return Verdict(new / total, Reason.WELL_FORMED if new == total else Reason.REPETITIVE)
