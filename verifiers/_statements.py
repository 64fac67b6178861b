"""What `claims` and `citation` share: they look up what a thought says of the question's own genes.

The command that uses it is whatever names one of the two, as in `rlvr score ROLLOUTS --verifier claims`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from rlvr.knowledge.claims import Lexicon
from rlvr.knowledge.claims.lexicon import GENE_FIELDS
from rlvr.types import Completion, Question, Reason, Verdict
from rlvr.verifier import Honest, KnowledgeVerifier

LONGEST = 100_000  # characters; no thought of honest length comes near


@dataclass(frozen=True)
class Statements(KnowledgeVerifier):
    """Abstains where the knowledge base holds nothing specific of any gene of the question.

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
    def sentence(self, genes: Mapping[str, str]) -> str | None:
        """A sentence that earns 1.0, of the first of the genes (symbol -> as the question writes it) that has one."""

    @abstractmethod
    def judge(self, question: Question, thought: str, genes: Mapping[str, str]) -> Verdict:
        """The verdict on a thought, where a `sentence` could be written."""

    def applies(self, question: Question) -> bool:
        return super().applies(question) and any(question.fields.get(field) for field in GENE_FIELDS)

    def verify(self, question: Question, completion: Completion) -> Verdict:
        genes = self.lexicon.genes_of(question)
        if self.sentence(genes) is None:
            return Verdict(None, Reason.UNCOVERED)
        if completion.thought is None:
            return Verdict(0.0, Reason.UNPARSED)
        if len(completion.thought) > LONGEST:
            return Verdict(0.0, Reason.STUFFED)
        return self.judge(question, completion.thought, genes)

    def honest(self, question: Question) -> Honest:
        return Honest(self.sentence(self.lexicon.genes_of(question)) or "", question.truth["answer"])
