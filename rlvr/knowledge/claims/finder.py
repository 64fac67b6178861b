"""Statements in a text: gene has function, gene in pathway, complex or place, TF regulates gene.

    find("ZAP70 is a protein tyrosine kinase and regulates T cell activation.", Lexicon.open("upstream"))

A shallow grammar, read once from left to right, one sentence at a time: a subject (one gene, or several joined by
commas and `and`), a relation (`words.RELATIONS`), objects. It would rather miss a statement than misread one.
Negations flip; hedges (may, likely) still state; questions, conditions and predictions of what a perturbation does
state nothing. Pronouns are not followed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from rlvr.knowledge.claims.lexicon import Lexicon, Named, Tokens, tokenise
from rlvr.knowledge.claims.words import (
    ARTICLES,
    AUXILIARY,
    BE,
    BREAKS,
    EXPERIMENT,
    GLUE,
    LACKS,
    NEGATIONS,
    OPEN,
    PERTURBED,
    QUOTES,
    RELATIONS,
    RELATIVES,
    SIGNS,
    SMALL,
    Relation,
)

REACH = 6  # words that say nothing between a relation and its object; more, and it is another matter
SHADOW = 5  # words after `knockdown` within which a gene is the one knocked down
MOST_SUBJECTS = 12
MOST_PER_SENTENCE = 64  # statements; a sentence with more is no sentence


@dataclass(frozen=True, slots=True)
class Claim:
    """A statement about `gene`, an approved symbol: that it has, or regulates, the `terms` of that name; or that it
    regulates the gene `target` (then `terms` is empty). `sentence` counts from 0."""

    gene: str
    relation: Relation
    name: str
    terms: tuple[str, ...] = ()
    target: str | None = None
    negated: bool = False
    sentence: int = 0


def find(text: str, lexicon: Lexicon) -> list[Claim]:
    """All statements, in order, a repeated one as often as it stands there. Linear in the text."""
    tokens = tokenise(text)
    claims: list[Claim] = []
    for number, (start, end) in enumerate(tokens.sentences()):
        if end == len(tokens.words) or tokens.words[end] != "?":
            claims += _Sentence(tokens, lexicon, number).read(start, end)
    return claims


@dataclass(slots=True)
class _Sentence:
    """What is being said, at one point of a sentence."""

    tokens: Tokens
    lexicon: Lexicon
    number: int
    claims: list[Claim] = field(default_factory=list)
    subjects: list[str] = field(default_factory=list)
    topic: Named | None = None  # a term in the place of the subject: `T is regulated by G`
    relation: Relation | None = None
    held: Relation | None = None  # a participle, until `by` shows who does it
    passive: bool = False
    being: bool = False  # a form of `be` came last
    negated: bool = False
    open: bool = False
    last: str = "start"  # what stood before the glue: start, subject, gene, term, word, shadow
    patient: str = ""  # the last gene in the place of an object
    gap: int = 0
    shadow: int = 0

    def read(self, start: int, end: int) -> list[Claim]:
        genes = dict(self._genes(start, end))
        if not genes:
            return self.claims
        at, low, first = start, self.tokens.low, self.lexicon.first
        while at < end and len(self.claims) < MOST_PER_SENTENCE:
            named = self.lexicon.term(self.tokens, at, end) if low[at] in first else None
            length, gene = genes.get(at, (0, ""))
            if named and named.length > length:
                at += named.length
                if named.kind and at in genes:  # `the kinase ZAP70`
                    if not self.shadow and not self.open:
                        self._state(genes[at][1], "has", named)
                else:
                    self._term(named)
            elif gene:
                at += length
                self._gene(gene, at, end)
            else:
                self._word(low[at], at)
                at += 1
        return self.claims

    def _genes(self, start: int, end: int) -> Iterator[tuple[int, tuple[int, str]]]:
        words, low = self.tokens.words, self.tokens.low
        for at in range(start, end):
            if words[at] in EXPERIMENT:
                continue
            if words[at] != low[at] or not words[at].isalpha():  # a symbol has a capital or a digit
                found = self.lexicon.gene(self.tokens, at, end)
                if found:
                    yield at, found

    def _state(self, gene: str, relation: Relation, what: Named | str) -> None:
        if self.open:
            return
        if isinstance(what, str):
            claim = Claim(gene, relation, what, (), what, self.negated, self.number)
        else:
            claim = Claim(gene, relation, what.name, what.terms, None, self.negated, self.number)
        self.claims.append(claim)

    def _gene(self, gene: str, after: int, end: int) -> None:
        """A gene stands here; `after` is the token behind it."""
        if self.shadow or self.last == "shadow":
            self._new_subject([], "shadow")
            return
        if self.passive and self.held:
            self._agent(gene, self.held)
            return
        follows = self.tokens.low[after] if after < end else ""
        leads = follows in AUXILIARY or (follows in RELATIONS and not follows.endswith(("ed", "ing")))
        if self.last == "subject" and self.relation is None:
            if len(self.subjects) < MOST_SUBJECTS:
                self.subjects.append(gene)
        elif leads or not self.subjects or self.last in ("start", "term"):
            self._new_subject([gene], "subject")
        else:
            if self.relation not in (None, "has"):
                for subject in self.subjects:
                    self._state(subject, self.relation, gene)
            self.last = "gene"
            self.patient = gene

    def _agent(self, gene: str, relation: Relation) -> None:
        """`... is regulated by GENE`: the gene acts on what stood in the subject's place."""
        if self.topic is not None:
            self._state(gene, relation, self.topic)
        elif relation != "has":
            for target in self.subjects:
                self._state(gene, relation, target)
        self.last = "gene"

    def _term(self, named: Named) -> None:
        if self.shadow:
            self._new_subject([], "term")
        elif self.subjects and self.relation and (not named.kind or self.relation == "has"):
            for subject in self.subjects:
                self._state(subject, self.relation, named)
        elif not self.subjects and not named.kind:
            self.topic = named
        self.gap, self.being, self.last = 0, False, "term"

    def _new_subject(self, genes: list[str], last: str) -> None:
        """Another subject. A negation ahead of the first one (`no evidence that`) still holds."""
        if self.subjects or self.topic:
            self.negated = False
        self.subjects, self.topic, self.last = genes, None, last
        self.relation, self.held, self.passive, self.being, self.gap = None, None, False, False, 0

    def _word(self, word: str, at: int) -> None:
        before = self.tokens.low[at - 1] if at else ""
        if self.shadow:
            self.shadow -= 1
        if word not in SMALL:
            self._other()
        elif word in PERTURBED:
            self._new_subject([], "shadow" if self.subjects else "word")
            self.shadow = SHADOW
        elif word in BREAKS:
            self.relation, self.held, self.passive = None, None, False
            self.negated = self.open = self.being = False
            self.shadow, self.last = 0, "start"
        elif word in OPEN:
            self.open = True
        elif word in RELATIVES:
            self._relative()
        elif word in QUOTES:
            self.relation, self.last = None, "word"
        elif word in NEGATIONS:
            self._negate(word, at)
        elif word in BE:
            self.relation, self.held, self.passive, self.being, self.last = "has", None, False, True, "word"
        elif word in RELATIONS:
            self._relate(word, before)
        elif word == "by" and self.held and before in RELATIONS:
            self.passive, self.relation = True, None
        elif word in GLUE:
            self._glue(word, before)

    def _relate(self, word: str, before: str) -> None:
        relation = RELATIONS[word]
        if relation == "regulates" and before in SIGNS:
            relation = SIGNS[before]
        self.held = relation if word.endswith("ed") or word == "driven" else None
        if self.held and self.being and relation != "has":
            self.relation = None  # `is activated`: by whom is to come
        elif relation != "has" or self.relation is None or self.last == "term":
            self.relation = relation
        self.passive, self.being, self.gap, self.last = False, False, 0, "word"

    def _negate(self, word: str, at: int) -> None:
        only = word == "not" and self.tokens.low[at + 1 : at + 2] == ["only"]
        if self.last in ("term", "gene") and self.relation:
            self.relation = None  # `in A, not in B`
        if not only:
            self.negated = not self.negated
        if word in LACKS:
            self.relation = "has"
        self.gap, self.last = 0, "word"

    def _relative(self) -> None:
        if self.last == "gene":
            self._new_subject([self.patient], "subject")
        elif self.last != "subject":
            self._new_subject([], "word")

    def _glue(self, word: str, before: str) -> None:
        if word == ",":
            self.open = False
            if not self.subjects and not self.topic:
                self.negated = False
        elif word in ARTICLES and before in (",", "(") and self.last == "subject" and self.relation is None:
            self.relation = "has"  # `ZAP70, a kinase`

    def _other(self) -> None:
        """A word that says nothing here; after an object it ends the list, and too many end the relation."""
        self.gap += 1
        if self.last in ("term", "gene") or self.gap > REACH:
            self.relation = None
        self.last = "word"
