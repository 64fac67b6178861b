"""What an evaluation has so far, on disk: one file for each chunk of questions, and what it was that was asked.

    RUN/evaluations/after.parts/asking.json                      model, adapter, questions, prompts, decoding: hashes
    RUN/evaluations/after.parts/0000000-0000128.parquet          the rows of the first 128 questions
    RUN/evaluations/after.json, after.parquet                    in the end: the same, in one file each

A file is whole or not there, so that an evaluation that was killed goes on with the chunk that it was asking.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from rlvr.files import aside, write_atomically
from rlvr.tables import write_parquet
from rlvr.types import Error

log = logging.getLogger(__name__)


class Span(NamedTuple):
    """Questions from `start` up to `stop`, by place in the order in which they are asked."""

    start: int
    stop: int


class Parts:
    """The answered questions of one stage. `asking`: what must be the same for the answers to belong together."""

    def __init__(self, run: Path, stage: str, asking: Mapping[str, Any]) -> None:
        self.stage, self.asking = stage, json.loads(json.dumps(asking))
        self.folder = run / "evaluations" / f"{stage}.parts"
        self.record_path = self.folder.with_name(f"{stage}.json")
        self.table_path = self.folder.with_name(f"{stage}.parquet")

    def check(self) -> None:
        """Errors: the folder holds answers of another evaluation."""
        manifest = self.folder / "asking.json"
        known = _read(manifest) or _read(self.record_path)
        if known is None:
            return
        differs = [
            f"{key} was {_short(known.get(key))} and is {_short(value)}"
            for key, value in self.asking.items()
            if known.get(key) != value
        ]
        if differs:
            where = self.folder if manifest.is_file() else self.record_path
            raise Error(
                f"{where} is of another evaluation: {'; '.join(differs)}; ask the same, or choose another --out"
            )

    def begun(self) -> bool:
        """Whether an earlier start has left answers and not finished."""
        return (self.folder / "asking.json").is_file() and not self.finished()

    def finished(self) -> bool:
        """Whether every question has been answered, and the table stands."""
        record = _read(self.record_path)
        return record is not None and record.get("stopped") is None and self.table_path.is_file()

    def open(self) -> None:
        """Ready to be written to."""
        self.check()
        if not self.finished() and not (self.folder / "asking.json").is_file():
            write_atomically(self.folder / "asking.json", json.dumps(self.asking, indent=2).encode())

    def spans(self) -> list[Span]:
        """What has been answered, in order."""
        return sorted(Span(*map(int, path.stem.split("-"))) for path in self.folder.glob("*-*.parquet"))

    def answered(self) -> int:
        """Questions."""
        return sum(span.stop - span.start for span in self.spans())

    def write(self, span: Span, rows: Sequence[Mapping[str, Any]], seconds: float) -> None:
        names = dict.fromkeys(name for row in rows for name in row)
        table = pa.table({name: [row.get(name) for row in rows] for name in names})
        with aside(self._path(span)) as side:
            pq.write_table(table.replace_schema_metadata({"seconds": f"{seconds:.3f}"}), side)

    def tokens(self) -> int:
        """Of all completions so far; those that nobody counted are left out."""
        counts = (pq.read_table(self._path(span), columns=["tokens"])["tokens"] for span in self.spans())
        return sum(count for column in counts for count in column.to_pylist() if count is not None)

    def assemble(self, record: Mapping[str, Any]) -> None:
        """The table and the record of what there is. The parts go once nothing more is to be asked."""
        spans = self.spans()
        if not spans:
            raise Error(f"{self.folder} holds no answers yet; raise evaluation.budget")
        files = [pq.read_table(self._path(span)) for span in spans]
        seconds = sum(float((file.schema.metadata or {}).get(b"seconds", 0)) for file in files)
        whole = pa.concat_tables([f.replace_schema_metadata(None) for f in files], promote_options="permissive")
        table = whole.to_pandas()
        shares = [name for name in table.columns if name.startswith("p/")]
        for task, rows in table.groupby("task"):
            given = rows[shares].notna().any(axis=1)
            if given.any() and not given.all():
                log.warning("%s: %d of %d answers have probabilities; all are left out", task, given.sum(), len(rows))
                table.loc[rows.index, shares] = None
        done = {**self.asking, **record, "answered": self.answered(), "tokens": self.tokens()}
        text = json.dumps({**done, "seconds": round(seconds, 1)}, indent=2, ensure_ascii=False)
        write_atomically(self.record_path, text.encode())
        write_parquet(table, self.table_path)
        if record["stopped"] is None:
            self.clear()

    def clear(self) -> None:
        """Remove the parts: their rows stand in the table."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, span: Span) -> Path:
        return self.folder / f"{span.start:07d}-{span.stop:07d}.parquet"


def unfinished(run: Path) -> str | None:
    """One line on what a run's evaluations lack, where they were begun and not finished."""
    begun = {folder.stem: Parts(run, folder.stem, {}) for folder in sorted(run.glob("evaluations/*.parts"))}
    lines = [f"{parts.answered()} questions of stage {stage}" for stage, parts in begun.items() if parts.begun()]
    return f"{run}: unfinished, with answers to {' and '.join(lines)} kept" if lines else None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise Error(f"{path} cannot be read: {error}; remove it and evaluate again") from error
    if not isinstance(found, dict):
        raise Error(f"{path} holds no object; remove it and evaluate again")
    return found


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}..."
