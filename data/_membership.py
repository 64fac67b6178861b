"""Questions on what a gene belongs to (a GO term, a pathway): the right name among hard wrong ones.

Shared by go_function.py and pathway_membership.py. A wrong option is near the right one; the gene does not carry it,
nor is it a kind of what the gene is known for most specifically, since it might then be true and unrecorded. Each
name is offered wrongly about (options - 1) times as often as rightly, so that how often it is right tells little.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import islice
from typing import ClassVar, NamedTuple

from rlvr.answers import fold
from rlvr.knowledge import FILES, KnowledgeBase
from rlvr.questions import splits
from rlvr.questions.biology.cells import shuffled
from rlvr.source import File, Source
from rlvr.types import Error, Question

log = logging.getLogger(__name__)

SIZES = range(5, 301)  # genes that carry a term: a smaller one is a riddle, a larger one says little
SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}
SALT = "knowledge"  # one for both sources: a gene is in the same split of each
PER_GENE = 2  # questions: else a few famous genes would be most of them
NEAR = 24  # wrong names, the nearest ones, among which frequency decides


class Membership(NamedTuple):
    """A gene, a term that it carries, where that is written, the sources' evidence codes, and the ISO date since when
    it is known ("": the source does not say)."""

    gene: str
    term: str
    references: tuple[str, ...]
    codes: tuple[str, ...]
    date: str = ""


@dataclass(frozen=True)
class MembershipSource(Source):
    """Options of both sources: options (names to choose from, the right one among them), knowledge ("upstream",
    "sample" or the path of a built file)."""

    task: ClassVar[str]
    prefix: ClassVar[str]  # of the ids of the terms

    options: int = 4
    knowledge: str = "upstream"

    def __post_init__(self) -> None:
        if self.options < 2:
            raise Error(f"{self.name}: options is {self.options}; it must be at least 2")

    @classmethod
    def files(cls) -> tuple[File, ...]:
        return FILES

    @property
    @abstractmethod
    def context(self) -> str:
        """What part of the knowledge base is asked about."""

    @abstractmethod
    def memberships(self, drops: Counter[str]) -> Iterator[Membership]:
        """What can be asked, gene by gene. Terms of a size in SIZES; what is left out is counted."""

    @abstractmethod
    def containing(self, term: str) -> frozenset[str]:
        """The term and all that contain it."""

    @abstractmethod
    def near(self, known: Collection[str]) -> Callable[[str], Sequence[str]]:
        """A function of a term: those of the `known` terms that are close to it, the closest first."""

    def questions(self) -> Iterator[Question]:
        self.announce()
        for held, drawn in self._asked[0]:
            ids = {self._name(term): term for term in shuffled([held.term, *drawn], f"order {held.gene} {held.term}")}
            yield Question(
                id=f"{self.name}:{self.context}:{held.gene}:{held.term}",
                task=self.task,
                fields={"gene": held.gene, "options": list(ids)},
                truth={
                    "answer": self._name(held.term),
                    "ids": ids,
                    "references": list(held.references),
                    "codes": list(held.codes),
                    "group": held.gene,
                    "context": self.context,
                },
                source=self.name,
                split=self.split(held),
            )

    def split(self, held: Membership) -> str:
        """The split that asks about a membership: its gene's."""
        return splits.assign([held.gene], SHARES, SALT)[held.gene]

    @property
    def drops(self) -> Mapping[str, int]:
        """Why memberships were left out -> how many."""
        return self._asked[1]

    @cached_property
    def base(self) -> KnowledgeBase:
        """Where all facts come from."""
        return KnowledgeBase.open(self.knowledge)

    def carried(self, gene: str) -> frozenset[str]:
        """The gene's terms of this kind, closed over what contains them."""
        return frozenset(term for term in self.base.terms(gene) if term.startswith(self.prefix))

    @cached_property
    def above(self) -> Callable[[str], frozenset[str]]:
        """`containing`, which is asked for the same terms again and again."""
        return cache(self.containing)

    @cached_property
    def _asked(self) -> tuple[list[tuple[Membership, list[str]]], Mapping[str, int]]:
        """Memberships with their wrong options, by gene; and what was left out."""
        drops: Counter[str] = Counter()
        found: dict[str, list[Membership]] = {}
        for held in self.memberships(drops):
            found.setdefault(held.gene, []).append(held)
        near = cache(self.near({held.term for all_of in found.values() for held in all_of}))
        chosen: dict[Membership, list[str]] = {}
        for gene, all_of in found.items():
            fitting = self._fitting(gene, all_of, near)
            drops["without enough wrong options nearby"] += len(all_of) - len(fitting)
            drops[f"beyond {PER_GENE} of a gene"] += max(len(fitting) - PER_GENE, 0)
            kept = set(shuffled([held.term for held in fitting], gene)[:PER_GENE])
            chosen |= {held: others for held, others in fitting.items() if held.term in kept}
        right = Counter(held.term for held in chosen)
        wrong: Counter[str] = Counter()
        drawn: dict[Membership, list[str]] = {}
        for held in sorted(chosen, key=lambda held: (splits.fraction(f"{held.gene}:{held.term}", SALT), held)):
            # A name that is never right would give itself away.
            offered = sorted((t for t in chosen[held] if t in right), key=lambda t: wrong[t] / right[t])
            if len(offered) >= self.options - 1:
                drawn[held] = offered[: self.options - 1]
                wrong.update(drawn[held])
        drops["without enough wrong options nearby"] += len(chosen) - len(drawn)
        for why, count in drops.items():
            log.info("%s: left out: %d %s", self.name, count, why)
        asked = [(held, drawn[held]) for held in chosen if held in drawn]
        return asked, {why: count for why, count in drops.items() if count}

    def _fitting(
        self, gene: str, held: Sequence[Membership], near: Callable[[str], Sequence[str]]
    ) -> dict[Membership, list[str]]:
        """Memberships of a gene that have enough wrong options, with all of these, the nearest first."""
        carried = self.carried(gene)
        known = carried.difference(*(self.above(t) - {t} for t in carried))  # most specifically
        fitting: dict[Membership, list[str]] = {}
        for one in held:
            others = (t for t in near(one.term) if t not in carried and known.isdisjoint(self.above(t)))
            names = {fold(self._name(t)): t for t in islice(others, NEAR)}
            names.pop(fold(self._name(one.term)), None)
            if len(names) >= self.options - 1:
                fitting[one] = list(names.values())
        return fitting

    def _name(self, term: str) -> str:
        return self._names[term]

    @cached_property
    def _names(self) -> dict[str, str]:
        annotations = self.base.annotations()
        return dict(zip(annotations.terms.tolist(), annotations.names.tolist(), strict=True))
