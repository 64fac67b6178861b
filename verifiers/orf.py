"""`orf`: the answer against the longest open reading frames of the question's DNA.

rlvr verifiers check orf
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlvr.questions.biology.sequences import longest_orfs
from rlvr.types import Completion, Error, Question, Verdict
from rlvr.verifier import Verifier

from ._common import BAD_ANSWER
from ._sequence import dna, grade


@dataclass(frozen=True)
class Orf(Verifier):
    """1.0 for the bases of a longest open reading frame of `fields["sequence"]`, from ATG to TAA, TAG or TGA, both
    included; where several tie, any of them. `fields["strands"]` says where to look: "forward" or "both"; a frame of
    the other strand is written as it reads there, 5' to 3'.

    Raises where the truth is none of the longest, or the sequence has no frame that is complete.
    """

    name: ClassVar[str] = "orf"
    tasks: ClassVar[tuple[str, ...]] = ("sequence/orf",)
    catches: ClassVar[frozenset[str]] = BAD_ANSWER

    def verify(self, question: Question, completion: Completion) -> Verdict:
        strands = question.fields["strands"]
        if strands not in ("forward", "both"):
            raise Error(f"question {question.id}: strands is {strands!r}; it must be forward or both")
        longest = longest_orfs(dna(question), both_strands=strands == "both")
        statement = f"longest on {strands}: {' or '.join(sorted(longest))}"
        return grade(question, completion, longest, statement, partial=False)
