"""Verdicts for saved completions, with no model and no GPU, and what changed against the saved verdicts.

    rlvr score runs/quickstart --verifier mention:most=2 --out mention.parquet
    rlvr score completions.jsonl --recipe quickstart --out verdicts.parquet

What is read: a run's folder (rollouts/*.parquet and evaluations/*.parquet), one Parquet file, or JSON lines of
{question_id, completion, finished (true if not given)}. The questions come from the sources of the run's recipe, by
id; the verdicts from the same reward layer that trains. Rows are read, scored and written a batch at a time.

The Parquet file written has the columns of a rollout: `step, phase, group, prompt, advantage` as saved (the phase of
an evaluation is its stage), the rest anew (rlvr/rewards/layer.py). It is whole or not there.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import track

from rlvr.files import aside
from rlvr.loading import reward_layer, templates
from rlvr.recipe import Recipe, load
from rlvr.rewards.layer import OWN_COLUMNS, RewardLayer
from rlvr.rollouts import BATCH, require_file, rows
from rlvr.types import Error, Question

EXAMPLES = 3  # of each verifier's changed verdicts
TAIL = 60  # characters of a completion that an example shows: its end, where the answer stands
SAME = 1e-9  # a score may come back from a file a rounding away
AS_SAVED = {
    "step": pa.int64(),
    "phase": pa.string(),
    "group": pa.int64(),
    "prompt": pa.string(),
    "advantage": pa.float64(),
}
Row = dict[str, Any]


def rescore(saved: Path, verifiers: Sequence[str], recipe: str | None, out: Path) -> Changes:
    """Score the rollouts in `saved` and write `out`.

    verifiers: NAME or NAME:key=value,...; options that are not given are the recipe's for that verifier; none: the
    recipe's own. recipe: a name or path; None: the recipe.yaml of the run that `saved` is, or lies in.
    Errors: nothing to read, a file without question_id and completion, no question known, what the recipe refuses,
    a verifier that fails too often.
    """
    files = _files(saved)
    if out.resolve() in {file.resolve() for file in files} or (saved.is_dir() and saved in out.parents):
        raise Error(f"--out {out} lies among the rollouts that are read; choose another place")
    asked = _recipe(saved, verifiers, recipe)
    asked.open_verifiers()  # a mistake in them shows before anything is read
    wanted = {row["question_id"] for file in files for row in rows(file, ["question_id"])}
    questions = _questions(asked, wanted)
    if not questions:
        some = ", ".join(sorted(wanted)[:3]) or "it has none"
        raise Error(f"{saved}: not one of its {len(wanted)} question ids ({some}) is in the recipe's sources")
    layer = reward_layer(asked, templates(asked, {question.task for question in questions.values()}))
    opened = tuple(layer.verifiers)
    changes = Changes(opened, missing=tuple(sorted(wanted - questions.keys())))
    given = ["question_id", "completion", "finished"]  # all that is taken from JSON, which has no types of columns
    columns = {".jsonl": given, ".parquet": [*given, *AS_SAVED, *opened]}
    saved_rows = (row for file in files for row in rows(file, columns[file.suffix]))
    scored = _scored(saved_rows, questions, layer, changes)
    progress = Console(stderr=True)
    with aside(out) as side, pq.ParquetWriter(side, _schema(layer)) as writer:
        for batch in track(_batches(scored), "scoring", console=progress, disable=not progress.is_terminal):
            writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=writer.schema))
    return changes


def _scored(
    saved: Iterator[Row], questions: Mapping[str, Question], layer: RewardLayer, changes: Changes
) -> Iterator[Row]:
    """The rows with new verdicts, in order; `changes` is told of each. Rows of one step are scored together, with
    the weights of that step; rows without one, with those at the start."""
    for batch in _batches(saved):
        known = [row for row in batch if row["question_id"] in questions]
        changes.skipped += len(batch) - len(known)
        for step, together in groupby(known, key=lambda row: row.get("step")):
            old_rows = list(together)
            layer.step = max(0, (step or 0) - 1)  # rollouts count steps from 1
            fresh = layer.score(
                [questions[row["question_id"]] for row in old_rows],
                [row["completion"] for row in old_rows],
                [row.get("finished", True) for row in old_rows],
            )
            changes.add(old_rows, fresh)
            for old, new in zip(old_rows, fresh, strict=True):
                yield {key: old.get(key) for key in AS_SAVED} | new


def _files(saved: Path) -> list[Path]:
    if not saved.is_dir():
        require_file(saved, "rollouts")
        return [saved]
    found = [file for part in ("rollouts", "evaluations") for file in sorted((saved / part).glob("*.parquet"))]
    if not found:
        raise Error(f"{saved} holds no rollouts/*.parquet and no evaluations/*.parquet; name a run's folder or a file")
    return found


def _recipe(saved: Path, verifiers: Sequence[str], named: str | None) -> Recipe:
    """The recipe that says where the questions come from, with the verifiers that were asked for."""
    near = [saved] if saved.is_dir() else saved.resolve().parents[:2]
    beside = [folder / "recipe.yaml" for folder in near]
    path = named or next((str(file) for file in beside if file.is_file()), None)
    if path is None:
        raise Error(f"{saved} lies in no run's folder (no recipe.yaml); say --recipe NAME_OR_PATH")
    plain = load(path)
    if not verifiers:
        return plain
    chosen: dict[str, Any] = {}
    options: list[str] = []
    for text in verifiers:
        name, _, pairs = text.partition(":")
        chosen[name] = plain.to_dict()["verifiers"].get(name) or {}
        options += [f"verifiers.{name}.{pair}" for pair in pairs.split(",") if pair]
    return load(path, [f"verifiers={json.dumps(chosen)}", *options])


def _questions(recipe: Recipe, wanted: set[str]) -> dict[str, Question]:
    """The wanted questions by id; a source streams, so that only they are kept."""
    found = {}
    for source, _ in recipe.open_sources():
        source.announce()
        found.update({question.id: question for question in source.questions() if question.id in wanted})
    return found


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while batch := list(islice(rows, BATCH)):
        yield batch


def _schema(layer: RewardLayer) -> pa.Schema:
    """The columns of a rollout: what was saved, then the reward layer's own."""
    own = {name: pa.string() for name in OWN_COLUMNS} | {"finished": pa.bool_(), "reward": pa.float64()}
    for name in layer.verifiers:
        own |= {name: pa.float64()} | {f"{name}/{part}": pa.string() for part in ("reason", "error", "evidence")}
    return pa.schema(list((AS_SAVED | own).items()))


