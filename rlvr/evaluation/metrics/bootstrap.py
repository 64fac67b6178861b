"""Percentile intervals from resampling whole clusters of rows.

A statistic is a function of weights: how often each cluster was drawn, for many draws at once. Whatever
a metric needs of its rows is counted per cluster beforehand, so that a resample is a matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import norm

K = TypeVar("K")
Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Mask = NDArray[np.bool_]
Statistic = Callable[[Floats], Floats]  # weights (clusters, draws) -> (draws,), NaN where undefined

RESAMPLES = 2000
POWER = float(norm.ppf(0.975) + norm.ppf(0.8))  # standard errors between 0 and what 80 % of experiments would show
_CHUNK_BYTES = 2e8  # of working memory per statistic: some four arrays of (rows, draws)


class Interval(TypedDict):
    """One metric. n: the rows it rests on, or the readouts for auroc_macro_gene. detectable: the smallest distance
    from a fixed value, or difference from 0, that such data would show with 80 % power at the 5 % level."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    detectable: NotRequired[float]
    dropped: NotRequired[int]
    reason: NotRequired[str]
    p: NotRequired[float]
    p_holm: NotRequired[float]
    test: NotRequired[str]


@dataclass(frozen=True)
class Metric:
    """A statistic, what it rests on, and what it means if it has no value. hits: of a metric that counts rows, how
    many it counts in each cluster, for exact paired tests. biased: resamples do not scatter about the value (rows
    drawn twice make small groups easier), so only their spread is used: they are moved to lie about the value, and
    `bounds`, the least and the greatest value there can be, keep the interval where the metric can be."""

    n: int
    of: Statistic
    undefined: str = "only one label occurs"
    hits: Floats | None = None
    biased: bool = False
    bounds: tuple[float, float] = (-np.inf, np.inf)


@dataclass(frozen=True)
class Measured:
    """A metric's value (NaN where it has none) and its draws: two systems measured on the same rows, with one seed
    and one number of resamples, have seen the same resamples, and may be subtracted draw by draw."""

    n: int
    value: float
    draws: Floats
    undefined: str
    hits: Floats | None = None
    bounds: tuple[float, float] = (-np.inf, np.inf)

    def minus(self, other: Measured, undefined: str) -> Measured:
        """The paired difference; it rests on the rows of both."""
        draws = self.draws - other.draws if len(self.draws) == len(other.draws) else np.empty(0)
        bounds = self.bounds[0] - other.bounds[1], self.bounds[1] - other.bounds[0]
        return Measured(self.n, self.value - other.value, draws, undefined, bounds=bounds)

    def interval(self) -> Interval:
        """The value with its percentile interval; undefined draws are left out and counted."""
        if not np.isfinite(self.value):
            reason = self.undefined if self.n else "no rows"
            return {"value": None, "low": None, "high": None, "n": self.n, "reason": reason}
        kept = self.draws[np.isfinite(self.draws)]
        if not len(kept):
            return {"value": self.value, "low": None, "high": None, "n": self.n, "reason": "nothing to resample"}
        low, high = np.clip(np.percentile(kept, [2.5, 97.5]), *self.bounds)
        found: Interval = {"value": self.value, "low": float(low), "high": float(high), "n": self.n}
        if kept.std() > 0:
            found["detectable"] = float(POWER * kept.std())
        if len(kept) < len(self.draws):
            found["dropped"] = len(self.draws) - len(kept)
        return found


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


def average(
    values: Sequence[float] | Floats | Mask, clusters: Clusters, sizes: Sequence[float] | Floats | None = None
) -> Metric:
    """The mean of one value per row, NaN left out; with `sizes`, the sum of the values over that of the sizes."""
    table = np.asarray(values, dtype=np.float64)
    known = np.isfinite(table)
    each = known.astype(np.float64) if sizes is None else np.where(known, sizes, 0.0)
    sums: Floats = np.bincount(clusters.codes, weights=np.where(known, table, 0.0), minlength=clusters.n).astype(
        np.float64
    )
    counts = np.bincount(clusters.codes, weights=each, minlength=clusters.n)

    def mean(weights: Floats) -> Floats:
        return mean_defined((sums @ weights)[None], (counts @ weights)[None])

    return Metric(int(known.sum()), mean, "no rows", sums)


def measure(metrics: Mapping[K, Metric], clusters: Clusters, seed: int, resamples: int) -> dict[K, Measured]:
    """Every metric's value and draws; all metrics see the same resamples."""
    once = np.ones((clusters.n, 1))
    values = {name: float(metric.of(once)[0]) if clusters.n else np.nan for name, metric in metrics.items()}
    draws: dict[K, list[Floats]] = {name: [] for name in metrics if np.isfinite(values[name])}
    for weights in resample(clusters, seed, resamples):
        for name, seen in draws.items():
            seen.append(metrics[name].of(weights))
    joined = {name: np.concatenate(seen) for name, seen in draws.items() if seen}
    for name in joined:
        if metrics[name].biased and np.isfinite(joined[name]).any():
            joined[name] += values[name] - np.nanmean(joined[name])
    return {
        name: Measured(
            metric.n, values[name], joined.get(name, np.empty(0)), metric.undefined, metric.hits, metric.bounds
        )
        for name, metric in metrics.items()
    }


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
