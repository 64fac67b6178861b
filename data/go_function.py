"""Which function does a gene have? Terms of the Gene Ontology, each with the papers that it rests on.

    rlvr data show go_function
    rlvr data show go_function namespace=biological_process
    rlvr data show go_function split_by=date

The right option is one of the gene's most specific direct annotations, of 5 to 300 human genes, made from an
experiment or stated by an author or curator: electronic annotation (IEA) and that of homologues is left out, and so is
what a NOT row denies. Wrong options are siblings, terms with a parent in common, of like size. A term that is not
annotated may still be true of a gene: the question is what is known, as of the release.

With split_by=date what was annotated to a gene before a day trains, and what was first annotated later is held out, so
that validation and test ask what no such annotation said before. What is held out of a gene that also trains is left
out and counted (`drops`): no gene is on both sides. The date is that of the earliest annotation that the answer rests
on, as GOA gives it: the day of the curator's work or of its last revision, which may be years after the paper. Wrong
options are wrong as of the release on both sides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from math import log
from typing import ClassVar

from rlvr.questions import splits
from rlvr.types import Error

from ._membership import SALT, SIZES, Membership, MembershipSource

CODES = frozenset({"EXP", "IDA", "IPI", "IMP", "IGI", "IEP", "TAS", "IC"})
ROOTS = {
    "molecular_function": ("GO:0003674", "enables"),
    "biological_process": ("GO:0008150", "involved_in"),
    "cellular_component": ("GO:0005575", "part_of"),
}
LATER = {"validation": 0.5, "test": 0.5}  # of the genes that are held out by date


@dataclass(frozen=True)
class GoFunction(MembershipSource):
    """Options: namespace (molecular_function, biological_process, cellular_component), split_by ("gene", or "date" of
    the annotation), since (the first day that is held out by date), and those of
    _membership.py."""

    name: ClassVar[str] = "go_function"
    version: ClassVar[str] = "1"
    licence: ClassVar[str] = "CC BY 4.0"
    commercial: ClassVar[bool] = True
    citation: ClassVar[str] = (
        "Ashburner et al., Gene Ontology: tool for the unification of biology, Nat Genet 25:25, 2000"
    )
    doi: ClassVar[str] = "10.1038/75556"
    task: ClassVar[str] = "knowledge/function"
    prefix: ClassVar[str] = "GO:"

    namespace: str = "molecular_function"
    split_by: str = "gene"
    since: str = "2016-01-01"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.namespace not in ROOTS:
            raise Error(f"go_function: namespace {self.namespace!r} is unknown; choose one of {', '.join(ROOTS)}")
        if self.split_by not in ("gene", "date"):
            raise Error(f"go_function: split_by {self.split_by!r} is unknown; choose gene or date")
        try:
            splits.dated({}, {"test": self.since})
        except Error as error:
            raise Error(f"go_function: since: {error}") from error

    @property
    def context(self) -> str:
        return self.namespace

    def split(self, held: Membership) -> str:
        if self.split_by == "gene":
            return super().split(held)
        later = splits.assign([held.gene], LATER, SALT)[held.gene]
        return splits.dated({held.gene: held.date}, {later: self.since})[held.gene]

    def memberships(self, drops: Counter[str]) -> Iterator[Membership]:
        for gene in self.base.symbols():
            held = list(self._held(gene, drops))
            yield from held if self.split_by == "gene" else self._on_one_side(held, drops)

    def _held(self, gene: str, drops: Counter[str]) -> Iterator[Membership]:
        root, relation = ROOTS[self.namespace]
        facts = [f for f in self.base.facts(gene, root) if f.relation == relation and not f.negated]
        direct = {f.object for f in facts if f.code in CODES and self.base.size(f.object) in SIZES}
        above = {a for term in direct for a in self.base.ancestors(term) if a != term}
        for term in sorted(direct - above):
            support = self.base.facts(gene, term)
            if any(fact.negated for fact in support):
                drops["denied by a NOT row"] += 1
                continue
            told = [fact for fact in support if fact.code in CODES and fact.relation == relation]
            papers = {paper for fact in told for paper in fact.reference.split("|") if paper}
            codes = {fact.code for fact in told}
            first = min(fact.date for fact in told)  # "" if any has none: then the first is not known
            yield Membership(gene, term, tuple(sorted(papers)), tuple(sorted(codes)), first)

    def _on_one_side(self, held: Sequence[Membership], drops: Counter[str]) -> Sequence[Membership]:
        """Those of a gene's memberships that train, or if none does, those that are held out."""
        known = [one for one in held if one.date]
        early = [one for one in known if self.split(one) == "train"]
        drops["without a date of annotation"] += len(held) - len(known)
        drops["of a later date, of a gene that trains"] += len(known) - len(early) if early else 0
        return early or known

    def containing(self, term: str) -> frozenset[str]:
        return self.base.ancestors(term)

    def near(self, known: Collection[str]) -> Callable[[str], Sequence[str]]:
        families: dict[str, list[str]] = {}
        for term in known:
            for parent in self._parents(term):
                families.setdefault(parent, []).append(term)

        def siblings(term: str) -> Sequence[str]:
            found = {t for parent in self._parents(term) for t in families.get(parent, ())} - {term}
            size = log(self.base.size(term))
            return sorted(found, key=lambda t: (abs(log(self.base.size(t)) - size), t))

        return siblings

    def _parents(self, term: str) -> list[str]:
        return [above for above in self.base.ancestors(term) if self.base.distance(term, above) == 1]
