"""From evaluation rows to report.json: every stage and every shortcut, task by task, with intervals.

A task with a closed set of labels (up, down) is measured with `rlvr.metrics.summarise`. A task with open answers,
or with options of its own for each question, has no common labels: its accuracy is the share of exact answers, and
beside it stands the mean score of each verifier.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from rlvr import metrics, panels, provenance, shortcuts
from rlvr.answers import Options
from rlvr.monitors import monitor
from rlvr.prompts import Template
from rlvr.recipe import Recipe
from rlvr.source import Source, write_atomically
from rlvr.splits import overlaps
from rlvr.types import Error, Question

ENOUGH_GENES = 10
STAGES = ("before", "warm_start", "after")


def arrays(table: pd.DataFrame, labels: Sequence[str]) -> metrics.System:
    """What rlvr.metrics needs of evaluation rows of one task, in the order of their question ids."""
    table = table.sort_values("question_id")
    return {
        "labels": table["truth"].tolist(),
        "probabilities": table[[f"p/{label}" for label in labels]].to_numpy(dtype=float),
        "answers": [None if pd.isna(a) else str(a) for a in table["answer"]],
        "label_names": list(labels),
        "readouts": (table["context"] + ":" + table["readout"]).tolist(),
        "clusters": table["perturbation"].tolist(),
    }


def assemble(
    run: Path,
    recipe: Recipe,
    sources: Sequence[Source],
    by_task: Mapping[str, Template],
    questions: Sequence[Question],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """The content of report.json, from the evaluation rows that a run has kept; written beside them."""
    paths = {stage: run / "evaluations" / f"{stage}.parquet" for stage in STAGES}
    tables = {stage: pd.read_parquet(path) for stage, path in paths.items() if path.is_file()}
    if not tables:
        raise Error(f"{run} holds no evaluations; train or evaluate first")
    last = list(tables)[-1]
    asked = {q.id: q for q in questions}
    held_out = [asked[i] for i in sorted(tables[last]["question_id"])]
    train = [q for q in questions if q.split == "train"]

    found: dict[str, Any] = {stage: _overall(table, recipe) for stage, table in tables.items()}
    baselines: dict[str, dict[str, Any]] = {}
    comparisons: dict[str, dict[str, Any]] = {}
    headlines: list[str] = []
    beats: dict[str, dict[str, Any]] = {}
    panel = None
    for task in dict.fromkeys(q.task for q in held_out):
        own = {stage: table[table["task"] == task] for stage, table in tables.items()}
        trained, tested = ([q for q in part if q.task == task] for part in (train, held_out))
        measured = (_closed if by_task[task].slot_words else _open)(own, by_task[task], trained, tested, recipe)
        for stage, summary in measured["stages"].items():
            found[stage][task] = summary
        for name, summary in measured["baselines"].items():
            baselines.setdefault(name, {"n": 0})[task] = summary
            baselines[name]["n"] += len(tested)
        for pair, difference in measured["comparisons"].items():
            comparisons.setdefault(pair, {})[task] = difference
        sentence, beaten = _headline(task, found[last][task], measured, last)
        headlines.append(sentence if len(by_task) == 1 else f"{task}: {sentence}")
        beats |= {task: beaten} if beaten else {}
        panel = panel or measured.get("panel")
    document = {
        "recipe": recipe.to_dict(),
        "recipe_name": Path(recipe.output_dir).name,
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": provenance.versions(),
        "machine": provenance.machine(),
        "source": _sources(sources),
        "prompt_sha256": {task: template.digest for task, template in by_task.items()},
        "split": held_out[0].split,
        "n_questions": len(held_out),
        "n_train": len(train),
        "seed": recipe.seed,
        "seconds": dict(seconds),
        "headline": " ".join(headlines),
        "beats_best_shortcut": beats,
        **found,
        "baselines": baselines,
        "comparisons": comparisons,
        "panel": panel,
        "leak": [
            {"kind": kind, "overlap": count, "n": len(held_out)} for kind, count in overlaps(train, held_out).items()
        ],
        "allow_leak": recipe.allow_leak,
        "monitors": _monitors(run, recipe, train, by_task),
        "ledger": provenance.ledger(),
    }
    write_atomically(run / "report.json", json.dumps(document, indent=2, ensure_ascii=False).encode())
    return document


def _monitors(
    run: Path, recipe: Recipe, train: Sequence[Question], by_task: Mapping[str, Template]
) -> list[dict[str, Any]]:
    """What the hacking monitors read in the run's rollouts; nothing where nothing was trained."""
    if not any((run / "rollouts").glob("*.parquet")):
        return []
    weights = {name: (values or {}).get("weight", 1.0) for name, values in recipe.verifiers.items()}
    truths = {q.id: str(q.truth["answer"]) for q in train if by_task[q.task].slot_words}
    return [asdict(reading) for reading in monitor(run / "rollouts", weights, truths)]


def _options(recipe: Recipe) -> dict[str, Any]:
    return {"seed": recipe.seed, "resamples": recipe.evaluation.resamples}


def _overall(table: pd.DataFrame, recipe: Recipe) -> dict[str, Any]:
    """What holds over all tasks of a stage."""
    return {"n": len(table), "parse_rate": _parsed(table, _options(recipe))}


