"""What the knowledge base says of a statement: supported, contradicted, unknown or vague.

Annotation is incomplete, so that absence denies nothing: contradicted is what a NOT annotation denies (to the term
or an ancestor of it), and what states the opposite of an unambiguous sign. Where the sources say both, nothing is
known. A denial is judged the other way round. Source of the open-world reading: Dessimoz et al. 2013,
doi:10.1093/bioinformatics/btt187.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from rlvr.knowledge import Fact, KnowledgeBase
from rlvr.knowledge.claims.finder import Claim
from rlvr.knowledge.claims.words import Relation

Status = Literal["supported", "contradicted", "unknown", "vague"]
_FLIPPED: dict[Status, Status] = {"supported": "contradicted", "contradicted": "supported"}
_OPPOSITE: dict[str, Relation] = {"activates": "represses", "represses": "activates"}
_PREFIX: dict[Relation, str] = {
    "regulates": "regulation of ",
    "activates": "positive regulation of ",
    "represses": "negative regulation of ",
}
DEFAULT = "default"  # CollecTRI's code of a sign that it gives for want of any other


@dataclass(frozen=True)
class Checked:
    """A statement, what is known of it, and the facts that say so (those that deny it, if contradicted)."""

    claim: Claim
    status: Status
    facts: tuple[Fact, ...] = ()


def check(claim: Claim, knowledge: KnowledgeBase, exclude: Collection[str] = (), most_genes: int = 1000) -> Checked:
    """`exclude`: references whose facts do not count. `most_genes`: human genes; a term that more of them carry
    is vague."""
    if claim.target is not None:
        status, facts = _edge(claim.gene, claim.relation, claim.target, knowledge, exclude)
    else:
        status, facts = _term(claim, knowledge, exclude, most_genes)
    return Checked(claim, _FLIPPED.get(status, status) if claim.negated else status, facts)


def _edge(
    gene: str, relation: Relation, target: str, knowledge: KnowledgeBase, exclude: Collection[str]
) -> tuple[Status, tuple[Fact, ...]]:
    edge = knowledge.edge(gene, target)
    facts = tuple(fact for fact in edge.facts if fact.reference not in exclude) if edge else ()
    if not facts:
        return "unknown", ()
    if relation == "regulates":
        return "supported", facts
    signed = tuple(fact for fact in facts if fact.relation in _OPPOSITE and fact.code != DEFAULT)
    if len({fact.relation for fact in signed}) != 1:
        return "unknown", facts
    return ("supported" if signed[0].relation == relation else "contradicted"), signed


def _term(
    claim: Claim, knowledge: KnowledgeBase, exclude: Collection[str], most_genes: int
) -> tuple[Status, tuple[Fact, ...]]:
    itself = _specific(claim.terms, knowledge, most_genes)
    wanted = itself
    if claim.relation != "has":
        wanted = _specific(_regulation(knowledge, _PREFIX[claim.relation], claim.terms), knowledge, most_genes)
    if not itself and not wanted:
        return "vague", ()
    status, facts = _carried(claim.gene, wanted, knowledge, exclude)
    if status == "supported" or claim.relation == "has":
        return status, facts
    opposite = _OPPOSITE.get(claim.relation)
    if opposite is not None:
        terms = _specific(_regulation(knowledge, _PREFIX[opposite], claim.terms), knowledge, most_genes)
        contrary, against = _carried(claim.gene, terms, knowledge, exclude)
        if contrary == "supported" and not facts:
            return "contradicted", against
    if claim.relation != "represses":  # who takes part in a process also drives it, but does not hold it back
        found, taking_part = _carried(claim.gene, itself, knowledge, exclude)
        if found == "supported":
            return found, taking_part
    return status, facts


def _carried(
    gene: str, terms: tuple[str, ...], knowledge: KnowledgeBase, exclude: Collection[str]
) -> tuple[Status, tuple[Fact, ...]]:
    """Whether the gene carries one of the terms, and the facts."""
    facts = [fact for term in terms for fact in _facts(knowledge, gene, term) if fact.reference not in exclude]
    said = tuple(fact for fact in facts if not fact.negated)
    denied = tuple(fact for fact in facts if fact.negated)
    if said and denied:
        return "unknown", (*said, *denied)
    return ("supported", said) if said else ("contradicted", denied) if denied else ("unknown", ())


def _specific(terms: tuple[str, ...], knowledge: KnowledgeBase, most_genes: int) -> tuple[str, ...]:
    return tuple(term for term in terms if _size(knowledge, term) <= most_genes)


@lru_cache(1 << 14)
def _facts(knowledge: KnowledgeBase, gene: str, term: str) -> tuple[Fact, ...]:
    return knowledge.facts(gene, term)


@lru_cache(1 << 16)
def _size(knowledge: KnowledgeBase, term: str) -> int:
    return knowledge.size(term)


@lru_cache(1 << 14)
def _regulation(knowledge: KnowledgeBase, prefix: str, terms: tuple[str, ...]) -> tuple[str, ...]:
    """`(positive|negative) regulation of` each of the terms, where there is such a term."""
    known = (knowledge.term(term) for term in terms)
    found = (knowledge.find(prefix + term.name) for term in known if term is not None)
    return tuple(dict.fromkeys(term.id for terms in found for term in terms))
