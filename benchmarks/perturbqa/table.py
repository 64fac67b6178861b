"""PerturbQA in one page: oracles, shortcuts and policies as measured here, beside what was published.

    python benchmarks/perturbqa/table.py > benchmarks/results/perturbqa.md

Reads perturbqa_oracles.json, perturbqa_transfer.json, perturbqa_policy.json, soft_hard.json and ablations.json under
benchmarks/results (each written by the script of its name) and published.csv; it measures nothing. AUROC is macro, per
gene: within each readout, averaged over the readouts that have both labels. Nothing published comes with an interval.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean as mean_of
from typing import Any

import pandas as pd

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results"
LINES = {"k562": "K562", "rpe1": "RPE1", "hepg2": "HepG2", "jurkat": "Jurkat"}
METRIC = "auroc_macro_gene"
ORACLES = ("ensemble", "fitted", "mlp")
SHORTCUTS = (
    "neighbour_vote",
    "evidence_vote",
    "complex_partners",
    "readout_frequency",
    "perturbation_frequency",
    "leaked_pairs",
    "core_machinery",
    "annotation_count",
)
STRATA = {"kin": "complex partner or paralog in training", "no_kin": "neither", "no_core": "no core machinery"}
TOLD = ("ensemble", "fitted", "mlp", "neighbour_vote", "evidence_vote", "complex_partners")
STAGES = {"warm_start": "warm start", "warm_start, as its thought says": "its thoughts", "after": "after GRPO"}
MEASURED = ("warm_start", "after")
GAINS = {METRIC: "AUROC per gene", "accuracy": "accuracy"}
BESIDE = {"nearest": "two nearest", "evidence_vote": "evidence vote", "neighbour_vote": "all neighbours"}


def held(name: str) -> dict[str, Any]:
    """What a script found."""
    found: dict[str, Any] = json.loads((RESULTS / name).read_text())
    return found


def lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A Markdown table."""
    yield from (f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))
    yield ""


