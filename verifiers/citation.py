"""`citation`: the identifiers in the thought exist, are current, and support the sentence they stand in."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

from rlvr.knowledge import Term
from rlvr.knowledge.claims import Lexicon
from rlvr.knowledge.claims.lexicon import Tokens, tokenise
from rlvr.knowledge.claims.words import NEGATIONS
from rlvr.types import Evidence, Question, Reason, Verdict

from ._common import MALFORMED
from ._statements import Statements, texts_in

# GO:0006915, R-HSA-109581, and UniProt accessions (www.uniprot.org/help/accession_numbers). A wrong number of digits
# is found too: it is an identifier that does not exist. Bounded repeats only, so time is linear.
_IDENTIFIER = re.compile(
    r"GO:[0-9]{1,12}|R-[A-Z]{3}-[0-9]{1,12}|[OPQ][0-9][A-Z0-9]{3}[0-9]|[A-NR-Z][0-9](?:[A-Z][A-Z0-9]{2}[0-9]){1,2}"
)
_SENTENCE = re.compile(r"[.!?](?=\s)|\n")
_INSIDE = re.compile(r"[0-9A-Za-z_\x80-\U0010ffff-]")  # what, beside it, makes an identifier part of another word
Status = Literal["right", "beside", "unsupported", "obsolete", "invented"]
Read = tuple[Tokens, Collection[str]]  # a sentence's words, and the genes that it names


@dataclass(frozen=True)
class Citation(Statements):
    """The share of the identifiers in the thought that are right: they exist, are current, and their sentence
    names a gene of the question that carries the term (itself or through a narrower one), and denies nothing.

    What is true beside the question counts neither way, for a list learnt by heart would buy as much: a term of another
    gene, or one that stands beside its own name in a sentence of no gene. What is wrong counts wherever it stands. An
    identifier counts once, as its best sentence makes it. The score is 0 unless one right identifier is to the point:
    it is a term of the question's subject, the first of its genes that has any, and says something (at most
    `most_genes` human genes carry it). More than `most` citations are stuffing. Identifiers that stand in the question
    do not count. Abstains where no gene of the question carries anything specific.

    A UniProt accession is right if its sentence names the gene of the question that it stands for; one that stands for
    another gene of the sentence, or for the question's own where the sentence names none, counts neither way. It says
    nothing of that gene, so it is never to the point. One that the knowledge base does not hold counts as invented:
    those that UniProt has merged or deleted, and those of other species, cannot be told from those that never were.
    """

    name: ClassVar[str] = "citation"
    catches: ClassVar[frozenset[str]] = MALFORMED | frozenset(
        {"copied_prompt", "empty_thought", "injection", "invented_identifiers", "look_alikes", "megabyte", "repeated"}
        | {"right_to_left", "stuffed_genes", "stuffed_identifiers", "zero_width"}
    )

    def sentence(self, gene: str, written: str, texts: tuple[str, ...]) -> str | None:
        return _example(self, gene, written, texts)

    def judge(self, question: Question, thought: str, genes: Mapping[str, str], subject: str) -> Verdict:
        given = _given(self.knowledge, tuple(texts_in(question.fields)))
        cited = [pair for pair in citations(thought, self.lexicon) if pair[0] not in given]
        if not cited:
            return Verdict(0.0, Reason.MISSING)
        if len(cited) > self.most:
            return Verdict(0.0, Reason.STUFFED)
        return self._judge(cited, genes, subject)

    def _judge(self, cited: list[tuple[str, str]], genes: Collection[str], subject: str) -> Verdict:
        read = {sentence: _read(sentence, self.lexicon) for sentence in {sentence for _, sentence in cited}}
        statuses: dict[str, Status] = {}
        evidence: dict[str, Evidence] = {}
        to_the_point = False
        for identifier, sentence in cited:
            status, said, fits = self._check(identifier, read[sentence], genes, subject)
            to_the_point |= fits
            if statuses.get(identifier) != "right":
                statuses[identifier] = status
                evidence[identifier] = Evidence("knowledge base", identifier, said, status == "right")
        counts = Counter(statuses.values())
        if to_the_point:
            score = counts["right"] / (len(statuses) - counts["beside"])
            return Verdict(score, Reason.CORRECT if score == 1.0 else Reason.PARTIAL, tuple(evidence.values()))
        reasons: dict[Status, Reason] = {
            "invented": Reason.INVENTED,
            "obsolete": Reason.OBSOLETE,
            "unsupported": Reason.WRONG,
            "right": Reason.VAGUE,
            "beside": Reason.VAGUE,
        }
        reason = next(reason for status, reason in reasons.items() if counts[status])
        return Verdict(0.0, reason, tuple(evidence.values()))

    def _check(self, identifier: str, read: Read, genes: Collection[str], subject: str) -> tuple[Status, str, bool]:
        """What the identifier is worth in this sentence, why, and whether it is to the point of the question."""
        lexicon, (tokens, named) = self.lexicon, read
        if not identifier.startswith(("GO:", "R-")):
            return _check_accession(lexicon.knowledge.encoded_by(identifier), named, genes)
        term = lexicon.knowledge.term(identifier)
        if term is None:
            return "invented", "no such identifier", False
        if term.obsolete or term.id != identifier:
            instead = term.replaced_by if term.obsolete else (term.id,)
            return "obsolete", f"no longer current; instead: {', '.join(instead) or 'nothing'}", False
        carriers = [gene for gene in named if identifier in _carried(self.knowledge, gene)]
        if carriers and _denials(tokens) > _denials(tokenise(term.name)):
            return "unsupported", f"the sentence denies something; {carriers[0]} carries {term.name}", False
        own = [gene for gene in carriers if gene in genes]
        if own:
            fits = subject in own and lexicon.knowledge.size(identifier) <= self.most_genes
            return "right", f"{own[0]} carries {term.name}", fits
        if carriers:
            return "beside", f"{carriers[0]}, which is not asked about, carries {term.name}", False
        if not named and _names(tokens, term, lexicon):
            return "beside", f"the sentence says no more than its name: {term.name}", False
        return "unsupported", f"{term.name}: no gene of the sentence is known to carry it", False


def _check_accession(
    encoded_by: tuple[str, ...], named: Collection[str], genes: Collection[str]
) -> tuple[Status, str, bool]:
    """As `_check`. named: the genes of its sentence."""
    if not encoded_by:
        return "invented", "no accession of a human gene", False
    meant = [gene for gene in encoded_by if gene in (named or genes)]
    status: Status = "right" if named and any(gene in genes for gene in meant) else "beside" if meant else "unsupported"
    return status, f"the protein of {', '.join(encoded_by)}", False


def citations(text: str, lexicon: Lexicon) -> Iterator[tuple[str, str]]:
    """(identifier, its sentence) of each one in the text, in order. A gene symbol (P2RY12) is no accession."""
    for sentence in _SENTENCE.split(text):
        for match in _IDENTIFIER.finditer(sentence):
            before, after = sentence[max(0, match.start() - 1) : match.start()], sentence[match.end() : match.end() + 1]
            found = match.group()
            if _INSIDE.fullmatch(before) or _INSIDE.fullmatch(after):
                continue
            if found.startswith(("GO:", "R-")) or lexicon.symbol(found) is None:
                yield found, sentence


def _read(sentence: str, lexicon: Lexicon) -> Read:
    tokens = tokenise(sentence)
    end = len(tokens.words)
    return tokens, dict.fromkeys(found[1] for at in range(end) if (found := lexicon.gene(tokens, at, end)))


def _denials(tokens: Tokens) -> int:
    """How many words deny something. In capitals they are something else: NO is a gas."""
    return sum(low in NEGATIONS and not word.isupper() for word, low in zip(tokens.words, tokens.low, strict=True))


def _names(tokens: Tokens, term: Term, lexicon: Lexicon) -> bool:
    """Whether the sentence holds the term's name or an exact synonym."""
    for at in range(len(tokens.low)):
        named = lexicon.term(tokens, at, len(tokens.low))
        if named and term.id in named.terms:
            return True
    return False


@lru_cache(1 << 14)
def _carried(knowledge: str, gene: str) -> frozenset[str]:
    return frozenset(Lexicon.open(knowledge).knowledge.terms(gene))


@lru_cache(1 << 14)
def _example(options: Citation, gene: str, written: str, texts: tuple[str, ...]) -> str | None:
    """A sentence with a right identifier that is to the point: the rarest term of the gene that the question does not
    give."""
    knowledge, given = options.lexicon.knowledge, _given(options.knowledge, texts)
    for held in knowledge.terms(gene):
        term = knowledge.term(held)
        if not term or not term.name or term.obsolete or held in given or not _IDENTIFIER.fullmatch(held):
            continue
        if knowledge.size(held) <= options.most_genes:
            return f"{written} is involved in {term.name} ({held})."
    return None


@lru_cache(1 << 12)
def _given(knowledge: str, texts: tuple[str, ...]) -> frozenset[str]:
    """The identifiers in a question's texts."""
    return frozenset(found for text in texts for found, _ in citations(text, Lexicon.open(knowledge)))
