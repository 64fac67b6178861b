"""Transcription factors and their targets: the sign of an edge, and whether an edge is reported at all.

    rlvr data show tf_targets
    rlvr data show tf_targets task=reported

Task `edge`: does the factor activate or repress the target? TRRUST's pairs of which every row has one and the same
mode and a paper. Task `reported`: is the edge in CollecTRI? Of its positive signs most are defaults, so the sign is
never asked of it. An edge that no source reports is "unreported", never "no". What is no single gene (complexes such
as AP1, microRNAs, dates that a spreadsheet made) is left out, and listed.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from rlvr.knowledge import FILES, KnowledgeBase
from rlvr.knowledge.readers import COMPLEXES, MODES, read_table
from rlvr.knowledge.releases import UPSTREAM
from rlvr.questions import splits
from rlvr.source import File, Source
from rlvr.types import Error, Question

log = logging.getLogger(__name__)

FOUND = {name: UPSTREAM[name].file for name in ("trrust", "collectri")}
COLUMNS = {"trrust": ("TF", "Target", "Regulation", "Reference"), "collectri": ("source", "target")}
TASKS = ("edge", "reported")
ANSWERS = {"Activation": "activation", "Repression": "repression"}
SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}  # of the factors
SEED = 0
TRIES = 1000  # for a place to move a target to
WHY = {
    "ambiguous": "rows with a symbol of several genes",
    "date": "rows with a symbol that a spreadsheet made a date",
    "missing": "rows with a word for no gene in the place of a symbol",
    "unknown": "rows with a symbol of no gene",
}
Pair = tuple[str, str]  # factor, target


@dataclass(frozen=True)
class Pairs:
    """rows: (mode, references) of each pair of current symbols, in the file's order. drops: why rows were left out ->
    how many. unresolved: symbol -> what it is instead of one gene."""

    rows: Mapping[Pair, Sequence[tuple[str, ...]]]
    drops: Mapping[str, int]
    unresolved: Mapping[str, str]


@dataclass(frozen=True)
class TfTargets(Source):
    """Options: task (edge, reported), knowledge ("upstream", "sample" or the path of a built file: whose symbols are
    current). Splits by factor: a held-out factor has no training row, so its majority sign is not known there."""

    name: ClassVar[str] = "tf_targets"
    version: ClassVar[str] = "1"
    licence: ClassVar[str] = "TRRUST v2: CC BY-SA 4.0; CollecTRI: unclear (OmniPath lists it as academic)"
    commercial: ClassVar[bool] = False
    citation: ClassVar[str] = (
        "Han et al., TRRUST v2, Nucleic Acids Research 46:D380, 2018; "
        "Müller-Dott et al., CollecTRI, Nucleic Acids Research 51:10934, 2023 (doi:10.1093/nar/gkad841)"
    )
    doi: ClassVar[str] = "10.1093/nar/gkx1013"

    task: str = "edge"
    knowledge: str = "upstream"

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise Error(f"tf_targets: task {self.task!r} is unknown; choose one of {', '.join(TASKS)}")

    @classmethod
    def files(cls) -> tuple[File, ...]:
        return FILES

    def questions(self) -> Iterator[Question]:
        self.announce()
        yield from self._signs() if self.task == "edge" else self._reports()

    @property
    def drops(self) -> Mapping[str, int]:
        """Why rows or pairs were left out -> how many."""
        return self._kept[1] if self.task == "edge" else self._dealt[1]

    def unresolved(self) -> Mapping[str, str]:
        """Symbols of the file that are no single gene -> what they are."""
        return self._trrust.unresolved if self.task == "edge" else self._collectri.unresolved

    def _signs(self) -> Iterator[Question]:
        kept = self._kept[0]
        split = splits_of(kept)
        counts: dict[str, Counter[str]] = {}
        for (tf, _), (answer, _) in kept.items():
            if split[tf] == "train":
                counts.setdefault(tf, Counter())[answer] += 1
        for (tf, target), (answer, references) in kept.items():
            others = counts.get(tf, Counter()) - Counter([answer] if split[tf] == "train" else [])
            yield self._question(
                (tf, target), answer, split[tf], references, {"tf_majority": majority(others), "context": "TRRUST"}
            )

    def _reports(self) -> Iterator[Question]:
        for (tf, target), other in self._dealt[0].items():
            split = splits_of([(tf, target)])[tf]
            papers = sorted({paper for row in self._trrust.rows.get((tf, target), ()) for paper in references(row[1])})
            yield self._question((tf, target), "reported", split, papers, {"context": "CollecTRI"})
            yield self._question((tf, other), "unreported", split, [], {"context": "CollecTRI"})

    def _question(
        self, pair: Pair, answer: str, split: str, references: Sequence[str], more: Mapping[str, str | None]
    ) -> Question:
        tf, target = pair
        return Question(
            id=f"{self.name}:{self.task}:{tf}:{target}",
            task=f"regulation/{self.task}",
            fields={"tf": tf, "target": target},
            truth={
                "answer": answer,
                "degree": len(self._base.targets(tf)),
                "references": list(references),
                "group": tf,
                **more,
            },
            source=self.name,
            split=split,
        )

    @cached_property
    def _base(self) -> KnowledgeBase:
        return KnowledgeBase.open(self.knowledge)

    @cached_property
    def _trrust(self) -> Pairs:
        return read(FOUND["trrust"].path(), COLUMNS["trrust"], "\t", self._base)

    @cached_property
    def _collectri(self) -> Pairs:
        return read(FOUND["collectri"].path(), COLUMNS["collectri"], ",", self._base)

    @cached_property
    def _kept(self) -> tuple[dict[Pair, tuple[str, list[str]]], Mapping[str, int]]:
        """Pairs with one mode and a paper -> label and papers; and what was left out."""
        kept, drops = {}, Counter(self._trrust.drops)
        for pair, rows in self._trrust.rows.items():
            modes = {mode for mode, _ in rows}
            strange = modes - set(MODES)
            if strange:
                raise Error(f"tf_targets: mode {min(strange)!r} of {' and '.join(pair)} is none of {', '.join(MODES)}")
            papers = sorted({paper for _, named in rows for paper in references(named)})
            if set(ANSWERS) <= modes:
                drops["pairs with both modes"] += 1
            elif "Unknown" in modes:
                drops["pairs with an unknown mode"] += 1
            elif not papers:
                drops["pairs without a paper"] += 1
            else:
                kept[pair] = ANSWERS[modes.pop()], papers
        return kept, told(drops, self.task)

    @cached_property
    def _dealt(self) -> tuple[dict[Pair, str], Mapping[str, int]]:
        """Reported pairs -> the target of an unreported pair of the same factor; and what was left out."""
        known = {*self._collectri.rows, *self._trrust.rows}
        split = splits_of(self._collectri.rows)
        dealt: dict[Pair, str] = {}
        for part in SHARES:
            dealt |= deal([pair for pair in self._collectri.rows if split[pair[0]] == part], known)
        left = {"pairs without an unreported counterpart": len(self._collectri.rows) - len(dealt)}
        return dealt, told(Counter(self._collectri.drops) + Counter(left), self.task)


def read(path: Path, columns: Sequence[str], sep: str, knowledge: KnowledgeBase) -> Pairs:
    """A table of factor, target and more columns. Errors: a column is not there."""
    table = read_table(path, tuple(columns), sep)[list(columns)]
    drops = Counter({"rows that come twice": int(table.duplicated().sum())})
    genes = {name: knowledge.gene(name) for name in {*table[columns[0]], *table[columns[1]]}}
    unresolved: dict[str, str] = {}
    rows: dict[Pair, list[tuple[str, ...]]] = {}
    for tf, target, *more in table.drop_duplicates().itertuples(index=False, name=None):
        faulty = next((name for name in (tf, target) if name in COMPLEXES or genes[name].symbol is None), None)
        pair = genes[tf].symbol or "", genes[target].symbol or ""
        if faulty is not None:
            why = "rows with a complex" if faulty in COMPLEXES else WHY[genes[faulty].status]
            drops[why if faulty.strip() else "rows with an empty cell"] += 1
            unresolved[faulty] = "complex" if faulty in COMPLEXES else genes[faulty].status
        elif pair[0] == pair[1]:
            drops["rows of a factor that acts on itself"] += 1
        else:
            rows.setdefault(pair, []).append(tuple(more))
    if unresolved:
        log.info("%s: no single gene: %s", path.name, ", ".join(sorted(unresolved)))
    return Pairs(rows, {why: count for why, count in drops.items() if count}, dict(sorted(unresolved.items())))


def told(drops: Counter[str], task: str) -> Mapping[str, int]:
    """The drops, once they have been logged."""
    for why, count in drops.items():
        log.info("tf_targets: %s: left out: %d %s", task, count, why)
    return {why: count for why, count in drops.items() if count}


def references(named: str) -> list[str]:
    """PMIDs of a cell such as "10022128;10022617"; what is no number names no paper."""
    return [f"PMID:{paper.strip()}" for paper in named.split(";") if paper.strip().isdecimal()]


def splits_of(pairs: Mapping[Pair, object] | Sequence[Pair]) -> dict[str, str]:
    """factor -> split, by a fixed hash."""
    return splits.assign(sorted({tf for tf, _ in pairs}), SHARES, salt="tf_targets")


def majority(counts: Counter[str]) -> str | None:
    """The commonest answer; None where there is none, or no single one."""
    first = counts.most_common(2)
    return first[0][0] if first and (len(first) == 1 or first[0][1] > first[1][1]) else None


def deal(pairs: Sequence[Pair], known: set[Pair]) -> dict[Pair, str]:
    """Reported pair -> a target that nobody reports of its factor.

    The targets of all pairs are dealt anew, so that each factor, and each target, is as often in an unreported pair
    as in a reported one: neither tells the answer by itself. Pairs for which no target is left are not in the result.
    """
    draw = random.Random(SEED)
    targets = [target for _, target in pairs]
    draw.shuffle(targets)
    dealt = Counter((tf, target) for (tf, _), target in zip(pairs, targets, strict=True))

    def fits(i: int, target: str, copies: int) -> bool:
        pair = pairs[i][0], target
        return pair not in known and pair[0] != target and dealt[pair] <= copies

    for i in range(len(pairs)):
        for _ in range(0 if fits(i, targets[i], 1) else TRIES):
            j = draw.randrange(len(pairs))
            if fits(i, targets[j], 0) and fits(j, targets[i], 0):
                dealt.subtract([(pairs[i][0], targets[i]), (pairs[j][0], targets[j])])
                targets[i], targets[j] = targets[j], targets[i]
                dealt.update([(pairs[i][0], targets[i]), (pairs[j][0], targets[j])])
                break
    return {pair: target for i, (pair, target) in enumerate(zip(pairs, targets, strict=True)) if fits(i, target, 1)}
