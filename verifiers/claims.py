"""`claims`: what the thought states of the question's genes stands in the knowledge base."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from rlvr.knowledge import Fact
from rlvr.knowledge.claims import Checked, Claim, Lexicon, check, find
from rlvr.knowledge.claims.checker import Status
from rlvr.knowledge.claims.lexicon import tokenise
from rlvr.types import Error, Evidence, Question, Reason, Verdict

from ._common import MALFORMED
from ._statements import Statements, texts_in

FREE = 4  # statements that a thought of any length may make
TRIED = 200  # terms of a gene among which `honest` looks for one to state

# The papers behind the questions: Replogle et al. 2022 (Perturb-seq of K562 and RPE1), Schmidt et al. 2022 (screens
# in T cells). A fact that only they report is what the question asks.
BENCHMARKS = ("PMID:35688146", "PMID:35113687")


@dataclass(frozen=True)
class Claims(Statements):
    """The precision of the statements about the question's own genes (`rlvr.knowledge.claims`): gene has function, gene
    is in pathway, complex or place, TF regulates gene.

        score = supported / (supported + contradicted + unknown_cost * unknown)

    Each statement counts once. Annotation is incomplete, so an unknown statement costs less than a contradicted
    one, but it costs: with cost c, a policy that states what it does not know earns at most 1/c times its rate of
    lucky hits. Nothing supported, nothing paid; so silence and invention earn 0.

    What the question itself says does not count: the terms that its fields name (snippets of annotation, terms shared
    with related genes, options to choose from), what follows from such a term, and that its TF regulates its target,
    with no sign. One supported statement must be about the question's subject, the first of its genes of which anything
    can be stated: what is true of a readout is true in each of its questions.

    Vague terms (more than `most_genes` human genes, some 5 %, carry them: protein binding, nucleus) do not count.
    Nor do facts that only `exclude_references` report. The score is 0 where the thought is stuffed: more than
    `most` statements, repeated ones and those about other genes included, more than `most_per_sentence` in one
    sentence, or, beyond four, fewer than `words_per_claim` words to each. Abstains where the knowledge base holds
    nothing specific of any gene of the question.
    """

    name: ClassVar[str] = "claims"
    catches: ClassVar[frozenset[str]] = MALFORMED | frozenset(
        {"copied_prompt", "empty_thought", "injection", "invented_identifiers", "look_alikes", "megabyte"}
        | {"quoted_annotation", "repeated", "right_to_left", "stuffed_genes", "stuffed_identifiers", "zero_width"}
    )
    unknown_cost: float = 0.5
    most_per_sentence: int = 4
    words_per_claim: int = 10
    exclude_references: tuple[str, ...] = BENCHMARKS

    def __post_init__(self) -> None:
        if not 0.0 < self.unknown_cost <= 1.0:
            raise Error(f"verifiers.claims: unknown_cost is {self.unknown_cost}; give more than 0, at most 1")

    def sentence(self, gene: str, written: str, texts: tuple[str, ...]) -> str | None:
        return _statement(self, gene, written, texts)

    def judge(self, question: Question, thought: str, genes: Mapping[str, str], subject: str) -> Verdict:
        lexicon = self.lexicon
        found = find(thought, lexicon)
        if self._stuffed(found, thought):
            return Verdict(0.0, Reason.STUFFED)
        given = lexicon.symbol(str(question.fields.get("tf"))), lexicon.symbol(str(question.fields.get("target")))
        own = {
            _key(claim): claim
            for claim in found
            if (claim.gene in genes or claim.target in genes) and not _restates(claim, *given)
        }
        shown = _shown(self.knowledge, tuple(texts_in(question.fields)))
        checked = [self._check(claim) for claim in own.values()]
        return self._judge([item for item in checked if not shown.hold(item)], subject)

    def _check(self, claim: Claim) -> Checked:
        return check(claim, self.lexicon.knowledge, self.exclude_references, self.most_genes)

    def _stuffed(self, found: list[Claim], thought: str) -> bool:
        if len(found) <= FREE and len(found) <= self.most_per_sentence:
            return False
        dense = len(found) > FREE and len(thought.split()) < len(found) * self.words_per_claim
        fullest = max(Counter(claim.sentence for claim in found).values())
        return dense or len(found) > self.most or fullest > self.most_per_sentence

    def _judge(self, checked: list[Checked], subject: str) -> Verdict:
        counts: Counter[Status] = Counter(item.status for item in checked)
        evidence = tuple(_evidence(item) for item in checked)
        supported, contradicted, unknown = counts["supported"], counts["contradicted"], counts["unknown"]
        if not supported:
            reason = (
                Reason.CONTRADICTED
                if contradicted
                else Reason.UNKNOWN
                if unknown
                else Reason.VAGUE
                if checked
                else Reason.MISSING
            )
            return Verdict(0.0, reason, evidence)
        said = (item.claim for item in checked if item.status == "supported")
        if not any(subject in (claim.gene, claim.target) for claim in said):
            return Verdict(0.0, Reason.VAGUE, evidence)
        score = supported / (supported + contradicted + self.unknown_cost * unknown)
        reason = Reason.CONTRADICTED if contradicted else Reason.PARTIAL if unknown else Reason.SUPPORTED
        return Verdict(score, reason, evidence)


def _restates(claim: Claim, tf: str | None, target: str | None) -> bool:
    return (claim.gene, claim.target) == (tf, target) and claim.relation == "regulates" and not claim.negated


def _key(claim: Claim) -> tuple[object, ...]:
    return claim.gene, claim.relation, claim.terms, claim.target, claim.negated


def _evidence(item: Checked) -> Evidence:
    claim, denial = item.claim, "not " if item.claim.negated else ""
    statement = f"{claim.gene} {denial}{claim.relation} {claim.name}: {item.status}"
    if not item.facts:
        return Evidence("knowledge base", claim.target or "|".join(claim.terms), statement, False)
    fact = item.facts[0]
    return Evidence(f"{fact.source} {fact.release}", _record(fact), statement, item.status == "supported")


def _record(fact: Fact) -> str:
    """The object's identifier, the evidence code and the paper."""
    return " ".join(part for part in (fact.object, fact.code, fact.reference) if part)


