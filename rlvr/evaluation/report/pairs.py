"""Two answers to one held-out question side by side, word by word: before and after training, or of two runs."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Any

import pandas as pd

from rlvr.evaluation.report import rows
from rlvr.evaluation.report.browser import Json, Prompts
from rlvr.evaluation.report.scores import STAGES
from rlvr.evaluation.report.text import clip, count, finite
from rlvr.invisible import printable

LIMIT = 400  # pairs on the page
HEAD, TAIL = 4500, 1500  # characters of one text that are compared
WORD = re.compile(r"[^\s]+\s*|^\s+")
SPELT = {"equal": "=", "delete": "-", "insert": "+"}


@dataclass(frozen=True)
class Pairs:
    """`changes`: 'wrong → right' -> questions, over all that both answered; `shown` says which `data` holds."""

    names: tuple[str, str]
    data: list[Json]
    changes: dict[str, int]
    shown: str

    @property
    def n(self) -> int:
        return sum(self.changes.values())


def of_stages(found: pd.DataFrame, prompts: Prompts) -> Pairs | None:
    """The first and the last stage of one run; None where fewer than two answered the same question."""
    stages = [name for name in STAGES.values() if (found["stage"] == name).any()]
    if len(stages) < 2:
        return None
    first, last = (found[found["stage"] == stages[place]] for place in (0, -1))
    return pair(first, last, (stages[0], stages[-1]), prompts)


def of_runs(first: pd.DataFrame, last: pd.DataFrame, names: tuple[str, str], prompts: Prompts) -> Pairs | None:
    """The last stage of each of two runs."""
    ends = [(found, [name for name in found["stage"].unique() if name != rows.TRAINING]) for found in (first, last)]
    one, two = (found[found["stage"] == stages[-1]] for found, stages in ends)
    titles = [f"{printable(name, 60)}, {stages[-1]}" for name, (_, stages) in zip(names, ends, strict=True)]
    return pair(one, two, (titles[0], titles[1]), prompts)


def pair(first: pd.DataFrame, last: pd.DataFrame, names: tuple[str, str], prompts: Prompts) -> Pairs | None:
    """The first sample of each question that both answered; shown are, of every kind of change in turn, those that
    come first by hash, changed answers before unchanged ones."""
    both = first.drop_duplicates("question_id").merge(
        last.drop_duplicates("question_id"), on="question_id", suffixes=("_a", "_b"), how="inner"
    )
    if both.empty:
        return None
    both["change"] = both["outcome_a"] + " → " + both["outcome_b"]
    both["same"] = both["answer_a"].fillna("\0") == both["answer_b"].fillna("\0")
    both["hash"] = pd.util.hash_array(both["question_id"].astype(str).to_numpy(dtype=object))
    both = both.sort_values(["hash", "question_id"])
    both["turn"] = both.groupby(["change", "same"]).cumcount()
    chosen = both.sort_values(["same", "turn", "hash"], kind="stable").head(LIMIT)
    sides = [
        list(rows.fetch(pd.DataFrame({"path": chosen[f"path_{side}"], "place": chosen[f"place_{side}"]})))
        for side in "ab"
    ]
    data = [
        _record(line, one, two, prompts)
        for line, (_, one), (_, two) in zip(chosen.to_dict("records"), *sides, strict=True)
    ]
    changes = {str(kind): int(n) for kind, n in both["change"].value_counts(sort=False).sort_index().items()}
    moved = int((~both["same"]).sum())
    shown = f"{count(len(both))} questions were answered by both; {count(moved)} answers changed"
    if len(chosen) < len(both):
        changed = int((~chosen["same"]).sum())
        shown += f". Shown are {count(len(chosen))}, {count(changed)} of them changed, chosen by hash"
    return Pairs(names, data, changes, f"{shown}.")


def _record(line: dict[Any, Any], first: rows.Row, last: rows.Row, prompts: Prompts) -> Json:
    truth = last.get("truth") if last.get("truth") is not None else first.get("truth")
    return {
        "q": printable(str(line["question_id"]), 300),
        "t": printable(str(last.get("task") or ""), 100),
        "y": None if truth is None else printable(str(truth), 200),
        "o": line["change"],
        "same": bool(line["same"]),
        "a": [_said(row, truth) for row in (first, last)],
        "p": prompts.at(last.get("prompt")),
        "w": words(_text(first), _text(last)),
    }


def _said(row: rows.Row, truth: Any) -> list[Any]:
    """The answer, and the probability of the true one at the forced slot."""
    answer, p = row.get("answer"), finite(row.get(f"p/{truth}"))
    return [None if answer is None else printable(str(answer), 200), None if p is None else round(p, 3)]


def _text(row: rows.Row) -> str:
    part = clip(str(row.get("completion") or ""), HEAD, TAIL, lines=10**9)
    cut = f"\n[… {count(part.omitted)} characters are not compared …]\n" if part.omitted else ""
    return "".join(printable(piece, len(piece)) for piece in (part.head, cut, part.tail))


def words(first: str, last: str) -> list[tuple[str, str]]:
    """('=', both), ('-', only the first) and ('+', only the last) pieces, in order. The first two together are the
    first text, the first and third the last."""
    one, two = (WORD.findall(text) for text in (first, last))
    found: list[tuple[str, str]] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, one, two).get_opcodes():
        if kind == "replace":
            found += [("-", "".join(one[a:b])), ("+", "".join(two[c:d]))]
        else:
            found.append((SPELT[kind], "".join(one[a:b] or two[c:d])))
    return found
