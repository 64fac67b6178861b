"""`rlvr export RUN --to DIR [--merged]`: a finished run as an adapter or a model, with its model card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[Path, typer.Argument(help="A finished run's folder.")],
    to: Annotated[Path, typer.Option(help="The folder to write; it must not exist.")],
    merged: Annotated[bool, typer.Option("--merged", help="A whole model instead of the adapter.")] = False,
) -> None:
    """Write the adapter (or the merged model), its tokenizer and its model card; prints the folder."""
    from rlvr.training.export.write import export as write

    print(write(run, to, merged))
