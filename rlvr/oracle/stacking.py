"""How several scores of the same rows become one: weights that are fitted within each readout.

It is part of `rlvr oracle fit`: votes are stacked into the fitted oracle, oracles into the ensemble. Features and
labels are centred within each readout and fold, and each readout counts alike, as in the macro AUROC. Without the
centring a stack learns to read a row's own label from the rates of the others, and is worse than a plain mean. The
weights are drawn towards those of a plain mean of the features that are trusted, not towards zero: with a few hundred
readouts that have both labels, .001 (effect) and .004 (direction) better on the training folds of PerturbQA.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from rlvr.oracle.crossfit import FOLDS
from rlvr.oracle.votes import Codes

Table = NDArray[np.float64]
PENALTY = 10_000.0


def stacked(features: Table, trusted: Table, label: Table, readout: Codes, fold: Codes) -> tuple[Table, Table]:
    """([n] score, [columns] weights). Rows of a fold are scored by the weights of the others, those of fold -1 by the
    weights of all. features: [n, columns] in units of their spread. trusted: [columns] the mean's weights. label of
    fold -1 is not looked at."""
    train = fold >= 0
    centred, target, weight = within(features[train], label[train], readout[train], fold[train])
    score, inner = np.empty(len(features)), np.empty(int(train.sum()))
    for number in range(FOLDS):
        out = fold[train] == number
        if out.any() and not out.all():
            found = _weights(centred[~out], trusted, target[~out], weight[~out])
            inner[out] = features[train][out] @ found
    weights = _weights(centred, trusted, target, weight)
    score[train], score[~train] = inner, features[~train] @ weights
    return score, weights


def within(features: Table, label: Table, readout: Codes, fold: Codes) -> tuple[Table, Table, Table]:
    """(features, labels) centred within each readout and fold, and the weight of each row: every pair of rows with
    different labels counts, and all pairs of a readout together count as those of another do; 0 without such a pair."""
    _, group = np.unique(readout * (FOLDS + 1) + fold, return_inverse=True)
    n, positive = np.bincount(group).astype(np.float64), np.bincount(group, label)
    pairs = positive * (n - positive)
    means = np.column_stack([np.bincount(group, column) / n for column in features.T])
    weight = np.divide(n, pairs, out=np.zeros_like(n), where=pairs > 0)
    return features - means[group], label - (positive / n)[group], weight[group]


def _weights(features: Table, trusted: Table, label: Table, weight: Table) -> Table:
    rows = weight > 0
    if not rows.any():
        return trusted
    features, label, weight = features[rows], label[rows], weight[rows]
    mean = features @ trusted
    scale = max(float((weight * mean * label).sum() / ((weight * mean**2).sum() + 1e-9)), 0.0)
    rest = Ridge(PENALTY, fit_intercept=False).fit(features, label - scale * mean, weight).coef_
    return np.asarray(scale * trusted + rest)
