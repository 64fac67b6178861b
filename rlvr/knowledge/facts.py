"""What the knowledge base answers with: Fact, Term, Gene, Edge, Release. Frozen, JSON-like, picklable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Species = Literal["human", "mouse"]
Status = Literal["approved", "previous", "alias", "ensembl", "case", "ambiguous", "date", "missing", "unknown"]
Sign = Literal["activation", "repression", "conflict", "unknown"]


@dataclass(frozen=True)
class Release:
    """One upstream file that the knowledge base was built from. `commercial`: whether its licence clearly lets
    a company use it."""

    source: str
    release: str
    file: str
    sha256: str
    licence: str
    commercial: bool


@dataclass(frozen=True)
class Fact:
    """One statement of one source: subject, relation, object, and where it is written.

    name: of the object. code: GO evidence code, or what stands for it in another source. reference: PMID:...,
    GO_REF:...; "" where the source names none. negated: the source denies it (a NOT row of GO). date: ISO, of the
    annotation as the file has it, the first one where it has several; "" where the source gives none.
    """

    subject: str
    relation: str
    object: str
    name: str
    source: str
    release: str
    code: str
    reference: str
    licence: str
    negated: bool = False
    date: str = ""


@dataclass(frozen=True)
class Term:
    """A GO term, Reactome pathway, cell type, hallmark or protein complex.

    replaced_by: what an obsolete term's own ontology puts in its place. consider: what it offers to choose from.
    """

    id: str
    name: str
    namespace: str
    obsolete: bool = False
    replaced_by: tuple[str, ...] = ()
    definition: str = ""
    consider: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gene:
    """What a symbol stands for.

    symbol: the approved symbol, None unless there is exactly one. candidates: every gene that it may mean.
    status "ensembl": by Ensembl's id. "case": the one approved symbol that differs in nothing but capitals. "date": a
    spreadsheet turned a symbol into a date (1-Mar, 44256); candidates are the genes it may have been. "missing": a word
    that stands where there is no gene (NA, none, KO), whatever gene has it as an alias.
    """

    symbol: str | None
    status: Status
    candidates: tuple[str, ...] = ()


@dataclass(frozen=True)
class Edge:
    """A transcription factor acts on a target. sign: "conflict" where sources, or papers, name both."""

    tf: str
    target: str
    sign: Sign
    facts: tuple[Fact, ...]
