"""Between questions and the tables that an oracle is fitted on: it is part of `rlvr oracle fit`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from rlvr import tables
from rlvr.oracle.crossfit import LABELS
from rlvr.questions.splits.kin import Kin
from rlvr.types import Error, Question


def tables_of(questions: Iterable[Question]) -> dict[str, dict[str, pd.DataFrame]]:
    """context -> task ("effect", "direction") -> canonical table. `perturbation/response` gives both: none is no
    effect. Errors: no question of these tasks."""
    rows: dict[str, dict[str, list[tuple[str, ...]]]] = {}
    for question in questions:
        for task, label in _labels(question).items():
            context = str(question.truth["context"])
            key = (str(question.fields["perturbation"]), str(question.fields["readout"]), context)
            rows.setdefault(context, {}).setdefault(task, []).append((*key, label, question.split))
    if not rows:
        raise Error("oracle: no question of perturbation/effect, direction or response; name a source that asks them")
    return {
        context: {task: pd.DataFrame(held, columns=list(tables.COLUMNS)) for task, held in by_task.items()}
        for context, by_task in rows.items()
    }


def asked(pairs: pd.DataFrame, task: str, where: str) -> Mapping[str, pd.DataFrame]:
    """context -> rows to predict, from a table of context, perturbation, readout. Their label is a dummy that the fit
    never looks at; their split is "test". Errors: a missing column, no row, a pair that comes twice."""
    tables.require(pairs, tables.KEY, where)
    if pairs.empty:
        raise Error(f"{where}: no pairs; write at least one")
    if pairs.duplicated(tables.KEY).any():
        raise Error(f"{where}: {int(pairs.duplicated(tables.KEY).sum())} pairs come twice; keep one of each")
    rows = pairs[tables.KEY].astype(str).assign(label=LABELS[task][0], split="test")
    return {str(context): held[list(tables.COLUMNS)] for context, held in rows.groupby("context")}


def renamed(given: pd.DataFrame, truth: pd.DataFrame, where: str) -> pd.DataFrame:
    """Predictions under the names that the questions use: an Ensembl id, an old symbol, other capitals are one gene.
    Errors: two names of one gene in one context."""
    sides = ("perturbation", "readout")
    kin = Kin.of({str(name) for table in (given, truth) for side in sides for name in table[side].unique()})
    found = given.copy()
    for side in sides:
        asked = {kin.id(name): name for name in truth[side].unique()}
        found[side] = given[side].map({name: asked.get(kin.id(name), name) for name in given[side].unique()})
    twice = found.duplicated(tables.KEY, keep=False)
    if twice.any():
        one, other = (", ".join(map(str, given.loc[row, tables.KEY])) for row in found.index[twice][:2])
        raise Error(f"{where}: two names of one gene: {one} and {other}; keep one")
    return found


def _labels(question: Question) -> dict[str, str]:
    answer, task = str(question.truth["answer"]), question.task.removeprefix("perturbation/")
    if task == "response":
        return {"effect": "no"} if answer == "none" else {"effect": "yes", "direction": answer}
    return {task: answer} if question.task == f"perturbation/{task}" and task in LABELS else {}
