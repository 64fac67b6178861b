"""Reads saved completions, a batch at a time: a Parquet file of rollouts or of an evaluation, or JSON lines.

for row in rows(Path("completions.jsonl"), ["question_id", "completion", "finished"]): ...
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlvr.types import Error

BATCH = 512  # rows
Row = dict[str, Any]


def rows(file: Path, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of a file, one after the other, with those of the columns that it has."""
    return _json_rows(file, columns) if file.suffix == ".jsonl" else _parquet_rows(file, columns)


def _json_rows(file: Path, columns: Sequence[str]) -> Iterator[Row]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise Error(f"{file}:{number}: not JSON: {error}") from error
            given = row if isinstance(row, dict) else {}
            if not isinstance(given.get("question_id"), str) or not isinstance(given.get("completion"), str):
                raise Error(f"{file}:{number}: needs an object with the strings question_id and completion")
            if not isinstance(given.get("finished", True), bool):
                raise Error(f"{file}:{number}: finished must be true or false")
            yield {key: given[key] for key in columns if key in given}


def _parquet_rows(file: Path, columns: Sequence[str]) -> Iterator[Row]:
    try:
        with pq.ParquetFile(file) as table:
            there = table.schema_arrow.names
            if absent := {"question_id", "completion"} - set(there):
                raise Error(f"{file} has no column {', '.join(sorted(absent))}; it holds no rollouts")
            stage = {"phase": file.stem} if "phase" not in there and file.parent.name == "evaluations" else {}
            wanted = [column for column in dict.fromkeys(columns) if column in there]
            for batch in table.iter_batches(BATCH, columns=wanted):
                for row in batch.to_pylist():
                    if None in (row["question_id"], row.get("completion", "")):
                        raise Error(f"{file} has a row without question_id or completion; mend the file")
                    yield {**stage, **row}
    except pa.ArrowException as error:
        raise Error(f"{file} is no Parquet file, or a broken one: {' '.join(str(error).split())}") from error
