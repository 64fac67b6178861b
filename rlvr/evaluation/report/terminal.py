"""The report in a terminal: the headline and one table per task, in 80 columns unless told otherwise."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlvr.evaluation.report import scores
from rlvr.evaluation.report.text import Metric, count, number
from rlvr.invisible import printable

COLUMNS = ("parse_rate", "accuracy")  # beside the AUROC that decides


def terminal_summary(report: Mapping[str, Any], width: int = 80) -> str:
    """Plain text, no colour, no line longer than `width` columns."""
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, force_terminal=False, legacy_windows=False)
    for line in scores.headlines(report):
        console.print(Text(printable(f"{line.answer}. {line.text}" if line.answer else line.text, 600)))
    for task in scores.tasks(report):
        console.print()
        console.print(_table(report, task))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _table(report: Mapping[str, Any], task: str) -> Table:
    found = scores.table(report, task)
    decides = scores.mapping(scores.mapping(report.get("beats_best_shortcut")).get(task)).get("metric", "auroc")
    aurocs = [c.key for c in found.columns if "auroc" in c.key]
    wanted = (*COLUMNS, decides if decides in aurocs else next(iter(aurocs), ""))
    kept = [i for i, column in enumerate(found.columns) if column.key in wanted]
    split = printable(str(report.get("split", "unknown split")), 40)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left", title_style="", caption_style="")
    table.title = Text(f"{printable(task, 60)}, {split}: value (95 % interval)", justify="left")
    table.add_column("", overflow="fold")
    for i in kept:
        table.add_column(Text(found.columns[i].name), justify="right", no_wrap=True)
    for row in found.rows:
        name = printable(row.name, 60) + (" *" if row.best else "")
        table.add_row(Text(name), *(Text(_cell(row.cells[i])) for i in kept), end_section=_ends(found, row))
    counts = ", ".join(f"{found.columns[i].name} {_counts([row.cells[i] for row in found.rows])}" for i in kept)
    table.caption = Text(f"n: {counts}.  * the best shortcut", justify="left")
    return table


def _ends(table: scores.Table, row: scores.Row) -> bool:
    """Whether this is the last stage, under which a line parts the shortcuts."""
    stages = [other for other in table.rows if other.kind == "stage"]
    return bool(stages) and row is stages[-1]


def _cell(cell: Metric | None) -> str:
    """'.74 (.69–.79)': two decimals and no leading zero, to fit."""
    if cell is None:
        return "–"
    short = [number(found, 2).replace("0.", ".", 1) for found in (cell.value, cell.low, cell.high)]
    return short[0] if "–" in short[1:] else f"{short[0]} ({short[1]}–{short[2]})"


def _counts(cells: list[Metric | None]) -> str:
    found = sorted({cell.n for cell in cells if cell is not None and cell.n is not None})
    if not found:
        return "unknown"
    return count(found[0]) if len(found) == 1 else f"{count(found[0])} to {count(found[-1])}"
