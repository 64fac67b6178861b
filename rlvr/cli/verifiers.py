"""`rlvr verifiers list | check NAME_OR_FILE | new NAME`: what scores an answer, whether it can be trusted, a new one."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated

import typer

from rlvr import plugins
from rlvr.cli.printing import Json, Row, print_rows
from rlvr.types import Error
from rlvr.verifier import Verifier

app = typer.Typer(help="What scores an answer.", no_args_is_help=True)


@app.command("list")
def list_verifiers(as_json: Json = False) -> None:
    """The verifiers: built in, and from installed packages. One that does not load is listed with its error."""
    print_rows([_described(name, origin) for name, origin in sorted(plugins.names("verifiers").items())], as_json)


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="In lower case: codon_bias")],
    package: Annotated[bool, typer.Option("--package", help="Put a pip package around it.")] = False,
    to: Annotated[
        Path | None, typer.Option(help="A checkout of rlvr; with --package, where to put the folder.")
    ] = None,
) -> None:
    """Write a verifier that works, and its test: then make it yours. Prints the files."""
    from rlvr import authoring

    for path in authoring.new_package(name, to) if package else authoring.new_file(name, to):
        print(path)


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
