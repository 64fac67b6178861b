"""Is one system better than another? Tests of paired differences, and their correction for many of them.

The draws of a cluster bootstrap give every metric a two-sided p. What counts rows (accuracy) has an exact test: were
the two systems equally good, each perturbation's difference in right answers would be as likely with the other sign.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.signal import fftconvolve
from scipy.stats import binom

from rlvr.evaluation.metrics.bootstrap import Floats, Interval, Measured

SIGN_FLIP, BOOTSTRAP = "exact sign flip over perturbations", "bootstrap over perturbations"


def differences(a: Mapping[str, Measured], b: Mapping[str, Measured]) -> dict[str, Interval]:
    """a - b for every metric that both have, with interval, two-sided p and the test it comes from."""
    found = {}
    for name in (name for name in a if name in b):
        gap = a[name].minus(b[name], f"one system's {name} is undefined")
        interval = gap.interval()
        kept = gap.draws[np.isfinite(gap.draws)]
        first, second = a[name].hits, b[name].hits
        if interval["value"] is not None and name == "accuracy" and first is not None and second is not None:
            interval["p"], interval["test"] = sign_flip(first - second), SIGN_FLIP
        elif interval["value"] is not None and len(kept):
            interval["p"], interval["test"] = bootstrap_p(kept), BOOTSTRAP
        found[name] = interval
    return found


def bootstrap_p(draws: Floats) -> float:
    """Two-sided: twice the smaller share of the draws on one side of 0, 0 counted on both. Never 0."""
    sides = [(1 + int((side <= 0).sum())) / (1 + len(draws)) for side in (draws, -draws)]
    return min(1.0, 2 * min(sides))


def sign_flip(differences: Floats | Sequence[float]) -> float:
    """Two-sided and exact: the share of all ways to give each difference a sign whose sum is as far from 0 as the
    one seen. differences: whole numbers, one per cluster. With one row per cluster this is the sign test (McNemar).
    """
    whole = np.rint(np.abs(np.asarray(differences, dtype=np.float64))).astype(np.int64)
    if not np.allclose(whole, np.abs(differences)):
        raise ValueError("sign_flip counts rows: differences must be whole numbers")
    seen = abs(int(np.rint(np.sum(differences))))
    total = int(whole.sum())
    # The sum of m signs times d is d (2 B - m), with B binomial; over all d, the sums are convolved.
    chances = np.ones(1)
    for size, count in zip(*np.unique(whole[whole > 0], return_counts=True), strict=True):
        step = np.zeros(int(size * count) + 1)
        step[::size] = binom.pmf(np.arange(count + 1), count, 0.5)
        chances = fftconvolve(chances, step) if min(len(step), len(chances)) > 500 else np.convolve(chances, step)
    sums = np.abs(2 * np.arange(total + 1) - total)
    return float(min(1.0, max(chances[sums >= seen].sum(), 2.0**-60)))


def holm(found: Sequence[float]) -> list[float]:
    """p values adjusted so that the chance of any false finding among them stays below the level (Holm 1979)."""
    order = np.argsort(found, kind="stable")
    scaled = np.asarray(found, dtype=np.float64)[order] * (len(found) - np.arange(len(found)))
    adjusted = np.empty(len(found))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return [float(p) for p in adjusted]


def correct(comparisons: Mapping[str, Mapping[str, dict[str, Interval]]]) -> None:
    """Write p_holm beside every p. comparisons: pair -> task -> metric -> interval; corrected together are the tasks
    of one pair and metric."""
    for by_task in comparisons.values():
        for metric in {name for found in by_task.values() for name in found}:
            tested = [found[metric] for found in by_task.values() if "p" in found.get(metric, {})]
            for interval, p in zip(tested, holm([interval["p"] for interval in tested]), strict=True):
                interval["p_holm"] = p
