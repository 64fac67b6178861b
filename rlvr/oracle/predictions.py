"""A table of a model's predictions as an oracle: what `rlvr oracle fit` writes, or any virtual-cell model.

rlvr score ROLLOUTS --verifier oracle:predictions=FILE
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rlvr import tables
from rlvr.oracle.base import KEY, LABELS, Belief, Oracle
from rlvr.types import Error, Question

TOLERANCE = 0.01  # how far from 1 a row's probabilities may sum: files hold rounded numbers


@dataclass(frozen=True)
class Predictions(Oracle):
    """A table of a model's predictions, .parquet or .csv, read once per process.

    Columns: context (the source's key, as in truth["context"]), perturbation, readout, all three spelt as in
    the questions, and either `p`, the probability of yes or of up, or one column for each label of the task.
    Errors name the file, the column and the row.
    """

    path: str

    name: ClassVar[str] = "predictions"
    says: ClassVar[str] = "the predictions say"

    @property
    def version(self) -> str:
        """The start of the file's sha256."""
        return _read(self.path).digest[:12]

    def probabilities(self, questions: Sequence[Question]) -> list[Belief | None]:
        table = _read(self.path)
        return [table.belief(question) for question in questions]

    def source(self, question: Question) -> str:
        return f"{Path(self.path).name} {self.version}"


@dataclass(frozen=True)
class _Table:
    """A checked table: the row of each key, and its values, rows x columns."""

    where: str
    digest: str
    rows: Mapping[tuple[str, ...], int]
    columns: tuple[str, ...]
    values: NDArray[np.float64]

    def belief(self, question: Question) -> Belief | None:
        labels = LABELS.get(question.task, ())
        binary = self.columns == ("p",) and len(labels) == 2
        if not binary and set(labels) != set(self.columns):
            wanted = f"one column for each of {', '.join(labels)}" if labels else f"a task of {', '.join(LABELS)}"
            raise Error(
                f"{self.where}: has {', '.join(self.columns)}, which does not fit {question.task}; give {wanted}"
            )
        key = (question.truth["context"], question.fields["perturbation"], question.fields["readout"])
        row = self.rows.get(key)
        if row is None:
            return None
        found = self.values[row].tolist()
        if binary:
            return {labels[0]: found[0], labels[1]: 1.0 - found[0]}
        return dict(zip(self.columns, found, strict=True))


@cache
def _read(path: str) -> _Table:
    where = f"predictions {path}"
    if not Path(path).is_file():
        raise Error(f"{where}: no such file; give the path of a .parquet or .csv table")
    frame = _frame(Path(path), where)
    tables.require(frame, KEY, where)
    columns = tuple(column for column in frame.columns if column not in KEY)
    if not columns or (len(columns) > 1 and "p" in columns):
        raise Error(f"{where}: beside {', '.join(KEY)} it has {', '.join(columns) or 'nothing'}; give p or the labels")
    if frame.empty:
        raise Error(f"{where}: no rows; write at least one prediction")
    for column in KEY:
        empty = (frame[column].isna() | (frame[column] == "")).to_numpy()
        if empty.any():
            raise Error(f"{where}: column {column!r}, row {int(empty.argmax()) + 1}: empty; fill it or drop the row")
    keys = list(frame[list(KEY)].astype(str).itertuples(index=False, name=None))
    rows = {key: i for i, key in reversed(list(enumerate(keys)))}
    for i, key in enumerate(keys):
        if rows[key] != i:
            raise Error(f"{where}: row {i + 1}: {', '.join(key)} stands in row {rows[key] + 1} too; keep one")
    values = np.column_stack([_probabilities(frame[column], column, where) for column in columns])
    sums = values.sum(axis=1)
    faulty = np.abs(sums - 1.0) > TOLERANCE
    if len(columns) > 1 and faulty.any():
        row = int(faulty.argmax())
        raise Error(f"{where}: row {row + 1}: {', '.join(columns)} sum to {sums[row]:.3g}, not 1; normalise them")
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return _Table(where, digest, rows, columns, values)


def _frame(path: Path, where: str) -> pd.DataFrame:
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
