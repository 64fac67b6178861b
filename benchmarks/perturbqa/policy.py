"""A trained policy on PerturbQA's panel, beside the evidence that it read and the oracle that read everything.

    rlvr oracle fit perturbqa:context=k562,task=effect perturbqa:context=k562,task=direction --out oracles/k562
    accelerate launch train.py --config perturbqa_soft_hard seed=0 output_dir=runs/soft_hard_0
    python benchmarks/perturbqa/policy.py runs/soft_hard_0 [...] --oracle oracles/k562/direction.parquet

For the test panel, measure the two adapters first, and give runs/test_0 in the place of the run:

    R=runs/soft_hard_0
    rlvr evaluate perturbqa_soft_hard --stage warm_start --adapter $R/warm_start/adapter --final --out runs/test_0
    rlvr evaluate perturbqa_soft_hard --adapter $R/adapter --final --out runs/test_0

Writes benchmarks/results/perturbqa_policy.json: a row for each stage of each run, and the same of the runs' mean, draw
by draw, as all answer one panel: its intervals are over perturbations, how far seeds lie apart the runs show. Lift is
what macro per-gene AUROC has over .5, given as a share of that of the vote of the evidence shown, of the vote of all
related knockdowns, and of the oracle; `gain` is what GRPO adds to the warm start; `thoughts` says how many of them read
and compare the evidence rightly, `as its thought says` scores the lead that they end with, and `follows` says how much
surer the answer is where that lead is larger. Strata are by whether a complex partner of the perturbation is in
training, and whether it is core machinery. The vote of the nearest is the difference of the squared similarities of
the two measurements shown; `nearest_ranks_training` is what it makes of the training questions, all and those that the
warm start's critic kept.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import spearmanr

from rlvr.evaluation import metrics, provenance
from rlvr.evaluation.metrics.bootstrap import Measured
from rlvr.evaluation.results import rows
from rlvr.evaluation.results.strata import strata
from rlvr.evaluation.shortcuts import shortcuts
from rlvr.files import write_atomically
from rlvr.loading import gather, reward_layer, templates
from rlvr.options import build
from rlvr.prompts import Template
from rlvr.questions import rationales
from rlvr.recipe import Recipe
from rlvr.training.learning.critic import passed
from rlvr.types import Error, Question

RESULT = Path(__file__).resolve().parents[1] / "results" / "perturbqa_policy.json"
METRIC = "auroc_macro_gene"
MOST = 60  # characters at the end of a thought
DIVISIONS = ("partner", "core")
PERMUTATIONS = 200
RESAMPLES = 500  # of the training questions; of the panel, the usual number
SAID = ", as its thought says"
BESIDE = ("nearest", "evidence_vote", "neighbour_vote", "oracle")


Drawn = Mapping[str, Measured]  # system -> macro per-gene AUROC


def measure(run: Path, oracle: Path) -> tuple[dict[str, Any], dict[str, Drawn]]:
    """Stages and what stands beside them, on the questions that every stage of the run answered; and their draws in
    all of these ("") and in each stratum."""
    report = json.loads((run / "report.json").read_text())
    recipe = build(Recipe, report["recipe"], f"{run}/report.json")
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
    told |= {f"{stage}{SAID}": said(thought[stage], template, labels) for stage in stages}
    systems = {stage: rows.system(table, labels) for stage, table in stages.items()}
    for table in stages.values():
        if list(table["question_id"]) != list(first["question_id"]):
            raise Error(f"{run}: its stages answered different questions; evaluate them on one panel")
    model = next(iter(systems.values()))
    systems |= {name: {**model, "probabilities": table, "answers": [None] * len(asked)} for name, table in told.items()}
    drawn = {"": draw(task, systems)}
    for of in (of for division, of in strata(train, asked).items() if division in DIVISIONS):
        for stratum in sorted({one for one in of if one is not None}):
            keep = np.array([one == stratum for one in of])
            drawn[stratum] = draw(task, {name: part(system, keep) for name, system in systems.items()})
    found: dict[str, Any] = {
        "task": task,
        "seed": recipe.seed,
        "settings": {key: recipe.to_dict()[key] for key in ("source", "verifiers", "learning", "sft", "grpo")},
        "split": sorted({question.split for question in asked}),
        "panel": recipe.evaluation.panel,
        "n": len(asked),
        "seconds": report["seconds"],
        "parse_rate": {stage: float(table["answer"].notna().mean()) for stage, table in stages.items()},
        "accuracy": {stage: float(rows.right(table).mean()) for stage, table in stages.items()},
        "thoughts": {stage: reading(thought[stage], asked, template) for stage in stages},
        "follows": {stage: follows(told[f"{stage}{SAID}"], systems[stage], labels) for stage in stages},
        "null": {
            stage: metrics.permutation_null(task, systems[stage], permutations=PERMUTATIONS)[METRIC] for stage in stages
        },
        "oracle_covers": int((told["oracle"][:, 0] != 0.5).sum()),
    }
    if recipe.learning.critic:
        judge = reward_layer(recipe, {task: template}).verifiers[recipe.learning.critic].verifier
        kept = passed(train, {task: template}, judge)
        found["nearest_ranks_training"] = {"all": ranked(train, labels), "what the critic kept": ranked(kept, labels)}
    return found | told_of(drawn), drawn


def draw(task: str, systems: Mapping[str, metrics.System]) -> Drawn:
    """The systems on the same resamples."""
    return {name: of[METRIC] for name, of in metrics.measured(task, systems, only=(METRIC,)).items()}


def part(system: metrics.System, keep: NDArray[np.bool_]) -> metrics.System:
    """The system in the rows that are kept."""
    told = system["probabilities"]
    found: metrics.System = {
        "labels": list(compress(system["labels"], keep)),
        "probabilities": None if told is None else told[keep],
        "answers": list(compress(system["answers"], keep)),
        "label_names": system["label_names"],
        "readouts": list(compress(system["readouts"], keep)),
        "clusters": list(compress(system["clusters"], keep)),
    }
    return found


def told_of(drawn: Mapping[str, Drawn]) -> dict[str, Any]:
    """The systems and paired differences, in all rows and in each stratum; and what share the stages have of the lift
    of what stands beside them."""
    whole = drawn[""]
    stages = [f"{stage}{how}" for how in ("", SAID) for stage in reached(whole)]
    shares = {f"{stage} / {name}": share(whole[stage], whole[name]) for stage in stages for name in BESIDE}
    rest = {stratum: compared(of) for stratum, of in drawn.items() if stratum}
    return compared(whole) | {"share_of_lift": shares, "strata": rest}


def compared(drawn: Drawn) -> dict[str, Any]:
    """Every system, and the last stage minus what stands beside it."""
    last = reached(drawn)[-1]
    gaps = {f"{last} - {name}": (last, name) for name in BESIDE}
    if {"warm_start", "after"} <= set(drawn):
        gaps["gain"] = ("after", "warm_start")
    differences = {name: metrics.differences({METRIC: drawn[a]}, {METRIC: drawn[b]}) for name, (a, b) in gaps.items()}
    return {
        "systems": {name: of.interval() for name, of in drawn.items()},
        "differences": {name: of[METRIC] for name, of in differences.items()},
    }


def reached(drawn: Drawn) -> list[str]:
    """The stages among the systems, in order."""
    return [stage for stage in rows.STAGES if stage in drawn]


def thoughts(run: Path, stage: str) -> list[str]:
    """What the stage thought, in the order of its rows."""
    table = pd.read_parquet(run / "evaluations" / f"{stage}.parquet", columns=[*rows.KEY, "thought"])
    return [str(thought).strip() for thought in table.sort_values(rows.KEY)["thought"]]


def reading(told: Sequence[str], asked: Sequence[Question], template: Template) -> dict[str, float]:
    """Share of the thoughts that read the evidence word by word as the prompt shows it, and of those that then compare
    it rightly, too (rlvr.questions.rationales)."""
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


def follows(leads: np.ndarray, answered: metrics.System, labels: Sequence[str]) -> dict[str, float | None]:
    """Rank correlation of the lead with the answer's probability, among the thoughts that end with a lead of the first
    label, and of the second: 1 where a larger lead is always answered more surely. None where either is constant."""
    if answered["probabilities"] is None:
        return dict.fromkeys(labels)
    found: dict[str, float | None] = {}
    for column, label in enumerate(labels):
        among = leads[:, column] > 0.5
        lead, sure = leads[among, column], answered["probabilities"][among, column]
        varies = len(set(lead)) > 1 and len(set(sure)) > 1
        found[label] = float(spearmanr(lead, sure).statistic) if varies else None
    return found


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


def averaged(runs: Sequence[Drawn]) -> Drawn:
    """What the runs have on average, on the same resamples of the same questions."""
    return {
        name: replace(of, value=float(np.mean([run[name].value for run in runs])), draws=draws)
        for name, of in runs[0].items()
        for draws in [np.mean([run[name].draws for run in runs], axis=0)]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--oracle", required=True, type=Path, help="what `rlvr oracle fit` wrote for this task")
    parser.add_argument("--name", help="under which the result stands; default: the recipe's panel and split")
    options = parser.parse_args()
    measured = [measure(run, options.oracle) for run in options.runs]
    runs = [found for found, _ in measured]
    if len({(run["panel"], run["n"], *run["split"], *run["systems"]) for run in runs}) > 1:
        raise Error("the runs answered different questions, or not at the same stages; evaluate them on one panel")
    name = options.name or f"{runs[0]['panel']}, {' and '.join(runs[0]['split'])}"
    made = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "machine": provenance.machine()}
    drawn = {stratum: averaged([of[stratum] for _, of in measured]) for stratum in measured[0][1]}
    over = told_of(drawn)
    result = {**made, "versions": provenance.versions(), "mean": over, "runs": runs}
    held = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    write_atomically(RESULT, (json.dumps({**held, name: result}, indent=1) + "\n").encode())
    for kind in ("systems", "share_of_lift", "differences"):
        for what, of in over[kind].items():
            seeds = ", ".join(f"{run[kind][what]['value']:.3f}" for run in runs)
            print(f"{name}  {kind}: {what:40} {of['value']:.3f} [{of['low']:.3f}, {of['high']:.3f}]  runs: {seeds}")


if __name__ == "__main__":
    main()
