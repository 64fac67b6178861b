"""`variant_effect`: what a variant of a coding sequence does to the protein.

rlvr verifiers check variant_effect
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlvr.questions.biology.sequences import effect
from rlvr.types import Completion, Evidence, Question, Reason, Verdict
from rlvr.verifier import Verifier

from ._common import BAD_ANSWER
from ._sequence import agree, dna


@dataclass(frozen=True)
class VariantEffect(Verifier):
    """1.0 for the effect of `fields["variant"]` (c.7A>G, c.5del, c.5_7del, c.5_6insAC) on the protein of
    `fields["sequence"]`, read from its first base: synonymous, missense, nonsense, frameshift or inframe.

    Raises where the truth is not what translating both sequences shows.
    """

    name: ClassVar[str] = "variant_effect"
    tasks: ClassVar[tuple[str, ...]] = ("sequence/variant_effect",)
    catches: ClassVar[frozenset[str]] = BAD_ANSWER

    def verify(self, question: Question, completion: Completion) -> Verdict:
        variant = str(question.fields["variant"])
        found = effect(dna(question), variant)
        agree(question, {found})
        if completion.answer is None:
            return Verdict(0.0, Reason.UNPARSED)
        right = completion.answer == found
        evidence = Evidence("Biopython", question.id, f"{variant} is {found}", right)
        return Verdict(float(right), Reason.CORRECT if right else Reason.WRONG, (evidence,))
