"""`cites_evidence`: the thought names measurements that the prompt shows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from rlvr.types import Completion, Evidence, Question, Reason, Verdict
from rlvr.verifier import Honest, Verifier

_WORD = re.compile(r"[\w-]+")  # one character class: linear in the text


@dataclass(frozen=True)
class CitesEvidence(Verifier):
    """1.0 if the thought names at least `least` of the perturbations whose measurements the prompt shows, as whole
    words; in part for fewer.

    A list of genes is no citation: 0.0 where the thought holds more than `most` different words in capitals.
    Abstains where the prompt shows no evidence.
    """

    name: ClassVar[str] = "cites_evidence"
    version: ClassVar[str] = "1.2"
    tasks: ClassVar[tuple[str, ...]] = ("perturbation/response", "perturbation/direction", "perturbation/effect")
    catches: ClassVar[frozenset[str]] = frozenset(
        {"several_blocks", "answer_first", "nested_tags", "empty_thought", "stuffed_genes", "both_answers", "hedging"}
    )

    least: int = 1
    most: int = 15

    def applies(self, question: Question) -> bool:
        return super().applies(question) and bool(question.fields.get("evidence"))

    def verify(self, question: Question, completion: Completion) -> Verdict:
        if completion.answer is None:
            return Verdict(0.0, Reason.UNPARSED)
        shown = {str(item["perturbation"]): str(item["answer"]) for item in question.fields["evidence"]}
        words = set(_WORD.findall(completion.thought or ""))
        if sum(word.isupper() and len(word) > 1 for word in words) > self.most:
            return Verdict(0.0, Reason.STUFFED)
        cited = [gene for gene in shown if gene in words]
        facts = tuple(Evidence(question.source, gene, f"measured: {shown[gene]}", True) for gene in cited)
        needed = min(self.least, len(shown))
        if len(cited) >= needed:
            return Verdict(1.0, Reason.CORRECT, facts)
        return Verdict(len(cited) / needed, Reason.PARTIAL if cited else Reason.MISSING, facts)

    def honest(self, question: Question) -> Honest:
        shown = [str(item["perturbation"]) for item in question.fields["evidence"]]
        return Honest(f"Measured before: {' and '.join(shown[: self.least])}.", question.truth["answer"])