def _closed(
    tables: Mapping[str, pd.DataFrame],
    template: Template,
    train: Sequence[Question],
    held_out: Sequence[Question],
    recipe: Recipe,
) -> dict[str, Any]:
    """Stages, baselines and paired comparisons of a task whose labels are the same for every question."""
    task, labels, options = template.task, list(template.slot_words.values()), _options(recipe)
    systems = {stage: arrays(table, labels) for stage, table in tables.items()}
    last = list(systems)[-1]
    rows: dict[str, metrics.System] = {
        name: {**systems[last], "probabilities": table, "answers": [labels[i] for i in table.argmax(axis=1)]}
        for name, table in shortcuts.shortcuts(train, held_out, labels).items()
    }
    others = {**{s: systems[s] for s in systems if s != last}, **rows}
    found: dict[str, Any] = {
        "stages": {
            stage: {"parse_rate": _parsed(tables[stage], options), **metrics.summarise(task, **system, **options)}
            for stage, system in systems.items()
        },
        "baselines": {name: metrics.summarise(task, **row, **options) for name, row in rows.items()},
        "comparisons": {
            f"{last} - {other}": metrics.compare(task, systems[last], row, **options) for other, row in others.items()
        },
    }
    if recipe.evaluation.panel is not None:
        found["panel"] = {
            "name": recipe.evaluation.panel,
            "sha256": panels.digest(held_out),
            "n": len(held_out),
            "genes": len({q.readout for q in held_out}),
            "permutation_null": metrics.permutation_null(task, systems[last], seed=recipe.seed),
        }
    return found


def _open(
    tables: Mapping[str, pd.DataFrame],
    template: Template,
    train: Sequence[Question],
    held_out: Sequence[Question],
    recipe: Recipe,
) -> dict[str, Any]:
    """The same for open answers: the share of exact ones, the mean score of each verifier, and as a baseline the
    commonest answer of training (among the question's options, where it has some)."""
    options = _options(recipe)
    ordered = {stage: table.sort_values("question_id") for stage, table in tables.items()}
    last = list(ordered)[-1]
    clusters = ordered[last]["perturbation"].tolist()
    exact = {q.id: template.answers.read(template.word(q.truth["answer"]), q.fields) for q in held_out}
    right = {
        stage: [answer == exact[i] for i, answer in zip(table["question_id"], table["answer"], strict=True)]
        for stage, table in ordered.items()
    }
    stages: dict[str, Any] = {}
    for stage, table in ordered.items():
        scores = {f"score/{name}": table[name] for name in recipe.verifiers if table[name].notna().all()}
        stages[stage] = {
            "parse_rate": _parsed(table, options),
            "accuracy": metrics.mean(right[stage], clusters, **options),
            **{name: metrics.mean(column.to_numpy(float), clusters, **options) for name, column in scores.items()},
        }
    common = [answer for answer, _ in Counter(template.word(q.truth["answer"]) for q in train).most_common()]
    told = {q.id: _commonest(common, template, q) == exact[q.id] for q in held_out}
    majority = [told[i] for i in ordered[last]["question_id"]]
    others = {**{s: r for s, r in right.items() if s != last}, "majority": majority}
    gains = {
        f"{last} - {other}": [float(a) - float(b) for a, b in zip(right[last], values, strict=True)]
        for other, values in others.items()
    }
    return {
        "stages": stages,
        "baselines": {"majority": {"accuracy": metrics.mean(majority, clusters, **options)}},
        "comparisons": {
            pair: {"accuracy": metrics.mean(values, clusters, **options)} for pair, values in gains.items()
        },
    }


def _commonest(common: Sequence[str], template: Template, question: Question) -> str | None:
    """The commonest answer of training that this question allows."""
    if isinstance(template.answers, Options):
        allowed = template.answers.words(question.fields).values()
        return next((answer for answer in common if answer in allowed), next(iter(allowed), None))
    return template.answers.read(common[0], question.fields) if common else None


def _parsed(table: pd.DataFrame, options: Mapping[str, Any]) -> metrics.Interval:
    table = table.sort_values("question_id")
    return metrics.mean(table["answer"].notna().to_numpy(), table["perturbation"].tolist(), **options)


def _headline(
    task: str, after: Mapping[str, Any], measured: Mapping[str, Any], last: str
) -> tuple[str, dict[str, Any] | None]:
    """Whether the policy beats the best shortcut, and whether it does more than read its evidence."""
    # An average over genes means something only over enough of them; T-cell screens have two readouts.
    if "auroc" not in after:
        metric = "accuracy"
    elif after["auroc_macro_gene"]["n"] >= ENOUGH_GENES:
        metric = "auroc_macro_gene"
    else:
        metric = "auroc"
    known = {name: row[metric]["value"] for name, row in measured["baselines"].items()}
    defined = [name for name in known if known[name] is not None]
    if not defined:
        return f"No {metric} can be formed from {after['accuracy']['n']} questions.", None
    best = max(defined, key=lambda name: known[name])
    gain = measured["comparisons"][f"{last} - {best}"][metric]
    verdict = "yes" if gain["low"] is not None and gain["low"] > 0 else "no"
    sentence = f"Beats the best shortcut ({best}): {verdict}, by {_signed(gain)} {metric}, n = {gain['n']}."
    vote = measured["comparisons"].get(f"{last} - evidence_vote", {}).get(metric)
    if vote is not None and (vote["low"] is None or vote["low"] <= 0):
        sentence += " The policy reads its evidence."
    return sentence, {"shortcut": best, "metric": metric, **gain, "verdict": verdict}


def _signed(gain: Mapping[str, Any]) -> str:
    if gain["low"] is None:
        return f"an unknown margin ({gain.get('reason', 'no interval')}) of"
    return f"{gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"


def _sources(sources: Sequence[Source]) -> dict[str, str]:
    """Name, version, licence and citation; of several sources one after the other."""
    keys = ("name", "version", "licence", "citation", "doi")
    return {key: "; ".join(dict.fromkeys(str(getattr(source, key)) for source in sources)) for key in keys}
