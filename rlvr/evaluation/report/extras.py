"""The parts of report.json that only some runs have, as tables: confusion, strata, reliability, alarms, reasoning.

Each function gives nothing where the run has nothing of the kind; the page and the Markdown show what there is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from rlvr.evaluation.report.rows import TRAINING
from rlvr.evaluation.report.scores import STAGES, mapping, metric_name
from rlvr.evaluation.report.text import Metric, count, finite, label, number, words

RECORDS = 50  # rows of one table that are shown
LABELS = 12  # rows and columns of a confusion table
MOST_LABELS = 40  # more distinct answers than these are no classes
NO_ANSWER, OTHER = "unparsed", "other"
GAIN = "Gain over the best shortcut"


@dataclass(frozen=True)
class Records:
    """A list of mappings as a table; `left_out` counts the rows that are not shown."""

    columns: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    left_out: int = 0


@dataclass(frozen=True)
class Confusion:
    """Questions by true label (row) and answer (column) of one stage; the last column holds what did not parse."""

    task: str
    stage: str
    truths: list[str]
    answers: list[str]
    counts: list[list[int]]

    def shade(self, row: int, column: int) -> int:
        """0 to 9: the share of the row, for the eye."""
        total = sum(self.counts[row])
        return min(9, round(9 * self.counts[row][column] / total)) if total else 0


@dataclass(frozen=True)
class Stratum:
    """A figure over some of a task's questions: `of` says what they are split by, `name` which of them."""

    of: str
    name: str
    metric: str
    figure: Metric


@dataclass(frozen=True)
class Bin:
    """Answers of like probability: the mean that was said, and the share that held."""

    said: float
    held: float
    n: int


@dataclass(frozen=True)
class Reasoned:
    """A measurement of the thought, beside what it would be by chance."""

    name: str
    figure: Metric
    baseline: str


def flat(found: Any, prefix: str = "") -> list[str]:
    """Nested mappings as 'key value' pieces, keys joined with a dot."""
    if not isinstance(found, Mapping):
        return [f"{prefix} {number(found) if isinstance(found, float) else found}".strip()] if found is not None else []
    return [piece for key, value in found.items() for piece in flat(value, f"{prefix}.{key}" if prefix else str(key))]


def records(found: Any) -> Records:
    """A list of mappings (or of plain values) as a table."""
    items = (
        [item if isinstance(item, Mapping) else {"entry": item} for item in found] if isinstance(found, list) else []
    )
    columns = list(dict.fromkeys(str(key) for item in items for key in item))
    lines = [["; ".join(flat(item.get(column))) or "–" for column in columns] for item in items[:RECORDS]]
    return Records(columns, lines, max(0, len(items) - RECORDS))


def confusions(found: pd.DataFrame, task: str) -> list[Confusion]:
    """One for each stage, from the rows themselves (`rows.index`); none where answers are no classes."""
    own = found[(found["task"] == task) & (found["stage"] != TRAINING) & found["truth"].notna()]
    truths = own["truth"].astype(str).value_counts()
    if not 1 < len(truths) <= MOST_LABELS or len(truths) * 2 > len(own):
        return []
    kept = sorted(truths.index[: LABELS if len(truths) <= LABELS else LABELS - 1])
    tables = []
    for stage in dict.fromkeys(own["stage"]):
        at = own[own["stage"] == stage]
        truth = at["truth"].astype(str).where(at["truth"].astype(str).isin(kept), OTHER)
        said = at["answer"].where(at["answer"].isna() | at["answer"].isin(kept), OTHER).fillna(NO_ANSWER)
        counted = pd.crosstab(truth, said)
        rows = [*kept, *([OTHER] if (truth == OTHER).any() else [])]
        columns = [*kept, *([OTHER] if (said == OTHER).any() else []), NO_ANSWER]
        grid = counted.reindex(index=rows, columns=columns, fill_value=0)
        tables.append(Confusion(task, str(stage), rows, columns, grid.astype(int).to_numpy().tolist()))
    return tables


def strata(report: Mapping[str, Any], task: str) -> list[Stratum]:
    """Every figure of the last stage in each stratum, its gain over the best shortcut last."""
    return [
        Stratum(words(str(division)), str(name), GAIN if key == "gain" else metric_name(key), figure)
        for division, named in mapping(mapping(report.get("strata")).get(task)).items()
        for name, row in mapping(named).items()
        for key, found in mapping(row).items()
        if (figure := Metric.of(found))
    ]


def uncounted(report: Mapping[str, Any], task: str) -> list[str]:
    """The strata that are too small to be scored, each with why."""
    return [
        f"{words(str(division))}, {name} ({count(_whole(mapping(row).get('n')))}): {mapping(row)['reason']}"
        for division, named in mapping(mapping(report.get("strata")).get(task)).items()
        for name, row in mapping(named).items()
        if mapping(row).get("reason")
    ]


def _whole(found: Any) -> int | None:
    value = finite(found)
    return None if value is None else int(value)


def reliability(report: Mapping[str, Any], task: str) -> dict[str, list[Bin]]:
    """The bins of each stage that has any, stage by its name."""
    kept = mapping(report.get("reliability"))
    found = {name: _bins(mapping(kept.get(key)).get(task)) for key, name in STAGES.items()}
    return {name: bins for name, bins in found.items() if bins}


def _bins(kept: Any) -> list[Bin]:
    found = []
    for item in map(mapping, kept if isinstance(kept, list) else []):
        said, held, n = (finite(item.get(key)) for key in ("said", "held", "n"))
        if said is not None and held is not None and n:
            found.append(Bin(said, held, int(n)))
    return sorted(found, key=lambda bin: bin.said)


def reasoning(report: Mapping[str, Any]) -> list[tuple[str, list[Reasoned]]]:
    """Each table of the thought's measurements, under its name."""
    found = []
    for name, kept in mapping(report.get("reasoning")).items():
        lines = [
            Reasoned(words(str(item.get("name", name))), figure, _baseline(item.get("baseline")))
            for item in map(mapping, kept if isinstance(kept, list) else [kept])
            if (figure := Metric.of(item))
        ]
        if lines:
            found.append((label(str(name)), lines))
    return found


def _baseline(found: Any) -> str:
    """A number, a figure, or words."""
    figure = Metric.of(found)
    if figure:
        return f"{number(figure.value)} ({figure.interval})"
    value = finite(found)
    return number(value) if value is not None else str(found) if found else "–"


def progress(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(stage, how its rows were made) of each evaluation that left a record."""
    records = mapping(report.get("evaluations"))
    return [(STAGES.get(key) or label(str(key)), "; ".join(flat(kept))) for key, kept in records.items() if flat(kept)]
