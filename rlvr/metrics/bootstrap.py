"""Percentile intervals from resampling whole clusters of rows.

A statistic is a function of weights: how often each cluster was drawn, for many draws at once. Whatever
a metric needs of its rows is counted per cluster beforehand, so that a resample is a matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Mask = NDArray[np.bool_]
Statistic = Callable[[Floats], Floats]  # weights (clusters, draws) -> (draws,), NaN where undefined

RESAMPLES = 2000
_CHUNK_BYTES = 2e8  # of working memory per statistic: some four arrays of (rows, draws)


class Interval(TypedDict):
    """One metric. n: the rows it rests on, or the readouts for auroc_macro_gene."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    dropped: NotRequired[int]
    reason: NotRequired[str]


@dataclass(frozen=True)
class Metric:
    """A statistic, what it rests on, and what it means if it has no value."""

    n: int
    of: Statistic
    undefined: str = "only one label occurs"


@dataclass(frozen=True)
class Clusters:
    """Which cluster each row belongs to: codes in [0, n)."""

    codes: Codes
    n: int

    @classmethod
    def of(cls, names: Sequence[str]) -> Clusters:
        return cls(*encode(names))

    def take(self, keep: Mask) -> Clusters:
        """The rows of a mask. Codes stay, so that parts of a table share their resamples."""
        return Clusters(self.codes[keep], self.n)

    def counts(self, bins: Codes, n_bins: int, keep: Mask | None = None) -> Any:
        """Sparse (n_bins, n): how many rows of each cluster fall into each bin."""
        rows = np.arange(len(bins)) if keep is None else np.flatnonzero(keep)
        return sparse.csr_array((np.ones(len(rows)), (bins[rows], self.codes[rows])), shape=(n_bins, self.n))


def encode(names: Sequence[str]) -> tuple[Codes, int]:
    """Names as integers, in sorted order, and how many there are."""
    known, codes = np.unique(np.asarray(names, dtype=np.str_), return_inverse=True)
    return codes.astype(np.int64), len(known)


def mean_defined(numerator: Floats, denominator: Floats) -> Floats:
    """Mean over axis 0 of numerator / denominator where the denominator is positive; NaN if it never is."""
    defined = denominator > 0
    ratio = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=defined)
    count = defined.sum(axis=0)
    mean: Floats = np.divide(ratio.sum(axis=0), count, out=np.full(count.shape, np.nan), where=count > 0)
    return mean


def intervals(metrics: Mapping[str, Metric], clusters: Clusters, seed: int, resamples: int) -> dict[str, Interval]:
    """Every metric's value and 95 % interval; all metrics see the same resamples."""
    once = np.ones((clusters.n, 1))
    values = {name: float(metric.of(once)[0]) if clusters.n else np.nan for name, metric in metrics.items()}
    draws: dict[str, list[Floats]] = {name: [] for name in metrics if np.isfinite(values[name])}
    for weights in resample(clusters, seed, resamples):
        for name, seen in draws.items():
            seen.append(metrics[name].of(weights))
    return {name: _interval(metric, values[name], draws.get(name, [])) for name, metric in metrics.items()}


def resample(clusters: Clusters, seed: int, resamples: int) -> Iterator[Floats]:
    """Chunks (clusters, draws) of weights; their sizes follow memory and do not change the draws."""
    if clusters.n < 2:
        return
    rng = np.random.default_rng(seed)
    chunk = max(1, int(_CHUNK_BYTES // (8 * 4 * max(len(clusters.codes), clusters.n))))
    for start in range(0, resamples, chunk):
        count = min(chunk, resamples - start)
        picked = rng.integers(clusters.n, size=(count, clusters.n))
        picked += clusters.n * np.arange(count)[:, None]
        weights = np.bincount(picked.ravel(), minlength=count * clusters.n).reshape(count, clusters.n)
        yield np.ascontiguousarray(weights.T, dtype=np.float64)


def _interval(metric: Metric, value: float, draws: Sequence[Floats]) -> Interval:
    if not np.isfinite(value):
        reason = metric.undefined if metric.n else "no rows"
        return {"value": None, "low": None, "high": None, "n": metric.n, "reason": reason}
    sampled = np.concatenate(draws) if draws else np.empty(0)
    kept = sampled[np.isfinite(sampled)]
    if not len(kept):
        return {"value": value, "low": None, "high": None, "n": metric.n, "reason": "nothing to resample"}
    low, high = np.percentile(kept, [2.5, 97.5])
    found: Interval = {"value": value, "low": float(low), "high": float(high), "n": metric.n}
    return found if len(kept) == len(sampled) else {**found, "dropped": len(sampled) - len(kept)}
