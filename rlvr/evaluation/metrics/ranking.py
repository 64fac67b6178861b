"""Metrics of the order of the probabilities: AUROC and AUPRC, pooled, within readouts, unparsed rows as uninformed.

The rows are sorted once, by falling score, and cut into steps: a block of tied rows with a positive among them, and
the negatives that lie between it and the step before. A weighted AUROC, or average precision, for many resamples is
then a few sparse products and cumulative sums over the steps, of which there are no more than positive rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from scipy import sparse
from scipy.stats import rankdata

from rlvr.evaluation.metrics.bootstrap import Clusters, Codes, Floats, Mask, Metric, Statistic, encode, mean_defined
from rlvr.types import Error

RESPONSE = "perturbation/response"
NO_PROBABILITIES = "the system gives no probabilities"


@dataclass(frozen=True)
class Rows:
    """What all systems share: the task and its labels, the truth and the readouts as codes, the clusters."""

    task: str
    names: tuple[str, ...]
    truth: Codes
    readouts: Codes
    clusters: Clusters

    @classmethod
    def of(
        cls,
        task: str,
        labels: Sequence[str],
        names: Sequence[str],
        readouts: Sequence[str],
        clusters: Sequence[str],
    ) -> Rows:
        blank = cls(task, tuple(names), np.empty(0, dtype=np.int64), encode(readouts)[0], Clusters.of(clusters))
        return cls(task, blank.names, blank.code(labels), blank.readouts, blank.clusters)

    def code(self, labels: Sequence[str]) -> Codes:
        """Labels as positions in `names`."""
        table = {name: code for code, name in enumerate(self.names)}
        strange = next((label for label in labels if label not in table), None)
        if strange is not None:
            raise Error(f"metrics of {self.task}: {strange!r} is not one of its labels, {', '.join(self.names)}")
        return np.array([table[label] for label in labels], dtype=np.int64)


@dataclass(frozen=True)
class Ranking:
    """One yes-or-no question that probabilities answer, on the rows that it concerns."""

    rows: Mask  # of the table's rows
    score: Floats
    positive: Mask
    readouts: Codes
    clusters: Clusters

    @classmethod
    def of(cls, rows: Rows, keep: Mask, score: Floats, positive: Mask) -> Ranking:
        return cls(keep, score[keep], positive[keep], rows.readouts[keep], rows.clusters.take(keep))

    def groups(self, by_readout: bool) -> Codes:
        return self.readouts if by_readout else np.zeros_like(self.readouts)


def rankings(rows: Rows, probabilities: Floats) -> dict[str, Ranking]:
    """The questions that a task's probabilities answer, by the name of their AUROC: one for two labels,
    two for `perturbation/response`, none otherwise."""
    table = checked(rows, probabilities)
    everything = np.ones(len(rows.truth), dtype=np.bool_)
    if rows.task == RESPONSE:
        none, up, down = (rows.names.index(name) for name in ("none", "up", "down"))
        effect, real = table[:, up] + table[:, down], rows.truth != none
        direction = np.divide(table[:, up], effect, out=np.full(len(effect), 0.5), where=effect > 0)
        return {
            "auroc_effect": Ranking.of(rows, everything, effect, real),
            "auroc_direction": Ranking.of(rows, real, direction, rows.truth == up),
        }
    if len(rows.names) == 2:
        return {"auroc": Ranking.of(rows, everything, table[:, 0], rows.truth == 0)}
    return {}


def ranking_metrics(rows: Rows, probabilities: Floats | None, answers: Sequence[str | None]) -> dict[str, Metric]:
    """name -> metric: AUROC and AUPRC, each pooled and by readout, auroc_strict, and the parts of
    `perturbation/response`."""
    blank = np.full((len(rows.truth), len(rows.names)), 1 / max(len(rows.names), 1))
    asked = rankings(rows, blank if probabilities is None else probabilities)
    parsed = np.array([answer is not None for answer in answers], dtype=np.bool_)
    pooled = {name: auroc(ranking) for name, ranking in asked.items()}
    precise = {name.replace("auroc", "auprc"): auprc(ranking) for name, ranking in asked.items()}
    parts = {
        "auroc": list(pooled.values()),
        "auroc_macro_gene": [auroc(ranking, by_readout=True) for ranking in asked.values()],
        "auroc_strict": [auroc(ranking, informed=parsed[ranking.rows]) for ranking in asked.values()],
        "auprc": list(precise.values()),
        "auprc_macro_gene": [auprc(ranking, by_readout=True) for ranking in asked.values()],
    }
    found = pooled | precise | {name: _average(metrics) for name, metrics in parts.items() if metrics}
    if probabilities is None:
        return {name: Metric(metric.n, nothing, NO_PROBABILITIES) for name, metric in found.items()}
    return found


def auroc(ranking: Ranking, by_readout: bool = False, informed: Mask | None = None) -> Metric:
    """AUROC, pooled or averaged over the readouts with both labels. `informed`: rows whose score is heeded;
    a pair with any other row counts 1/2."""
    if 2 * int(ranking.positive.sum()) > len(ranking.positive):  # the same value, in fewer steps
        ranking = replace(ranking, score=-ranking.score, positive=~ranking.positive)
    return _metric(_Auroc, ranking, by_readout, informed)


def auprc(ranking: Ranking, by_readout: bool = False) -> Metric:
    """Average precision (scikit-learn's, tied rows enter together), pooled or averaged over the readouts with both
    labels. A ranking by chance reaches the share of positives."""
    return replace(_metric(_AveragePrecision, ranking, by_readout, None), biased=by_readout, bounds=(0.0, 1.0))


def _metric(kind: type[_Steps], ranking: Ranking, by_readout: bool, informed: Mask | None) -> Metric:
    groups = ranking.groups(by_readout)
    n_groups = int(groups.max(initial=-1)) + 1
    sides = [np.bincount(groups[side], minlength=n_groups) > 0 for side in (ranking.positive, ~ranking.positive)]
    both = sides[0] & sides[1]
    n_both = int(both.sum())
    n = n_both if by_readout else len(groups)
    if not n_both:
        return Metric(n, nothing)
    keep = both[groups]  # groups with one label never count, in any resample
    score, positive, clusters = ranking.score[keep], ranking.positive[keep], ranking.clusters.take(keep)
    groups = (np.cumsum(both) - 1)[groups[keep]]
    heeded = np.ones(len(groups), dtype=np.bool_) if informed is None else informed[keep]
    order = np.lexsort((-score, groups))
    opens = np.ones(len(order), dtype=np.bool_)  # a block of tied rows
    opens[1:] = (np.diff(groups[order]) != 0) | (np.diff(score[order]) != 0)
    block = np.cumsum(opens) - 1
    held = np.zeros(block[-1] + 1, dtype=np.bool_)
    held[block[(positive & heeded)[order]]] = True  # blocks that end a step
    steps = np.empty(len(order), dtype=np.int64)
    steps[order] = (np.cumsum(held) - held)[block]
    group_of = groups[order][opens][held]
    tied = np.empty(len(order), dtype=np.bool_)
    tied[order] = held[block]
    n_steps = len(group_of)
    # What lies below the last positive of its group falls to a step of the next one, or to none: it is in no step.
    inside = heeded & (steps < n_steps)
    inside[inside] = group_of[steps[inside]] == groups[inside]
    statistic = kind(
        won=clusters.counts(steps, n_steps, positive & inside),
        lost=clusters.counts(steps, n_steps, ~positive & inside),
        tied=clusters.counts(steps, n_steps, ~positive & inside & tied),
        group_of=group_of,
        gather=sparse.csr_array((np.ones(n_steps), (group_of, np.arange(n_steps))), shape=(n_both, n_steps)),
        positives=clusters.counts(groups, n_both, positive),
        negatives=clusters.counts(groups, n_both, ~positive),
        heeded=(clusters.counts(groups, n_both, positive & heeded), clusters.counts(groups, n_both, ~positive & heeded))
        if informed is not None
        else None,
    )
    return Metric(n, statistic)


@dataclass(frozen=True)
class _Steps:
    """A statistic. Sparse: won, lost (steps, clusters) count the heeded positive and negative rows of a step, tied
    the negatives in its block; gather (groups, steps) sums the steps of a group; positives, negatives (groups,
    clusters) count all rows, `heeded` the heeded ones, where those are not all."""

    won: Any
    lost: Any
    tied: Any
    group_of: Codes
    gather: Any
    positives: Any
    negatives: Any
    heeded: tuple[Any, Any] | None

    def __call__(self, weights: Floats) -> Floats:
        raise NotImplementedError

    def _above(self, rows: Floats) -> Floats:
        """Rows of a step and of all before it in its group."""
        total = np.cumsum(rows, axis=0)
        if len(self.gather.indptr) > 2:
            of_group = self.gather @ rows
            total -= (np.cumsum(of_group, axis=0) - of_group)[self.group_of]
        return total


class _Auroc(_Steps):
    def __call__(self, weights: Floats) -> Floats:
        above = self._above(self.lost @ weights)
        above -= 0.5 * (self.tied @ weights)  # a tie is half a win
        above *= self.won @ weights
        pairs = (self.positives @ weights) * (self.negatives @ weights)
        wins = pairs - self.gather @ above
        if self.heeded is not None:
            wins -= 0.5 * (pairs - (self.heeded[0] @ weights) * (self.heeded[1] @ weights))
        return mean_defined(wins, pairs)


class _AveragePrecision(_Steps):
    def __call__(self, weights: Floats) -> Floats:
        won = self.won @ weights
        true = self._above(won)
        called = self._above(self.lost @ weights)
        called += true
        precision = np.divide(true, called, out=called, where=called > 0)
        precision *= won
        positives = self.positives @ weights
        both = np.where(self.negatives @ weights > 0, positives, 0.0)
        return mean_defined(self.gather @ precision, both)


def permuted_aurocs(
    ranking: Ranking, by_readout: bool, rng: np.random.Generator, permutations: int
) -> tuple[Floats, int]:
    """(permutations,) AUROCs with the labels dealt anew within each group, and the n they rest on."""
    groups = ranking.groups(by_readout)
    order = np.argsort(groups, kind="stable")
    score, positive, groups = ranking.score[order], ranking.positive[order], groups[order]
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    if not len(starts):
        return np.full(permutations, np.nan), 0
    segments = np.split(score, starts[1:])
    ranks = np.concatenate([rankdata(segment) for segment in segments])
    wanted = np.add.reduceat(positive.astype(np.float64), starts)
    pairs = wanted * (np.array([len(segment) for segment in segments]) - wanted)
    values = np.empty(permutations)
    for index in range(permutations):
        dealt = positive[np.argsort(groups + rng.random(len(groups)))]
        wins = np.add.reduceat(ranks * dealt, starts) - wanted * (wanted + 1) / 2
        values[index] = mean_defined(wins, pairs)
    return values, int((pairs > 0).sum()) if by_readout else len(groups)


def _average(metrics: Sequence[Metric]) -> Metric:
    """The mean of one or two metrics; it rests on as much as the poorer one."""
    n, of = min(metric.n for metric in metrics), partial(_mean, [metric.of for metric in metrics])
    low, high = zip(*(metric.bounds for metric in metrics), strict=True)
    return Metric(n, of, biased=any(metric.biased for metric in metrics), bounds=(min(low), max(high)))


def _mean(statistics: Sequence[Statistic], weights: Floats) -> Floats:
    return np.asarray(np.mean([statistic(weights) for statistic in statistics], axis=0))


def nothing(weights: Floats) -> Floats:
    return np.full(weights.shape[1], np.nan)


def checked(rows: Rows, probabilities: Floats) -> Floats:
    table = np.asarray(probabilities, dtype=np.float64)
    shape = (len(rows.truth), len(rows.names))
    if table.shape != shape:
        raise Error(f"metrics of {rows.task}: probabilities have shape {table.shape}; give {shape}, rows by labels")
    if not (np.isfinite(table).all() and (table >= 0).all() and np.allclose(table.sum(axis=1), 1, atol=1e-3)):
        raise Error(f"metrics of {rows.task}: some row of probabilities is no distribution; normalise over the labels")
    return table
