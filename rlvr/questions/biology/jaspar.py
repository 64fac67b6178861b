"""JASPAR 2026: which sequences a transcription factor binds, as count matrices, and how well a sequence matches one.

    from rlvr.questions.biology.jaspar import read; matrices = read(species="3702")      # Arabidopsis thaliana

The release is one SQLite file, the one that the knowledge base is built from (rlvr/knowledge/releases.py).
Ovek Baydar et al., Nucleic Acids Research 54:D184, 2026 (doi:10.1093/nar/gkaf1209); CC BY 4.0.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from Bio import motifs
from Bio.motifs.jaspar import calculate_pseudocounts

from rlvr.knowledge.releases import UPSTREAM

FILE = UPSTREAM["motifs"].file
BASES = "ACGT"
Counts = Mapping[str, tuple[float, ...]]  # base -> how often it was seen at each position of the site


@dataclass(frozen=True)
class Matrix:
    """One profile. `classes` and `families` are those of the factor's DNA-binding domain; a dimer has two of each,
    and either may be empty where JASPAR gives none."""

    id: str
    name: str
    species: tuple[str, ...]  # NCBI taxonomy numbers
    classes: tuple[str, ...]
    families: tuple[str, ...]
    counts: Counts

    def __len__(self) -> int:
        return len(self.counts["A"])


@cache
def read(species: str | None = None) -> tuple[Matrix, ...]:
    """The newest version of every CORE profile (of one species, by NCBI number), by id."""
    with closing(sqlite3.connect(f"file:{FILE.path()}?mode=ro&immutable=1", uri=True)) as base:
        newest = base.execute(
            "SELECT ID, BASE_ID, max(VERSION), NAME FROM MATRIX WHERE COLLECTION = 'CORE' GROUP BY BASE_ID"
        ).fetchall()
        organisms = _grouped(base.execute("SELECT ID, TAX_ID FROM MATRIX_SPECIES ORDER BY ID, TAX_ID"))
        said = {tag: _grouped(base.execute(_ANNOTATION, (tag,))) for tag in ("class", "family")}
        wanted = {row[0] for row in newest if species is None or species in organisms[row[0]]}
        counts: dict[int, dict[str, list[float]]] = defaultdict(lambda: {letter: [] for letter in BASES})
        for key, letter, value in base.execute("SELECT ID, row, val FROM MATRIX_DATA ORDER BY ID, row, col"):
            if key in wanted:
                counts[key][letter].append(float(value))
    return tuple(
        Matrix(
            f"{name}.{version}",
            title,
            tuple(organisms[key]),
            tuple(said["class"][key]),
            tuple(said["family"][key]),
            {letter: tuple(column) for letter, column in counts[key].items()},
        )
        for key, name, version, title in sorted(newest, key=lambda row: str(row[1]))
        if key in wanted
    )


_ANNOTATION = "SELECT ID, VAL FROM MATRIX_ANNOTATION WHERE TAG = ? ORDER BY LOCAL_ID"


def _grouped(rows: Any) -> defaultdict[int, list[str]]:
    found: defaultdict[int, list[str]] = defaultdict(list)
    for key, value in rows:
        found[key].append(str(value))
    return found


def scores(counts: Counts, sequence: str) -> np.ndarray[Any, Any]:
    """For each place where the site can stand, how much likelier its bases are in a site than in uniform DNA: log2,
    the better strand. JASPAR's pseudocounts (the square root of the number of sites). Shape: (len(sequence) - width
    + 1,), empty where the sequence is shorter; -inf where a base is not A, C, G or T."""
    motif = motifs.Motif(alphabet=BASES, counts={letter: list(counts[letter]) for letter in BASES})
    if len(sequence) < len(motif):
        return np.empty(0)
    motif.pseudocounts = calculate_pseudocounts(motif)
    pssm = motif.pssm
    strands = [np.atleast_1d(matrix.calculate(sequence)) for matrix in (pssm, pssm.reverse_complement())]
    both: np.ndarray[Any, Any] = np.maximum(*strands)
    return np.where(np.isnan(both), -np.inf, both)


def best_score(counts: Counts, sequence: str) -> float:
    """The best of `scores`, in bits; -inf where the sequence is shorter than the site."""
    return float(scores(counts, sequence).max(initial=-np.inf))