def figure(of: Mapping[str, Any] | None) -> str:
    """.717 [.699, .752]; empty where nothing was measured."""
    if not of or of["value"] is None:
        return ""
    value, low, high = (f"{of[key]:.3f}".replace("0.", ".", 1) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def whole(task: str, test: Mapping[str, Any], published: pd.DataFrame) -> Iterator[str]:
    """The full test split of every line, and the published rows."""
    known = {line: test[line][task] for line in LINES if line in test}
    rows = [
        [name, *(figure(known[line]["all"][name][METRIC]) if line in known else "" for line in LINES), "here", ""]
        for name in (*ORACLES, *SHORTCUTS)
    ]
    for row in published[published["task"] == task].to_dict("records"):
        rows.append([str(row[key]) for key in ("system", *LINES, "source", "caveat")])
    yield from lines(["system", *LINES.values(), "source", "caveat"], rows)
    for line, found in known.items():
        best = found["all"]["ensemble"]
        genes, null = best[METRIC]["n"], best["null"]
        pooled = ", ".join(f"{name} {found['all'][name]['auroc']['value']:.3f}" for name in ("ensemble", SHORTCUTS[3]))
        yield (
            f"{LINES[line]}: {found['n']} rows, {genes} genes count; permuted within readouts the ensemble has "
            f"{null['mean']:.3f} (97.5 % point {null['high']:.3f}); its calibration error is {best['ece']:.3f}. "
            f"Pooled over readouts: {pooled}."
        )
        yield ""


def strata(task: str, test: Mapping[str, Any]) -> Iterator[str]:
    """The same by what training holds of the perturbation."""
    rows = []
    for line in (line for line in LINES if line in test):
        for stratum, words in STRATA.items():
            of = test[line][task][stratum]
            figures = (figure(of[name][METRIC]) for name in TOLD)
            rows.append([LINES[line], words, str(of["ensemble"][METRIC]["n"]), *figures])
    yield from lines(["line", "perturbations", "genes", *TOLD], rows)


def transfer(split: str, found: Mapping[str, Any]) -> Iterator[str]:
    """What an oracle of one line knows of another."""
    systems = ("measured", "transferred", "both", "own")
    strata = {"all": "all", "readout": "readouts that the other line has"}
    rows = [
        [name, task, words, str(of[task][stratum]["own"][METRIC]["n"])]
        + [figure(of[task][stratum][system][METRIC]) for system in systems]
        for name, of in found.items()
        for task in ("effect", "direction")
        for stratum, words in strata.items()
    ]
    yield from lines([f"lines, {split}", "task", "rows", "genes", *systems], rows)


def policies(found: Mapping[str, Any]) -> Iterator[str]:
    """Mean of the runs: stages, what GRPO adds, and what stands beside them; how far seeds lie apart; strata."""
    rows, seeds = [], []
    for name, of in found.items():
        mean = of["mean"]
        stages = [figure(mean["systems"].get(stage)) for stage in STAGES]
        beside = [figure(mean["systems"][other]) for other in (*BESIDE, "oracle")]
        genes = str(mean["systems"]["after"]["n"])
        rows.append([name, str(len(of["runs"])), genes, *stages, figure(mean["differences"].get("gain")), *beside])
        if len(of["runs"]) > 1:
            each = [", ".join(figure(run["systems"].get(stage)) for stage in MEASURED) for run in of["runs"]]
            told = "; ".join(f"seed {run['seed']}: {text}" for run, text in zip(of["runs"], each, strict=True))
            seeds.append(f"{name}; before and after GRPO: {told}.")
        nulls = [run["null"]["after"] for run in of["runs"] if "null" in run]
        if nulls:
            drawn, high = mean_of(null["mean"] for null in nulls), max(null["high"] for null in nulls)
            seeds.append(f"{name}; permuted within readouts: {drawn:.3f} (97.5 % point {high:.3f}).")
    head = ["panel", "runs", "genes", *STAGES.values(), "gain", *BESIDE.values(), "fitted oracle"]
    yield from lines(head, rows)
    for line in seeds:
        yield line
        yield ""
    rows = [
        [name, words, str(of["systems"]["after"]["n"])]
        + [figure(of["systems"].get(system)) for system in (*STAGES, *BESIDE, "oracle")]
        for name, entry in found.items()
        for words, of in entry["mean"].get("strata", {}).items()
    ]
    yield from lines(["panel", "perturbations", "genes", *STAGES.values(), *head[7:]], rows)


def studies(result: Mapping[str, Any]) -> Iterator[str]:
    """Runs from one warm start: held-out gain, each judge's mean score of the first and the last quarter of training,
    and the monitors that went off."""
    judges = list(dict.fromkeys(key.split("/")[0] for row in result["rows"] for key in row["trained"]))
    rows = []
    for row in result["rows"]:
        gains = next(iter(row["gain"].values()))
        scores = ([row["trained"].get(f"{judge}/{when}") for when in ("early", "late")] for judge in judges)
        rows.append(
            [row["row"], str(row["seed"]), *(figure(gains[name]) for name in GAINS)]
            + ["" if None in pair else f"{pair[0]:.2f} to {pair[1]:.2f}" for pair in scores]
            + [f"{row['flat_groups']:.2f}", str(row["completions"])]
            + [", ".join(line.split(":")[0] for line in row["monitors"])]
        )
    head = ["rewarded", "seed", *GAINS.values(), *judges, "flat groups", "completions", "monitors"]
    yield from lines(head, rows)
    before = result["rows"][0]["held_out"]
    start = ", ".join(f"{words} {before[f'{name}/before']:.3f}" for name, words in GAINS.items())
    yield f"Recipe {result['recipe']}, {' '.join(result['overrides'])}; the first warm start has {start}."
    yield ""


def page() -> Iterator[str]:
    test, moved = held("perturbqa_oracles.json")["test"], held("perturbqa_transfer.json")
    published = pd.read_csv(HERE / "published.csv", dtype=str, keep_default_na=False)
    yield "# PerturbQA"
    yield ""
    yield "Macro per-gene AUROC with 95 % intervals over perturbations, written by `benchmarks/perturbqa/table.py`. The"
    yield "intervals sit high of the values: a readout that loses a label in a resample no longer counts there. Nothing"
    yield "published came with an interval. HepG2 and Jurkat are filled in by the same commands where their files are."
    yield ""
    for task in ("effect", "direction"):
        yield f"## {task.capitalize()}: every oracle and shortcut, full test split"
        yield ""
        yield from whole(task, test, published)
        yield from strata(task, test)
    yield "## An unseen line"
    yield ""
    yield "What the columns are says `benchmarks/perturbqa/transfer.py`."
    yield ""
    for split in moved:
        yield from transfer(split, moved[split])
    yield "## Policies of 135M parameters, on the committed panels"
    yield ""
    yield "`benchmarks/perturbqa/policy.py`; gain is what GRPO adds to the warm start, paired; its thoughts are"
    yield "scored by the lead that the warm start's thoughts end with, not by the probability of its answers."
    yield ""
    yield from policies(held("perturbqa_policy.json"))
    yield "## Soft against hard verifiers"
    yield ""
    yield "`benchmarks/perturbqa/soft_hard.py`: the policy's gain on the validation panel, paired, and what each judge,"
    yield "rewarded or not, gives early and late in training. `biased` is an oracle that is planted wrong; `agreement`"
    yield "names a judge that went another way than the reward. Seconds are left out: the runs shared their machine."
    yield ""
    yield from studies(held("soft_hard.json"))
    yield "## What makes learning last"
    yield ""
    yield "`benchmarks/ablations.py`, in the same way: one part changed at a time."
    yield ""
    yield from studies(held("ablations.json"))


if __name__ == "__main__":
    print("\n".join(page()).rstrip())
