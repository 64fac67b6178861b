"""`format`: exactly one thought, then exactly one answer, nothing after.

`rlvr score ROLLOUTS --verifier format` applies it to saved completions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlvr.types import Completion, Question, Reason, Verdict
from rlvr.verifier import Verifier

from ._common import MALFORMED, thinks


@dataclass(frozen=True)
class Format(Verifier):
    """1.0 for a finished completion with the full structure and a thought that holds a letter or a digit.

    Whether the word in the answer's place is an allowed or a right one is for `label` to say.
    """

    name: ClassVar[str] = "format"
    catches: ClassVar[frozenset[str]] = MALFORMED | {"empty_thought"}

    def verify(self, question: Question, completion: Completion) -> Verdict:
        if thinks(completion) and completion.finished:
            return Verdict(1.0, Reason.WELL_FORMED)
        return Verdict(0.0, Reason.MALFORMED)
