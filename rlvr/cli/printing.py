"""How the commands print: rows as a table for a reader, or as JSON for a program (`--json`)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from rlvr.invisible import printable

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Row = Mapping[str, Any]
PIPE = 240  # where no terminal is in sight, a row stays a line


def print_rows(rows: Sequence[Row], as_json: bool = False, *, width: int | None = None) -> None:
    """A table, one column per key that any row has, folded to the terminal (or to `width` columns)."""
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    table = Table(box=None, header_style="bold")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(cell(row.get(column)) for column in columns))
    Console(highlight=False, markup=False, width=width or _width()).print(table)


def _width() -> int | None:
    """Of the terminal that reads a pipe in the end (`| less`), where the errors still go to it; None: of our own."""
    if sys.stdout.isatty():
        return None
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or PIPE
    except (OSError, ValueError):
        return PIPE


def cell(value: Any) -> str:
    """A value as a table shows it; what a foreign text hides is spelt out."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))
