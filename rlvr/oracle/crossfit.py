"""What every oracle that is fitted here shares: folds of perturbations, and scores made into probabilities.

    rlvr oracle fit perturbqa:context=k562 --out DIR [--kind fitted | mlp | ensemble]

The training perturbations are dealt into five folds by gene. What is said of one fold rests on the other four alone,
so that what is stored for a training question comes from a fit that has seen neither its perturbation nor any of that
perturbation's readouts. One thing cannot be had that way: the readout's own rate. The rate of the other folds is low
where this fold's is high, and ranks the rows of a training readout backwards. So a fit gives two numbers:

    lift   in [0, 1], .5 is nothing: what the perturbation says when the readout's rate is set aside. Cross-fitted in
           full: this is what should reward a training question.
    p      the calibrated probability, of the readout's rate and the lift. Among training rows the rate is that of the
           whole split, one number for all rows of a readout: it ranks nothing within the readout, but the row is
           itself one of those that the rate was counted over.

Held-out rows may have another base rate than training has (PerturbQA's K562 directions: 65 % up in training, 81 % in
test). Their p is corrected for it without any of their labels (rlvr.oracle.calibration.shifted), which moves all of
them alike and ranks nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from rlvr import tables
from rlvr.knowledge import KnowledgeBase
from rlvr.oracle import calibration
from rlvr.oracle.base import KEY
from rlvr.oracle.base import LABELS as EVERY
from rlvr.oracle.similarity import Annotated
from rlvr.oracle.votes import Codes, Measured, signed
from rlvr.types import Error

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
LABELS = {task: EVERY[f"perturbation/{task}"] for task in ("effect", "direction")}
FOLDS = 5
EDGE = 1e-4  # rates are kept this far from 0 and 1


@dataclass(frozen=True)
class Fitted:
    """One task's predictions: for every row of the table, in its order, and what lies behind them.

    predictions: context, perturbation, readout, split, p, lift (both NaN: abstained), prior: p if the perturbation
    said nothing (NaN: the readout is unseen). weights: feature -> weight in the score. logistic: the probability's
    intercept, and what it multiplies the rate's logit and the score with. abstained: why -> how many rows.
    """

    predictions: pd.DataFrame
    weights: Mapping[str, float]
    logistic: tuple[float, float, float]
    abstained: Mapping[str, int]

    def covered(self) -> pd.DataFrame:
        """What `rlvr.oracle.Predictions` reads."""
        held = self.predictions
        return held.loc[held["p"].notna(), [*KEY, "p", "lift"]].reset_index(drop=True)


@dataclass(frozen=True)
class Crossfit:
    """The rows of one context with their folds, and what was measured in training.

    rows: the tables one below the other, with task, known, p and g (places of perturbation and readout). fold: [n] of
    each perturbation, -1 where it is held out. basis: [n] the perturbations that may shape what is said of others.
    measured: table -> training pairs (see rlvr.oracle.votes).
    """

    rows: pd.DataFrame
    genes: Annotated
    targets: Annotated
    fold: Codes
    basis: Mask
    measured: Mapping[str, Measured]

    @property
    def tasks(self) -> list[str]:
        """Those that are fitted."""
        return [task for task in LABELS if task in self.measured]

    @cached_property
    def place(self) -> Codes:
        """[rows] the fold of each."""
        return np.asarray(self.fold[self.rows["p"].to_numpy()])

    def parts(self) -> Iterator[tuple[Mask, Codes]]:
        """Which perturbations may be learnt from, and the rows that are then predicted; the held-out ones last."""
        for number in (*range(FOLDS), -1):
            asked = np.flatnonzero(self.place == number)
            if len(asked):
                yield (self.fold >= 0) & (self.fold != number), asked

    def of(self, task: str) -> Codes:
        """The rows of a task."""
        return np.flatnonzero((self.rows["task"] == task).to_numpy())

    def label(self, task: str) -> Floats:
        """[rows of the task] 1 for yes or up, else 0; of held-out rows too: use the training ones alone."""
        return np.asarray(self.rows["label"].iloc[self.of(task)] == LABELS[task][0], dtype=np.float64)

    def rate(self, task: str) -> Floats:
        """[rows of the task] the rate of the readout in the other folds, drawn towards that of all readouts."""
        rows, found = self.of(task), np.empty(len(self.rows))
        for use, asked in self.parts():
            found[asked] = self._rates(task, use)[self.rows["g"].to_numpy()[asked]]
        return found[rows]

    def odds(self, task: str) -> Floats:
        """[readouts] the logit of their rates over all training rows; NaN where the task has none."""
        seen = np.bincount(self.measured[task].readout, minlength=len(self.targets.symbols)) > 0
        return np.where(seen, _logit(self._rates(task, self.fold >= 0)), np.nan)

    def _rates(self, task: str, use: Mask) -> Floats:
        held = self.measured[task].of(use)
        n = np.bincount(held.readout, minlength=len(self.targets.symbols))
        total = np.bincount(held.readout, held.value, len(n))
        mean = float(held.value.mean()) if len(held.value) else 0.5
        return np.clip((total + mean) / (n + 1), EDGE, 1 - EDGE)

    def finished(self, task: str, score: Floats, weights: Mapping[str, float], far: Mapping[str, Mask]) -> Fitted:
        """score: [rows of the task], cross-fitted in training. far: why -> the perturbations [n] that are not covered.
        The probability is fitted to the rates of the other folds, as held-out rows have theirs."""
        rows, label, rate = self.rows.iloc[self.of(task)], self.label(task), self.rate(task)
        train = self.fold[rows["p"].to_numpy()] >= 0
        unit = float(score[train].std()) + 1e-9
        model = LogisticRegression(C=1e3).fit(np.column_stack([_logit(rate), score / unit])[train], label[train])
        constant, of_rate, of_score = float(model.intercept_[0]), float(model.coef_[0, 0]), model.coef_[0, 1] / unit
        odds = self.odds(task)[rows["g"].to_numpy()]
        new = np.isnan(odds)
        base, said = constant + of_rate * np.nan_to_num(odds), of_score * score
        p, prior = _share(base + said), _share(base)
        if not train.all():
            own = rows["p"].to_numpy()
            held = ~train & self.basis[own]
            moved = calibration.shift(p[held], own[held], float(label[train].mean())) if held.any() else 0.0
            p[~train], prior[~train] = (_share(_logit(values[~train]) + moved) for values in (p, prior))
        lift = _share(said)
        why, silent = {}, np.zeros(len(rows), dtype=np.bool_)
        for reason, unknown in {
            **{reason: mask[rows["p"].to_numpy()] for reason, mask in far.items()},
            "readout unseen": new,
        }.items():
            why[reason] = int((unknown & ~silent).sum())
            silent |= unknown
        p[silent] = lift[silent] = np.nan
        prior[new] = np.nan
        told = rows[[*KEY, "split"]].assign(p=p, lift=lift, prior=prior).reset_index(drop=True)
        return Fitted(told, weights, (constant, of_rate, float(of_score)), why)


def prepare(
    tasks: Mapping[str, pd.DataFrame],
    base: KnowledgeBase,
    known: tuple[str, ...] = ("train",),
    seed: int = 0,
    apart: str = "",
) -> Crossfit:
    """tasks: "effect", "direction" or both -> the canonical table of one context, whose splits agree; both together are
    better, as no change and its direction inform each other. known: splits to learn from; every other row is predicted
    and its label never looked at. apart: a split whose perturbations shape nothing that is said of others, so that what
    is said of each does not depend on which of them are asked about together. Errors: another task, several contexts,
    nothing to learn from, a perturbation that is known in one table and held out in the other."""
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
    if len(measured) == 2:
        measured["signed"] = signed(measured["effect"], measured["direction"])
    learnt = np.zeros(len(genes.symbols), dtype=np.bool_)
    learnt[rows.loc[rows["known"], "p"]] = True
    basis = np.zeros(len(genes.symbols), dtype=np.bool_)
    basis[rows.loc[rows["split"] != apart, "p"]] = True
    fold = np.full(len(basis), -1)
    fold[basis] = np.where(learnt[basis], folds(genes.genes[basis], seed), -1)
    return Crossfit(rows, genes, targets, fold, basis, measured)


def folds(genes: NDArray[np.str_], seed: int) -> Codes:
    """[n] fold of each name; names of one gene share theirs."""
    unique, place = np.unique(genes, return_inverse=True)
    dealt: Codes = np.random.default_rng(seed).permutation(np.arange(len(unique)) % FOLDS)[place]
    return dealt


def _checked(tasks: Mapping[str, pd.DataFrame], known: tuple[str, ...]) -> pd.DataFrame:
    if not tasks:
        raise Error("oracle: no table; give one for each task")
    if strange := sorted(set(tasks) - set(LABELS)):
        raise Error(f"oracle: task {strange[0]!r} cannot be fitted; give {' or '.join(LABELS)}")
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


def _logit(p: Floats) -> Floats:
    found: Floats = np.log(p / (1 - p))
    return found


def _share(x: Floats) -> Floats:
    found: Floats = 1 / (1 + np.exp(-x))
    return found
