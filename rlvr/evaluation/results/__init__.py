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
    flags               [{flag, task, text}], see rlvr.evaluation.results.checks
    inconsistencies     lines; anything here is a fault of the machinery, and no number should be trusted before it
    reasoning           tables of rlvr.evaluation.reasoning: name -> rows {name, value, low, high, n, baseline}
    leak, panel, monitors, alarms (RUN/alarms.jsonl), ledger, test_split_uses (how often these questions were used)

An interval is {value, low, high, n, detectable}; what has no value has a reason.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from rlvr import jsonlines
from rlvr.evaluation import metrics
from rlvr.evaluation.monitors import monitor
from rlvr.evaluation.results import checks, rows
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
    verifiers = {name: opened for name, (opened, *_) in recipe.open_verifiers().items()}

    found: dict[str, Any] = {stage: _overall(table, recipe) for stage, table in tables.items()}
    baselines: dict[str, dict[str, Any]] = {}
    comparisons: dict[str, dict[str, dict[str, metrics.Interval]]] = {}
    beats: dict[str, dict[str, Any]] = {}
    strata: dict[str, Any] = {}
    reliability: dict[str, dict[str, Any]] = {stage: {} for stage in tables}
    sentences: list[str] = []
    flags: list[dict[str, Any]] = []
    inconsistent = [
        line for stage in tables for line in checks.reread(run / "evaluations" / f"{stage}.parquet", by_task, asked)
    ]
    panel = None
    for name in dict.fromkeys(q.task for q in held_out):
        own = {stage: part for stage, table in tables.items() if len(part := table[table["task"] == name])}
        own = {stage: part.reset_index(drop=True) for stage, part in own.items()}
        task = _task(by_task[name], asked, [q for q in train if q.task == name], recipe)
        measured = task.report(own)
        for stage, table in own.items():
            found[stage][name] = measured["stages"][stage]
            inconsistent += checks.verdicts(stage, name, table, task.right(table), verifiers)
            if isinstance(task, ClosedTask):
                reliability[stage][name] = metrics.reliability(name, task.system(table))
        for shortcut, summary in measured["baselines"].items():
            baselines.setdefault(shortcut, {"n": 0})[name] = summary
            baselines[shortcut]["n"] += len(own[last])
        for pair, difference in measured["comparisons"].items():
            comparisons.setdefault(pair, {})[name] = difference
        strata[name] = measured["strata"]
        sentence, beaten = headline(name, last, measured)
        sentences.append(sentence if len(by_task) == 1 else f"{name}: {sentence}")
        beats |= {name: beaten} if beaten else {}
        flags += _conduct(task, name, own[last], measured, last)
        if isinstance(task, ClosedTask) and recipe.evaluation.panel is not None and panel is None:
            panel = _panel(task, own[last], recipe)
    metrics.correct(comparisons)
    metrics.correct({"": {name: {"": beaten} for name, beaten in beats.items()}})  # type: ignore[dict-item]

    overlap = overlaps(train, held_out)
    records = {stage: record for stage in tables if (record := rows.record(run, stage)) is not None}
    digest = panels.digest(held_out)
    ledger = provenance.ledger()
    alarms, broken = _alarms(run)
    first = [*checks.unfinished(records), *checks.leaks(overlap, len(held_out), recipe.allow_leak)]
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
        "headline": " ".join([*(f"{flag['text']}." for flag in first), *sentences]),
        "beats_best_shortcut": beats,
        "flags": first + flags,
        "inconsistencies": inconsistent + broken,
        "evaluations": records,
        **found,
        "reliability": reliability,
        "baselines": baselines,
        "comparisons": comparisons,
        "strata": strata,
        "panel": panel,
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


def _panel(task: ClosedTask, table: pd.DataFrame, recipe: Recipe) -> dict[str, Any]:
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
