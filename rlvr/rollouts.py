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
NEEDED = ("question_id", "completion")
AN_OBJECT = "needs an object with the strings question_id and completion"
A_ROW = "a row without question_id or completion as text"
Row = dict[str, Any]


def require_file(file: Path, what: str) -> None:
    """Errors: no such file, a folder, a suffix that says another format."""
    if file.is_dir():
        raise Error(f"{what} {file} is a folder; name the file in it")
    if not file.exists():
        raise Error(f"{what} {file}: there is no such file")
    if file.suffix not in (".jsonl", ".parquet"):
        raise Error(f"{what} {file}: completions are read from .parquet or .jsonl files; convert it, or rename it")


def rows(file: Path, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of a file, one after the other, with those of the columns that it has. A null `finished` is left out: it
    was not given, which means that the completion ended by itself.

    Errors: no readable file, a row without the texts question_id and completion, `finished` that is no truth value.
    """
    return _json_rows(file, columns) if file.suffix == ".jsonl" else _parquet_rows(file, columns)


def _checked(row: Row, texts: Sequence[str], where: str, fault: str) -> Row:
    for key in texts:
        if not isinstance(row.get(key), str):
            held = "nothing" if row.get(key) is None else f"a {type(row[key]).__name__}"
            raise Error(f"{where}: {fault}; {key} holds {held}")
    if not isinstance(row.get("finished"), bool | None):
        raise Error(f"{where}: finished must be true or false")
    return {key: value for key, value in row.items() if key != "finished" or value is not None}


def _json_rows(file: Path, columns: Sequence[str]) -> Iterator[Row]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise Error(f"{file}:{number}: not JSON: {error}") from error
            if not isinstance(row, dict):
                raise Error(f"{file}:{number}: {AN_OBJECT}")
            given = _checked(row, NEEDED, f"{file}:{number}", AN_OBJECT)
            yield {key: given[key] for key in columns if key in given}


def _parquet_rows(file: Path, columns: Sequence[str]) -> Iterator[Row]:
    try:
        with pq.ParquetFile(file) as table:
            there = table.schema_arrow.names
            if absent := set(NEEDED) - set(there):
                raise Error(f"{file} has no column {', '.join(sorted(absent))}; it holds no rollouts")
            stage = {"phase": file.stem} if "phase" not in there and file.parent.name == "evaluations" else {}
            wanted = [column for column in dict.fromkeys(columns) if column in there]
            texts = [name for name in NEEDED if name in wanted]
            number = 0
            for batch in table.iter_batches(BATCH, columns=wanted):
                for row in batch.to_pylist():
                    number += 1
                    yield {**stage, **_checked(row, texts, f"{file}, row {number}", A_ROW)}
    except pa.ArrowException as error:
        raise Error(f"{file} is no Parquet file, or a broken one: {' '.join(str(error).split())}") from error
