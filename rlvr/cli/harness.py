"""`rlvr harness`: a recipe as an environment package of PrimeIntellect's verifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlvr.yaml_file import each_once


def harness(
    recipe: Annotated[str, typer.Argument(help="A recipe's name or path.")],
    to: Annotated[Path, typer.Option(help="The folder to write; its name is the package's.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(callback=each_once, help="key=value, dotted: source.evidence=4")
    ] = None,
) -> None:
    """Write a recipe's tasks as a package for PrimeIntellect's verifiers (inspect_ai: `inspect eval rlvr/rlvr`)."""
    from rlvr.evaluation.harness.package import package

    print(package(recipe, overrides or [], to))
