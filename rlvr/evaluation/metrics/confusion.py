"""Metrics of the answers alone: accuracy, balanced accuracy, F1, Matthews' correlation, true positives and negatives.

All are read off one table of counts (true label, answer or unparsed). They agree with scikit-learn's,
unparsed being an answer of its own that is never right.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from rlvr.evaluation.metrics.bootstrap import Floats, Metric, Statistic, mean_defined
from rlvr.evaluation.metrics.ranking import Rows


def confusion_metrics(rows: Rows, answers: Sequence[str | None]) -> dict[str, Metric]:
    """name -> metric; f1, tpr (of the first label) and tnr (of the second) only where there are two labels."""
    k = len(rows.names)
    answered = np.full(len(answers), k, dtype=np.int64)
    parsed = np.array([answer is not None for answer in answers], dtype=np.bool_)
    answered[parsed] = rows.code([answer for answer in answers if answer is not None])
    counts = rows.clusters.counts(rows.truth * (k + 1) + answered, k * (k + 1))
    measures = _MEASURES | (_OF_TWO if k == 2 else {})
    right = np.bincount(rows.clusters.codes, weights=answered == rows.truth, minlength=rows.clusters.n).astype(
        np.float64
    )
    return {
        name: Metric(len(answers), partial(_measured, measure, counts, k), hits=right if name == "accuracy" else None)
        for name, measure in measures.items()
    }


def _measured(measure: Statistic, counts: Any, k: int, weights: Floats) -> Floats:
    return measure((counts @ weights).reshape(k, k + 1, weights.shape[1]))


def _margins(counts: Floats) -> tuple[Floats, Floats, Floats]:
    """Of counts (labels, labels + 1, draws): hits and truths per label, predictions per label and unparsed."""
    hits = np.stack([counts[label, label] for label in range(len(counts))])
    return hits, counts.sum(axis=1), counts.sum(axis=0)


def _accuracy(counts: Floats) -> Floats:
    hits, truths, _ = _margins(counts)
    return mean_defined(hits.sum(axis=0)[None], truths.sum(axis=0)[None])


def _balanced_accuracy(counts: Floats) -> Floats:
    hits, truths, _ = _margins(counts)
    return mean_defined(hits, truths)


def _macro_f1(counts: Floats) -> Floats:
    """Over the labels that occur in the truth or among the answers."""
    hits, truths, predictions = _margins(counts)
    return mean_defined(2 * hits, truths + predictions[:-1])


def _f1(counts: Floats) -> Floats:
    hits, truths, predictions = _margins(counts)
    return mean_defined(2 * hits[:1], truths[:1] + predictions[:1])


def _tpr(counts: Floats) -> Floats:
    hits, truths, _ = _margins(counts)
    return mean_defined(hits[:1], truths[:1])


def _tnr(counts: Floats) -> Floats:
    hits, truths, _ = _margins(counts)
    return mean_defined(hits[1:2], truths[1:2])


def _mcc(counts: Floats) -> Floats:
    """For any number of labels (Gorodkin 2004); 0 if all answers are the same, undefined if all truths are."""
    hits, truths, predictions = _margins(counts)
    total = truths.sum(axis=0)
    joint = total * hits.sum(axis=0) - (truths * predictions[:-1]).sum(axis=0)
    spread_truth = total**2 - (truths**2).sum(axis=0)
    spread_answer = total**2 - (predictions**2).sum(axis=0)
    scale = np.sqrt(spread_truth * spread_answer)
    value = np.divide(joint, scale, out=np.zeros_like(joint), where=scale > 0)
    return np.where(spread_truth > 0, value, np.nan)


_MEASURES: dict[str, Statistic] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "macro_f1": _macro_f1,
    "mcc": _mcc,
}
_OF_TWO: dict[str, Statistic] = {"f1": _f1, "tpr": _tpr, "tnr": _tnr}
