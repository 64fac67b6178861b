"""Metrics of the probabilities: AUROC pooled, within readouts, with unparsed rows as uninformed.

The rows are sorted once; a weighted AUROC for many resamples is then two sparse products and one
cumulative sum over blocks of tied rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy import sparse
from scipy.stats import rankdata

from rlvr.metrics.bootstrap import Clusters, Codes, Floats, Mask, Metric, Statistic, encode, mean_defined
from rlvr.types import Error

RESPONSE = "perturbation/response"


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
    table = _checked(rows, probabilities)
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
    """name -> metric: auroc, auroc_macro_gene, auroc_strict, and the parts of `perturbation/response`."""
    blank = np.full((len(rows.truth), len(rows.names)), 1 / max(len(rows.names), 1))
    asked = rankings(rows, blank if probabilities is None else probabilities)
    parsed = np.array([answer is not None for answer in answers], dtype=np.bool_)
    pooled = {name: auroc(ranking) for name, ranking in asked.items()}
    parts = {
        "auroc": list(pooled.values()),
        "auroc_macro_gene": [auroc(ranking, by_readout=True) for ranking in asked.values()],
        "auroc_strict": [auroc(ranking, informed=parsed[ranking.rows]) for ranking in asked.values()],
    }
    found = pooled | {name: _average(metrics) for name, metrics in parts.items() if metrics}
    if probabilities is None:
        return {name: Metric(metric.n, _nothing, "the system gives no probabilities") for name, metric in found.items()}
    return found


def auroc(ranking: Ranking, by_readout: bool = False, informed: Mask | None = None) -> Metric:
    """AUROC, pooled or averaged over the readouts with both labels. `informed`: rows whose score is heeded;
    a pair with any other row counts 1/2."""
    groups = ranking.groups(by_readout)
    n_groups = int(groups.max(initial=-1)) + 1
    sides = [np.bincount(groups[side], minlength=n_groups) > 0 for side in (ranking.positive, ~ranking.positive)]
    both = sides[0] & sides[1]
    n_both = int(both.sum())
    n = n_both if by_readout else len(groups)
    if not n_both:
        return Metric(n, _nothing)
    keep = both[groups]  # groups with one label never count, in any resample
    score, positive, clusters = ranking.score[keep], ranking.positive[keep], ranking.clusters.take(keep)
    groups = (np.cumsum(both) - 1)[groups[keep]]
    heeded = np.ones(len(groups), dtype=np.bool_) if informed is None else informed[keep]
    order = np.lexsort((score, groups))
    opens = np.ones(len(order), dtype=np.bool_)
    opens[1:] = (np.diff(groups[order]) != 0) | (np.diff(score[order]) != 0)
    n_blocks = int(opens.sum())
    blocks = np.empty(len(order), dtype=np.int64)
    blocks[order] = np.cumsum(opens) - 1
    members = (groups[order][opens], np.arange(n_blocks))
    statistic = _Sorted(
        won=clusters.counts(blocks, n_blocks, positive & heeded),
        lost=clusters.counts(blocks, n_blocks, ~positive & heeded),
        gather=sparse.csr_array((np.ones(n_blocks), members), shape=(n_both, n_blocks)),
        positives=clusters.counts(groups, n_both, positive),
        negatives=clusters.counts(groups, n_both, ~positive),
    )
    return Metric(n, statistic)


@dataclass(frozen=True)
class _Sorted:
    """A statistic. Sparse: won, lost (blocks, clusters) count heeded positive and negative rows; gather
    (groups, blocks) sums the blocks of a group; positives, negatives (groups, clusters) count all rows."""

    won: Any
    lost: Any
    gather: Any
    positives: Any
    negatives: Any

    def __call__(self, weights: Floats) -> Floats:
        won, lost = self.won @ weights, self.lost @ weights
        group_won, group_lost = self.gather @ won, self.gather @ lost
        earlier = np.cumsum(group_lost, axis=0) - group_lost  # negatives of the groups sorted before
        below = np.cumsum(lost, axis=0)
        below -= 0.5 * lost  # a tie is half a win
        below *= won
        pairs = (self.positives @ weights) * (self.negatives @ weights)
        unheeded = pairs - group_won * group_lost
        return mean_defined(self.gather @ below - earlier * group_won + 0.5 * unheeded, pairs)


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
    return Metric(min(metric.n for metric in metrics), partial(_mean, [metric.of for metric in metrics]))


def _mean(statistics: Sequence[Statistic], weights: Floats) -> Floats:
    return np.asarray(np.mean([statistic(weights) for statistic in statistics], axis=0))


def _nothing(weights: Floats) -> Floats:
    return np.full(weights.shape[1], np.nan)


def _checked(rows: Rows, probabilities: Floats) -> Floats:
    table = np.asarray(probabilities, dtype=np.float64)
    shape = (len(rows.truth), len(rows.names))
    if table.shape != shape:
        raise Error(f"metrics of {rows.task}: probabilities have shape {table.shape}; give {shape}, rows by labels")
    if not (np.isfinite(table).all() and (table >= 0).all() and np.allclose(table.sum(axis=1), 1, atol=1e-3)):
        raise Error(f"metrics of {rows.task}: some row of probabilities is no distribution; normalise over the labels")
    return table
