"""Which pathway is a gene part of? Human pathways of Reactome.

    rlvr data show pathway_membership

The right option is one of the gene's most specific pathways, of 5 to 300 genes. Wrong options are pathways that share
genes with it but lack this one. Reactome's table gives no papers, so the reference is the pathway itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from ._membership import SIZES, Membership, MembershipSource


@dataclass(frozen=True)
class PathwayMembership(MembershipSource):
    """Options: those of _membership.py. Splits by gene."""

    name: ClassVar[str] = "pathway_membership"
    version: ClassVar[str] = "1"
    licence: ClassVar[str] = "CC0 (data), CC BY 4.0"
    commercial: ClassVar[bool] = True
    citation: ClassVar[str] = "Jassal et al., The Reactome pathway knowledgebase, Nucleic Acids Research 48:D498, 2020"
    doi: ClassVar[str] = "10.1093/nar/gkz1031"
    task: ClassVar[str] = "knowledge/pathway"
    prefix: ClassVar[str] = "R-HSA-"

    @property
    def context(self) -> str:
        return "Reactome"

    def memberships(self, drops: Counter[str]) -> Iterator[Membership]:
        for gene, carried in self._pathways.items():
            wider = {w for term in carried for w in self.above(term) if w != term}
            for term in sorted(t for t in carried - wider if self.base.size(t) in SIZES):
                codes = {fact.code for fact in self.base.facts(gene, term)}
                yield Membership(gene, term, (term,), tuple(sorted(codes)))

    def containing(self, term: str) -> frozenset[str]:
        """The pathways that every gene of this one is in. Two of the same genes do not contain each other."""
        genes = self.base.members(term)
        wider = frozenset.intersection(*(self._pathways[gene] for gene in genes))
        return frozenset(t for t in wider if t == term or self.base.size(t) > len(genes))

    def near(self, known: Collection[str]) -> Callable[[str], Sequence[str]]:
        def sharing(term: str) -> Sequence[str]:
            genes = self.base.members(term)
            shared = Counter(t for gene in genes for t in self._pathways[gene] if t in known and t != term)
            likeness = {t: n / (len(genes) + self.base.size(t) - n) for t, n in shared.items()}  # Jaccard index
            return sorted(likeness, key=lambda t: (-likeness[t], t))

        return sharing

    @cached_property
    def _pathways(self) -> dict[str, frozenset[str]]:
        """Gene -> its pathways."""
        return {gene: held for gene in self.base.symbols() if (held := self.carried(gene))}
