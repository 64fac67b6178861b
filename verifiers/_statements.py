"""What `claims` and `citation` share: they look up what a thought says of the question's own genes.

The command that uses it is whatever names one of the two, as in `rlvr score ROLLOUTS --verifier claims`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from rlvr.knowledge.claims import Lexicon
from rlvr.knowledge.claims.lexicon import GENE_FIELDS
from rlvr.types import Completion, Question, Reason, Verdict
from rlvr.verifier import Honest, KnowledgeVerifier

LONGEST = 100_000  # characters; no thought of honest length comes near


@dataclass(frozen=True)
class Statements(KnowledgeVerifier):
    """Abstains where the knowledge base holds nothing specific of any gene of the question.

    Something must be said of the question's subject: its first gene of which anything can be said, the perturbed one as
    a rule. What is true of a readout is true in every question on that readout, and could be learnt by heart.

    most: statements of a thought, above which it is stuffed. most_genes: human genes; a term that more of them carry
    says nothing.
    """

    tasks: ClassVar[tuple[str, ...]] = ("perturbation/*", "regulation/*", "knowledge/*")
    knowledge: Literal["upstream", "sample"] = "upstream"
    most: int = 12
    most_genes: int = 1000

    @property
    def lexicon(self) -> Lexicon:
        return Lexicon.open(self.knowledge)

    @abstractmethod
    def sentence(self, gene: str, written: str, texts: tuple[str, ...]) -> str | None:
        """A sentence about a gene, which the question writes so, that earns 1.0 of a question with these texts."""

    @abstractmethod
    def judge(self, question: Question, thought: str, genes: Mapping[str, str], subject: str) -> Verdict:
        """The verdict on a thought. genes: symbol -> as the question writes it; subject: one of the symbols."""

    def applies(self, question: Question) -> bool:
        return super().applies(question) and any(question.fields.get(field) for field in GENE_FIELDS)

    def verify(self, question: Question, completion: Completion) -> Verdict:
        genes = self.lexicon.genes_of(question)
        subject, _ = self._honest(question, genes)
        if subject is None:
            return Verdict(None, Reason.UNCOVERED)
        if completion.thought is None:
            return Verdict(0.0, Reason.UNPARSED)
        if len(completion.thought) > LONGEST:
            return Verdict(0.0, Reason.STUFFED)
        return self.judge(question, completion.thought, genes, subject)

    def honest(self, question: Question) -> Honest:
        return Honest(self._honest(question, self.lexicon.genes_of(question))[1], question.truth["answer"])

    def _honest(self, question: Question, genes: Mapping[str, str]) -> tuple[str | None, str]:
        """The subject of the question, and the sentence about it; None and nothing where there is none."""
        texts = tuple(texts_in(question.fields))
        for gene, written in genes.items():
            if sentence := self.sentence(gene, written, texts):
                return gene, sentence
        return None, ""


def texts_in(value: Any) -> Iterator[str]:
    """All strings within a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from texts_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts_in(inner)
