"""How good a system's answers are: point metrics, and intervals bootstrapped over perturbations.

A system is one answer (or None, unparsed) and one probability per allowed label for each row. Unparsed
counts as wrong, everywhere. What is reported, by task:

    accuracy, balanced_accuracy, macro_f1, mcc      any task; f1 and tpr (of the first label) and tnr with two labels
    auroc              two labels: pooled, score = P(first label)
    auroc_macro_gene   AUROC within each readout, averaged over the readouts that have both labels
                       (PerturbQA's official metric); n is the number of readouts that count
    auroc_strict       as auroc, but every pair of rows in which one is unparsed counts 1/2: such a row
                       ranks as uninformed, whatever its probability, so silence can only pull towards .5
    auprc, auprc_macro_gene        average precision for the first label; chance is its share of the rows
    brier, brier_strict, ece       see calibration.py; strict: an unparsed answer is a certain and wrong one

`perturbation/response` (none, up, down) asks two things: auroc_effect ranks all rows by P(up) + P(down),
auroc_direction ranks the true effects by P(up) / (P(up) + P(down)); `auroc` is the mean of the two, and
so are auroc_macro_gene and auroc_strict (n: of the two, the smaller), and likewise the AUPRCs.

A row is a question, or one of several samples of it (rlvr.evaluation.metrics.samples: pass@k, maj@k, best-of-n, votes).
Open answers have their own metrics (rlvr.evaluation.metrics.graded), differences their tests
(rlvr.evaluation.metrics.paired).

Each metric is {"value", "low", "high", "n", "detectable"}: a percentile 95 % interval from resampling whole clusters
(perturbations) with replacement, and the smallest difference that would be seen with 80 % power. A difference also
has {"p", "test"}. Resamples in which a metric is undefined are left out and counted in
"dropped"; what cannot be computed is None, with a "reason". Everything is JSON-safe: no NaN. A resample
in which a readout loses its only row of a label averages over the other readouts; panels (rlvr.questions.panels)
leave such readouts out, so there the interval of auroc_macro_gene is sounder than on a full split.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from rlvr.evaluation.metrics.bootstrap import (
    RESAMPLES,
    Clusters,
    Floats,
    Interval,
    Mask,
    Measured,
    Metric,
    average,
    measure,
)
from rlvr.evaluation.metrics.calibration import calibration_metrics
from rlvr.evaluation.metrics.calibration import reliability as _reliability
from rlvr.evaluation.metrics.confusion import confusion_metrics
from rlvr.evaluation.metrics.graded import Open, open_metrics
from rlvr.evaluation.metrics.paired import correct, differences
from rlvr.evaluation.metrics.ranking import RESPONSE, Rows, permuted_aurocs, ranking_metrics, rankings
from rlvr.types import Error

__all__ = [
    "RESAMPLES",
    "Interval",
    "Measured",
    "Open",
    "System",
    "compare",
    "correct",
    "differences",
    "intervals",
    "mean",
    "means",
    "measured",
    "measured_open",
    "permutation_null",
    "reliability",
    "summarise",
]


class System(TypedDict):
    """One system's rows: the arguments of `summarise`, so that `summarise(task, **system)`."""

    labels: Sequence[str]
    probabilities: Floats | None
    answers: Sequence[str | None]
    label_names: Sequence[str]
    readouts: Sequence[str]
    clusters: Sequence[str]


def summarise(
    task: str,
    labels: Sequence[str],
    probabilities: Floats | None,
    answers: Sequence[str | None],
    label_names: Sequence[str],
    readouts: Sequence[str],
    clusters: Sequence[str],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Interval]:
    """All metrics of one system on one task.

    labels, answers, readouts, clusters: one per row (a question, or a sample of it). probabilities:
    (rows, len(label_names)), rows summing to 1, columns in the order of `label_names`. readouts must be
    qualified by context ("k562:BTG1"): a gene in two cell lines is two. clusters: the perturbations.
    Errors: lengths that differ, labels that are not in `label_names`, probabilities that are none.
    """
    system = System(
        labels=labels,
        probabilities=probabilities,
        answers=answers,
        label_names=label_names,
        readouts=readouts,
        clusters=clusters,
    )
    return intervals(measured(task, {"": system}, seed, resamples)[""])


def measured(
    task: str,
    systems: Mapping[str, System],
    seed: int = 0,
    resamples: int = RESAMPLES,
    only: Collection[str] | None = None,
) -> dict[str, dict[str, Measured]]:
    """What `summarise` reports of each system, with every draw: any two can then be compared (`differences`). All
    systems answer the same rows. only: the metrics wanted; None: all."""
    found: dict[tuple[str, str], Metric] = {}
    clusters: Clusters | None = None
    for name, system in systems.items():
        rows = _rows(task, system)
        clusters = rows.clusters
        found |= {(name, key): metric for key, metric in _metrics(rows, system).items() if not only or key in only}
    return _together(found, clusters, systems, seed, resamples)


