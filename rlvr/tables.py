"""Checks a canonical table of measurements before anything is made of it, and writes tables whole.

One row is one measured effect: perturbation, readout, context, label, split. Each fault is one line
that names the column, the first row and what to do.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from rlvr.files import aside
from rlvr.types import SPLITS, Error

COLUMNS = ("perturbation", "readout", "context", "label", "split")
KEY = ["perturbation", "readout", "context"]
_MONTH = "(jan|feb|mar(ch)?|apr|may|jun|jul|aug|sept?|oct|nov|dec)"
DATE = re.compile(  # what a spreadsheet makes of MARCH1, SEPT2 or DEC1, which are themselves none
    rf"\d{{1,2}}[-./ ]?{_MONTH}|{_MONTH}[-./ ]\d{{1,2}}|\d{{4}}-\d{{2}}-\d{{2}}.*|\d{{1,2}}/\d{{1,2}}/\d{{2,4}}",
    re.IGNORECASE,
)


def require(table: pd.DataFrame, columns: Sequence[str], where: str) -> None:
    """Every column is there. `where` names the table in the error."""
    missing = [c for c in columns if c not in table.columns]
    if missing:
        raise Error(f"{where}: column {missing[0]!r} is missing; it has {', '.join(map(str, table.columns))}")


def check(table: pd.DataFrame, labels: Collection[str], where: str) -> None:
    """The table is canonical and its labels are known."""
    require(table, COLUMNS, where)
    if table.empty:
        raise Error(f"{where}: no rows; check the file and the filters before it")
    for column in COLUMNS:
        empty = table[column].isna() | (table[column].astype(str).str.strip() == "")
        _refuse(table, empty, where, f"column {column!r} is empty; fill it or drop the row")
    _refuse(table, ~table["label"].isin(list(labels)), where, f"label is none of {', '.join(labels)}", "label")
    _refuse(table, ~table["split"].isin(SPLITS), where, f"split is none of {', '.join(SPLITS)}", "split")
    for column in ("perturbation", "readout"):
        dated = table[column].astype(str).str.fullmatch(DATE)
        _refuse(table, dated, where, f"{column} is a date that a spreadsheet made of a gene; restore it", column)
    _refuse(table, table.duplicated(KEY), where, f"the same {', '.join(KEY)} as an earlier row; keep one", KEY[0])


def _refuse(table: pd.DataFrame, faulty: pd.Series[bool], where: str, what: str, shown: str | None = None) -> None:
    if faulty.any():
        first = int(faulty.to_numpy().argmax())
        value = f" ({table[shown].iloc[first]!r})" if shown else ""
        raise Error(f"{where}: row {first + 1} of {len(table)}{value}: {what}; {int(faulty.sum())} such rows")


def write_parquet(table: pd.DataFrame, path: Path) -> None:
    """A Parquet file that is either whole or not there."""
    with aside(path) as side:
        table.to_parquet(side, index=False)
