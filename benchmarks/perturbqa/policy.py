"""A trained policy on PerturbQA's panel, beside the evidence that it read and the oracle that read everything.

    rlvr oracle fit perturbqa:context=k562,task=effect perturbqa:context=k562,task=direction --out oracles/k562
    accelerate launch train.py --config perturbqa_soft_hard seed=0 output_dir=runs/soft_hard_0
    python benchmarks/perturbqa/policy.py runs/soft_hard_0 [...] --oracle oracles/k562/direction.parquet

Writes benchmarks/results/perturbqa_policy.json: a row for each stage of each run, and the mean of the runs. Lift is
what macro per-gene AUROC has over .5, given as a share of that of the vote of the evidence shown, of the vote of all
related knockdowns, and of the oracle; `gain` is what GRPO adds to the warm start; `thoughts` says how many of them read
and compare the evidence rightly, and `as its thought says` scores the lead that they end with. Intervals are over
perturbations, paired. The vote of the nearest is the difference of the squared similarities of the two measurements
shown; `nearest_ranks_training` is what it makes of the training questions, all and those that the warm start's critic
kept.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rlvr import metrics, provenance, rationales
from rlvr.learning.critic import passed
from rlvr.metrics.bootstrap import Measured
from rlvr.opening import gather, reward_layer, templates
from rlvr.prompts import Template
from rlvr.recipe import load
from rlvr.results import rows
from rlvr.shortcuts import shortcuts
from rlvr.source import write_atomically
from rlvr.types import Error, Question

RESULT = Path(__file__).resolve().parents[1] / "results" / "perturbqa_policy.json"
METRIC = "auroc_macro_gene"
MOST = 60  # characters at the end of a thought
RESAMPLES = 500  # of the training questions; of the panel, the usual number
BESIDE = ("nearest", "evidence_vote", "neighbour_vote", "oracle")


def measure(run: Path, oracle: Path) -> dict[str, Any]:
    """Stages and what stands beside them, on the questions that every stage of the run answered."""
    recipe = load(str(run / "recipe.yaml"))
    questions = {question.id: question for question in gather(recipe)[1]}
    stages = rows.stages(run)
    first = next(iter(stages.values()))
    asked = [questions[name] for name in first["question_id"]]
    (task,) = set(first["task"])
    template = templates(recipe, {task})[task]
    labels = rows.labels_of(template, first["truth"].tolist())
    train = [question for question in questions.values() if question.split == "train" and question.task == task]
    told = shortcuts(train, asked, labels)
    told = {name: table for name, table in told.items() if name in BESIDE}
    told |= {"nearest": nearest(asked, labels), "oracle": predicted(asked, oracle)}
    thought = {stage: thoughts(run, stage) for stage in stages}
    told |= {f"{stage}, as its thought says": said(thought[stage], template, labels) for stage in stages}
    systems = {stage: rows.system(table, labels) for stage, table in stages.items()}
    for table in stages.values():
        if list(table["question_id"]) != list(first["question_id"]):
            raise Error(f"{run}: its stages answered different questions; evaluate them on one panel")
    model = next(iter(systems.values()))
    systems |= {name: {**model, "probabilities": table, "answers": [None] * len(asked)} for name, table in told.items()}
    drawn = {name: of[METRIC] for name, of in metrics.measured(task, systems, only=(METRIC,)).items()}
    found: dict[str, Any] = {
        "task": task,
        "seed": recipe.seed,
        "settings": {key: recipe.to_dict()[key] for key in ("source", "verifiers", "learning", "sft", "grpo")},
        "split": sorted({question.split for question in asked}),
        "panel": recipe.evaluation.panel,
        "n": len(asked),
        "seconds": json.loads((run / "report.json").read_text())["seconds"],
        "systems": {name: of.interval() for name, of in drawn.items()},
        "parse_rate": {stage: float(table["answer"].notna().mean()) for stage, table in stages.items()},
        "accuracy": {stage: float(rows.right(table).mean()) for stage, table in stages.items()},
        "thoughts": {stage: reading(thought[stage], asked, template) for stage in stages},
        "share_of_lift": {f"{stage} / {name}": share(drawn[stage], drawn[name]) for stage in stages for name in BESIDE},
        "oracle_covers": int((told["oracle"][:, 0] != 0.5).sum()),
    }
    if recipe.learning.critic:
        judge = reward_layer(recipe, {task: template}).verifiers[recipe.learning.critic].verifier
        kept = passed(train, {task: template}, judge)
        found["nearest_ranks_training"] = {"all": ranked(train, labels), "what the critic kept": ranked(kept, labels)}
    last = list(stages)[-1]
    gaps = {f"{last} - {name}": (last, name) for name in BESIDE}
    if "warm_start" in stages and "after" in stages:
        gaps["gain"] = ("after", "warm_start")
    found["differences"] = {
        name: metrics.differences({METRIC: drawn[a]}, {METRIC: drawn[b]})[METRIC] for name, (a, b) in gaps.items()
    }
    return found


def thoughts(run: Path, stage: str) -> list[str]:
    """What the stage thought, in the order of its rows."""
    table = pd.read_parquet(run / "evaluations" / f"{stage}.parquet", columns=[*rows.KEY, "thought"])
    return [str(thought).strip() for thought in table.sort_values(rows.KEY)["thought"]]


def reading(told: Sequence[str], asked: Sequence[Question], template: Template) -> dict[str, float]:
    """Share of the thoughts that read the evidence word by word as the prompt shows it, and of those that then compare
    it rightly, too (rlvr.rationales)."""
    pairs = list(zip(told, (rationales.thought(question, template) for question in asked), strict=True))
    read = [said.rpartition(":")[0] == due.rpartition(":")[0] for said, due in pairs]
    return {"read": float(np.mean(read)), "compared": float(np.mean([said == due for said, due in pairs]))}


def said(told: Sequence[str], template: Template, labels: Sequence[str]) -> np.ndarray:
    """[questions, 2] one half, and half the lead that the thought ends with, right or wrong; one half without one."""
    signs = {template.word(label): sign for label, sign in zip(labels, (1, -1), strict=True)}
    first = np.full(len(told), 0.5)
    for row, thought in enumerate(told):
        found = re.search(r": (\S+) leads by (\d{1,2})\.?$", thought[-MOST:])
        if found and found[1] in signs:
            first[row] += signs[found[1]] * int(found[2]) / 200
    return np.column_stack([first, 1 - first])


def nearest(asked: Sequence[Question], labels: Sequence[str]) -> np.ndarray:
    """[questions, 2] one half, and half the difference of the squared similarities of each label's nearest."""
    best = np.zeros((len(asked), 2))
    for row, question in enumerate(asked):
        for item in question.fields["evidence"]:
            column = labels.index(item["answer"])
            best[row, column] = max(best[row, column], (item["similarity"] / 100) ** 2)
    first = 0.5 + (best[:, 0] - best[:, 1]) / 2
    return np.column_stack([first, 1 - first])


