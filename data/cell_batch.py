"""Several cells of one donor, each of another type: which is which? The form of Cell-o1 (arXiv:2506.02911).

    rlvr data show cell_batch

The same cells as `cell_type`. Each cell is asked about at most once; a batch takes its types by a fixed hash from
those that have cells left, no two of which are kinds of each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from rlvr.knowledge import KnowledgeBase
from rlvr.questions.biology.cells import Cell, CellSource, shuffled, unrelated
from rlvr.types import Error, Question


@dataclass(frozen=True)
class CellBatch(CellSource):
    """Options: those of every source of cells (rlvr/questions/biology/cells.py), and cells (in a batch, each of its own
    type)."""

    name: ClassVar[str] = "cell_batch"

    cells: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cells < 2:
            raise Error(f"cell_batch: cells is {self.cells}; it must be at least 2")

    def questions(self) -> Iterator[Question]:
        found = self.found
        for number, cells in self._dealt:
            split, donor, types = cells[0].split, cells[0].donor, [cell.type for cell in cells]
            yield Question(
                id=":".join(filter(None, (self.name, self.dataset, split, donor, str(number)))),
                task="cell/batch",
                fields={
                    "tissue": found.tissue,
                    "species": found.species,
                    "cells": [list(cell.genes) for cell in cells],
                    "options": shuffled(types, f"order {cells[0].name}"),
                },
                truth={
                    "answer": types,
                    "ids": {t: found.ids[t] for t in types},
                    "group": donor or cells[0].name,
                    "context": self.dataset,
                },
                source=self.name,
                split=split,
            )

    @property
    def drops(self) -> Mapping[str, int]:
        """Why cells were left out -> how many."""
        left = len(self.found.cells) - self.cells * len(self._dealt)
        return {**self.found.drops, **({"no unrelated types left for a batch": left} if left else {})}

    @cached_property
    def _dealt(self) -> list[tuple[int, list[Cell]]]:
        """Batches, with their number among those of their split and donor."""
        groups: dict[tuple[str, str], list[Cell]] = {}
        for cell in self.found.cells:
            groups.setdefault((cell.split, cell.donor), []).append(cell)
        dealt: list[tuple[int, list[Cell]]] = []
        for (split, donor), held in sorted(groups.items()):
            dealt += enumerate(self._batches(held, self.found.ids, f"{self.dataset} {split} {donor}"))
        if not dealt:
            raise Error(
                f"cell_batch: nowhere in {self.dataset} are there {self.cells} unrelated types; set fewer `cells`"
            )
        return dealt

    def _batches(self, held: Sequence[Cell], ids: Mapping[str, str], salt: str) -> Iterator[list[Cell]]:
        """The cells of one donor and split in batches, until the types run out."""
        names = {cell.name: cell for cell in held}
        left: dict[str, list[Cell]] = {}
        for name in shuffled(names, "batch"):
            left.setdefault(names[name].type, []).append(names[name])
        knowledge = KnowledgeBase.open(self.knowledge)
        number = 0
        while True:
            chosen: list[str] = []
            for name in shuffled([t for t, cells in left.items() if cells], f"{salt} {number}"):
                beside = unrelated(ids[name], [ids[t] for t in chosen], knowledge)
                if len(chosen) < self.cells and len(beside) == len(chosen):
                    chosen.append(name)
            if len(chosen) < self.cells:
                return
            yield [left[name].pop() for name in chosen]
            number += 1
