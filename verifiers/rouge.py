"""`rouge`: overlap of the thought with the text of the gene's annotation, for parity with rbio1."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import ClassVar, Literal

from rouge_score.rouge_scorer import RougeScorer

from rlvr.knowledge import KnowledgeBase
from rlvr.knowledge.claims.lexicon import GENE_FIELDS
from rlvr.types import Completion, Error, Evidence, Question, Reason, Verdict
from rlvr.verifier import Honest, KnowledgeVerifier

from ._common import MALFORMED

_WORD = re.compile(r"[0-9a-z\x80-\U0010ffff]+")
LETTERS_PER_WORD = 40  # of the text that is looked at, for each word that may count


@dataclass(frozen=True)
class Rouge(KnowledgeVerifier):
    """ROUGE (Lin 2004, aclanthology.org/W04-1013) between the thought and the names and definitions of the `terms`
    rarest terms of each of the question's genes: the F-measure of words ("rouge1"), of pairs of words ("rouge2") or
    of the longest common subsequence ("rougeL"). rbio1 (doi:10.1101/2025.08.18.670981) trains on such a reward.

    It asks for the words of an annotation, not for their truth or their use: text that quotes the annotation
    wholesale earns the most there is, and a denial as much as a statement. So only the recipes that repeat rbio1's
    variants weigh it; `claims` checks what is said. Only the first `words` words of the thought count, and as many of
    the annotation, which bounds the time (rougeL is quadratic in them). Abstains where none of the genes is annotated.
    """

    name: ClassVar[str] = "rouge"
    kind: ClassVar[Literal["hard", "soft"]] = "soft"
    tasks: ClassVar[tuple[str, ...]] = ("perturbation/*", "regulation/*", "knowledge/*")
    catches: ClassVar[frozenset[str]] = MALFORMED | frozenset(
        {"empty_thought", "injection", "invented_identifiers", "megabyte", "repeated"}
        | {"stuffed_genes", "stuffed_identifiers"}
    )
    knowledge: Literal["upstream", "sample"] = "upstream"
    variant: Literal["rouge1", "rouge2", "rougeL"] = "rouge1"
    terms: int = 3
    words: int = 400

    def __post_init__(self) -> None:
        if self.terms < 1 or self.words < 1:
            raise Error(f"verifiers.rouge: terms is {self.terms}, words is {self.words}; give at least 1 of each")

    def applies(self, question: Question) -> bool:
        return super().applies(question) and any(question.fields.get(field) for field in GENE_FIELDS)

    def verify(self, question: Question, completion: Completion) -> Verdict:
        annotation = self._annotation(question)
        if not annotation:
            return Verdict(None, Reason.UNCOVERED)
        thought = completion.thought
        if thought is None:
            return Verdict(0.0, Reason.UNPARSED)
        scorer = _scorer(self.variant, self.words)
        overlap = scorer.score(annotation, thought)[self.variant].fmeasure
        score = min(1.0, max(0.0, float(overlap)))
        evidence = Evidence("knowledge base", "annotation", annotation[:200], score > 0)
        return Verdict(score, Reason.PARTIAL if score else Reason.MISSING, (evidence,))

    def honest(self, question: Question) -> Honest:
        """The annotation itself: nothing overlaps with it more."""
        return Honest(self._annotation(question), question.truth["answer"])

    def _annotation(self, question: Question) -> str:
        symbols = tuple(str(question.fields.get(field) or "") for field in GENE_FIELDS)
        return _annotation(self.knowledge, symbols, self.terms, self.words)


@lru_cache(1 << 14)
def _annotation(knowledge: str, symbols: tuple[str, ...], most: int, words: int) -> str:
    """Names and definitions; "" where nothing is known. At most `words` words."""
    base = KnowledgeBase.open(knowledge)
    genes = dict.fromkeys(gene for symbol in symbols if symbol and (gene := base.resolve(symbol)))
    named = {gene: [term for term in map(base.term, base.terms(gene)) if term and term.name] for gene in genes}
    found = dict.fromkeys(term for terms in named.values() for term in terms[:most])
    text = " ".join(f"{term.name}. {term.definition}".strip() for term in found)
    return " ".join(text.split()[:words])


@cache
def _scorer(variant: str, words: int) -> RougeScorer:
    return RougeScorer([variant], tokenizer=_Words(words))


@dataclass(frozen=True)
class _Words:
    """The first words of a text. rouge-score's own reader drops what is not ASCII, so that look-alikes would make
    a text shorter and its precision higher; here they stay words, which match nothing."""

    most: int

    def tokenize(self, text: str) -> list[str]:
        return _WORD.findall(text[: self.most * LETTERS_PER_WORD].lower())[: self.most]