def ranked(questions: Sequence[Question], labels: Sequence[str]) -> dict[str, Any]:
    """How well the vote of the nearest ranks the measured answers of these questions."""
    system: metrics.System = {
        "labels": [question.truth["answer"] for question in questions],
        "probabilities": nearest(questions, labels),
        "answers": [None] * len(questions),
        "label_names": labels,
        "readouts": [question.fields["readout"] for question in questions],
        "clusters": [question.fields["perturbation"] for question in questions],
    }
    of = metrics.measured(questions[0].task, {"": system}, resamples=RESAMPLES, only=(METRIC,))[""][METRIC]
    return {"questions": len(questions), **of.interval()}


def predicted(asked: Sequence[Question], oracle: Path) -> np.ndarray:
    """[questions, 2] the oracle's lift: what it says of the perturbation; one half where it abstains."""
    table = pd.read_parquet(oracle).set_index(["context", "perturbation", "readout"])["lift"]
    keys = [(q.truth["context"], q.fields["perturbation"], q.fields["readout"]) for q in asked]
    first = table.reindex(pd.MultiIndex.from_tuples(keys)).fillna(0.5).to_numpy(dtype=np.float64)
    return np.column_stack([first, 1 - first])


def share(policy: Measured, other: Measured) -> dict[str, float]:
    """The policy's lift over .5 as a share of the other's, with its 95 % interval; both see the same resamples."""
    drawn = (policy.draws - 0.5) / (other.draws - 0.5)
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    value = (policy.value - 0.5) / (other.value - 0.5)
    return {"value": round(value, 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def means(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Over the runs, each of its own seed: the values and their range."""
    found: dict[str, dict[str, float]] = {}
    for kind in ("systems", "share_of_lift", "differences"):
        for name in runs[0][kind]:
            values = [run[kind][name]["value"] for run in runs]
            found[f"{kind}: {name}"] = {"mean": float(np.mean(values)), "low": min(values), "high": max(values)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--oracle", required=True, type=Path, help="what `rlvr oracle fit` wrote for this task")
    parser.add_argument("--name", help="under which the result stands; default: the recipe's panel and split")
    options = parser.parse_args()
    runs = [measure(run, options.oracle) for run in options.runs]
    name = options.name or f"{runs[0]['panel']}, {' and '.join(runs[0]['split'])}"
    made = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "machine": provenance.machine()}
    over = means(runs)
    result = {**made, "versions": provenance.versions(), "mean": over, "runs": runs}
    held = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    write_atomically(RESULT, (json.dumps({**held, name: result}, indent=1) + "\n").encode())
    for what, of in over.items():
        print(f"{name}  {what:40} {of['mean']:.3f}  ({of['low']:.3f} to {of['high']:.3f}, {len(runs)} runs)")


if __name__ == "__main__":
    main()
