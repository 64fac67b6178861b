"""`rlvr evaluate`, `rlvr report` and `rlvr score`: what is measured of a model, a run, or saved rollouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from rlvr.cli.printing import Json


def evaluate(
    recipe: Annotated[str, typer.Argument(help="A recipe's name or path.")],
    out: Annotated[Path, typer.Option(help="The folder to write rows and report.json into.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, dotted: evaluation.questions=100")] = None,
    adapter: Annotated[Path | None, typer.Option(help="The LoRA adapter to put on the recipe's model.")] = None,
    final: Annotated[bool, typer.Option("--final", help="Use the test split; the use is entered in a ledger.")] = False,
) -> None:
    """Measure a model, or an adapter on it, on a recipe's held-out questions."""
    from rlvr.recipe import load

    asked = load(recipe, overrides or [])  # a mistake in it shows before torch is loaded

    from rlvr import evaluate as evaluation
    from rlvr.report import terminal_summary, write_report

    document = evaluation.run(asked, adapter, out, final)
    print(terminal_summary(document))
    print(f"report: {write_report(out)}")


def report(run: Annotated[Path, typer.Argument(help="A run's folder.")]) -> None:
    """Write a run's report.html, one self-contained page; prints where it is."""
    from rlvr.report import write_report

    print(write_report(run))


def score(
    rollouts: Annotated[Path, typer.Argument(help="A run's folder, a Parquet file, or JSON lines.")],
    out: Annotated[Path, typer.Option(help="The Parquet file to write.")],
    verifier: Annotated[
        list[str] | None,
        typer.Option(help="NAME or NAME:key=value,... (again for more); default: all of the recipe's."),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="A recipe's name or path; default: the recipe.yaml of the run.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Verdicts for saved completions, with no model and no GPU, and what changed against the saved ones."""
    from rlvr import rescore

    found = rescore.rescore(rollouts, verifier or [], recipe, out)
    print(json.dumps(found.to_dict(), indent=2, ensure_ascii=False) if as_json else found.text())
