"""Which names mean one gene, and which genes are related: for splits by group, and for the audit of splits.

kin = Kin(KnowledgeBase.open("upstream"))
kin.same("AARS")                       # the gene under its current symbol, and its mouse orthologs
groups(names, kin.base, by="complex")  # name -> the first of all that sit in complexes with it
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from functools import cache
from typing import Literal

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rlvr.knowledge import FILES, KnowledgeBase
from rlvr.knowledge.annotations import COMPLEX_MOST, COMPLEX_ROOT
from rlvr.types import Error

log = logging.getLogger(__name__)

Tie = Literal["complex", "family"]
LISTED = 5  # names that a log line spells out
# A stem and the designation of a member: CCND1, SLC25A3, TUBB4B, HLA-A.
_NUMBERED = re.compile(r"(.{2,}[A-Za-z])(?:-?\d{1,4}[A-Z]?|-[A-Z])")
# Stems by which HGNC numbers what is not related.
_UNRELATED = re.compile(r"C(\d+|X|Y)orf|CCDC|KIAA|LINC|LOC|MIR|TMEM|ZNF")


class Kin:
    """Names of genes through one knowledge base. A name that it does not know stands for itself.

    A symbol is read as a human one if it is approved, else as a mouse one, else as a human one that was approved
    before, is an alias or an Ensembl id, or differs in its capitals alone (`KnowledgeBase.read`).
    """

    def __init__(self, base: KnowledgeBase) -> None:
        self.base = base
        self.unknown: set[str] = set()  # names that were asked for and are no gene
        self.gene = cache(self._gene)
        self.same = cache(self._same)
        self.ties = cache(self._ties)
        self._complex = cache(self._is_complex)

    @classmethod
    def of(cls, names: Iterable[str], whole: bool = False) -> Kin:
        """With the least that knows these names and needs no download: the sample tables if they know all (and the
        whole is not asked for), else the full knowledge base if its files are here, else the sample tables, and a
        warning that counts what was not looked up."""
        sample = cls(KnowledgeBase.open("sample"))
        lost = sorted(name for name in set(names) if not sample.gene(name))
        if (lost or whole) and all(file.here() for file in FILES):
            return cls(KnowledgeBase.open("upstream"))
        if lost:
            log.warning(
                "previous symbols, aliases and orthologs of %d names (%s) were not looked up: the files of the "
                "knowledge base are not here; `rlvr knowledge build` fetches them",
                len(lost),
                ", ".join(lost[:LISTED]) + (", ..." if len(lost) > LISTED else ""),
            )
        return sample

    def _gene(self, name: str) -> tuple[str, str] | None:
        """(species, current symbol); None for what is no gene, or could be several."""
        found = self.base.gene(name)
        if found.status == "approved":
            return "human", str(found.symbol)
        mouse = self.base.resolve(name, "mouse")
        if mouse:
            return "mouse", mouse
        if found.symbol or (found := self.base.read(name)).symbol:
            return "human", str(found.symbol)
        self.unknown.add(name)
        return None

    def id(self, name: str) -> str:
        """What stands for a gene whatever it is called: "human:AARS1"; the name itself where it is no gene."""
        gene = self.gene(name)
        return ":".join(gene) if gene else name

    def _same(self, name: str) -> frozenset[str]:
        """The ids of the gene and of its orthologs in the other species."""
        gene = self.gene(name)
        if not gene:
            return frozenset({name})
        species, symbol = gene
        if species == "human":
            others = {f"mouse:{other}" for other in self.base.ortholog(symbol)}
        else:
            others = {f"human:{other}" for other in self.base.ortholog(symbol, "mouse")}
        return frozenset({self.id(name), *others})

    def _ties(self, name: str, by: Tie, most: int | None = None) -> frozenset[str]:
        """What ties a gene to its relatives: two genes that share one of these are related.

        complex: protein complexes of at most `most` human genes: CORUM's where the knowledge base holds them (it is
        opt-in), by default all; else those of the Gene Ontology, by default of at most 100 (a larger one is a class of
        complexes, not one machine). family: the mouse orthologs (human genes of one mouse gene are
        paralogs; Ensembl BioMart) and the stem of the symbol (see `stem`). A mouse gene has the ties of its human
        orthologs.
        """
        gene = self.gene(name)
        if not gene:
            return frozenset()
        humans = (gene[1],) if gene[0] == "human" else self.base.ortholog(gene[1], "mouse")
        if by == "complex":
            return frozenset(t for symbol in humans for t in self.base.terms(symbol) if self._complex(t, most))
        mice = {f"mouse:{mouse}" for symbol in humans for mouse in self.base.ortholog(symbol)}
        stems = {f"stem:{found}" for symbol in humans if (found := stem(symbol))}
        return frozenset(mice | stems)

    def _is_complex(self, term: str, most: int | None) -> bool:
        size = self.base.size(term)
        if self.base.options["noncommercial"]:
            return term.startswith("CORUM:") and (most is None or size <= most)
        return size <= (COMPLEX_MOST if most is None else most) and COMPLEX_ROOT in self.base.ancestors(term)


def stem(symbol: str) -> str:
    """A human symbol without the designation of its member (CCND1 and CCND2: CCND); "" if there is none.

    A heuristic, as the names of a family's members are numbered; the knowledge base keeps symbols and no gene groups.
    It misses families whose symbols differ otherwise (KRAS, NRAS), and it also puts together the numbered subunits
    of one machine that are no homologs (RPL3, RPL4; PSMD1, PSMD2): for a split that errs on the safe side. Stems
    under which HGNC numbers what is unrelated (TMEM, CCDC, ZNF, open reading frames) do not count.
    """
    found = _NUMBERED.fullmatch(symbol)
    return found[1] if found and not _UNRELATED.fullmatch(found[1]) else ""


def groups(names: Iterable[str], knowledge: KnowledgeBase, by: Tie, most: int | None = None) -> dict[str, str]:
    """name -> group, which is named after the first symbol in it. Names that are linked by shared complexes, or by a
    family, over however many steps among these names, are one group; so are old and new symbols, and orthologs.

    most: genes; larger complexes tie nothing (see `Kin.ties`). It matters, as complexes overlap: of PerturbQA's 1,731
    K562 knockdowns 757 are one group at 100 (the default for those of the Gene Ontology), 228 at 20, and 24 at 10.
    A group depends on the names that are given: give all of them at once, held out or not.
    """
    if by not in ("complex", "family"):
        raise Error(f"groups: by is {by!r}; choose complex or family")
    kin, asked = Kin(knowledge), sorted(set(names))
    places: dict[str, int] = {}
    rows, columns = [], []
    for row, name in enumerate(asked):
        for key in kin.same(name) | kin.ties(name, by, most):
            rows.append(row)
            columns.append(len(asked) + places.setdefault(key, len(places)))
    size = len(asked) + len(places)
    links = coo_array((np.ones(len(rows)), (rows, columns)), shape=(size, size))
    found = connected_components(links, directed=False)[1][: len(asked)].tolist()
    first: dict[int, str] = {}
    for name, group in zip(asked, found, strict=True):
        gene = kin.gene(name)
        symbol = gene[1] if gene else name
        first[group] = min(symbol, first.get(group, symbol))
    return {name: first[group] for name, group in zip(asked, found, strict=True)}
