"""`rlvr probe`: how often a policy already passes a recipe's training questions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from rlvr.cli.printing import Json
from rlvr.yaml_file import each_once


def probe(
    recipe: Annotated[str, typer.Argument(help="A recipe's name or path.")],
    out: Annotated[Path, typer.Option(help="The folder to write probe.parquet and every completion into.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(callback=each_once, help="key=value, dotted: model=MODEL seed=1")
    ] = None,
    samples: Annotated[int, typer.Option(help="Completions of each question.")] = 8,
    questions: Annotated[int | None, typer.Option(help="At most so many, by hash order; default: all.")] = None,
    adapter: Annotated[Path | None, typer.Option(help="The LoRA adapter to put on the recipe's model.")] = None,
    server: Annotated[str | None, typer.Option(help="An OpenAI-compatible server of the recipe's model.")] = None,
    key_env: Annotated[str | None, typer.Option(help="The environment variable that holds the server's key.")] = None,
    by: Annotated[str | None, typer.Option(help="The verifier that decides; default: the heaviest.")] = None,
    as_json: Json = False,
) -> None:
    """Sample training questions, and say how many pass never, sometimes and always."""
    from rlvr.recipe import load

    asked = load(recipe, overrides or [])  # a mistake in it shows before torch is loaded

    from rlvr.policy import Server
    from rlvr.training.learning import probe as probing

    served = Server(server, asked.model, key_env) if server else None
    found = probing.probe(asked, out, samples, questions, adapter=adapter, server=served, by=by)
    if as_json:
        print(json.dumps({"questions": len(found), "pass_rate": found["pass_rate"].tolist()}))
        return
    print(probing.histogram(found["pass_rate"].tolist()))
    print(f"pass rates: {out / 'probe.parquet'}")
