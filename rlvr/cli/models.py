"""`rlvr models list | pull NAME`: the policies that have a short name."""

from __future__ import annotations

import typer

from rlvr import models
from rlvr.cli.printing import Json, print_rows

app = typer.Typer(help="Models that have a short name.", no_args_is_help=True)


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """The known models, their licences, and whether they are here."""
    rows = [
        {
            "name": name,
            "upstream": model.upstream,
            "licence": model.licence,
            "weights": f"float32 from {model.quantisation}",
            "pulled": str(models.folder_of(name)) if models.is_pulled(name) else None,
        }
        for name, model in sorted(models.KNOWN.items())
    ]
    print_rows(rows, as_json)


@app.command("pull")
def pull_model(name: str) -> None:
    """Fetch a known model into the cache, once; prints its folder."""
    print(models.pull(name))
