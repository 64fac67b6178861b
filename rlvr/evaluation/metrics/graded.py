"""Metrics of open answers, which have no labels in common: exact ones, and by task how near the others come.

    accuracy        the share of exact answers; of cell/batch, that is Cell-o1's batch-level accuracy
    ari, nmi        cell/type: agreement of the answered with the true types over all cells (adjusted Rand index;
                    mutual information normalised by the mean entropy); an unparsed answer is a type of its own
    cell_accuracy   cell/batch: right cells over all cells (Cell-o1, arXiv:2506.02911)
    rmse            perturbation/profile: root mean square error in log2, averaged over perturbations; low is good
    pearson_delta   perturbation/profile: correlation of answer - baseline with measured - baseline, averaged; the
                    baseline, each gene's mean over training perturbations, has 0 itself
    ndcg            perturbation/ranking: normalised discounted cumulative gain, linear gains (scikit-learn)

Unparsed, or malformed (a gene missing, unknown or named twice): 0, and of rmse the larger of what the baseline and
"no change" have, so that silence never beats either.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import ndcg_score, root_mean_squared_error

from rlvr.answers import fold
from rlvr.evaluation.metrics.bootstrap import Clusters, Floats, Mask, Metric, average, encode

Truth = Mapping[str, Any]
FLAT = 1e-9  # a spread below this is rounding
LARGEST = 100.0  # log2; no measured amount is beyond it


@dataclass(frozen=True)
class Open:
    """One system's rows on an open task. truths: each question's; answers: canonical, as rlvr.answers has them;
    right: whether each is the exact one."""

    truths: Sequence[Truth]
    answers: Sequence[str | None]
    right: Mask
    clusters: Sequence[str]


def open_metrics(task: str, system: Open, clusters: Clusters) -> dict[str, Metric]:
    """name -> metric; see the head of this file."""
    found = {"accuracy": average(system.right, clusters)}
    return found | (_BY_TASK[task](system.truths, system.answers, clusters) if task in _BY_TASK else {})


def _types(truths: Sequence[Truth], answers: Sequence[str | None], clusters: Clusters) -> dict[str, Metric]:
    true, n_true = encode([str(truth["answer"]) for truth in truths])
    given, n_given = encode([answer or "" for answer in answers])
    silent = np.array([answer is None for answer in answers], dtype=np.bool_)
    pairs, places = np.unique(np.stack([true, given]), axis=1, return_inverse=True)
    if not len(truths):
        return {}
    agreement = _Agreement(
        clusters.counts(places.reshape(-1), pairs.shape[1], ~silent),
        clusters.counts(true, n_true),
        clusters.counts(given, n_given, ~silent),
    )
    return {"ari": Metric(len(truths), agreement.ari), "nmi": Metric(len(truths), agreement.nmi)}


class _Agreement:
    """Statistics over counts (types, clusters): of pairs of true and answered types, of true ones, of answered ones.
    What is in no pair is unparsed, and stands alone however often it is drawn."""

    def __init__(self, pairs: Any, true: Any, given: Any) -> None:
        self.pairs, self.true, self.given = pairs, true, given

    def ari(self, weights: Floats) -> Floats:
        both, true, given = (_two(counts @ weights).sum(axis=0) for counts in (self.pairs, self.true, self.given))
        every = _two((self.true @ weights).sum(axis=0))
        expected = np.divide(true * given, every, out=np.zeros_like(true), where=every > 0)
        span = (true + given) / 2 - expected
        # As scikit-learn has it: two clusterings without any structure agree.
        found: Floats = np.divide(both - expected, span, out=np.ones_like(true), where=np.abs(span) > FLAT)
        return np.where(every > 0, found, np.nan)

    def nmi(self, weights: Floats) -> Floats:
        n = (self.true @ weights).sum(axis=0)
        alone = n - (self.given @ weights).sum(axis=0)
        size = np.maximum(n, 1.0)
        lonely = alone / size * np.log(size)  # the entropy of what stands alone
        joint, true, given = (_entropy(counts @ weights, size) for counts in (self.pairs, self.true, self.given))
        shared = true + given - joint
        scale = (true + given + lonely) / 2
        found: Floats = np.divide(shared, scale, out=np.ones_like(n), where=scale > FLAT)
        return np.where(n > 0, np.clip(found, 0.0, 1.0), np.nan)


def _two(counts: Floats) -> Floats:
    found: Floats = counts * (counts - 1) / 2
    return found


def _entropy(counts: Floats, n: Floats) -> Floats:
    share = counts / n
    found: Floats = -(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=0)
    return found


def _batch(truths: Sequence[Truth], answers: Sequence[str | None], clusters: Clusters) -> dict[str, Metric]:
    right, sizes = np.zeros(len(truths)), np.zeros(len(truths))
    for row, (truth, answer) in enumerate(zip(truths, answers, strict=True)):
        true = [fold(str(name)) for name in truth["answer"]]
        given = [fold(str(name)) for name in json.loads(answer)] if answer is not None else []
        sizes[row] = len(true)
        if len(given) == len(true):
            right[row] = sum(a == b for a, b in zip(given, true, strict=True))
    return {"cell_accuracy": average(right, clusters, sizes)}


def _profile(truths: Sequence[Truth], answers: Sequence[str | None], clusters: Clusters) -> dict[str, Metric]:
    error, delta = np.zeros(len(truths)), np.zeros(len(truths))
    for row, (truth, answer) in enumerate(zip(truths, answers, strict=True)):
        genes = list(truth["answer"])
        measured = np.array([float(truth["answer"][gene]) for gene in genes])
        baseline = np.array([float(truth["baseline"][gene]) for gene in genes])
        given = _amounts(answer, genes)
        if given is None:
            error[row] = max(root_mean_squared_error(measured, guess) for guess in (baseline, np.zeros(len(genes))))
        else:
            error[row] = root_mean_squared_error(measured, given)
            delta[row] = _correlation(given - baseline, measured - baseline)
    return {"rmse": average(error, clusters), "pearson_delta": average(delta, clusters)}


def _amounts(answer: str | None, genes: Sequence[str]) -> Floats | None:
    """The amounts in the order of the genes; None where an answer does not give each exactly once."""
    given = {} if answer is None else json.loads(answer)
    by_name = {fold(name): float(amount) for name, amount in given.items()}
    names = [fold(gene) for gene in genes]
    if len(by_name) != len(given) or by_name.keys() != set(names):
        return None
    found = np.array([by_name[name] for name in names])
    return found if np.abs(found).max() <= LARGEST else None


def _correlation(left: Floats, right: Floats) -> float:
    """Pearson's r; 0 where either does not vary."""
    return 0.0 if min(np.ptp(left), np.ptp(right)) <= FLAT else float(np.corrcoef(left, right)[0, 1])


def _ranking(truths: Sequence[Truth], answers: Sequence[str | None], clusters: Clusters) -> dict[str, Metric]:
    gain = np.zeros(len(truths))
    for row, (truth, answer) in enumerate(zip(truths, answers, strict=True)):
        relevance = {fold(str(gene)): float(value) for gene, value in truth["relevance"].items()}
        given = [fold(str(name)) for name in json.loads(answer)] if answer is not None else []
        if sorted(given) == sorted(relevance) and max(relevance.values()) > 0:
            places = -np.arange(len(given), dtype=np.float64)
            gain[row] = ndcg_score([[relevance[name] for name in given]], [places]) if len(given) > 1 else 1.0
    return {"ndcg": average(gain, clusters)}


_BY_TASK: Mapping[str, Callable[[Sequence[Truth], Sequence[str | None], Clusters], dict[str, Metric]]] = {
    "cell/type": _types,
    "cell/batch": _batch,
    "perturbation/profile": _profile,
    "perturbation/ranking": _ranking,
}
