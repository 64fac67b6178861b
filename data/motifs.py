"""Which transcription factor's motif stands in a stretch of DNA: JASPAR matrices on a piece of a genome.

    rlvr data show motifs

The matrices are JASPAR's for Arabidopsis thaliana, the DNA is a BAC of its chromosome 1 (AC007323.5). For each factor
the windows with its best sites are taken; the other options are factors of other families whose best sites there are
worse by at least `MARGIN` bits. So the answer is what the matrices say, not that the factor was seen there.

Splits: factors by the class of their DNA-binding domain (bZIP, MADS box ...), and the DNA by blocks, so that train and
test share neither a motif's class, nor a name among the options, nor a base of DNA.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from Bio import SeqIO

from rlvr.questions import splits
from rlvr.questions.biology import jaspar
from rlvr.questions.biology.jaspar import Matrix
from rlvr.source import File, Source
from rlvr.types import SPLITS, Error, Question

from . import _coding

SPECIES = "3702"  # Arabidopsis thaliana
DNA = _coding.FILES["arab1.gb"]
BLOCK = 2000  # bases that go to one split together
_LOCUS = re.compile(r"AT[1-5CM]G[0-9]{5}", re.IGNORECASE)
MARGIN = 2.0  # bits: the answer's best site is at least four times as likely as any other option's


@dataclass(frozen=True)
class Motifs(Source):
    """Options: length (bases of a window), options (names to choose from), sites (windows per factor, at most)."""

    name: ClassVar[str] = "motifs"
    version: ClassVar[str] = "1"
    licence: ClassVar[str] = "JASPAR: CC BY 4.0; DNA: public (INSDC AC007323), by way of Biopython, BSD-3-Clause"
    commercial: ClassVar[bool] = True
    citation: ClassVar[str] = (
        "Ovek Baydar et al., JASPAR 2026: expansion of transcription factor binding profiles and integration of "
        "deep learning models, Nucleic Acids Research 54:D184, 2026"
    )
    doi: ClassVar[str] = "10.1093/nar/gkaf1209"

    length: int = 30
    options: int = 4
    sites: int = 2

    def __post_init__(self) -> None:
        if not 20 <= self.length <= 300:
            raise Error(f"{self.name}: length is {self.length}; it must be from 20 to 300")
        if not 2 <= self.options <= 10:
            raise Error(f"{self.name}: options is {self.options}; it must be from 2 to 10")
        if self.sites < 1:
            raise Error(f"{self.name}: sites is {self.sites}; it must be at least 1")

    @classmethod
    def files(cls) -> tuple[File, ...]:
        return (jaspar.FILE, DNA)

    def questions(self) -> Iterator[Question]:
        factors = _factors(self.length)
        shared = splits.assign({_class(f) for f in factors}, _coding.SHARES, salt="motif classes")
        for split in SPLITS:
            own = [f for f in factors if shared[_class(f)] == split]
            dna = _dna(split)
            for factor in own:
                for start in self._sites(factor, dna):
                    window = dna[start : start + self.length]
                    question = self._ask(factor, own, window, split)
                    if question is not None:
                        yield question

    def _sites(self, factor: Matrix, dna: str) -> list[int]:
        """Where windows around the factor's best sites start, best site first; windows do not overlap."""
        scores = jaspar.scores(factor.counts, dna)
        shift = random.Random(factor.id)  # so that the site's place in the window tells nothing
        found: list[int] = []
        for at in np.argsort(-scores, kind="stable")[: 20 * self.sites].tolist():
            start = at - shift.randint(0, self.length - len(factor))
            window = dna[max(start, 0) : start + self.length]
            whole = len(window) == self.length and "N" not in window
            if whole and all(abs(start - other) >= self.length for other in found):
                found.append(start)
            if len(found) == self.sites:
                break
        return found

    def _ask(self, factor: Matrix, others: Sequence[Matrix], window: str, split: str) -> Question | None:
        """The question, or None where too few other factors fit worse."""
        draw = random.Random(f"{factor.id}:{window}")
        best = jaspar.best_score(factor.counts, window)
        chosen = [factor]
        for other in draw.sample(others, len(others)):
            if _family(other) not in map(_family, chosen) and jaspar.best_score(other.counts, window) <= best - MARGIN:
                chosen.append(other)
            if len(chosen) == self.options:
                break
        if len(chosen) < self.options:
            return None
        draw.shuffle(chosen)
        return Question(
            id=f"{self.name}:{factor.id}:{window}",
            task="sequence/motif",
            fields={"sequence": window, "options": [matrix.name for matrix in chosen]},
            truth={
                "answer": factor.name,
                "group": _family(factor),
                "context": "Arabidopsis thaliana",
                "matrices": {m.name: {"id": m.id, "counts": _listed(m)} for m in chosen},
            },
            source=self.name,
            split=split,
        )


def _factors(length: int) -> list[Matrix]:
    """The profiles of single factors, of known class, that fit into a window; the first of each name. A factor that
    has no name but its locus's (AT1G19040) is left out."""
    named: dict[str, Matrix] = {}
    for matrix in jaspar.read(SPECIES):
        left_out = _LOCUS.fullmatch(matrix.name) or "::" in matrix.name
        if not left_out and matrix.classes and len(matrix) <= length:
            named.setdefault(matrix.name.casefold(), matrix)
    return list(named.values())


def _class(matrix: Matrix) -> str:
    return matrix.classes[0]


def _family(matrix: Matrix) -> str:
    """JASPAR's family; for classes that it does not divide (TCP, for one), the class."""
    return f"{_class(matrix)}: {matrix.families[0]}" if matrix.families else _class(matrix)


def _listed(matrix: Matrix) -> dict[str, list[float]]:
    return {letter: list(column) for letter, column in matrix.counts.items()}


def _dna(split: str) -> str:
    """The split's blocks, an N between them, which no site can span."""
    with DNA.path().open(encoding="ascii") as lines:
        whole = str(SeqIO.read(lines, "genbank").seq).upper()
    blocks = {str(start): whole[start : start + BLOCK] for start in range(0, len(whole), BLOCK)}
    where = splits.assign(blocks, _coding.SHARES, salt="motif DNA")
    return "N".join(block for start, block in blocks.items() if where[start] == split)
