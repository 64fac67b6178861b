"""Files of one JSON object a line that a run appends to, and that a kill may have left with half a line.

append(run / "alarms.jsonl", [row])
rows, broken = read(run / "alarms.jsonl")
keep(run / "alarms.jsonl", rows[:10])
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlvr.files import write_atomically
from rlvr.types import Error


def read(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The rows, and how many lines are no JSON object (half a line, after a kill). No file: no rows."""
    rows: list[dict[str, Any]] = []
    broken = 0
    for line in filter(bytes.strip, path.read_bytes().splitlines() if path.is_file() else ()):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            rows.append(row)
        else:
            broken += 1
    return rows, broken


def append(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows at the end, on the disk before this returns. Errors: the file cannot be written."""
    try:
        with path.open("a", encoding="utf-8") as out:
            out.write(_text(rows))
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        raise Error(f"cannot write {path}: {error.strerror}; free some space, and the same command goes on") from error


def keep(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Leave these rows alone in the file, whole, unless that is what it holds; no file is made for no rows."""
    text = _text(rows).encode()
    if (path.read_bytes() if path.is_file() else b"") != text:
        write_atomically(path, text)


def _text(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)
