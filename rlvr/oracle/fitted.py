"""The oracle that is fitted here: votes of related perturbations, stacked and calibrated on cross-fitted predictions.

    rlvr oracle fit perturbqa:context=k562 --out DIR      writes effect.parquet, direction.parquet, card.json, CARD.md

Votes come from rlvr/oracle/votes.py, their weights from rlvr/oracle/stacking.py, folds and probabilities from
rlvr/oracle/crossfit.py. The weights are linear, so what is kept is Parquet and JSON, and nothing needs to be unpickled.

Tried on the training folds of PerturbQA and left out, as the stack gained less than .002: cosines of co-expression in
pancreas cells, words of the genes' names, kernel ridge for a perturbation's strength, ridges on the coordinates of
single kinds of annotation, readouts scaled to one variance, gradient-boosted trees on the same features.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rlvr.files import aside
from rlvr.knowledge import KnowledgeBase
from rlvr.oracle.crossfit import Crossfit, Fitted, prepare
from rlvr.oracle.similarity import Floats
from rlvr.oracle.stacking import stacked
from rlvr.oracle.votes import Votes

FORMAT = 1  # of what is kept: raise it when features, or how they are made, change
FLOOR = 0.005  # added to a rate's variance: readouts that never change rank by noise otherwise
# The features of the task's own table (direction: of the signed one) whose plain mean the weights are drawn towards.
TRUSTED = ("ridge alike", "ridge learnt", "ridge", "vote mix", "vote sum", "vote all2", "patterns 20")


def fit(
    tasks: Mapping[str, pd.DataFrame], base: KnowledgeBase, known: tuple[str, ...] = ("train",), seed: int = 0
) -> dict[str, Fitted]:
    """Task -> its predictions. The arguments and errors are those of `rlvr.oracle.crossfit.prepare`."""
    return of(prepare(tasks, base, known, seed))


def of(cross: Crossfit, folder: Path | None = None) -> dict[str, Fitted]:
    """The same, of rows that are prepared already. folder: where what was learnt is kept, and found again, so that
    further pairs of the same table take seconds."""
    votes = Votes(cross.genes, cross.targets, cross.basis)
    own = cross.basis[cross.rows["p"].to_numpy()]  # rows of the table itself
    path = folder / f"{_digest(cross, own)}.npz" if folder else None
    learnt = _read(path) if path else {}
    fresh = not learnt

    def said(use: NDArray[np.bool_], asked: NDArray[np.int64], learnt: dict[str, Floats]) -> pd.DataFrame:
        rows = cross.rows.iloc[asked]
        table = votes.features(cross.measured, use, rows["p"].to_numpy(), rows["g"].to_numpy(), learnt)
        return pd.DataFrame(table, index=asked)

    parts = []
    for use, asked in cross.parts():
        whole = bool((use == (cross.fold >= 0)).all())
        inner, apart = asked[own[asked]], asked[~own[asked]]
        if fresh and len(inner):
            parts.append(said(use, inner, learnt if whole else {}))
        if len(apart):
            parts.append(said(use, apart, learnt))
    if fresh:
        held = pd.concat(parts).sort_index().loc[np.flatnonzero(own)]
        learnt |= {f"feature {name}": held[name].to_numpy() for name in held}
        if path:
            with aside(path) as side, side.open("wb") as file:
                np.savez(file, allow_pickle=False, **learnt)
    else:
        names = [name for name in learnt if name.startswith("feature ")]
        table = {name.removeprefix("feature "): learnt[name] for name in names}
        parts.append(pd.DataFrame(table, index=np.flatnonzero(own)))
    features = pd.concat(parts).sort_index()
    far = {"no annotated relative in training": ~((votes.kernels["mix"] * (cross.fold >= 0)).max(axis=1) > 0)}
    found = {}
    for task in cross.tasks:
        asked = cross.of(task)
        own = "signed" if task == "direction" and "signed" in cross.measured else task
        held = features.iloc[asked]
        rate = cross.rate(task)
        spread = np.sqrt(rate * (1 - rate) + FLOOR)
        plain = held.to_numpy(dtype=np.float64) / (held.to_numpy()[cross.place[asked] >= 0].std(axis=0) + 1e-9)
        names = [*held.columns, *(f"{name} / spread" for name in held.columns)]
        trusted = np.array([float(name in {f"{name}:{own}" for name in TRUSTED}) for name in names])
        score, weights = stacked(
            np.hstack([plain, 0.2 * plain / spread[:, None]]),
            trusted,
            cross.label(task),
            cross.rows["g"].to_numpy()[asked],
            cross.place[asked],
        )
        found[task] = cross.finished(task, score, dict(zip(names, weights.tolist(), strict=True)), far)
    return found


def _digest(cross: Crossfit, own: NDArray[np.bool_]) -> str:
    """Of all that is learnt from: the table, its splits and folds, the knowledge base, and what is made of them."""
    rows = cross.rows[own]
    columns = ["task", "perturbation", "readout", "split", "known"]
    label = rows["label"].where(rows["known"], "")
    text = rows[columns].assign(label=label, fold=cross.place[own]).to_csv(index=False)
    return sha256(f"{FORMAT} {cross.genes.base.version} {sorted(cross.targets.symbols)}\n{text}".encode()).hexdigest()[
        :24
    ]


def _read(path: Path) -> dict[str, Floats]:
    """What is kept there; {} where there is nothing, or nothing whole."""
    try:
        with np.load(path, allow_pickle=False) as held:
            return {name: held[name] for name in held.files}
    except (OSError, ValueError, EOFError, BadZipFile):
        return {}
