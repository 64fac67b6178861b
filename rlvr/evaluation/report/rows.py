"""Reads the rows of a run, a hundred thousand if need be, and chooses those that a page can hold.

`index` reads only the short columns of every row; `choose` picks whole groups by hash; `fetch` reads those in full.
Rows come from rollouts/*.parquet (training) and evaluations/*.parquet (held-out questions, one file a stage).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rlvr.evaluation.report.scores import STAGES
from rlvr.evaluation.report.text import label
from rlvr.evaluation.results.rows import right as right_in

SHORT = ("step", "group", "question_id", "task", "answer", "truth", "reward")
TRAINING = "Training"
AT_ONCE = 256  # rows decoded together: a batch of long completions still fits
OUTCOMES = ("right", "wrong", "unparsed", "ungraded")
Row = Mapping[str, Any]


def index(run: Path) -> tuple[pd.DataFrame, list[str]]:
    """One line per kept row, and the names of the files that could not be read.

    Columns: path, place (in its file), stage, those of SHORT, outcome (OUTCOMES), failed (a verifier did), unit.
    A unit is what is shown together: the completions of one prompt in one step; all answers to a held-out question.
    """
    parts, unread = [], []
    for path in [*sorted((run / "rollouts").glob("*.parquet")), *_evaluations(run)]:
        try:
            parts.append(_lines(path))
        except (OSError, pa.ArrowException) as error:
            unread.append(f"{path.name} ({type(error).__name__})")
    if not parts:
        return pd.DataFrame(
            {name: [] for name in ("path", "place", "stage", *SHORT, "outcome", "failed", "unit")}
        ), unread
    return pd.concat(parts, ignore_index=True), unread


def _evaluations(run: Path) -> list[Path]:
    """The stages in their order, then whatever else was evaluated."""
    order = list(STAGES)
    found = sorted((run / "evaluations").glob("*.parquet"))
    return sorted(found, key=lambda path: order.index(path.stem) if path.stem in order else len(order))


def stage_of(path: Path) -> str:
    return TRAINING if path.parent.name == "rollouts" else STAGES.get(path.stem) or label(path.stem)


def _lines(path: Path) -> pd.DataFrame:
    names = pq.read_schema(path).names
    judged = [name for name in names if name.endswith(("/reason", "/error"))]
    table = pq.read_table(path, columns=[name for name in SHORT if name in names] + judged, partitioning=None)
    found = pd.DataFrame(index=range(len(table)))
    for name in SHORT:
        column = table.column(name).to_pandas() if name in names else None
        found[name] = column if column is not None else np.nan if name in ("step", "group", "reward") else None
    found["path"], found["place"], found["stage"] = str(path), np.arange(len(table)), stage_of(path)
    reasons = [table.column(name) for name in judged if name.endswith("/reason")]
    right, wrong, error = (_any(reasons, word, len(table)) for word in ("correct", "wrong", "error"))
    told = [table.column(name) for name in judged if name.endswith("/error")]
    found["failed"] = error | np.logical_or.reduce([_filled(column) for column in told] or [np.zeros(len(table), bool)])
    told_truth = found["truth"].notna() & ~found["task"].astype(str).str.endswith("_probability")
    graded, said = told_truth.to_numpy(), found["answer"].notna().to_numpy()
    found["outcome"] = np.select(
        [~said, graded & right_in(found), graded, wrong, right],
        ["unparsed", "right", "wrong", "wrong", "right"],
        "ungraded",
    )
    key = found["question_id"].astype(str)
    if path.parent.name == "rollouts":
        key = key + "|" + found["step"].astype(str) + "|" + found["group"].astype(str)
    found["unit"] = key
    return found


def _any(columns: Sequence[pa.ChunkedArray], word: str, rows: int) -> np.ndarray:
    """[rows]: whether any of the columns says the word."""
    found = np.zeros(rows, dtype=bool)
    for column in columns:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            found |= pc.fill_null(pc.equal(column, word), False).to_numpy()
    return found


def _filled(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(pc.is_valid(column).to_numpy(), dtype=bool)


def choose(found: pd.DataFrame, limit: int) -> pd.DataFrame:
    """Whole units, at most `limit` rows, in the order of choice: those in which a verifier failed, then each stage
    kind and task in turn, by hash. Equal rows give an equal choice."""
    if len(found) == 0:
        return found
    training = found["stage"] == TRAINING
    stratum = training.map({True: "t", False: "e"}) + found["task"].astype(str)
    units = (
        pd.DataFrame({"unit": found["unit"], "stratum": stratum, "failed": found["failed"], "size": 1})
        .groupby(["stratum", "unit"], sort=True)
        .agg(failed=("failed", "any"), size=("size", "sum"))
        .reset_index()
    )
    units["hash"] = pd.util.hash_array(units["unit"].to_numpy(dtype=object))
    units = units.sort_values(["hash", "stratum"], kind="stable")
    units["turn"] = units.groupby("stratum").cumcount()
    units = units.sort_values(["failed", "turn", "hash"], ascending=[False, True, True], kind="stable")
    units = units[units["size"].cumsum() <= max(limit, int(units["size"].iloc[0]))]
    units["order"] = np.arange(len(units))
    chosen = (
        found.assign(stratum=stratum).reset_index().merge(units[["stratum", "unit", "order"]], on=["stratum", "unit"])
    )
    return chosen.sort_values(["order", "index"], kind="stable").drop(columns=["stratum", "index"])


def fetch(chosen: pd.DataFrame) -> Iterator[tuple[Row, Row]]:
    """(line of the index, full row) of each chosen row, in the order chosen."""
    places: dict[str, set[int]] = {}
    for path, place in zip(chosen["path"], chosen["place"], strict=True):
        places.setdefault(path, set()).add(int(place))
    full = {path: dict(_read(Path(path), sorted(wanted))) for path, wanted in places.items()}
    for line in chosen.to_dict("records"):
        yield {str(key): value for key, value in line.items()}, full[line["path"]][int(line["place"])]


def _read(path: Path, places: Sequence[int]) -> Iterable[tuple[int, Row]]:
    """The rows at those places; row groups without one are not decoded."""
    file = pq.ParquetFile(path)
    wanted, start = np.asarray(places), 0
    for group in range(file.num_row_groups):
        end = start + file.metadata.row_group(group).num_rows
        if ((wanted >= start) & (wanted < end)).any():
            for batch in file.iter_batches(AT_ONCE, row_groups=[group]):
                here = wanted[(wanted >= start) & (wanted < start + len(batch))]
                if len(here):
                    yield from zip(here.tolist(), batch.take(pa.array(here - start)).to_pylist(), strict=True)
                start += len(batch)
        start = end