def measured_open(
    task: str, systems: Mapping[str, Open], seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, dict[str, Measured]]:
    """The same for open answers, by the metrics of rlvr.evaluation.metrics.graded."""
    found: dict[tuple[str, str], Metric] = {}
    clusters: Clusters | None = None
    for name, system in systems.items():
        clusters = Clusters.of(system.clusters)
        found |= {(name, key): metric for key, metric in open_metrics(task, system, clusters).items()}
    return _together(found, clusters, systems, seed, resamples)


def _together(
    found: Mapping[tuple[str, str], Metric],
    clusters: Clusters | None,
    systems: Collection[str],
    seed: int,
    resamples: int,
) -> dict[str, dict[str, Measured]]:
    """All systems on one pass over the resamples."""
    draws = {} if clusters is None else measure(found, clusters, seed, resamples)
    return {name: {key: draw for (own, key), draw in draws.items() if own == name} for name in systems}


def intervals(found: Mapping[str, Measured]) -> dict[str, Interval]:
    """The JSON form of what was measured."""
    return {name: metric.interval() for name, metric in found.items()}


def compare(task: str, a: System, b: System, seed: int = 0, resamples: int = RESAMPLES) -> dict[str, Interval]:
    """The metrics of `a` minus those of `b`, on the same resamples of the same rows, with their p.

    Errors: a and b differ in anything but probabilities and answers.
    """
    for name in ("labels", "label_names", "readouts", "clusters"):
        if list(a[name]) != list(b[name]):
            raise Error(f"comparison of {task}: the two systems differ in their {name}; give both the same rows")
    both = measured(task, {"a": a, "b": b}, seed, resamples)
    return differences(both["a"], both["b"])


def mean(
    values: Sequence[float] | Floats | Mask, clusters: Sequence[str], seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """The mean of one value per row (a score, a difference of two systems, or whether something holds: the parse
    rate, say), with its interval."""
    return means({"": values}, clusters, seed, resamples)[""].interval()


def means(
    columns: Mapping[str, Sequence[float] | Floats | Mask],
    clusters: Sequence[str],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Measured]:
    """The mean of each column, on the same resamples; a NaN is left out of its column."""
    units = Clusters.of(clusters)
    for name, values in columns.items():
        if len(values) != len(clusters):
            what = f"mean{name and ' of '}{name}"
            raise Error(f"{what}: {len(values)} values, {len(clusters)} clusters; give one of each per row")
    return measure({name: average(values, units) for name, values in columns.items()}, units, seed, resamples)


def reliability(task: str, system: System) -> list[dict[str, Any]]:
    """The bins behind `ece`, of equally many rows: {low, high, n, said, held}; empty without probabilities."""
    table = system["probabilities"]
    return [] if table is None else _reliability(_rows(task, system), table)


def permutation_null(
    task: str, system: System, seed: int = 0, permutations: int = 1000
) -> dict[str, dict[str, float | int | None]]:
    """What auroc and auroc_macro_gene would be if labels were dealt at random: name -> {"mean", "high",
    "n"}, high being the 97.5 % point.

    Labels are dealt anew over all rows for auroc, within each readout for auroc_macro_gene; in
    `perturbation/response`, effects among all rows and directions among the true effects.
    """
    rows, probabilities = _rows(task, system), system["probabilities"]
    rng = np.random.default_rng(seed)
    asked = [] if probabilities is None else list(rankings(rows, probabilities).values())
    null: dict[str, dict[str, float | int | None]] = {}
    for name, by_readout in (("auroc", False), ("auroc_macro_gene", True)):
        dealt = [permuted_aurocs(question, by_readout, rng, permutations) for question in asked]
        defined = bool(dealt) and all(np.isfinite(values).all() for values, _ in dealt)
        values = np.mean([values for values, _ in dealt], axis=0) if defined else None
        null[name] = {
            "mean": None if values is None else float(values.mean()),
            "high": None if values is None else float(np.percentile(values, 97.5)),
            "n": min((n for _, n in dealt), default=0),
        }
    return null


def _rows(task: str, system: System) -> Rows:
    labels, readouts, clusters = system["labels"], system["readouts"], system["clusters"]
    if not len(labels) == len(system["answers"]) == len(readouts) == len(clusters):
        sizes = f"{len(labels)} labels, {len(system['answers'])} answers, {len(readouts)} readouts"
        raise Error(f"metrics of {task}: {sizes}, {len(clusters)} clusters; give one of each per row")
    names = system["label_names"]
    if task == RESPONSE and set(names) != {"none", "up", "down"}:
        raise Error(f"metrics of {task}: the labels are {', '.join(names)}; they must be none, up, down")
    return Rows.of(task, labels, names, readouts, clusters)


def _metrics(rows: Rows, system: System) -> dict[str, Metric]:
    answers, table = system["answers"], system["probabilities"]
    return (
        confusion_metrics(rows, answers)
        | ranking_metrics(rows, table, answers)
        | calibration_metrics(rows, table, answers)
    )
