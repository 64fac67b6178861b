"""The unified benchmark of the survey: cell, perturbation, regulation, knowledge, sequence; like training, and shifted.

    rlvr evaluate suite --model smollm2-135m --size small --out DIR
    run(Suite.load(), "small", recipe, who, Path("DIR"))    # DIR/suite.json, suite.md, suite.svg, entries/

suite.yaml names every entry and its version. An entry whose data cannot be had (a licence not accepted, a file that
is not here) is listed with the reason and not counted; an entry is never filled in. Each entry is an evaluation of its
own, with shortcuts, audit and intervals, goes on after a kill, and can be read with `rlvr report DIR/entries/NAME`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from rlvr.evaluation.measure import Evaluation
from rlvr.evaluation.results import assemble
from rlvr.evaluation.subject import Subject
from rlvr.evaluation.suite.table import markdown, radar
from rlvr.files import write_atomically
from rlvr.loading import gather, reward_layer, select, templates
from rlvr.recipe import Recipe
from rlvr.types import Error, Question

log = logging.getLogger(__name__)

FILE = Path(__file__).parent / "suite.yaml"
CARVED = 0.15  # of a training split
ON_PURPOSE = "in distribution: what is asked about occurs in training, the question does not"
ASKING = ("evaluation.batch_size", "evaluation.chunk", "evaluation.resamples")  # change no answer
COPIED = ("command", "written", "versions", "machine", "seed")  # from the entries' reports into suite.json


@dataclass(frozen=True)
class Entry:
    """One row of the table."""

    name: str
    area: str
    shift: str
    source: Mapping[str, Any]
    carved: bool = False


@dataclass(frozen=True)
class Suite:
    """suite.yaml, read."""

    version: str
    sizes: Mapping[str, int | None]
    entries: tuple[Entry, ...]

    @classmethod
    def load(cls, path: Path = FILE) -> Suite:
        read = yaml.safe_load(path.read_text())
        entries = tuple(Entry(name, **values) for name, values in read["entries"].items())
        return cls(read["version"], read["sizes"], entries)


def refuse(overrides: Sequence[str], options: Sequence[str] = ()) -> None:
    """Errors: an override of what the suite itself sets; options of the command that only the evaluation
    of one recipe has."""
    if options:
        raise Error(
            f"the suite does not take {', '.join(options)}: it asks a model itself, on validation questions of many "
            "recipes; name the model with --model, --adapter or --server, or evaluate one recipe"
        )
    for override in overrides:
        key = override.partition("=")[0]
        if key.split(".")[0] in ("source", "verifiers", "prompt", "evaluation") and key not in ASKING:
            raise Error(f"{override}: the suite sets that itself; its figures would mean something else")


def run(suite: Suite, size: str, shared: Recipe, who: Subject, out: Path, stage: str = "before") -> dict[str, Any]:
    """Every entry, one after the other with one model; the content of suite.json.

    Errors: an unknown size; whatever stops an evaluation but data that cannot be had.
    """
    if size not in suite.sizes:
        raise Error(f"size {size!r} is unknown; choose one of {', '.join(suite.sizes)}")
    who = dataclasses.replace(who, open=functools.cache(who.open))  # one model for all entries
    rows = []
    for entry in suite.entries:
        own = _recipe(entry, shared, suite.sizes[size])
        try:
            sources, questions = gather(own)
        except Error as error:
            log.warning("suite: %s is not measured: %s", entry.name, error)
            rows.append({**_named(entry), "missing": str(error)})
            continue
        asked = carve(questions) if entry.carved else questions
        rows += _measured(entry, own, sources, asked, who, out / "entries" / entry.name, stage)
    if all("missing" in row for row in rows):
        raise Error("no entry of the suite could be measured; see the warnings above, and `rlvr data pull`")
    report = json.loads(next((out / "entries").glob("*/report.json")).read_text())
    document = {
        "suite": suite.version,
        "size": size,
        **{key: value for key, value in who.facts.items() if value is not None},
        **{key: report[key] for key in COPIED},
        "entries": rows,
        "areas": areas(rows),
    }
    write_atomically(out / "suite.json", json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False).encode())
    write_atomically(out / "suite.md", markdown(document).encode())
    write_atomically(out / "suite.svg", radar(document).encode())
    return document


def carve(questions: Sequence[Question]) -> list[Question]:
    """The training questions alone, a fixed share of them held out by a hash of their ids. Other questions' evidence
    may show what a carved one asks; no prompt shows it of itself."""
    training = [question for question in questions if question.split == "train"]

    def held(question: Question) -> bool:
        return int(sha256(f"suite:{question.id}".encode()).hexdigest()[:8], 16) < CARVED * 2**32

    return [dataclasses.replace(q, split="validation") if held(q) else q for q in training]


def areas(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """area -> the mean over its entries of policy and best shortcut, in distribution and shifted. None where no entry
    was measured. Entries differ in their metric, so this is a picture of strengths and no score of its own."""
    found: dict[str, dict[str, float | None]] = {}
    for area in dict.fromkeys(row["area"] for row in rows):
        own = [row for row in rows if row["area"] == area and row.get("value") is not None]
        like = [row for row in own if row["shift"] == "none"]
        new = [row for row in own if row["shift"] != "none"]
        found[area] = {
            "in_distribution": _mean([row["value"] for row in like]),
            "shifted": _mean([row["value"] for row in new]),
            "shortcut": _mean([row["shortcut_value"] for row in own if row["shortcut_value"] is not None]),
        }
    return found


def _recipe(entry: Entry, shared: Recipe, most: int | None) -> Recipe:
    evaluation = dataclasses.replace(shared.evaluation, questions=most, split="validation", panel=None)
    allowed = ON_PURPOSE if entry.shift == "none" else ""
    return dataclasses.replace(shared, source=entry.source, evaluation=evaluation, allow_leak=allowed)


def _measured(
    entry: Entry,
    own: Recipe,
    sources: Sequence[Any],
    questions: Sequence[Question],
    who: Subject,
    folder: Path,
    stage: str,
) -> list[dict[str, Any]]:
    """One row for each task of the entry."""
    by_task = templates(own, {question.task for question in questions})
    own = dataclasses.replace(own, verifiers={name: {} for each in by_task.values() for name in each.verifiers})
    held_out = select(questions, own.evaluation)
    Evaluation(who, held_out, by_task, reward_layer(own, by_task), own, stage, folder).run()
    document = assemble(folder, own, sources, by_task, questions, {})
    return [_row(entry, task, document, stage) for task in by_task if task in document[stage]]


def _row(entry: Entry, task: str, document: Mapping[str, Any], stage: str) -> dict[str, Any]:
    found = document[stage][task]
    gain = document["beats_best_shortcut"].get(task)
    metric = gain["metric"] if gain else "accuracy"
    shortcut = document["baselines"][gain["shortcut"]][task][metric]["value"] if gain else None
    return {
        **_named(entry),
        "task": task,
        "metric": metric,
        **{key: found[metric][key] for key in ("value", "low", "high", "n")},
        "shortcut": gain["shortcut"] if gain else None,
        "shortcut_value": shortcut,
        "gain": {key: gain[key] for key in ("value", "low", "high")} if gain else None,
        "parse_rate": found["parse_rate"]["value"],
        "questions": document["n_questions"],
        "questions_sha256": document["questions_sha256"],
        "inconsistencies": len(document["inconsistencies"]),
    }


def _named(entry: Entry) -> dict[str, Any]:
    return {"entry": entry.name, "area": entry.area, "shift": entry.shift}


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
