"""Annotation of genes as one sparse 0/1 matrix: similarity, shared terms, complex partners, core machinery.

    KnowledgeBase.open("upstream").annotations()
    Annotations.from_sample(folder)    the small tables in data/sample/, no network

A gene is a row of 0/1 annotations (GO, Reactome), closed over is_a and part_of. Similarity is the cosine of
its TF-IDF rows: a term weighs log(most / n), n being the number of human genes that carry it and most the
largest such number, so that what every gene has weighs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array

from rlvr.knowledge.ontologies import distances
from rlvr.knowledge.store import Store, numbers
from rlvr.knowledge.symbols import missing, settle
from rlvr.types import Error

COMPLEX_ROOT = "GO:0032991"  # protein-containing complex
COMPLEX_MOST = 100  # genes; a larger "complex" is a class of complexes, not one machine
CORE = {
    "GO:0005840": "ribosome",
    "GO:0006413": "translational initiation",
    "GO:0005681": "spliceosomal complex",
    "GO:0000398": "mRNA splicing, via spliceosome",
    "GO:0000502": "proteasome complex",
}


@dataclass(frozen=True)
class Node:
    """A GO term or a pathway. `parents` are its direct is_a and part_of parents."""

    name: str
    parents: tuple[str, ...] = ()


@dataclass(frozen=True)
class Annotations:
    """Annotation of genes.

    genes: approved symbols [n]. terms, names: id and name of each term [m], the rarest first, and of
    equally rare ones the most specific. sizes: human genes that carry the term [m]. members: 0/1, closed
    over parents [n, m]. complexes: which terms are one protein complex [m]. synonyms: previous and alias
    symbols, each of one gene only.
    """

    genes: NDArray[np.str_]
    terms: NDArray[np.str_]
    names: NDArray[np.str_]
    sizes: NDArray[np.int64]
    members: csr_array
    complexes: NDArray[np.bool_]
    synonyms: Mapping[str, str]

    @classmethod
    def build(
        cls,
        annotation: Mapping[str, Iterable[str]],
        terms: Mapping[str, Node],
        synonyms: Mapping[str, str],
        sizes: Mapping[str, int] | None = None,
    ) -> Annotations:
        """From gene -> directly annotated terms. `sizes` gives the genome-wide counts when
        `annotation` holds only part of the genome."""
        closed = closure(terms)
        carried = {g: set().union(*(closed[t] for t in direct)) for g, direct in sorted(annotation.items())}
        if sizes is None:
            counted = pd.Series([t for held in carried.values() for t in held], dtype=object).value_counts()
            sizes = {str(t): int(n) for t, n in counted.items()}
        used = set().union(*carried.values())
        order = sorted(used, key=lambda t: (sizes[t], -len(closed[t]), t))
        column = {t: i for i, t in enumerate(order)}
        rows = [sorted(column[t] for t in held) for held in carried.values()]
        return cls(
            np.array(list(carried), dtype=str),
            np.array(order, dtype=str),
            np.array([terms[t].name for t in order], dtype=str),
            np.array([sizes[t] for t in order], dtype=np.int64),
            matrix(rows, len(order)),
            np.array([COMPLEX_ROOT in closed[t] and sizes[t] <= COMPLEX_MOST for t in order], dtype=bool),
            synonyms,
        )

    @classmethod
    def from_sample(cls, folder: Path) -> Annotations:
        """From `go_annotation.tsv` (gene, terms) and `go_terms.tsv` (term, name, genes, parents)."""
        direct, known, sizes = read_sample(folder)
        return cls.build(direct, known, {}, sizes)

    @classmethod
    def from_store(cls, store: Store) -> Annotations:
        """From the file of a knowledge base: its GO and Reactome terms, which it holds by rank."""
        terms = store.rows("SELECT id, name, size, ancestors FROM term ORDER BY rank")
        shown = np.array([id.startswith(("GO:", "R-HSA-")) for id, *_ in terms], dtype=bool)
        root = next((i for i, (id, *_) in enumerate(terms) if id == COMPLEX_ROOT), -1)
        query = "SELECT symbol, terms FROM gene WHERE species = 'human' AND terms IS NOT NULL ORDER BY symbol"
        held = [(symbol, np.array(numbers(ranks), dtype=int)) for symbol, ranks in store.rows(query)]
        kept = [(symbol, ranks[shown[ranks]]) for symbol, ranks in held if shown[ranks].any()]
        used = np.unique(np.concatenate([np.empty(0, dtype=int), *(ranks for _, ranks in kept)]))
        names: dict[str, list[tuple[int, str]]] = {}
        for name, rank, symbol in store.rows("SELECT name, rank, symbol FROM name WHERE species = 'human'"):
            names.setdefault(name, []).append((rank, symbol))
        found = {name: settle(rows) for name, rows in names.items()}
        return cls(
            np.array([symbol for symbol, _ in kept], dtype=str),
            np.array([terms[i][0] for i in used], dtype=str),
            np.array([terms[i][1] for i in used], dtype=str),
            np.array([terms[i][2] for i in used], dtype=np.int64),
            matrix([np.searchsorted(used, ranks).tolist() for _, ranks in kept], len(used)),
            np.array([terms[i][2] <= COMPLEX_MOST and root in numbers(terms[i][3]) for i in used], dtype=bool),
            {
                name: gene.symbol
                for name, gene in found.items()
                if gene.symbol and gene.status != "approved" and not missing(name)
            },
        )

    def resolve(self, symbol: str) -> str | None:
        """The approved symbol: itself, else the one gene that had it before, else the one that has it
        as an alias; None if there is no such gene, or nothing is known of it."""
        approved = self.synonyms.get(symbol, symbol)
        return approved if approved in self._row else None

    def rows(self, symbols: Sequence[str]) -> NDArray[np.int64]:
        """Row of each symbol; -1 where nothing is known."""
        found = (self._row.get(self.resolve(s) or "", -1) for s in symbols)
        return np.fromiter(found, dtype=np.int64, count=len(symbols))

    def similarity(self, left: Sequence[str], right: Sequence[str]) -> NDArray[np.float64]:
        """TF-IDF cosine in [0, 1], [len(left), len(right)]; 0 where a gene is unknown."""
        product = self._take(self._vectors, left) @ self._take(self._vectors, right).T
        found: NDArray[np.float64] = np.clip(product.toarray(), 0.0, 1.0)
        return found

    def shared(self, left: Sequence[str], right: Sequence[str]) -> list[tuple[str, str]]:
        """For each pair of genes the (id, name) of the rarest annotation that both carry; ("", "") if none.
        `KnowledgeBase.facts(gene, id)` tells where it is written."""
        both = self._take(self.members, left).multiply(self._take(self.members, right)).tocsr()
        both.sort_indices()  # columns run from rare to common, so the first is the most informative
        first, last = both.indptr[:-1], both.indptr[1:]
        rarest = (both.indices[a] if b > a else None for a, b in zip(first, last, strict=True))
        return [("", "") if i is None else (str(self.terms[i]), str(self.names[i])) for i in rarest]

    def partners(self, left: Sequence[str], right: Sequence[str]) -> NDArray[np.bool_]:
        """Whether two genes sit in one protein complex, [len(left), len(right)]."""
        product = self._take(self._machines, left) @ self._take(self._machines, right).T
        found: NDArray[np.bool_] = product.toarray() > 0
        return found

    def core(self, symbols: Sequence[str]) -> NDArray[np.bool_]:
        """Whether each gene is core machinery: ribosome, translation initiation, spliceosome, proteasome."""
        held = self.members[:, np.flatnonzero(np.isin(self.terms, list(CORE)))].sum(axis=1) > 0
        return np.append(held, False)[self.rows(symbols)]  # row -1 reads the last entry

    def annotations(self, symbols: Sequence[str]) -> NDArray[np.int64]:
        """How many terms each gene carries, ancestors included; 0 where nothing is known."""
        counts: NDArray[np.int64] = np.append(np.diff(self.members.indptr), 0).astype(np.int64)
        return counts[self.rows(symbols)]

    def rarest(self, symbols: Sequence[str]) -> list[list[str]]:
        """The names of each gene's annotations, the rarest first; [] where nothing is known."""
        found: list[list[str]] = []
        for row in self.rows(symbols).tolist():
            first, last = (self.members.indptr[row], self.members.indptr[row + 1]) if row >= 0 else (0, 0)
            found.append([str(name) for name in self.names[self.members.indices[first:last]] if name])
        return found

    @cached_property
    def _row(self) -> dict[str, int]:
        return {str(g): i for i, g in enumerate(self.genes)}

    @cached_property
    def _vectors(self) -> csr_array:
        weights = np.log(max(self.sizes, default=1) / self.sizes)
        weighted = self.members @ diags_array(weights)
        length = np.sqrt(weighted.power(2).sum(axis=1))
        scale = np.divide(1.0, length, out=np.zeros_like(length), where=length > 0)
        unit: csr_array = (diags_array(scale) @ weighted).tocsr()
        return unit

    @cached_property
    def _machines(self) -> csr_array:
        return self.members[:, np.flatnonzero(self.complexes)]

    def _take(self, matrix: csr_array, symbols: Sequence[str]) -> csr_array:
        rows = self.rows(symbols)
        known = np.flatnonzero(rows >= 0)
        pick = csr_array((np.ones(len(known)), (known, rows[known])), shape=(len(rows), len(self.genes)))
        taken: csr_array = pick @ matrix
        return taken


