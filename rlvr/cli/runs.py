"""`rlvr evaluate`, `rlvr report` and `rlvr score`: what is measured of a model, a run, or saved rollouts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from rlvr.cli.printing import Json, print_rows

LISTED = 10  # of the question ids that no source knows


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
    from rlvr.rescore import rescore

    found = rescore(rollouts, verifier or [], recipe, out).to_dict()
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        _print_changes(found)
    print(f"verdicts: {out}", file=sys.stderr)


def _print_changes(found: Mapping[str, Any]) -> None:
    print(f"{found['rows']} completions scored")
    if found["missing"]:
        ids = ", ".join(found["missing"][:LISTED]) + (", ..." if len(found["missing"]) > LISTED else "")
        print(f"{found['skipped']} left out: the sources lack {len(found['missing'])} question ids: {ids}")
    shown = ("before", "after", "compared", "changed")
    print_rows([{"verifier": name, **{key: _figure(row[key]) for key in shown}} for name, row in _verifiers(found)])
    for name, row in _verifiers(found):
        print(f"{name}: " + ", ".join(f"{reason} {count}" for reason, count in row["reasons"].items()))
        for example in row["examples"]:
            scores = f"{_figure(example['before'])} -> {_figure(example['after'])} ({example['reason']})"
            print(f"  {example['question_id']}: {scores}\n    ...{example['completion']!r}")  # repr: it is hostile text


def _verifiers(found: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    verifiers: Mapping[str, Mapping[str, Any]] = found["verifiers"]
    return verifiers.items()


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
