"""A table of a model's predictions as an oracle: what `rlvr oracle fit` writes, or any virtual-cell model.

    rlvr score ROLLOUTS --verifier oracle:predictions=FILE

The form, which stays as it is: one row per pair; `context` (the source's key, as in truth["context"]), `perturbation`,
`readout`, all three spelt as in the questions; and either `p`, the probability of yes or of up, or one column for each
label of the task. Beside `p` there may be `lift`, in [0, 1], what the perturbation says when the readout's own rate is
set aside (rlvr/oracle/crossfit.py): rows of training questions are ranked within a readout by either, but only `lift`
has no part of the row's own label in it. A file called effect or direction, as `rlvr oracle` calls them, is of that
task alone: the probability that something changes is not the probability that it goes up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rlvr import tables
from rlvr.oracle.base import KEY, LABELS, Belief, Oracle, key
from rlvr.types import Error, Question

BINARY = frozenset(task for task, labels in LABELS.items() if len(labels) == 2)
TOLERANCE = 0.01  # how far from 1 a row's probabilities may sum: files hold rounded numbers


@dataclass(frozen=True)
class Predictions(Oracle):
    """A table of a model's predictions, .parquet or .csv, read once per process. column: what is taken for the
    probability of yes or up, where the table has both. Errors name the file, the column and the row."""

    path: str
    column: Literal["p", "lift"] = "p"

    name: ClassVar[str] = "predictions"
    says: ClassVar[str] = "the predictions say"

    @property
    def version(self) -> str:
        """The start of the file's sha256."""
        return f"{_read(self.path).digest[:12]}{'' if self.column == 'p' else f' {self.column}'}"

    def probabilities(self, questions: Sequence[Question]) -> list[Belief | None]:
        table = _read(self.path)
        return [table.belief(q, self.column) if _of(self.path, q) else None for q in questions]

    def why(self, question: Question) -> str:
        if not _of(self.path, question):
            return f"predictions of {Path(self.path).stem} alone"
        parts = zip(KEY, key(question), _read(self.path).seen, strict=True)
        return next((f"{name} unseen" for name, value, seen in parts if value not in seen), "pair unseen")

    def source(self, question: Question) -> str:
        return f"{Path(self.path).name} {self.version}"


def _of(path: str, question: Question) -> bool:
    """Whether the table may speak of the question's task."""
    only = f"perturbation/{Path(path).stem}"
    return only not in BINARY or question.task not in BINARY or only == question.task


@dataclass(frozen=True)
class _Table:
    """A checked table: the row of each key, and its values, rows x columns."""

    where: str
    digest: str
    rows: Mapping[tuple[str, ...], int]
    columns: tuple[str, ...]
    values: NDArray[np.float64]

    @cached_property
    def seen(self) -> tuple[frozenset[str], ...]:
        """The contexts, perturbations and readouts that it names."""
        return tuple(frozenset(names) for names in zip(*self.rows, strict=True))

    def belief(self, question: Question, column: str) -> Belief | None:
        labels = LABELS.get(question.task, ())
        binary = self.columns[0] == "p" and len(labels) == 2
        if column != "p" and column not in self.columns:
            raise Error(f"{self.where}: no column {column!r}; take p, or a table that `rlvr oracle fit` wrote")
        if not binary and set(labels) != set(self.columns):
            wanted = f"one column for each of {', '.join(labels)}" if labels else f"a task of {', '.join(LABELS)}"
            raise Error(
                f"{self.where}: has {', '.join(self.columns)}, which does not fit {question.task}; give {wanted}"
            )
        row = self.rows.get(key(question))
        if row is None:
            return None
        found = self.values[row].tolist()
        if binary:
            p = found[self.columns.index(column)]
            return {labels[0]: p, labels[1]: 1.0 - p}
        return dict(zip(self.columns, found, strict=True))


@cache
def _read(path: str) -> _Table:
    where = f"predictions {path}"
    if not Path(path).is_file():
        raise Error(f"{where}: no such file; give the path of a .parquet or .csv table")
    frame = read_table(Path(path), where)
    tables.require(frame, KEY, where)
    columns = tuple(sorted((column for column in frame.columns if column not in KEY), key=lambda c: c != "p"))
    binary = columns in (("p",), ("p", "lift"))
    if not columns or (not binary and "p" in columns):
        raise Error(f"{where}: beside {', '.join(KEY)} it has {', '.join(columns) or 'nothing'}; give p or the labels")
    if frame.empty:
        raise Error(f"{where}: no rows; write at least one prediction")
    for column in KEY:
        empty = (frame[column].isna() | (frame[column] == "")).to_numpy()
        if empty.any():
            raise Error(f"{where}: column {column!r}, row {int(empty.argmax()) + 1}: empty; fill it or drop the row")
    pairs = list(frame[list(KEY)].astype(str).itertuples(index=False, name=None))
    rows = {pair: i for i, pair in reversed(list(enumerate(pairs)))}
    for i, pair in enumerate(pairs):
        if rows[pair] != i:
            raise Error(f"{where}: row {i + 1}: {', '.join(pair)} stands in row {rows[pair] + 1} too; keep one")
    values = np.column_stack([_probabilities(frame[column], column, where) for column in columns])
    sums = values.sum(axis=1)
    faulty = np.abs(sums - 1.0) > TOLERANCE
    if not binary and len(columns) > 1 and faulty.any():
        row = int(faulty.argmax())
        raise Error(f"{where}: row {row + 1}: {', '.join(columns)} sum to {sums[row]:.3g}, not 1; normalise them")
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return _Table(where, digest, rows, columns, values)


def read_table(path: Path, where: str) -> pd.DataFrame:
    """A .csv or .parquet table; a .csv as text, which is checked column by column. Errors: cannot be read."""
    if path.suffix not in (".csv", ".parquet"):
        raise Error(f"{where}: {path.suffix or 'no'} suffix; it must be a .parquet or .csv table")
    try:
        # NA is a gene's name, not a missing value; numbers are read and checked column by column.
        csv = path.suffix == ".csv"
        frame = pd.read_csv(path, dtype=str, keep_default_na=False) if csv else pd.read_parquet(path)
    except Exception as error:  # each reader fails in its own ways
        raise Error(f"{where}: cannot be read: {' '.join(str(error).split())}; write it again") from error
    if csv and not isinstance(frame.index, pd.RangeIndex):
        raise Error(f"{where}: rows hold more cells than the header has names; name every column")
    return frame.rename(columns=str)


def _probabilities(column: pd.Series[Any], name: str, where: str) -> NDArray[np.float64]:
    values = np.asarray(pd.to_numeric(column, errors="coerce"), dtype=np.float64)
    faulty = ~((values >= 0.0) & (values <= 1.0))  # also NaN
    if faulty.any():
        row = int(faulty.argmax())
        raise Error(
            f"{where}: column {name!r}, row {row + 1}: {column.iloc[row]!r} is no probability in [0, 1]; "
            f"turn logits into probabilities and drop other columns; {int(faulty.sum())} such rows"
        )
    return values
