"""Two runs against each other, on the questions that both answered.

    rlvr report RUN OTHER_RUN

Only the rows on file are read: no source is opened, no model loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rlvr.evaluation import metrics
from rlvr.evaluation.results import rows
from rlvr.types import Error

TOLD = 3  # ids in an error


def compare_runs(run_a: Path, run_b: Path, seed: int = 0, resamples: int = metrics.RESAMPLES) -> dict[str, Any]:
    """The last stage of `run_a` minus that of `run_b`, paired by question and sample.

    {"runs": {"a": {"run", "stage", "n", "questions"}, "b": ...}, "common": rows that both have, "overlap": a sentence
    that says so ("all 242 ..." or "180 of 242 ... and of 200 ..."), "tasks": {task: {metric: difference}}}. Each
    difference has value, low, high, n, detectable, p, test and p_holm, corrected over the tasks of one metric.
    Closed tasks have all metrics of `rlvr.evaluation.metrics`; open ones accuracy, and every task each verifier's mean
    score. Errors: a run without evaluations, no question in common, a question that is not the same in both.
    """
    held = {name: rows.stages(run) for name, run in (("a", run_a), ("b", run_b))}
    last = {name: list(tables)[-1] for name, tables in held.items()}
    full = {name: held[name][stage] for name, stage in last.items()}
    a, b = rows.common(full["a"], full["b"])
    if not len(a):
        raise Error(f"{run_a} and {run_b} answered different questions, none in common; evaluate both on one set")
    for column in ("task", "truth", "context", "readout", "perturbation"):
        differ = (a[column].astype(str) != b[column].astype(str)).to_numpy()
        if differ.any():
            ids = ", ".join(a.loc[differ, "question_id"].head(TOLD))
            raise Error(
                f"{run_a} and {run_b} differ in the {column} of {int(differ.sum())} rows ({ids}); use one source"
            )
    found: dict[str, dict[str, metrics.Interval]] = {}
    for task in dict.fromkeys(a["task"]):
        own = (a["task"] == task).to_numpy()
        found[str(task)] = _difference(str(task), a[own], b[own], seed, resamples)
    metrics.correct({"a - b": found})
    sizes = [len(full["a"]), len(full["b"])]
    whole = sizes == [len(a)] * 2
    overlap = (
        f"all {len(a)} answers are to the same questions"
        if whole
        else f"paired are the {len(a)} answers that both have, of {sizes[0]} and of {sizes[1]}"
    )
    told = {
        name: {
            "run": run.name,
            "stage": last[name],
            "n": len(full[name]),
            "questions": int(full[name]["question_id"].nunique()),
            "evaluation": rows.record(run, last[name]),
        }
        for name, run in (("a", run_a), ("b", run_b))
    }
    return {"runs": told, "common": len(a), "overlap": overlap, "tasks": found}


def _difference(task: str, a: pd.DataFrame, b: pd.DataFrame, seed: int, resamples: int) -> dict[str, metrics.Interval]:
    clusters = a["perturbation"].tolist()
    both = [_scores(table, [a, b]) for table in (a, b)]
    labels = rows.labels_in(pd.concat([a, b]))
    if labels:
        systems = {name: rows.system(table, labels) for name, table in (("a", a), ("b", b))}
        found = metrics.measured(task, systems, seed, resamples)
        compared = metrics.differences(found["a"], found["b"])
    else:
        right = [metrics.means({"accuracy": rows.right(table)}, clusters, seed, resamples) for table in (a, b)]
        compared = metrics.differences(*right)
    first, second = (metrics.means(columns, clusters, seed, resamples) for columns in both)
    return compared | metrics.differences(first, second)


def _scores(table: pd.DataFrame, both: Sequence[pd.DataFrame]) -> dict[str, Any]:
    """What is a score in both: the columns that stand beside a reason, where both have a number."""
    names = [c.removesuffix("/reason") for c in table.columns if c.endswith("/reason")]
    shared = [name for name in names if all(name in one and one[name].notna().any() for one in both)]
    known = {
        name: pd.concat([one[name].notna().reset_index(drop=True) for one in both], axis=1).all(axis=1)
        for name in shared
    }
    columns = {"parse_rate": table["answer"].notna().to_numpy(float)}
    return columns | {f"score/{n}": table[n].reset_index(drop=True).where(known[n]).to_numpy(float) for n in shared}
