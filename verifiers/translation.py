"""`translation`: the answer against the protein that the question's DNA encodes.

rlvr verifiers check translation
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlvr.questions.biology.sequences import translate
from rlvr.types import Completion, Question, Verdict
from rlvr.verifier import Verifier

from ._common import BAD_ANSWER
from ._sequence import dna, grade


@dataclass(frozen=True)
class Translation(Verifier):
    """1.0 for the protein from the first base of `fields["sequence"]` to the first stop codon or the end, by genetic
    code `fields["table"]`; the stop is not written, X stands for a codon of several meanings, and a last codon of one
    or two bases is left out. With `partial`, a wrong protein earns its aligned likeness, below 1.

    Raises where the truth is not what Biopython translates.
    """

    name: ClassVar[str] = "translation"
    tasks: ClassVar[tuple[str, ...]] = ("sequence/translation",)
    catches: ClassVar[frozenset[str]] = BAD_ANSWER
    partial: bool = False

    def verify(self, question: Question, completion: Completion) -> Verdict:
        table = int(question.fields["table"])
        protein = translate(dna(question), table)
        statement = f"genetic code {table} gives {protein}"
        # An empty protein cannot be written as an answer, so it is right for no one.
        return grade(question, completion, {protein} - {""}, statement, partial=self.partial)
