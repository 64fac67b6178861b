"""Which type is this cell? Labelled single cells as ranked genes, from blood and pancreas or a file of your own.

    rlvr data show cell_type

pbmc68k (Zheng et al. 2017, as reduced in scanpy: 700 cells, 765 genes) and Baron's pancreas (2016, human and
mouse). Wrong options are other types of the same data, drawn by a fixed hash; none is a kind of the right one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from rlvr.knowledge import KnowledgeBase
from rlvr.questions.biology.cells import Cell, CellSource, shuffled, unrelated
from rlvr.types import Error, Question


@dataclass(frozen=True)
class CellType(CellSource):
    """Options: those of every source of cells (rlvr/questions/biology/cells.py), and options (names to choose from, the
    right one among them; fewer where the data has no more). Split by cell type, all options come from the same split's
    types, so that no type is known as never being right."""

    name: ClassVar[str] = "cell_type"

    options: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.options < 2:
            raise Error(f"cell_type: options is {self.options}; it must be at least 2")

    def questions(self) -> Iterator[Question]:
        found, knowledge = self.found, KnowledgeBase.open(self.knowledge)
        pools: dict[str, set[str]] = {}
        for cell in found.cells:
            pools.setdefault(self._pool(cell), set()).add(cell.type)
        wrong: dict[tuple[str, str], list[str]] = {}
        for pool, types in pools.items():
            names = {found.ids[t]: t for t in sorted(types)}
            wrong |= {(pool, t): [names[i] for i in unrelated(found.ids[t], names, knowledge)] for t in types}
        for cell in found.cells:
            drawn = shuffled(wrong[self._pool(cell), cell.type], cell.name)[: self.options - 1]
            options = shuffled([cell.type, *drawn], f"order {cell.name}")
            yield Question(
                id=f"{self.name}:{self.dataset}:{cell.name}",
                task="cell/type",
                fields={
                    "tissue": found.tissue,
                    "species": found.species,
                    "genes": list(cell.genes),
                    "options": options,
                },
                truth={
                    "answer": cell.type,
                    "ids": {name: found.ids[name] for name in options},
                    "group": cell.group,
                    "context": self.dataset,
                },
                source=self.name,
                split=cell.split,
            )

    def _pool(self, cell: Cell) -> str:
        """Cells of one pool offer each other's types."""
        return cell.split if self.split_by == "cell_type" else ""
