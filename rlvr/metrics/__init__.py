"""How good a system's answers are: point metrics, and intervals bootstrapped over perturbations.

A system is one answer (or None, unparsed) and one probability per allowed label for each row. Unparsed
counts as wrong, everywhere. What is reported, by task:

    accuracy, balanced_accuracy, macro_f1, mcc      any task; f1 (of the first label) with two labels
    auroc              two labels: pooled, score = P(first label)
    auroc_macro_gene   AUROC within each readout, averaged over the readouts that have both labels
                       (PerturbQA's official metric); n is the number of readouts that count
    auroc_strict       as auroc, but every pair of rows in which one is unparsed counts 1/2: such a row
                       ranks as uninformed, whatever its probability, so silence can only pull towards .5

`perturbation/response` (none, up, down) asks two things: auroc_effect ranks all rows by P(up) + P(down),
auroc_direction ranks the true effects by P(up) / (P(up) + P(down)); `auroc` is the mean of the two, and
so are auroc_macro_gene and auroc_strict (n: of the two, the smaller).

Each metric is {"value", "low", "high", "n"}: a percentile 95 % interval from resampling whole clusters
(perturbations) with replacement. Resamples in which a metric is undefined are left out and counted in
"dropped"; what cannot be computed is None, with a "reason". Everything is JSON-safe: no NaN. A resample
in which a readout loses its only row of a label averages over the other readouts; panels (rlvr.panels)
leave such readouts out, so there the interval of auroc_macro_gene is sounder than on a full split.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TypedDict

import numpy as np

from rlvr.metrics.bootstrap import (
    RESAMPLES,
    Clusters,
    Floats,
    Interval,
    Mask,
    Metric,
    Statistic,
    intervals,
    mean_defined,
)
from rlvr.metrics.confusion import confusion_metrics
from rlvr.metrics.ranking import RESPONSE, Rows, permuted_aurocs, ranking_metrics, rankings
from rlvr.types import Error

__all__ = ["RESAMPLES", "Interval", "System", "compare", "mean", "permutation_null", "summarise"]


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
    rows = _rows(task, system)
    return intervals(_metrics(rows, system), rows.clusters, seed, resamples)


def compare(task: str, a: System, b: System, seed: int = 0, resamples: int = RESAMPLES) -> dict[str, Interval]:
    """The metrics of `a` minus those of `b`, on the same resamples of the same rows.

    Errors: a and b differ in anything but probabilities and answers.
    """
    for name in ("labels", "label_names", "readouts", "clusters"):
        if list(a[name]) != list(b[name]):
            raise Error(f"comparison of {task}: the two systems differ in their {name}; give both the same rows")
    rows = _rows(task, a)
    first, second = _metrics(rows, a), _metrics(rows, b)
    paired = {
        name: Metric(metric.n, partial(_difference, metric.of, second[name].of), f"one system's {name} is undefined")
        for name, metric in first.items()
    }
    return intervals(paired, rows.clusters, seed, resamples)


def mean(
    values: Sequence[float] | Floats | Mask, clusters: Sequence[str], seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """The mean of one value per row (a score, a difference of two systems, or whether something holds: the parse
    rate, say), with its interval."""
    table = np.asarray(values, dtype=np.float64)
    if len(table) != len(clusters):
        raise Error(f"mean: {len(table)} values, {len(clusters)} clusters; give one of each per row")
    units = Clusters.of(clusters)
    sums = np.bincount(units.codes, weights=table, minlength=units.n)
    sizes = np.bincount(units.codes, minlength=units.n).astype(np.float64)

    def average(weights: Floats) -> Floats:
        return mean_defined((sums @ weights)[None], (sizes @ weights)[None])

    return intervals({"mean": Metric(len(table), average)}, units, seed, resamples)["mean"]


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
    answers = system["answers"]
    return confusion_metrics(rows, answers) | ranking_metrics(rows, system["probabilities"], answers)


def _difference(a: Statistic, b: Statistic, weights: Floats) -> Floats:
    return a(weights) - b(weights)
