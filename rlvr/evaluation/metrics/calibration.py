"""Whether probabilities mean what they say: Brier score, expected calibration error, and the table behind it.

With two labels both judge the probability of the first label; with more, the Brier score is the sum over the labels
(scikit-learn's convention), and calibration is that of the likeliest label. The bins of the calibration error hold
equally many rows each (ties stay together), and are fixed before anything is resampled. It is never below 0, and so
lies above 0 even for a calibrated system; read it beside a shortcut's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlvr.evaluation.metrics.bootstrap import Clusters, Codes, Floats, Metric, average
from rlvr.evaluation.metrics.ranking import NO_PROBABILITIES, Rows, checked, nothing
from rlvr.oracle.calibration import bins


@dataclass(frozen=True)
class Claims:
    """One claim per row: its probability, whether it held, and its bin."""

    said: Floats
    held: Floats
    bins: Codes
    n_bins: int

    @classmethod
    def of(cls, rows: Rows, probabilities: Floats) -> Claims:
        table = checked(rows, probabilities)
        label = np.zeros(len(table), dtype=np.int64) if len(rows.names) == 2 else table.argmax(axis=1)
        said = table[np.arange(len(table)), label]
        if not len(said):
            return cls(said, said, label, 0)
        place = bins(said)
        return cls(said, (rows.truth == label).astype(np.float64), place, int(place.max()) + 1)


def calibration_metrics(rows: Rows, probabilities: Floats | None, answers: Sequence[str | None]) -> dict[str, Metric]:
    """brier; brier_strict, in which an unparsed answer is a certain and wrong one; ece."""
    n = len(rows.truth)
    if probabilities is None:
        return {name: Metric(n, nothing, NO_PROBABILITIES) for name in ("brier", "brier_strict", "ece")}
    table = checked(rows, probabilities)
    k = len(rows.names)
    error = ((table - np.eye(k)[rows.truth]) ** 2).sum(axis=1) / (2 if k == 2 else 1)
    silent = np.array([answer is None for answer in answers], dtype=np.bool_)
    strict = np.where(silent, 1.0 if k == 2 else 2.0, error)
    claims = Claims.of(rows, table)
    return {
        "brier": average(error, rows.clusters),
        "brier_strict": average(strict, rows.clusters),
        "ece": Metric(n, _Gap.of(claims, rows.clusters), biased=True, bounds=(0.0, 1.0)),
    }


def reliability(rows: Rows, probabilities: Floats) -> list[dict[str, Any]]:
    """For each bin of the calibration error: its rows, the mean probability said, and the share that held."""
    claims = Claims.of(rows, probabilities)
    inside = [claims.bins == place for place in range(claims.n_bins)]
    return [
        {
            "low": float(claims.said[own].min()),
            "high": float(claims.said[own].max()),
            "n": int(own.sum()),
            "said": float(claims.said[own].mean()),
            "held": float(claims.held[own].mean()),
        }
        for own in inside
    ]


@dataclass(frozen=True)
class _Gap:
    """A statistic: the mean distance between said and held over the bins, weighted by their rows. gaps, counts:
    (bins, clusters)."""

    gaps: Floats
    sizes: Floats

    @classmethod
    def of(cls, claims: Claims, clusters: Clusters) -> _Gap:
        shape = (claims.n_bins, clusters.n)
        place = claims.bins * clusters.n + clusters.codes
        gaps = np.bincount(place, weights=claims.said - claims.held, minlength=shape[0] * shape[1])
        return cls(
            gaps.reshape(shape).astype(np.float64), np.bincount(clusters.codes, minlength=clusters.n).astype(np.float64)
        )

    def __call__(self, weights: Floats) -> Floats:
        rows = self.sizes @ weights
        gap = np.abs(self.gaps @ weights).sum(axis=0)
        found: Floats = np.divide(gap, rows, out=np.full(len(rows), np.nan), where=rows > 0)
        return found
