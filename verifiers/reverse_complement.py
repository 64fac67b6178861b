"""`reverse_complement`: the answer against the other strand of the question's DNA.

rlvr verifiers check reverse_complement
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlvr.questions.biology import sequences
from rlvr.types import Completion, Question, Verdict
from rlvr.verifier import Verifier

from ._common import BAD_ANSWER
from ._sequence import dna, grade


@dataclass(frozen=True)
class ReverseComplement(Verifier):
    """1.0 for the reverse complement of `fields["sequence"]`, 5' to 3', with IUPAC's codes of ambiguity (R pairs
    with Y). With `partial`, a wrong strand earns its aligned likeness, below 1.

    Raises where the truth is not Biopython's reverse complement.
    """

    name: ClassVar[str] = "reverse_complement"
    tasks: ClassVar[tuple[str, ...]] = ("sequence/reverse_complement",)
    catches: ClassVar[frozenset[str]] = BAD_ANSWER
    partial: bool = False

    def verify(self, question: Question, completion: Completion) -> Verdict:
        other = sequences.reverse_complement(dna(question))
        return grade(question, completion, {other}, f"the other strand is {other}", partial=self.partial)
