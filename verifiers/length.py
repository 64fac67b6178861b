"""`length`: short enough.

`rlvr score ROLLOUTS --verifier length` applies it to saved completions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlvr.types import Completion, Error, Question, Reason, Verdict
from rlvr.verifier import Verifier

from ._common import MALFORMED, thinks

CHARACTERS = 16  # count as one word where white space is rare, so that leaving it out gains nothing


@dataclass(frozen=True)
class Length(Verifier):
    """Soft overlong punishment (DAPO, arXiv:2503.14476), in words: 1.0 up to `free`, falling in a line to 0 at `most`.

    The whole completion counts. An empty thought, a completion that was cut off, and one without a readable
    answer score 0: brevity alone is worth nothing.
    """

    name: ClassVar[str] = "length"
    catches: ClassVar[frozenset[str]] = MALFORMED | {"empty_thought", "megabyte"}

    free: int = 300
    most: int = 600

    def __post_init__(self) -> None:
        if not 0 < self.free < self.most:
            raise Error(f"length: free is {self.free} and most {self.most}; they must rise from above 0")

    def verify(self, question: Question, completion: Completion) -> Verdict:
        if completion.answer is None:
            return Verdict(0.0, Reason.UNPARSED)
        if not thinks(completion):
            return Verdict(0.0, Reason.MALFORMED)
        words = max(len(completion.text.split()), len(completion.text) // CHARACTERS)
        score = min(1.0, max(0.0, (self.most - words) / (self.most - self.free)))
        return Verdict(score, Reason.WELL_FORMED if score == 1.0 else Reason.TOO_LONG)
