"""Variants of real coding DNA, and what each does to the protein.

    rlvr data show coding_variants

For every window of the genes in `_coding.py` (no first and no stop codon among them): one variant of each effect
that the window can have. The DNA is real; the variants are drawn, by a generator seeded with the window's place, and
written as HGVS asks (a deletion as far 3' as it can stand, no insertion that is a duplication). A family of
homologous genes lies in one split, the same as in the source `translation`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from rlvr.questions.biology.sequences import BASES, EFFECTS, STOPS, effect
from rlvr.source import File, Source
from rlvr.types import Question

from . import _coding

KINDS = ("substitution", "substitution", "deletion", "insertion")  # substitutions are drawn twice as often
MOST_BASES = 6  # of an insertion or deletion
DRAWS = 200  # by then nearly every window has shown all effects that it can have


@dataclass(frozen=True)
class CodingVariants(Source):
    """Options: length (bases of a window, whole codons)."""

    name: ClassVar[str] = "coding_variants"
    version: ClassVar[str] = "1"
    licence: ClassVar[str] = _coding.LICENCE
    commercial: ClassVar[bool] = True
    citation: ClassVar[str] = _coding.CITATION
    doi: ClassVar[str] = _coding.DOI

    length: int = 30

    def __post_init__(self) -> None:
        _coding.check_length(self.name, self.length)

    @classmethod
    def files(cls) -> tuple[File, ...]:
        return tuple(_coding.FILES.values())

    def questions(self) -> Iterator[Question]:
        asked: set[str] = set()
        for gene in _coding.genes():
            for start, window in gene.windows(self.length, step=self.length):
                if window in asked or window[-3:] in STOPS:
                    continue
                asked.add(window)
                for answer, variant in _variants(window, f"{gene.record}:{start}").items():
                    yield Question(
                        id=f"{self.name}:{gene.record}:{start}:{variant}",
                        task="sequence/variant_effect",
                        fields={"sequence": window, "variant": variant},
                        truth=gene.truth(answer),
                        source=self.name,
                        split=gene.split,
                    )


def _variants(window: str, seed: str) -> dict[str, str]:
    """effect -> variant, in the order of EFFECTS; an effect that no draw had is left out."""
    draw = random.Random(seed)  # a string seeds by its own bytes, the same in every process
    found: dict[str, str] = {}
    for _ in range(DRAWS):
        variant = _draw(window, draw)
        if variant:
            found.setdefault(effect(window, variant), variant)
        if len(found) == len(EFFECTS):
            break
    return {name: found[name] for name in EFFECTS if name in found}


def _draw(window: str, draw: random.Random) -> str | None:
    """One variant; None for an insertion that HGVS would write in another way."""
    kind = draw.choice(KINDS)
    if kind == "substitution":
        at = draw.randrange(len(window))
        return f"c.{at + 1}{window[at]}>{draw.choice(sorted(BASES - {window[at]}))}"
    size = draw.randint(1, MOST_BASES)
    if kind == "deletion":
        start = draw.randrange(len(window) - size)
        while start + size < len(window) and window[start] == window[start + size]:
            start += 1
        return f"c.{start + 1}del" if size == 1 else f"c.{start + 1}_{start + size}del"
    at = draw.randrange(1, len(window))
    bases = "".join(draw.choices(sorted(BASES), k=size))
    # Such an insertion could also stand one base further 3', or repeats what stands before it: a duplication.
    return None if bases[0] == window[at] or window[:at].endswith(bases) else f"c.{at}_{at + 1}ins{bases}"
