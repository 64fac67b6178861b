"""`measured`: what experiments found, as an oracle for other experiments on the same pairs.

    Experiments("screen.csv").probabilities(questions)

A table of context, perturbation, readout, label, .csv or .parquet, with as many rows for a pair as there were
experiments. One experiment is no certainty: half a count stands for each label that was not seen (Jeffreys' prior), so
that one "yes" says .75 and four say .9. For questions that were made of these same experiments it is the answer itself.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

from rlvr import tables
from rlvr.oracle.base import KEY, LABELS, Belief, Oracle, key
from rlvr.oracle.predictions import read_table
from rlvr.types import Error, Question

PRIOR = 0.5


@dataclass(frozen=True)
class Experiments(Oracle):
    """The share of the pair's experiments that say each label. Errors: another form, labels of another task."""

    path: str

    name: ClassVar[str] = "measured"
    says: ClassVar[str] = "experiments say"

    @property
    def version(self) -> str:
        """The start of the file's sha256."""
        return _read(self.path)[1][:12]

    def probabilities(self, questions: Sequence[Question]) -> list[Belief | None]:
        counts = _read(self.path)[0]
        return [self._belief(counts.get(key(question)), question) for question in questions]

    def why(self, question: Question) -> str:
        return "pair not measured"

    def _belief(self, counts: Counter[str] | None, question: Question) -> Belief | None:
        if counts is None:
            return None
        labels = LABELS.get(question.task, ())
        if strange := counts.keys() - set(labels):
            raise Error(
                f"experiments {self.path}: label {min(strange)!r} does not fit {question.task}; "
                f"give a table of {', '.join(labels) or 'another task'}"
            )
        n = counts.total() + PRIOR * len(labels)
        return {label: (counts[label] + PRIOR) / n for label in labels}

    def source(self, question: Question) -> str:
        return f"{Path(self.path).name} {self.version}"


@cache
def _read(path: str) -> tuple[Mapping[tuple[str, ...], Counter[str]], str]:
    where = f"experiments {path}"
    if not Path(path).is_file():
        raise Error(f"{where}: no such file; give a .parquet or .csv table")
    frame = read_table(Path(path), where)
    tables.require(frame, (*KEY, "label"), where)
    columns = frame[[*KEY, "label"]]
    empty = (columns.isna() | (columns == "")).any(axis=1).to_numpy()
    if frame.empty:
        raise Error(f"{where}: no rows; write at least one experiment")
    if empty.any():
        raise Error(f"{where}: row {int(empty.argmax()) + 1} has an empty cell; fill it or drop the row")
    found: dict[tuple[str, ...], Counter[str]] = {}
    for *pair, label in columns.astype(str).itertuples(index=False, name=None):
        found.setdefault(tuple(pair), Counter())[label] += 1
    with Path(path).open("rb") as file:
        return found, hashlib.file_digest(file, "sha256").hexdigest()
