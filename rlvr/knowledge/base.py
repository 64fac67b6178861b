"""KnowledgeBase: what a verifier, a source or an audit asks, answered from one read-only file."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from datetime import date
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlvr.knowledge import assemble
from rlvr.knowledge.annotations import Annotations
from rlvr.knowledge.facts import Edge, Fact, Gene, Release, Sign, Species, Status
from rlvr.knowledge.readers import COMPLEXES
from rlvr.knowledge.store import Store, numbers
from rlvr.knowledge.symbols import cleaned, missing, settle, undated
from rlvr.knowledge.terms import Terms, plain
from rlvr.types import Error

if TYPE_CHECKING:
    from Bio.motifs.jaspar import Motif

SIGNS: Mapping[str, Sign] = {"activates": "activation", "represses": "repression", "regulates": "unknown"}


class KnowledgeBase(Terms):
    """Genes, terms, facts. Holds only a path, opens the file at the first query, can be pickled and forked.

    Where a gene is asked for, any symbol will do that stands for one gene (see `resolve`); where a term is,
    its id or an alternative id. What is not known gives None or an empty tuple, never an error.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(Store(path))
        self._genes = lru_cache(1 << 16)(self._read_gene)
        self._folded = lru_cache(2)(self._read_folded)
        self._carried = lru_cache(1 << 15)(self._read_carried)
        self._facts = lru_cache(1 << 12)(self._read_facts)
        self._linked = lru_cache(1 << 13)(self._read_linked)
        self._edges = lru_cache(1 << 16)(self._read_edge)

    @classmethod
    def open(
        cls,
        name: str | Path = "upstream",
        *,
        noncommercial: bool = False,
        cutoff: date | str | None = None,
        exclude_references: Collection[str] = (),
    ) -> KnowledgeBase:
        """The knowledge base of that name, built first if need be: one object per process.

        name: "upstream" (the full files), "sample" (the small tables in data/sample/), or the path of a built
        file. The options are those of `rlvr.knowledge.build` and apply to "upstream".
        """
        if name == "upstream":
            return _opened(assemble.upstream({}, cutoff, exclude_references, noncommercial))
        if noncommercial or cutoff or exclude_references:
            raise Error(f"knowledge base {str(name)!r} is built already: its options cannot be changed; use 'upstream'")
        if name == "sample":
            return _opened(assemble.sample())
        path = Path(name)
        if not path.is_file():
            raise Error(f"no knowledge base {str(name)!r}; choose 'upstream', 'sample' or the path of a built file")
        return _opened(path.resolve())

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened, (self.path,)

    def __repr__(self) -> str:
        return f"KnowledgeBase({str(self.path)!r})"

    @cached_property
    def version(self) -> str:
        """Digest of the inputs, the options and the format: what a run records."""
        return self._meta["version"]

    @property
    def options(self) -> dict[str, Any]:
        """cutoff, exclude_references and noncommercial, as they were at the build."""
        found: dict[str, Any] = json.loads(self._meta["options"])
        return found

    def releases(self) -> tuple[Release, ...]:
        """Every file it was built from."""
        return tuple(self._releases.values())

    def dropped(self) -> tuple[tuple[str, str, str, int], ...]:
        """(source, reason, name, rows) of everything that the build could not place."""
        query = "SELECT source, reason, name, rows FROM dropped JOIN release ON release.id = dropped.release"
        return tuple(self._store.rows(f"{query} ORDER BY 1, 2, rows DESC, name"))

    def gene(self, symbol: str, species: Species = "human") -> Gene:
        """What a symbol stands for: the approved gene, else the one that had the symbol before, else the one
        that has it as an alias, else the one of that Ensembl id, whatever its version; "ambiguous" if several share it.
        Case counts. Of mouse genes only those that have a human ortholog are known, by their current symbol."""
        return self._genes(symbol, species) if plain(symbol.strip()) else Gene(None, "unknown")

    def read(self, name: str, species: Species = "human") -> Gene:
        """The same for a name in somebody's table, where case may be wrong: tp53 and C9ORF72 are TP53 and C9orf72, as
        no other approved symbol has these letters."""
        found = self.gene(name, species)
        if found.status != "unknown" or not plain(name.strip()):
            return found
        held = self._folded(species).get(cleaned(name).casefold(), ())
        return Gene(held[0], "case", held) if len(held) == 1 else Gene(None, "unknown", held)

    def resolve(self, symbol: str, species: Species = "human") -> str | None:
        """The approved symbol; None if it is unknown or ambiguous. Case counts."""
        return self.gene(symbol, species).symbol

    def current(self, name: str, species: Species = "human") -> str:
        """The approved symbol of a name in somebody's table, or the name itself where it stands for no single gene:
        two names of one gene give the same."""
        return self.read(name, species).symbol or name

    def unresolved(self, symbols: Iterable[str], species: Species = "human") -> dict[str, Status]:
        """Those of the symbols that stand for no single gene, sorted -> why: unknown, ambiguous, a date that a
        spreadsheet made, or a word for none."""
        found = ((symbol, self.read(symbol, species)) for symbol in sorted(set(symbols)))
        return {symbol: gene.status for symbol, gene in found if gene.symbol is None}

    def symbols(self, species: Species = "human") -> tuple[str, ...]:
        """Every approved symbol, sorted."""
        return tuple(s for (s,) in self._store.rows("SELECT symbol FROM gene WHERE species = ? ORDER BY 1", species))

    def accession(self, id: str) -> str | None:
        """The human gene of a UniProt accession, P43403 say; None if it is unknown or several genes share it (see
        `encoded_by`)."""
        genes = self.encoded_by(id)
        return genes[0] if len(genes) == 1 else None

    def encoded_by(self, accession: str) -> tuple[str, ...]:
        """The human genes of a UniProt accession, sorted: several where they make the same protein (P0C0S8, a histone).

        Accessions are HGNC's, and the annotation file's where HGNC has none. Those that UniProt has merged or
        deleted are not among them, nor are isoforms (P43403-2) and other species: they are as unknown as those
        that never were.
        """
        query = "SELECT symbol FROM accession WHERE id = ? ORDER BY 1"
        return tuple(symbol for (symbol,) in self._store.rows(query, accession)) if plain(accession) else ()

    def accessions(self, symbol: str) -> tuple[str, ...]:
        """UniProt accessions of a human gene, sorted."""
        query = "SELECT id FROM accession WHERE symbol = ? ORDER BY 1"
        return tuple(id for (id,) in self._store.rows(query, self.resolve(symbol)))

    def terms(self, gene: str) -> tuple[str, ...]:
        """Ids of the terms that a human gene carries, closed over is_a and part_of, the rarest first."""
        symbol = self.resolve(gene)
        return self._carried(symbol) if symbol else ()

    def shares(self, a: str, b: str) -> tuple[str, ...]:
        """The terms that both genes carry, the rarest first."""
        held = set(self.terms(b))
        return tuple(t for t in self.terms(a) if t in held)

    def facts(self, subject: str, object: str) -> tuple[Fact, ...]:
        """What the sources say that links the two, with provenance.

        A human gene and a term: the direct annotations to the term or to anything below it, and, negated, the
        NOT rows on the term or on anything above it. Otherwise (target, cell type, mouse gene, motif) the
        facts on exactly that object. Facts on the term itself come first.
        """
        name, rank = self._subject(subject), self._rank.get(object)
        aim = self._labels[rank][0] if rank is not None else self._object(object)
        return self._linked(name, aim) if name and aim else ()

    def edge(self, tf: str, target: str) -> Edge | None:
        """What is reported of a transcription factor and a target; None if nothing is, which denies nothing.

        The complexes AP1 and NFKB are known by these names. CollecTRI's code "default" marks a sign that it
        may have given for want of any other.
        """
        left, right = self._subject(tf), self.resolve(target)
        return self._edges(left, right) if left and right else None

    def targets(self, tf: str) -> tuple[str, ...]:
        """Reported targets of a transcription factor, sorted."""
        name = self._subject(tf)
        held = self._facts(name) if name else ()
        return tuple(sorted({o for o, kind, *_ in held if self._kinds[kind][0] in SIGNS}))

    def regulators(self, target: str) -> tuple[str, ...]:
        """Transcription factors reported to act on a gene, sorted."""
        return self._reverse(self.resolve(target), SIGNS)

    def markers(self, cell: str, species: Species = "human") -> tuple[str, ...]:
        """Marker genes of a cell type (id, name or synonym), those that most sources and papers name first."""
        if not plain(cell):
            return ()
        known = self.term(cell)
        names = [known.id] if known else [*self._cells(cell), cell.casefold()]
        query = f"""SELECT subject FROM fact JOIN kind ON kind.id = fact.kind
            WHERE object IN ({", ".join("?" * len(names))}) AND relation = 'marks' AND species = ?
            GROUP BY subject ORDER BY COUNT(*) DESC, subject"""
        return tuple(symbol for (symbol,) in self._store.rows(query, *names, species))

    def ortholog(self, symbol: str, species: Species = "human") -> tuple[str, ...]:
        """Mouse orthologs of a human gene; with species="mouse" the human ones of a mouse gene."""
        name = self.resolve(symbol, species)
        if species == "mouse":
            return self._reverse(name, {"ortholog_of": ""})
        held = self._facts(name) if name else ()
        return tuple(sorted({o for o, kind, *_ in held if self._kinds[kind][0] == "ortholog_of"}))

    def motifs(self, tf: str) -> tuple[str, ...]:
        """JASPAR CORE matrices of a transcription factor alone (no dimers) in vertebrates, human ones first."""
        query = "SELECT id FROM matrix WHERE gene = ? ORDER BY place, id"
        return tuple(id for (id,) in self._store.rows(query, self.resolve(tf)))

    def matrix(self, id: str) -> Motif:
        """The counts of a JASPAR CORE matrix, such as MA0002.3, as Biopython's motif. Errors: no such id."""
        from Bio.motifs.jaspar import Motif

        held = self._store.rows("SELECT name, counts FROM matrix WHERE id = ?", id) if plain(id) else []
        if not held:
            raise Error(f"no JASPAR matrix {id[:40]!r} in this knowledge base; motifs(tf) lists those of a factor")
        ((name, counts),) = held
        return Motif(matrix_id=id, name=name, counts=json.loads(counts))

    def annotations(self) -> Annotations:
        """GO and Reactome annotation of all human genes as one sparse matrix (rlvr/knowledge/annotations.py)."""
        return self._annotations

    # -- reading ------------------------------------------------------------------------------------------

    @cached_property
    def _annotations(self) -> Annotations:
        return Annotations.from_store(self._store)

    @cached_property
    def _meta(self) -> dict[str, str]:
        return dict(self._store.rows("SELECT key, value FROM meta"))

    @cached_property
    def _releases(self) -> dict[int, Release]:
        rows = self._store.rows("SELECT * FROM release ORDER BY id")
        return {row[0]: Release(row[1], row[2], row[3], row[4], row[5], bool(row[6])) for row in rows}

    @cached_property
    def _kinds(self) -> dict[int, tuple[str, int, str, bool, str]]:
        rows = self._store.rows("SELECT * FROM kind")
        return {number: (relation, release, code, bool(no), of) for number, relation, release, code, no, of in rows}

    def _read_gene(self, symbol: str, species: Species) -> Gene:
        query, name = "SELECT rank, symbol FROM name WHERE species = ? AND name = ?", cleaned(symbol)
        found = settle(self._store.rows(query, species, name))
        if found.status != "approved" and missing(name):
            return Gene(None, "missing", found.candidates)
        if found.status != "unknown" or not (spelt := undated(name)):
            return found
        meant = {other for name in spelt for other in self._read_gene(name, species).candidates}
        return Gene(None, "date", tuple(sorted(meant)))

    def _read_folded(self, species: Species) -> dict[str, tuple[str, ...]]:
        """Approved symbols by what they are without capitals."""
        found: dict[str, tuple[str, ...]] = {}
        for symbol in self.symbols(species):
            found[symbol.casefold()] = (*found.get(symbol.casefold(), ()), symbol)
        return found

    def _read_carried(self, symbol: str) -> tuple[str, ...]:
        held = self._store.rows("SELECT terms FROM gene WHERE species = 'human' AND symbol = ?", symbol)
        return tuple(self._labels[i][0] for (blob,) in held for i in numbers(blob))

    def _read_facts(self, subject: str) -> tuple[tuple[str, int, str, int | None], ...]:
        """(object, kind, reference, day) of every fact about a subject."""
        return tuple(self._store.rows("SELECT object, kind, reference, day FROM fact WHERE subject = ?", subject))

    def _read_linked(self, subject: str, aim: str) -> tuple[Fact, ...]:
        rank = self._rank.get(aim)
        above = self._above(rank) if rank is not None else {}
        found = []
        for held, number, reference, day in self._facts(subject):
            relation, _, _, negated, _ = self._kinds[number]
            place = self._rank.get(held)
            linked = held == aim
            if place is not None and relation != "marks":  # a subtype's marker need not mark the type
                linked |= place in above if negated else rank in self._above(place)
            if linked:
                found.append(self._fact(subject, held, number, reference, day))
        return tuple(sorted(found, key=lambda fact: fact.object != aim))

    def _read_edge(self, tf: str, target: str) -> Edge | None:
        query = "SELECT kind, reference, day FROM fact WHERE subject = ? AND object = ?"
        held = [row for row in self._store.rows(query, tf, target) if self._kinds[row[0]][0] in SIGNS]
        if not held:
            return None
        signs = {SIGNS[self._kinds[kind][0]] for kind, _, _ in held} - {"unknown"}
        sign: Sign = "conflict" if len(signs) > 1 else next(iter(signs), "unknown")
        return Edge(tf, target, sign, tuple(self._fact(tf, target, *row) for row in held))

    def _reverse(self, object: str | None, relations: Mapping[str, str]) -> tuple[str, ...]:
        held = self._store.rows("SELECT subject, kind FROM fact WHERE object = ?", object)
        return tuple(sorted({s for s, kind in held if self._kinds[kind][0] in relations}))

    def _subject(self, name: str) -> str | None:
        return name if name in COMPLEXES else self.resolve(name) or self.resolve(name, "mouse")

    def _object(self, name: str) -> str | None:
        """What the facts call something that is no term: a human or mouse gene, a cell type, a motif."""
        if not plain(name):
            return None
        symbol = self.resolve(name) or self.resolve(name, "mouse")
        if symbol or self._store.rows("SELECT 1 FROM matrix WHERE id = ?", name):
            return symbol or name
        return next(iter(self._cells(name)), name.casefold())

    def _cells(self, name: str) -> list[str]:
        """Current cell types of that name or synonym, in the singular or plural."""
        found = self.find(name, "cell") or self.find(name.removesuffix("s"), "cell")
        return [term.id for term in found if not term.obsolete]

    def _fact(self, subject: str, object: str, kind: int, reference: str, day: int | None) -> Fact:
        relation, release, code, negated, _ = self._kinds[kind]
        rank, origin = self._rank.get(object), self._releases[release]
        name = self._labels[rank][1] if rank is not None else object
        told = (origin.source, origin.release, code, reference, origin.licence)
        made = date.fromordinal(day).isoformat() if day else ""
        return Fact(subject, relation, object, name or object, *told, negated, made)


_OPEN: dict[Path, KnowledgeBase] = {}


def opened() -> dict[str, str]:
    """File stem -> version of every knowledge base that this process has opened: what a run records.
    A worker process has its own."""
    return {path.stem: base.version for path, base in sorted(_OPEN.items())}


def _opened(path: Path) -> KnowledgeBase:
    return _OPEN.setdefault(path, KnowledgeBase(path))