@dataclass
class Column:
    """One verifier's verdicts. The saved ones may be missing (it was not in the run) or in part."""

    scored: int = 0  # with a number; the others abstained or failed, as the reasons say
    total: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)
    compared: int = 0  # rows that also have a saved verdict
    before: int = 0  # of which with a number
    total_before: float = 0.0
    changed: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)

    def add(self, name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        score, reason = new[name], new[f"{name}/reason"]
        self.reasons[reason] += 1
        self.scored += score is not None
        self.total += score or 0.0
        if name not in old:
            return
        saved = old[name]
        self.compared += 1
        self.before += saved is not None
        self.total_before += saved or 0.0
        if (saved is None) == (score is None) and abs((saved or 0.0) - (score or 0.0)) <= SAME:
            return
        self.changed += 1
        if len(self.examples) < EXAMPLES:
            told = {"question_id": new["question_id"], "before": saved, "after": score, "reason": reason}
            self.examples.append({**told, "completion": new["completion"][-TAIL:]})

    def to_dict(self) -> dict[str, Any]:
        return {
            "before": self.total_before / self.before if self.before else None,
            "after": self.total / self.scored if self.scored else None,
            "scored": self.scored,
            "compared": self.compared,
            "changed": self.changed if self.compared else None,
            "reasons": dict(self.reasons.most_common()),
            "examples": self.examples,
        }


class Changes:
    """Sums over all rows, fed a batch at a time.

    missing: the ids that no source knows. skipped: how many rows had such an id; they are in no other count.
    """

    def __init__(self, verifiers: Sequence[str], missing: Sequence[str] = ()) -> None:
        self.columns = {name: Column() for name in verifiers}
        self.missing = tuple(missing)
        self.skipped = 0
        self.rows = 0

    def add(self, saved: Sequence[Mapping[str, Any]], fresh: Sequence[Mapping[str, Any]]) -> None:
        """The saved rows (a verifier's column where there is one) and the new ones, in the same order."""
        self.rows += len(fresh)
        for old, new in zip(saved, fresh, strict=True):
            for name, column in self.columns.items():
                column.add(name, old, new)

    def to_dict(self) -> dict[str, Any]:
        """JSON values only. Means are over rows with a number."""
        return {
            "rows": self.rows,
            "skipped": self.skipped,
            "missing": list(self.missing),
            "verifiers": {name: column.to_dict() for name, column in self.columns.items()},
        }
