"""The oracle that is fitted here: votes of related perturbations, stacked and calibrated on cross-fitted predictions.

    rlvr oracle fit perturbqa:context=k562 --out DIR      writes effect.parquet, direction.parquet, card.json

The training perturbations are dealt into five folds by gene. What is said of one fold rests on the other four alone
(rlvr/oracle/votes.py): so a stored prediction for a training question comes from a fit that has seen neither its
perturbation nor any of that perturbation's readouts, and may reward training. Weights are fitted to those predictions
by a ridge *within* each readout and fold: features and labels are centred there and each readout counts alike, as in
the macro AUROC. Without the centring a stack learns to read a row's own label from the rates of the others, and is
worse than a plain mean. A logistic fit of the readout's rate and the score makes probabilities of scores. The
weights are linear, so what is kept is Parquet and JSON, and nothing needs to be unpickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge

from rlvr import tables
from rlvr.knowledge import KnowledgeBase
from rlvr.oracle.base import KEY
from rlvr.oracle.base import LABELS as EVERY
from rlvr.oracle.similarity import Annotated
from rlvr.oracle.votes import Codes, Measured, Votes, signed
from rlvr.types import Error

Table = NDArray[np.float64]
LABELS = {task: EVERY[f"perturbation/{task}"] for task in ("effect", "direction")}
FOLDS, PENALTY = 5, 3000.0
FLOOR = 0.005  # added to a rate's variance: readouts that never change rank by noise otherwise


@dataclass(frozen=True)
class Fitted:
    """One task's predictions: for every row of the table, in its order, and the weights behind them.

    predictions: context, perturbation, readout, p (NaN: abstained), split. weights: feature -> weight, of the score.
    logistic: the probability's intercept, and what it multiplies the rate's logit and the score with.
    abstained: why -> how many rows.
    """

    predictions: pd.DataFrame
    weights: Mapping[str, float]
    logistic: tuple[float, float, float]
    abstained: Mapping[str, int]

    def covered(self) -> pd.DataFrame:
        """What `rlvr.oracle.Predictions` reads."""
        held = self.predictions
        return held.loc[held["p"].notna(), [*KEY, "p"]].reset_index(drop=True)


def fit(
    tasks: Mapping[str, pd.DataFrame], base: KnowledgeBase, known: tuple[str, ...] = ("train",), seed: int = 0
) -> dict[str, Fitted]:
    """Task -> its predictions. tasks: "effect", "direction" or both -> the canonical table of one context, whose
    splits agree; both together are better, as no change and its direction inform each other. known: splits to learn
    from; every other row is predicted and its label never looked at. Errors: another task, several contexts, nothing
    to learn from, a perturbation that is known in one table and held out in the other."""
    rows = _checked(tasks, known)
    symbols = {name: tuple(sorted(set(rows[name]))) for name in ("perturbation", "readout")}
    genes, targets = (Annotated(base, symbols[name]) for name in ("perturbation", "readout"))
    place = {name: pd.Series(range(len(held)), index=list(held)) for name, held in symbols.items()}
    rows["p"], rows["g"] = (place[name][rows[name]].to_numpy() for name in ("perturbation", "readout"))
    measured = {}
    for task, (positive, _) in LABELS.items():
        own = rows[(rows["task"] == task) & rows["known"]]
        if len(own):
            value = np.asarray(own["label"] == positive, dtype=np.float32)
            measured[task] = Measured(own["p"].to_numpy(), own["g"].to_numpy(), value)
    learnt = np.zeros(len(genes.symbols), dtype=np.bool_)
    learnt[rows.loc[rows["known"], "p"]] = True
    voting = dict(measured)
    if len(measured) == 2:
        voting["signed"] = signed(measured["effect"], measured["direction"])
    votes = Votes(genes, targets)
    fold = np.where(learnt, _folds(genes.genes, seed), -1)
    parts = []
    for number in (*range(FOLDS), -1):
        asked = fold[rows["p"].to_numpy()] == number
        if asked.any():
            use = learnt & (fold != number)
            table = votes.features(voting, use, *(rows.loc[asked, c].to_numpy() for c in ("p", "g")))
            parts.append(pd.DataFrame(table, index=rows.index[asked]))
    features = pd.concat(parts).loc[rows.index]
    near = (votes.kernels["mix"] * learnt).max(axis=1) > 0
    found = {}
    for task in measured:
        asks = (rows["task"] == task).to_numpy()
        seen = np.bincount(measured[task].readout, minlength=len(targets.symbols)) > 0
        found[task] = _stack(rows[asks], features[asks], fold[rows["p"].to_numpy()[asks]], near, seen, task)
    return found


def _stack(
    rows: pd.DataFrame,
    features: pd.DataFrame,
    fold: Codes,
    near: NDArray[np.bool_],
    seen: NDArray[np.bool_],
    task: str,
) -> Fitted:
    rate = np.clip(features[f"rate:{task}"].to_numpy(dtype=np.float64), 1e-4, 1 - 1e-4)
    spread = np.sqrt(rate * (1 - rate) + FLOOR)
    plain = features[[c for c in features if not str(c).startswith("rate:")]]
    train = fold >= 0
    unit = plain[train].std().to_numpy(dtype=np.float64) + 1e-9
    scaled = plain.to_numpy(dtype=np.float64) / unit
    table = np.hstack([scaled, 0.2 * scaled / spread[:, None]])
    names = [*plain.columns, *(f"{name} / spread" for name in plain.columns)]
    label = np.asarray(rows["label"] == LABELS[task][0], dtype=np.float64)
    readout = rows["g"].to_numpy()
    centred, target, weight = within(table[train], label[train], readout[train], fold[train])
    score = np.empty(len(rows))
    inner = np.empty(int(train.sum()))
    for number in range(FOLDS):
        out = fold[train] == number
        if out.any() and not out.all():
            inner[out] = table[train][out] @ _weights(centred[~out], target[~out], weight[~out])
    weights = _weights(centred, target, weight)
    score[train], score[~train] = inner, table[~train] @ weights
    pair = np.column_stack([np.log(rate / (1 - rate)), score / (inner.std() + 1e-9)])
    model = LogisticRegression(C=1e3).fit(pair[train], label[train])
    p = model.predict_proba(pair)[:, 1]
    far, new = ~near[rows["p"].to_numpy()], ~seen[readout]
    p[far | new] = np.nan
    held = rows[[*KEY, "split"]].assign(p=p).reset_index(drop=True)
    why = {
        "no annotated relative in training": int(far.sum()),
        "readout unseen": int((~far & new).sum()),
    }
    logistic = (float(model.intercept_[0]), float(model.coef_[0, 0]), float(model.coef_[0, 1]))
    return Fitted(held, dict(zip(names, weights.tolist(), strict=True)), logistic, why)


def within(features: Table, label: Table, readout: Codes, fold: Codes) -> tuple[Table, Table, Table]:
    """(features, labels) centred within each readout and fold, and the weight of each row: every pair of rows with
    different labels counts, and all pairs of a readout together count as those of another do; 0 without such a pair."""
    _, group = np.unique(readout * (FOLDS + 1) + fold, return_inverse=True)
    n, positive = np.bincount(group).astype(np.float64), np.bincount(group, label)
    pairs = positive * (n - positive)
    means = np.column_stack([np.bincount(group, column) / n for column in features.T])
    weight = np.divide(n, pairs, out=np.zeros_like(n), where=pairs > 0)
    return features - means[group], label - (positive / n)[group], weight[group]


def _weights(
    features: NDArray[np.float64], label: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    rows = weight > 0
    if not rows.any():
        return np.zeros(features.shape[1])
    found: NDArray[np.float64] = (
        Ridge(PENALTY, fit_intercept=False).fit(features[rows], label[rows], weight[rows]).coef_
    )
    return found


def _folds(genes: NDArray[np.str_], seed: int) -> Codes:
    """[n] fold of each name; names of one gene share theirs."""
    unique, place = np.unique(genes, return_inverse=True)
    dealt: Codes = np.random.default_rng(seed).permutation(np.arange(len(unique)) % FOLDS)[place]
    return dealt


def _checked(tasks: Mapping[str, pd.DataFrame], known: tuple[str, ...]) -> pd.DataFrame:
    strange = sorted(set(tasks) - set(LABELS))
    if strange or not tasks:
        raise Error(
            f"oracle: task {strange[0]!r} cannot be fitted; give {' or '.join(LABELS)}"
            if strange
            else "oracle: no table"
        )
    parts = []
    for task, table in tasks.items():
        tables.check(table, LABELS[task], f"oracle, {task}")
        parts.append(table.assign(task=task))
    rows = pd.concat(parts, ignore_index=True)
    if rows["context"].nunique() > 1:
        raise Error(f"oracle: tables of {', '.join(sorted(set(rows['context'])))}; fit one context at a time")
    rows["known"] = rows["split"].isin(known)
    learnt = rows.groupby("perturbation")["known"].agg(["min", "max"])
    mixed = learnt.index[learnt["min"] != learnt["max"]]
    if len(mixed):
        raise Error(f"oracle: {mixed[0]!r} is in training and held out; make the splits agree, {len(mixed)} such")
    for task in tasks:
        own = rows[(rows["task"] == task) & rows["known"]]
        if own["label"].nunique() < 2 or own["perturbation"].nunique() < 2 * FOLDS:
            raise Error(
                f"oracle, {task}: {own['perturbation'].nunique()} perturbations in {', '.join(known)}; "
                f"it needs {2 * FOLDS} and both labels"
            )
    return rows