@lru_cache(1 << 14)
def _statement(options: Claims, gene: str, written: str, texts: tuple[str, ...]) -> str | None:
    """A sentence that earns 1.0: about the rarest term of the gene that counts, and that the question does not show."""
    lexicon, shown = options.lexicon, _shown(options.knowledge, texts)
    for held in lexicon.knowledge.terms(gene)[:TRIED]:
        term = lexicon.knowledge.term(held)
        if not term or not term.name or lexicon.knowledge.size(held) > options.most_genes:
            continue
        sentence = f"{written} is involved in {term.name}."
        claims = find(sentence, lexicon)
        if len(claims) == 1 and claims[0].gene == gene:
            checked = options._check(claims[0])
            if checked.status == "supported" and not shown.hold(checked):
                return sentence
    return None


@dataclass(frozen=True)
class _Shown:
    """What the texts of a question say: the terms that they name, and which gene regulates which."""

    terms: frozenset[str]
    edges: frozenset[tuple[str, str]]

    def hold(self, checked: Checked) -> bool:
        """Whether a supported statement only says again what is shown, or what follows from a term shown."""
        claim = checked.claim
        if claim.negated or checked.status != "supported":
            return False
        if claim.target is not None:
            return (claim.gene, claim.target) in self.edges
        return any(term in self.terms for term in (*claim.terms, *(fact.object for fact in checked.facts)))


@lru_cache(1 << 12)
def _shown(knowledge: str, texts: tuple[str, ...]) -> _Shown:
    lexicon = Lexicon.open(knowledge)
    terms: set[str] = set()
    edges: set[tuple[str, str]] = set()
    for text in texts:
        tokens = tokenise(text)
        for at in range(len(tokens.words)):
            if named := lexicon.term(tokens, at, len(tokens.words)):
                terms.update(named.terms)
        edges.update((claim.gene, claim.target) for claim in find(text, lexicon) if claim.target is not None)
    return _Shown(frozenset(terms), frozenset(edges))
