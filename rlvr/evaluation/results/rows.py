"""The rows that evaluations/<stage>.parquet keeps, as results need them: numbers and labels, none of the texts.

table = read(Path("runs/quickstart/evaluations/after.parquet"))     # sorted by question and sample
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rlvr.answers import Probability
from rlvr.evaluation.metrics import System
from rlvr.prompts import Template
from rlvr.tables import require
from rlvr.types import Error

STAGES = ("before", "warm_start", "after")
NEEDED = ("question_id", "task", "context", "perturbation", "readout", "truth", "answer")
TEXTS = ("prompt", "completion", "thought", "lenient")  # hundreds of megabytes, and no metric reads them
KEY = ["question_id", "sample"]
PROBABLE = (("yes", "no"), ("up", "down"))  # what a stated probability is about, and what it is not

Mask = NDArray[np.bool_]


def read(path: Path) -> pd.DataFrame:
    """Every row of a stage, without its texts, in the order of question and sample.

    Errors: no readable Parquet file, a column missing, a sample that is there twice.
    """
    try:
        there = pq.read_schema(path).names
        kept = [name for name in there if name not in TEXTS and not name.endswith(("/evidence", "/error"))]
        table: pd.DataFrame = pq.read_table(path, columns=kept).to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise Error(f"{path} cannot be read ({' '.join(str(error).split())[:200]}); evaluate again") from error
    require(table, NEEDED, str(path))
    if "sample" not in table:
        table["sample"] = 0
    twice = table.duplicated(KEY)
    if twice.any():
        name, sample = table.loc[twice, KEY].iloc[0]
        raise Error(f"{path}: question {name} has sample {sample} twice; keep one of them")
    return table.sort_values(KEY, ignore_index=True)


def stages(run: Path) -> dict[str, pd.DataFrame]:
    """The rows of every stage that a run has kept, in order. Errors: none."""
    paths = {stage: run / "evaluations" / f"{stage}.parquet" for stage in STAGES}
    tables = {stage: read(path) for stage, path in paths.items() if path.is_file()}
    if not tables:
        raise Error(f"{run} holds no evaluations; train or evaluate first")
    return tables


def record(run: Path, stage: str) -> dict[str, Any] | None:
    """evaluations/<stage>.json: how the rows were made; None in a run that kept none. Errors: not an object."""
    path = run / "evaluations" / f"{stage}.json"
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise Error(f"{path} cannot be read ({type(error).__name__}); evaluate again") from error
    if not isinstance(found, dict):
        raise Error(f"{path} holds a {type(found).__name__} where an object was expected; evaluate again")
    return found


def answers(table: pd.DataFrame) -> list[str | None]:
    """The canonical answers; None where nothing parsed."""
    return [answer if isinstance(answer, str) else None for answer in table["answer"]]


def right(table: pd.DataFrame) -> Mask:
    """Which answers are the true one, read from the table alone: neither a verifier nor a prompt has a say."""
    known: dict[tuple[str, str], bool] = {}
    found = np.zeros(len(table), dtype=np.bool_)
    for row, (truth, answer) in enumerate(zip(table["truth"], answers(table), strict=True)):
        if answer is not None:
            pair = (str(truth), answer)
            if pair not in known:
                known[pair] = _same(*pair)
            found[row] = known[pair]
    return found


def _same(truth: str, answer: str) -> bool:
    """Equal as words, or as JSON: of lists and mappings the spelling may differ."""
    if truth == answer:
        return True
    try:
        return bool(json.loads(truth) == json.loads(answer))
    except (ValueError, RecursionError):
        return False


def labels_of(template: Template, truths: Sequence[Any]) -> list[str]:
    """The labels of a task that has the same ones for every question; none for open answers. A stated probability
    is about two: the label that its prompt names first."""
    if isinstance(template.answers, Probability):
        return next((list(pair) for pair in _ordered(template.answers.of) if set(truths) <= set(pair)), [])
    return list(dict.fromkeys(template.slot_words.values()))


def _ordered(first: str) -> list[tuple[str, str]]:
    """The known pairs of labels that hold `first`, with it in front."""
    return [pair if pair[0] == first else (pair[1], pair[0]) for pair in PROBABLE if first in pair]


def labels_in(table: pd.DataFrame) -> list[str]:
    """The same from the rows alone: the labels that they have probabilities for, or that a probability is about."""
    if str(table["task"].iloc[0]).endswith("_probability"):
        return next((list(pair) for pair in PROBABLE if set(table["truth"]) <= set(pair)), [])
    columns = [name for name in table.columns if name.startswith("p/")]
    return [name.removeprefix("p/") for name in columns if table[name].notna().any()]


def system(table: pd.DataFrame, labels: Sequence[str]) -> System:
    """What rlvr.evaluation.metrics needs of the rows of one task with these labels.

    A stated probability above one half is the first label's answer; unparsed, it is one half and no answer. A row
    whose probabilities are absent is uninformed; where all are, the system has none.
    """
    given = answers(table)
    if str(table["task"].iloc[0]).endswith("_probability"):
        first = np.array([0.5 if answer is None else float(answer) for answer in given])
        told: NDArray[np.float64] | None = np.column_stack([first, 1.0 - first])
        given = [a if a is None else labels[0 if float(a) > 0.5 else 1] for a in given]
    else:
        told = table.reindex(columns=[f"p/{label}" for label in labels]).to_numpy(dtype=np.float64, copy=True)
        blank = np.isnan(told).any(axis=1)
        told[blank] = 1.0 / len(labels)
        told = None if blank.all() else told
    return System(
        labels=table["truth"].tolist(),
        probabilities=told,
        answers=given,
        label_names=list(labels),
        readouts=(table["context"] + ":" + table["readout"]).tolist(),
        clusters=table["perturbation"].tolist(),
    )


def common(a: pd.DataFrame, b: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of both whose question and sample is in both, in the same order."""
    shared = pd.merge(a[KEY], b[KEY], on=KEY)
    first, second = (shared.merge(table, on=KEY, how="left") for table in (a, b))
    return first.sort_values(KEY, ignore_index=True), second.sort_values(KEY, ignore_index=True)
