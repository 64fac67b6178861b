"""From evaluation rows to report.json: every stage and every shortcut, task by task, with intervals.

    assemble(run, recipe, sources, by_task, questions, seconds)     # `rlvr evaluate` and train.py end with it
    compare_runs(run, other_run)                                    # `rlvr report RUN OTHER_RUN`

report.json holds, beside what made it (recipe, command, versions, machine, source, prompt_sha256, seed, seconds):

    headline            one sentence per task; "unfinished: n of m" and a leak come first
    beats_best_shortcut task -> {shortcut, metric, verdict, value, low, high, n, detectable, p, p_holm}
    before, warm_start, after       {n, parse_rate, TASK: {metric: interval}}; see rlvr.evaluation.metrics, and
                        score/VERIFIER (mean), with several samples pass@k, maj@k, best_of_n/VERIFIER, vote/METRIC.
                        best_of_n by a verifier that sees the truth is pass@n
    reliability         stage -> task -> bins of equally many rows {low, high, n, said, held}, where there are labels
    baselines           shortcut -> {n, TASK: {metric: interval}}
    comparisons         "after - majority" -> task -> {metric: interval with p, p_holm (over tasks), test}
    strata              task -> division -> stratum -> {n, clusters, accuracy, METRIC, gain}, or a "reason"
    evaluations         stage -> evaluations/<stage>.json: hashes of model, adapter and questions, samples, tokens, ...
    flags               [{flag, task, text}], see rlvr.evaluation.results.checks and .readings
    readings            stage -> task -> {n, strict, lenient, parsed, readable, cut_off, empty, refused}
    inconsistencies     lines; anything here is a fault of the machinery, and no number should be trusted before it
    reasoning           tables of rlvr.evaluation.reasoning: name -> rows {name, value, low, high, n, baseline}
    leak, panel, monitors, alarms (RUN/alarms.jsonl), ledger, test_split_uses (how often these questions were used)

An interval is {value, low, high, n, detectable}; what has no value has a reason.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from rlvr import jsonlines
from rlvr.evaluation import metrics
from rlvr.evaluation.monitors import monitor
from rlvr.evaluation.results import checks, readings, rows
from rlvr.evaluation.results.compare import compare_runs
from rlvr.evaluation.results.headline import headline
from rlvr.evaluation.results.rows import STAGES
from rlvr.evaluation.results.tasks import ClosedTask, OpenTask, Task
from rlvr.files import write_atomically
from rlvr.prompts import Template
from rlvr.questions import panels
from rlvr.questions.splits import overlaps
from rlvr.recipe import Recipe
from rlvr.source import Source
from rlvr.types import Error, Question

__all__ = ["REASONING", "STAGES", "assemble", "compare_runs"]

REASONING = "reasoning.json"  # tables of rlvr.evaluation.reasoning, where they were asked for


def assemble(
    run: Path,
    recipe: Recipe,
    sources: Sequence[Source],
    by_task: Mapping[str, Template],
    questions: Sequence[Question],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """The content of report.json, from the evaluation rows that a run has kept; written beside them."""
    from rlvr.evaluation import provenance  # imports torch, which comparing runs does without

    tables = rows.stages(run)
    last = list(tables)[-1]
    asked = {q.id: q for q in questions}
    for stage, table in tables.items():
        if strange := sorted(set(table["question_id"]) - asked.keys()):
            raise Error(
                f"{run}: stage {stage} answers {len(strange)} questions that the sources lack "
                f"({', '.join(strange[:3])}); use the recipe that it was evaluated with"
            )
    held_out = [asked[name] for name in dict.fromkeys(tables[last]["question_id"])]
    train = [q for q in questions if q.split == "train"]
    records = [
        _record(by_task[name], asked, [q for q in train if q.task == name], tables, recipe)
        for name in dict.fromkeys(q.task for q in held_out)
    ]
    merged = _merged(records, alone=len(by_task) == 1)
    inconsistent = [
        line for stage in tables for line in checks.reread(run / "evaluations" / f"{stage}.parquet", by_task, asked)
    ]
    inconsistent += [line for record in records for line in record.inconsistent]
    read = {stage: readings.readings(run / "evaluations" / f"{stage}.parquet") for stage in tables}
    overlap = overlaps(train, held_out)
    evaluations = {stage: record for stage in tables if (record := rows.record(run, stage)) is not None}
    digest = panels.digest(held_out)
    ledger = provenance.ledger()
    alarms, broken = _alarms(run)
    first = [*checks.unfinished(evaluations), *checks.leaks(overlap, len(held_out), recipe.allow_leak)]
    first += checks.reuse(ledger, held_out[0].split, digest)
    document = {
        "recipe": recipe.to_dict(),
        "recipe_name": Path(recipe.output_dir).name,
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": provenance.versions(),
        "machine": provenance.machine(),
        "source": _sources(sources),
        "prompt_sha256": {name: template.digest for name, template in by_task.items()},
        "questions_sha256": digest,
        "split": held_out[0].split,
        "n_questions": len(held_out),
        "n_train": len(train),
        "seed": recipe.seed,
        "seconds": dict(seconds),
        "headline": " ".join([*(f"{flag['text']}." for flag in first), *merged["sentences"]]),
        "beats_best_shortcut": merged["beats"],
        "flags": [
            *first,
            *(flag for task, reading in read[last].items() for flag in readings.flags(task, reading)),
            *(flag for record in records for flag in record.flags),
        ],
        "readings": read,
        "inconsistencies": inconsistent + broken,
        "evaluations": evaluations,
        **{stage: _overall(table, recipe) | merged["stages"].get(stage, {}) for stage, table in tables.items()},
        "reliability": {stage: merged["reliability"].get(stage, {}) for stage in tables},
        "baselines": merged["baselines"],
        "comparisons": merged["comparisons"],
        "strata": {record.name: record.measured["strata"] for record in records},
        "panel": _panel(records, recipe),
        "leak": [{"kind": kind, "overlap": count, "n": len(held_out)} for kind, count in overlap.items()],
        "allow_leak": recipe.allow_leak,
        "monitors": _monitors(run, recipe, train, by_task),
        "alarms": alarms,
        "reasoning": json.loads(path.read_text()) if (path := run / REASONING).is_file() else {},
        "ledger": ledger,
        "test_split_uses": sum(use.get("questions_sha256") == digest for use in ledger),
    }
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(run / "report.json", text.encode())
    return document


@dataclass(frozen=True)
class _Record:
    """What one task has to say. table: the rows of the last stage; measured: as `Task.report` gives it; reliability: by
    stage, of closed sets of answers; beaten: the comparison with the best shortcut."""

    name: str
    task: ClosedTask | OpenTask
    table: pd.DataFrame
    measured: Mapping[str, Any]
    reliability: Mapping[str, Any]
    sentence: str
    beaten: dict[str, Any] | None
    flags: list[dict[str, Any]]
    inconsistent: list[str]


def _record(
    template: Template,
    asked: Mapping[str, Question],
    train: Sequence[Question],
    tables: Mapping[str, pd.DataFrame],
    recipe: Recipe,
) -> _Record:
    name, last = template.task, list(tables)[-1]
    own = {stage: part for stage, table in tables.items() if len(part := table[table["task"] == name])}
    own = {stage: part.reset_index(drop=True) for stage, part in own.items()}
    verifiers = {name: opened for name, (opened, *_) in recipe.open_verifiers().items()}
    task = _task(template, asked, train, recipe)
    measured = task.report(own)
    sentence, beaten = headline(name, last, measured)
    reliability: dict[str, Any] = {}
    if isinstance(task, ClosedTask):
        reliability = {stage: metrics.reliability(name, task.system(table)) for stage, table in own.items()}
    return _Record(
        name,
        task,
        own[last],
        measured,
        reliability,
        sentence,
        beaten,
        _conduct(task, name, own[last], measured, last),
        [line for stage, t in own.items() for line in checks.verdicts(stage, name, t, task.right(t), verifiers)],
    )


def _merged(records: Sequence[_Record], alone: bool) -> dict[str, Any]:
    """The records of the tasks, task by task below each key of report.json; p-values corrected over the tasks. alone:
    whether the recipe asks one task, whose name then goes without saying."""
    stages: dict[str, dict[str, Any]] = {}
    reliability: dict[str, dict[str, Any]] = {}
    baselines: dict[str, dict[str, Any]] = {}
    comparisons: dict[str, dict[str, dict[str, metrics.Interval]]] = {}
    for record in records:
        name = record.name
        for stage, summary in record.measured["stages"].items():
            stages.setdefault(stage, {})[name] = summary
        for stage, bins in record.reliability.items():
            reliability.setdefault(stage, {})[name] = bins
        for shortcut, summary in record.measured["baselines"].items():
            baselines.setdefault(shortcut, {"n": 0})[name] = summary
            baselines[shortcut]["n"] += len(record.table)
        for pair, difference in record.measured["comparisons"].items():
            comparisons.setdefault(pair, {})[name] = difference
    beats = {record.name: record.beaten for record in records if record.beaten}
    metrics.correct(comparisons)
    metrics.correct({"": {name: {"": beaten} for name, beaten in beats.items()}})  # type: ignore[dict-item]
    sentences = [record.sentence if alone else f"{record.name}: {record.sentence}" for record in records]
    return {
        "stages": stages,
        "reliability": reliability,
        "baselines": baselines,
        "comparisons": comparisons,
        "beats": beats,
        "sentences": sentences,
    }


def _task(
    template: Template, asked: Mapping[str, Question], train: Sequence[Question], recipe: Recipe
) -> ClosedTask | OpenTask:
    own = [q for q in asked.values() if q.task == template.task]
    options = (template, asked, train, list(recipe.verifiers), recipe.seed, recipe.evaluation.resamples)
    truths = [q.truth["answer"] for q in own]
    labels = rows.labels_of(template, truths)
    return ClosedTask(*options, labels) if labels else OpenTask(*options)


def _conduct(
    task: Task[Any], name: str, table: pd.DataFrame, measured: Mapping[str, Any], last: str
) -> list[dict[str, Any]]:
    majority = measured["comparisons"].get(f"{last} - majority", {})
    summary = {"gain": majority.get("accuracy"), **measured["stages"][last]}
    given = task.system(table)["answers"] if isinstance(task, ClosedTask) else rows.answers(table)
    return checks.conduct(name, table, given, summary)


def _panel(records: Sequence[_Record], recipe: Recipe) -> dict[str, Any] | None:
    """Of the first task with a closed set of answers, where the recipe names a panel."""
    closed = [(record.task, record.table) for record in records if isinstance(record.task, ClosedTask)]
    if recipe.evaluation.panel is None or not closed:
        return None
    task, table = closed[0]
    held_out = list({q.id: q for q in task.asked(table)}.values())
    first = table.drop_duplicates("question_id")
    return {
        "name": recipe.evaluation.panel,
        "sha256": panels.digest(held_out),
        "n": len(held_out),
        "genes": len({q.readout for q in held_out}),
        "permutation_null": metrics.permutation_null(task.template.task, task.system(first), seed=recipe.seed),
    }


def _monitors(
    run: Path, recipe: Recipe, train: Sequence[Question], by_task: Mapping[str, Template]
) -> list[dict[str, Any]]:
    """What the hacking monitors read in the run's rollouts; nothing where nothing was trained."""
    if not any((run / "rollouts").glob("*.parquet")):
        return []
    weights = {name: (values or {}).get("weight", 1.0) for name, values in recipe.verifiers.items()}
    truths = {q.id: str(q.truth["answer"]) for q in train if by_task[q.task].slot_words}
    return [asdict(reading) for reading in monitor(run / "rollouts", weights, truths)]


def _alarms(run: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of alarms.jsonl, and a line that says so where a run that was killed has left half a line."""
    rows, broken = jsonlines.read(run / "alarms.jsonl")
    return rows, [f"alarms.jsonl: {broken} lines are not JSON and are left out"] if broken else []


def _overall(table: pd.DataFrame, recipe: Recipe) -> dict[str, Any]:
    """What holds over all tasks of a stage."""
    parsed = table["answer"].notna().to_numpy()
    options = {"seed": recipe.seed, "resamples": recipe.evaluation.resamples}
    return {"n": len(table), "parse_rate": metrics.mean(parsed, table["perturbation"].tolist(), **options)}


def _sources(sources: Sequence[Source]) -> dict[str, str]:
    """Name, version, licence and citation; of several sources one after the other."""
    keys = ("name", "version", "licence", "citation", "doi")
    return {key: "; ".join(dict.fromkeys(str(getattr(source, key)) for source in sources)) for key in keys}
