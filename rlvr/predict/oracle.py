"""What the oracle says of pairs that nobody measured: fitted here, or read from what `rlvr oracle fit` wrote.

said = fitted(context, pairs)           pairs: task -> perturbation, readout
said = kept(Path("oracle"), context, pairs)

Probabilities are calibrated on the validation perturbations (Platt). How good they are is measured there too: the
calibration error by halves of perturbations, each calibrated by the other, so that no row has taught its own map.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rlvr.evaluation.metrics import ranking
from rlvr.evaluation.metrics.bootstrap import Clusters, Interval, encode, measure
from rlvr.files import cache_dir
from rlvr.oracle import LABELS, Predictions, calibration, questions
from rlvr.oracle import fitted as fitted_oracle
from rlvr.oracle.crossfit import FOLDS, prepare
from rlvr.predict.measured import Context
from rlvr.questions import splits
from rlvr.types import Error, Question

Floats = NDArray[np.float64]
Pairs = Mapping[str, pd.DataFrame]
CHUNK = 2000  # genes that are asked about in one fit: similarities take the square of them in memory
RESAMPLES = 1000
RANKS_NOTHING = "the oracle does not rank held-out perturbations"


@dataclass(frozen=True)
class Quality:
    """On validation: rows, perturbations and calibration error (None: too few rows to calibrate), AUROC within each
    readout, averaged, and the share of yes or up among training rows."""

    task: str
    n: int
    perturbations: int
    ece: float | None
    auroc: Interval
    rate: float


@dataclass(frozen=True)
class Said:
    """task -> [pairs of the task] probability of yes or up, NaN where it abstains; why it does, "" where not."""

    p: Mapping[str, Floats]
    why: Mapping[str, list[str]]
    quality: tuple[Quality, ...]


def fitted(context: Context, pairs: Pairs) -> Said:
    """Fitted to the training split. What is said of a gene does not depend on the others of the list: those are apart
    from the fit, and a gene that was itself perturbed in training is asked of a fit that lacks a fixed share of the
    training perturbations, its own among them under any name, as those that quality is measured on are new to theirs.
    Errors: too little was measured to fit."""
    p = {task: np.full(len(rows), np.nan) for task, rows in pairs.items()}
    why = {task: ["readout unseen"] * len(rows) for task, rows in pairs.items()}
    quality: dict[str, Quality] = {}
    train = {task: table[table["split"] == "train"] for task, table in context.tables.items()}
    held = {task: table[table["split"] == "validation"] for task, table in context.tables.items()}
    trained = {str(name) for table in train.values() for name in table["perturbation"]}
    for part, genes in _dealt(pairs, trained, context):
        tables, asked = {}, {}
        for task in context.tables:
            left = {name for name in trained if part is not None and _part(name, context) == part}
            parts = [train[task][~train[task]["perturbation"].isin(left)], held[task]]
            own = pairs[task]["perturbation"].isin(genes) & pairs[task]["readout"].isin(parts[0]["readout"])
            asked[task] = np.flatnonzero(own)
            rows = pairs[task][own].assign(context=context.name)
            parts += questions.asked(rows, task, "predict").values() if len(rows) else []
            tables[task] = pd.concat(parts, ignore_index=True)
        cross = prepare(tables, context.base, apart="test")
        for task, made in fitted_oracle.of(cross, cache_dir() / "oracle").items():
            table, said = tables[task], made.predictions
            checked = (table["split"] == "validation").to_numpy()
            new = (table["split"] == "test").to_numpy()  # what `questions.asked` calls the pairs
            truth, found = table[checked], said.loc[checked, "p"].to_numpy()
            p[task][asked[task]], known = _calibrated(found, truth, said.loc[new, "p"].to_numpy(), task)
            quality.setdefault(task, _quality(found, truth, task, train[task]))
            for place, value in zip(asked[task].tolist(), said.loc[new, "p"], strict=True):
                silent = "no annotated relative was measured" if np.isnan(value) else ""
                why[task][place] = silent or ("" if known else RANKS_NOTHING)
    return Said(p, why, tuple(quality.values()))


def kept(folder: Path, context: Context, pairs: Pairs) -> Said:
    """From the tables of `rlvr oracle fit`, which hold the pairs of its source. Errors: no table of these tasks."""
    there = {task: folder / f"{task}.parquet" for task in context.tables}
    if not any(path.is_file() for path in there.values()):
        raise Error(
            f"{folder}: no {' or '.join(path.name for path in there.values())}; name what `rlvr oracle fit` wrote"
        )
    p: dict[str, Floats] = {}
    why: dict[str, list[str]] = {}
    quality = []
    for task, path in there.items():
        if not path.is_file():
            p[task], why[task] = np.full(len(pairs[task]), np.nan), [f"{path.name} is not there"] * len(pairs[task])
            continue
        oracle, table = Predictions(str(path)), context.tables[task]
        truth = table[table["split"] == "validation"]
        asked = _questions(pairs[task], task, context.name)
        found = _of(oracle, _questions(truth, task, context.name), task)
        said = _of(oracle, asked, task)
        p[task], known = _calibrated(found, truth, said, task)
        why[task] = [
            oracle.why(question) if np.isnan(value) else "" if known else RANKS_NOTHING
            for question, value in zip(asked, said, strict=True)
        ]
        quality.append(_quality(found, truth, task, table[table["split"] == "train"]))
    return Said(p, why, tuple(quality))


def _dealt(pairs: Pairs, trained: set[str], context: Context) -> list[tuple[int | None, set[str]]]:
    """(the part of the training perturbations that the fit lacks, the genes to ask of it), in sets that fit into
    memory. New genes come first, of the whole, even where there are none: quality is measured on that fit."""
    asked = sorted({str(name) for rows in pairs.values() for name in rows["perturbation"]})
    by_part: dict[int | None, list[str]] = {None: []}
    for name in asked:
        by_part.setdefault(_part(name, context) if name in trained else None, []).append(name)
    chunks = {part: max(1, -(-len(held) // CHUNK)) for part, held in by_part.items()}
    return [(part, set(held[i :: chunks[part]])) for part, held in by_part.items() for i in range(chunks[part])]


def _part(name: str, context: Context) -> int:
    """One of FOLDS, by the gene alone: all its names share it."""
    return int(splits.fraction(context.base.current(name), "asked again") * FOLDS)


def _calibrated(found: Floats, truth: pd.DataFrame, asked: Floats, task: str) -> tuple[Floats, bool]:
    """The asked probabilities by the map that validation teaches, as they are where it is too small; NaN, and False,
    where on validation a higher probability means less."""
    told, label = ~np.isnan(found), _positive(truth, task)
    if not calibration.enough(label[told]):
        return asked, True
    made, known = np.full(len(asked), np.nan), ~np.isnan(asked)
    if calibration.turned(found[told], label[told]):
        return made, False
    if known.any():
        made[known] = calibration.calibrate(found[told], label[told], asked[known], "temperature")
    return made, True


def _quality(found: Floats, truth: pd.DataFrame, task: str, train: pd.DataFrame) -> Quality:
    told = ~np.isnan(found)
    p, label, rows = found[told], _positive(truth, task)[told], truth[told]
    genes = rows["perturbation"].astype(str)
    half = genes.map(splits.assign(sorted(set(genes)), {"train": 0.5, "test": 0.5}, salt="calibration")) == "train"
    halves = [half.to_numpy(), ~half.to_numpy()]
    error = None
    if all(calibration.enough(label[part]) for part in halves):
        made = np.empty(len(p))
        for part in halves:
            made[part] = calibration.calibrate(p[~part], label[~part], p[part], "temperature")
        error = calibration.ece(made, label)
    clusters = Clusters.of(genes.tolist())
    everything = np.ones(len(p), dtype=np.bool_)
    readouts = encode(rows["readout"].tolist())[0]
    asked = ranking.Ranking(everything, p, label > 0, readouts, clusters)
    auroc = measure({"auroc": ranking.auroc(asked, by_readout=True)}, clusters, 0, RESAMPLES)["auroc"].interval()
    return Quality(task, len(p), clusters.n, error, auroc, float(_positive(train, task).mean()))


def _positive(table: pd.DataFrame, task: str) -> Floats:
    return np.asarray(table["label"] == LABELS[f"perturbation/{task}"][0], dtype=np.float64)


def _questions(rows: pd.DataFrame, task: str, context: str) -> list[Question]:
    return [
        Question(f"{gene}:{readout}", f"perturbation/{task}", fields, {"context": context}, "predict", "validation")
        for gene, readout in zip(rows["perturbation"], rows["readout"], strict=True)
        if (fields := {"perturbation": gene, "readout": readout})
    ]


def _of(oracle: Predictions, asked: list[Question], task: str) -> Floats:
    first = LABELS[f"perturbation/{task}"][0]
    return np.array([np.nan if b is None else b[first] for b in oracle.probabilities(asked)], dtype=np.float64)
