"""Translation, reverse complement and open reading frames of real coding DNA.

    rlvr data show translation

Windows of the genes in `_coding.py`: a BAC of Arabidopsis, a plasmid of Yersinia, and animal mRNAs. A family of
homologous genes lies in one split, for all three tasks. Questions on open reading frames ask for the longest complete
one, on both strands of longer windows; windows without one of at least three codons are not asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from rlvr.questions.biology import sequences
from rlvr.source import File, Source
from rlvr.types import Error, Question

from . import _coding

TASKS = ("translation", "reverse_complement", "orf")
SHORTEST = 12  # bases of an open reading frame worth asking for: three codons and the stop


@dataclass(frozen=True)
class Translation(Source):
    """Options: tasks (some of translation, reverse_complement, orf), length (bases of a window, whole codons; those
    for open reading frames are twice as long)."""

    name: ClassVar[str] = "translation"
    version: ClassVar[str] = "1"
    licence: ClassVar[str] = _coding.LICENCE
    commercial: ClassVar[bool] = True
    citation: ClassVar[str] = _coding.CITATION
    doi: ClassVar[str] = _coding.DOI

    tasks: tuple[str, ...] = TASKS
    length: int = 30

    def __post_init__(self) -> None:
        _coding.check_length(self.name, self.length)
        strange = [task for task in self.tasks if task not in TASKS]
        if strange or not self.tasks:
            raise Error(f"{self.name}: tasks are {', '.join(self.tasks) or 'none'}; choose from {', '.join(TASKS)}")

    @classmethod
    def files(cls) -> tuple[File, ...]:
        return tuple(_coding.FILES.values())

    def questions(self) -> Iterator[Question]:
        genes = _coding.genes()
        for task in self.tasks:
            asked: set[str] = set()  # genes of one family share some windows; each is asked once
            for gene in genes:
                for start, window in gene.windows(self.length * (2 if task == "orf" else 1), step=self.length):
                    made = _ask(task, gene, window)
                    if made is None or window in asked:
                        continue
                    asked.add(window)
                    fields, answer = made
                    yield Question(
                        id=f"{self.name}:{task}:{gene.record}:{start}",
                        task=f"sequence/{task}",
                        fields={"sequence": window, **fields},
                        truth=gene.truth(answer),
                        source=self.name,
                        split=gene.split,
                    )


def _ask(task: str, gene: _coding.Coding, window: str) -> tuple[dict[str, Any], str] | None:
    """The fields beside the sequence, and the answer; None where there is nothing to ask."""
    if task == "translation":
        return {"table": gene.table}, sequences.translate(window, gene.table)
    if task == "reverse_complement":
        return {}, sequences.reverse_complement(window)
    longest = min(sequences.longest_orfs(window, both_strands=True), default="")
    # A frame that is the whole window would be found by copying.
    return ({"strands": "both"}, longest) if SHORTEST <= len(longest) < len(window) else None
