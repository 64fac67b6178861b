"""From claims to the rows of the one file: symbols brought up to date, terms closed, facts tagged.

What cannot be placed (a symbol that no gene has, a term that is obsolete) is counted and listed in the file
itself: `KnowledgeBase.dropped()`.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from rlvr.knowledge import ontologies, readers
from rlvr.knowledge.facts import Term
from rlvr.knowledge.ontologies import Entry
from rlvr.knowledge.readers import COMPLEXES, Claim
from rlvr.knowledge.releases import Origin
from rlvr.knowledge.store import Write, blob
from rlvr.knowledge.symbols import STATUSES, settle, undated
from rlvr.types import Error

TO_GENE = frozenset({"activates", "represses", "regulates"})
# PanglaoDB's names that neither a label nor a synonym of the Cell Ontology matches.
PANGLAO = {
    "Alpha cells": "CL:0000171",
    "B cells memory": "CL:0000787",
    "B cells naive": "CL:0000788",
    "Bergmann glia": "CL:0000644",
    "Beta cells": "CL:0000169",
    "Delta cells": "CL:0000173",
    "Ductal cells": "CL:0002079",
    "Epsilon cells": "CL:0005019",
    "Erythroid-like and erythroid precursor cells": "CL:0000764",
    "Gamma (PP) cells": "CL:0002275",
    "Gamma delta T cells": "CL:0000798",
    "Glutaminergic neurons": "CL:0000679",
    "Loop of Henle cells": "CL:1000909",
    "Microglia": "CL:0000129",
    "Myeloid-derived suppressor cells": "CL:0000889",
    "Myofibroblasts": "CL:0000186",
    "Natural killer T cells": "CL:0000814",
    "Oligodendrocyte progenitor cells": "CL:0002453",
    "Proximal tubule cells": "CL:0002306",
    "Pulmonary alveolar type II cells": "CL:0002063",
    "Radial glia cells": "CL:0000681",
    "Spermatozoa": "CL:0000019",
    "T cells naive": "CL:0000898",
    "T cytotoxic cells": "CL:0000910",
    "T follicular helper cells": "CL:0002038",
    "T helper cells": "CL:0000912",
    "T memory cells": "CL:0000813",
    "T regulatory cells": "CL:0000815",
}


@cache
def ordinal(day: str) -> int:
    """The number of a day that is written YYYYMMDD; 0 for "". Raises ValueError if it is no date."""
    return date.fromisoformat(day).toordinal() if day else 0


class Rows:
    """Takes in releases, names, terms and claims, in the order of releases.UPSTREAM, then writes all."""

    def __init__(self, cutoff: str = "", exclude: Collection[str] = ()) -> None:
        """cutoff: YYYYMMDD, or "" for none. exclude: references."""
        self._cutoff, self._exclude = cutoff, frozenset(exclude)
        self._releases: dict[str, tuple[Any, ...]] = {}
        self._numbers: dict[str, int] = {}
        self._names: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
        self._settled: dict[tuple[str, str], str | None] = {}
        self._ensembl: dict[str, str] = {}
        self._accessions: dict[str, set[str]] = defaultdict(set)
        self._entries: dict[str, Entry] = {}
        self._alternatives: dict[str, str] = {}
        self._labels: dict[str, set[str]] = defaultdict(set)
        self._kinds: dict[tuple[Any, ...], int] = {}
        self._facts: dict[tuple[str, str, int, str], int] = {}  # -> the first day, 0 if none is known
        self._matrices: list[tuple[Any, ...]] = []
        self._mice: dict[str, list[str]] = defaultdict(list)
        self._dropped: Counter[tuple[int, str, str]] = Counter()

    def read(self, part: str, origin: Origin, path: Path) -> None:
        """Take in one upstream file. Errors: nothing in it could be used."""
        self.release(part, origin)
        before = len(self._facts) + len(self._entries) + len(self._names)
        READ[part](self, part, path)
        if len(self._facts) + len(self._entries) + len(self._names) == before:
            raise Error(f"{path}: no row of it could be used as {part}; check that it is the right file")

    def release(self, part: str, origin: Origin) -> None:
        """Enter the release that the next claims of this part come from."""
        self._numbers[part] = len(self._numbers)
        held = (origin.source, origin.release, origin.file.name, origin.file.sha256, origin.licence)
        self._releases[part] = (self._numbers[part], *held, int(origin.commercial))

    def name(self, rows: Iterable[tuple[str, int, str]], species: str = "human") -> None:
        """Enter (name, rank, approved symbol); rank: of STATUSES."""
        self._settled.clear()
        for name, rank, symbol in rows:
            self._names[species, name].append((rank, symbol))

    def encode(self, rows: Iterable[tuple[str, str]]) -> None:
        """Enter (UniProt accession, approved symbol)."""
        for accession, symbol in rows:
            self._accessions[accession].add(symbol)

    def resolve(self, name: str, species: str = "human") -> str | None:
        """As KnowledgeBase.resolve."""
        key = species, name
        if key not in self._settled:
            self._settled[key] = settle(self._names.get(key, ())).symbol
        return self._settled[key]

    def enter(self, entries: Iterable[Entry]) -> None:
        """Enter terms."""
        for entry in entries:
            self._entries[entry.term.id] = entry
            for other in entry.alternatives:
                self._alternatives[other] = entry.term.id
            for label in (entry.term.id, entry.term.name, *entry.synonyms):
                self._labels[label.casefold()].add(entry.term.id)

    def add(self, part: str, claim: Claim, found: str | None = None) -> None:
        """Enter a claim of a part, or count why not. found: the term that the object stands for, if known.
        Errors: its day is no date."""
        number = self._numbers[part]
        try:
            day = ordinal(claim.day)
        except ValueError as error:
            where = f"{self._releases[part][3]}: {claim.day!r}, of {claim.subject} and {claim.object},"
            raise Error(f"{where} is no date; write it as 20180630") from error
        target: str | None
        factor = claim.relation in TO_GENE and claim.subject in COMPLEXES
        subject = claim.subject if factor else self.resolve(claim.subject, claim.species)
        if claim.relation in TO_GENE:
            target = self.resolve(claim.object)
        elif claim.relation == "marks":
            target = found or claim.object.casefold()
        elif claim.relation in ("ortholog_of", "binds"):
            target = claim.object
        else:
            known = self._entries.get(self._alternatives.get(claim.object, claim.object))
            target = known.term.id if known and not known.term.obsolete else None
        if self._cutoff and claim.day > self._cutoff:
            self._dropped[number, "made after the cutoff", ""] += 1
        elif self._exclude and not self._exclude.isdisjoint(claim.reference.split("|")):
            self._dropped[number, "rests on an excluded reference", claim.reference] += 1
        elif subject is None:
            self._dropped[number, self._unplaced(claim.subject, claim.species), claim.subject] += 1
        elif target is None:
            reason = "no current term" if claim.relation not in TO_GENE else self._unplaced(claim.object, "human")
            self._dropped[number, reason, claim.object] += 1
        else:
            held = (claim.relation, number, claim.code, int(claim.negated), claim.species)
            fact = subject, target, self._kinds.setdefault(held, len(self._kinds)), claim.reference
            self._facts[fact] = min(day, self._facts.get(fact, day))

    def _unplaced(self, name: str, species: str) -> str:
        if (species, name) in self._names:
            return "several genes share the symbol"
        return "a date that a spreadsheet made of a symbol" if undated(name) else "no gene has the symbol"

    def cell(self, name: str) -> str | None:
        """The one current Cell Ontology term of that name, in the singular or plural; None if there is none."""
        folded = name.casefold()
        for tried in (folded, folded.removesuffix("s")):
            found = {t for t in self._labels.get(tried, ()) if t.startswith("CL:")}
            current = {t for t in found if not self._entries[t].term.obsolete}
            if len(current) > 1:
                current = {t for t in current if self._entries[t].term.name.casefold() == tried}
            if len(current) == 1:
                return current.pop()
        return None

    def write(self, write: Write, version: str, options: Mapping[str, Any], sizes: Mapping[str, int] = {}) -> None:
        """Write every table. sizes: human genes that carry each term, where the annotation is but a part."""
        write("meta", [("version", version), ("options", json.dumps(options))])
        write("release", self._releases.values())
        write("name", ((*key, rank, s) for key, held in self._names.items() for rank, s in set(held)))
        write("accession", ((id, symbol) for id, held in self._accessions.items() for symbol in held))
        above = ontologies.distances({t: entry.parents for t, entry in self._entries.items()})
        direct: dict[str, set[str]] = defaultdict(set)
        kinds = list(self._kinds)
        for subject, target, kind, _ in self._facts:
            relation, _, _, negated, _ = kinds[kind]
            if target in above and relation != "marks" and not negated:
                direct[subject].add(target)
        carried = {gene: set().union(*(above[t] for t in held)) for gene, held in direct.items()}
        counted = Counter(t for held in carried.values() for t in held)
        size = {t: sizes.get(t, counted[t]) for t in above}
        order = sorted(above, key=lambda t: (size[t] or float("inf"), -len(above[t]), t))
        rank = {t: i for i, t in enumerate(order)}
        members: dict[str, list[int]] = defaultdict(list)
        genes: list[tuple[Any, ...]] = []
        for species, symbol in sorted({(sp, s) for (sp, _), held in self._names.items() for _, s in held}):
            ranks = sorted(rank[t] for t in carried.get(symbol, ())) if species == "human" else []
            for i in ranks:
                members[order[i]].append(len(genes))
            genes.append((len(genes), species, symbol, blob(ranks) if ranks else None))
        write("gene", genes)
        write("term", (self._term(t, size[t], above[t], rank, members[t]) for t in order))
        write("alternative", ((other, rank[t]) for other, t in self._alternatives.items()))
        write("label", ((label, rank[t]) for label, held in self._labels.items() for t in held))
        write("kind", ((number, *held) for held, number in self._kinds.items()))
        facts = sorted(self._facts.items())
        write("fact", ((s, t, i, k, r, day or None) for i, ((s, t, k, r), day) in enumerate(facts)))
        write("matrix", self._matrices)
        write("dropped", ((number, reason, name, n) for (number, reason, name), n in self._dropped.items()))

    def _term(
        self, id: str, size: int, above: Mapping[str, int], rank: Mapping[str, int], members: list[int]
    ) -> tuple[Any, ...]:
        term = self._entries[id].term
        text = (int(term.obsolete), " ".join(term.replaced_by), term.definition, " ".join(term.consider))
        steps = sorted((rank[t], n) for t, n in above.items())
        blobs = (blob([i for i, _ in steps]), bytes(n for _, n in steps), blob(members))
        return (rank[id], id, term.name, term.namespace, *text, size, *blobs)

    def _genes(self, part: str, path: Path) -> None:
        names, self._ensembl, accessions = readers.read_symbols(path)
        self.name(names)
        self.name((id, STATUSES.index("ensembl"), symbol) for id, symbol in self._ensembl.items())
        self.encode(accessions)

    def _orthologs(self, part: str, path: Path) -> None:
        mice: dict[str, None] = {}
        for id, claim in readers.read_orthologs(path):
            mice[claim.object] = None
            human = self._ensembl.get(id) or self.resolve(claim.subject)
            if human:
                self._mice[human].append(claim.object)
            self.add(part, claim._replace(subject=human or claim.subject))
        self.name(((symbol, 0, symbol) for symbol in mice), "mouse")

    def _ontology(self, part: str, path: Path) -> None:
        self.enter(ontologies.read_obo(path, "GO:"))

    def _cells(self, part: str, path: Path) -> None:
        self.enter(ontologies.read_cells(path))

    def _annotation(self, part: str, path: Path) -> None:
        named = frozenset(self._accessions)  # by HGNC, which is newer
        for claim in readers.read_annotation(path):
            self.add(part, claim)
            symbol = None if claim.accession in named else self.resolve(claim.subject)
            if claim.accession and symbol:
                self.encode([(claim.accession, symbol)])

    def _sets(self, part: str, path: Path) -> None:
        sets = ontologies.read_complexes(path) if part == "complexes" else ontologies.read_gmt(path)
        code = "derived" if part == "hallmarks" else "curated"
        relation = "subunit_of" if part == "complexes" else "member_of"
        for first, second, genes in sets:
            if part == "pathways":
                term = Term(second, first, "pathway")
            elif part == "hallmarks":
                term = Term(first, first.removeprefix("HALLMARK_").replace("_", " ").capitalize(), "hallmark")
            else:
                term = Term(first, second, "complex")
            self.enter([Entry(term)])
            for gene in genes:
                self.add(part, Claim(gene, relation, term.id, code))

    def _edges(self, part: str, path: Path) -> None:
        for claim in (readers.read_trrust if part == "trrust" else readers.read_collectri)(path):
            self.add(part, claim)

    def _panglaodb(self, part: str, path: Path) -> None:
        for claim in readers.read_panglaodb(path):
            human = self.resolve(claim.subject) or ""
            cell = PANGLAO.get(claim.object) or self.cell(claim.object)
            for symbol in self._mice.get(human) or [claim.subject] if claim.species == "mouse" else [claim.subject]:
                self.add(part, claim._replace(subject=symbol), cell)

    def _cellmarker(self, part: str, path: Path) -> None:
        for id, claim in readers.read_cellmarker(path):
            known = id in self._entries and not self._entries[id].term.obsolete
            self.add(part, claim, id if known else self.cell(claim.object))

    def _motifs(self, part: str, path: Path) -> None:
        for held in readers.read_motifs(path):
            gene = self.resolve(held.tf) or self.resolve(held.tf.upper()) if held.tf else None
            self._matrices.append((held.id, held.name, gene, 0 if held.human else 1, held.counts))
            if held.tf:
                self.add(part, Claim(gene or held.tf, "binds", held.id, held.code, held.reference))


READ: dict[str, Callable[[Rows, str, Path], None]] = {
    "genes": Rows._genes,
    "orthologs": Rows._orthologs,
    "ontology": Rows._ontology,
    "annotation": Rows._annotation,
    "pathways": Rows._sets,
    "hallmarks": Rows._sets,
    "complexes": Rows._sets,
    "trrust": Rows._edges,
    "collectri": Rows._edges,
    "cells": Rows._cells,
    "panglaodb": Rows._panglaodb,
    "cellmarker": Rows._cellmarker,
    "motifs": Rows._motifs,
}