def matrix(rows: Sequence[Sequence[int]], columns: int) -> csr_array:
    """The 0/1 matrix with ones at the given, ascending columns of each row."""
    starts = np.cumsum([0, *map(len, rows)])
    flat = np.fromiter((i for row in rows for i in row), dtype=np.int32, count=int(starts[-1]))
    return csr_array((np.ones(len(flat)), flat, starts), shape=(len(rows), columns))


def closure(terms: Mapping[str, Node]) -> dict[str, frozenset[str]]:
    """Each term with all its ancestors. Errors: a parent that is not there, a cycle."""
    above = distances({t: node.parents for t, node in terms.items()})
    return {t: frozenset(held) for t, held in above.items()}


def read_sample(folder: Path) -> tuple[dict[str, list[str]], dict[str, Node], dict[str, int]]:
    """(gene -> its most specific terms, terms, how many human genes carry each) of the sample tables."""
    tables = []
    for name in ("go_annotation.tsv", "go_terms.tsv"):
        if not (folder / name).is_file():
            raise Error(f"{folder / name} is missing; restore it with data/sample/make_sample.py")
        tables.append(pd.read_csv(folder / name, sep="\t", dtype=str, keep_default_na=False))
    genes, terms = tables
    known = {
        t: Node(name, tuple(parents.split("|")) if parents else ())
        for t, name, parents in zip(terms["term"], terms["name"], terms["parents"], strict=True)
    }
    direct = {g: held.split("|") if held else [] for g, held in zip(genes["gene"], genes["terms"], strict=True)}
    return direct, known, dict(zip(terms["term"], terms["genes"].astype(int), strict=True))
