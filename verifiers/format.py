"""`format`: exactly one thought, then exactly one answer, nothing after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlvr.types import Completion, Question, Reason, Verdict
from rlvr.verifier import Verifier


@dataclass(frozen=True)
class Format(Verifier):
    """1.0 for a finished completion with the full structure and a thought that holds a letter or a digit.

    Whether the word in the answer's place is an allowed or a right one is for `label` to say.
    """

    name: ClassVar[str] = "format"

    def verify(self, question: Question, completion: Completion) -> Verdict:
        # White space, punctuation or invisible characters alone are no thought.
        thinks = completion.thought is not None and any(map(str.isalnum, completion.thought))
        if thinks and completion.finished:
            return Verdict(1.0, Reason.WELL_FORMED)
        return Verdict(0.0, Reason.MALFORMED)
