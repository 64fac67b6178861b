"""`rlvr verifiers list | check NAME_OR_FILE | new NAME`: what scores an answer, can it be trusted, write one."""

from __future__ import annotations

import inspect
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlvr import plugins
from rlvr.cli.printing import Json, Row, print_rows
from rlvr.types import Error
from rlvr.verifier import Verifier

if TYPE_CHECKING:
    from rlvr.testing import Report

WIDTH = 80  # columns of the tables of `check`

app = typer.Typer(help="What scores an answer.", no_args_is_help=True)


@app.command("list")
def list_verifiers(as_json: Json = False) -> None:
    """The verifiers: built in, and from installed packages. One that does not load is listed with its error."""
    print_rows([_described(name, origin) for name, origin in sorted(plugins.names("verifiers").items())], as_json)


@app.command("check")
def check(
    name_or_file: Annotated[str | None, typer.Argument(help="A verifier's name, or a .py file with one.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every built-in verifier.")] = False,
    as_json: Json = False,
) -> None:
    """Try a verifier on real questions with honest, wrong, broken and cheating completions; 1 if it fails."""
    if (name_or_file is None) != everything:
        raise typer.BadParameter("give a verifier's name or file, or --all")
    from rlvr import testing

    reports = testing.check_all() if name_or_file is None else [testing.check_named(name_or_file)]
    if as_json:
        print(json.dumps([{**asdict(report), "ok": report.ok} for report in reports], indent=2, ensure_ascii=False))
    else:
        if everything:
            print_rows([_summary(report) for report in reports], width=WIDTH)
        for report in reports:
            if not (everything and report.ok):
                tried = f"{report.questions} questions of {', '.join(report.tasks)}"
                print(f"\n{report.verifier} {report.version} ({report.kind}), {tried}")
                print_rows([_without_name(row) for row in report.rows()], width=WIDTH)
    if not all(report.ok for report in reports):
        raise typer.Exit(1)


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="In lower case: codon_bias")],
    package: Annotated[bool, typer.Option("--package", help="Put a pip package around it.")] = False,
    to: Annotated[Path, typer.Option(help="A checkout of rlvr; with --package, any folder.")] = Path(),
) -> None:
    """Write a verifier that works, and its test: then make it yours. Prints the files."""
    from rlvr.scaffold import write

    for path in write.new_package(name, to) if package else write.new_file(name, to):
        print(path)


def _summary(report: Report) -> Row:
    """One verifier's line in the table of all."""
    speed = next((f.detail for f in report.findings if f.check == "speed"), "-")
    return {
        "verifier": report.verifier,
        "kind": report.kind,
        "tasks": len(report.tasks),
        "questions": report.questions,
        "checks": f"{sum(finding.ok for finding in report.findings)} of {len(report.findings)}",
        "speed": speed.partition(" (")[0],
    }


def _without_name(row: Row) -> Row:
    return {key: value for key, value in row.items() if key != "verifier"}


def _described(name: str, origin: str) -> Row:
    row = {"name": name, "from": origin}
    try:
        plugin = plugins.load("verifiers", name, Verifier)
    except Error as error:
        return row | {"error": str(error)}
    first = (inspect.getdoc(plugin) or "").partition("\n\n")[0]
    return row | {
        "version": plugin.version,
        "kind": plugin.kind,
        "scores": " ".join(first.split()),
        "tasks": list(plugin.tasks),
    }
