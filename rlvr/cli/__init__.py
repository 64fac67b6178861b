"""The `rlvr` command.

    rlvr models list | pull NAME
    rlvr data list | pull NAME | show NAME [key=value ...]
    rlvr data audit RECIPE [key=value ...] | SOURCE[:key=value,...] ... [--split validation|test]
    rlvr verifiers list | check NAME_OR_FILE | check --all | new NAME [--package]
    rlvr knowledge build | show
    rlvr doctor RECIPE [key=value ...] [--processes N] [--ask N]
    rlvr oracle fit SOURCE... --out DIR | calibrate EXPORT SOURCE... --out DIR | predict PAIRS SOURCE... --out FILE
    rlvr predict GENES.csv --context NAME [--readout NAME] [--oracle DIR | --adapter RUN/adapter] --out DIR
    rlvr probe RECIPE [key=value ...] [--samples N] [--questions N] [--adapter DIR] --out DIR
    rlvr evaluate RECIPE [key=value ...] [--adapter DIR] [--final] --out DIR
    rlvr score RUN_OR_ROLLOUTS [--verifier NAME:key=value,... ...] --out FILE.parquet
    rlvr report RUN [OTHER_RUN] [--markdown]
    rlvr export RUN --to DIR [--merged]
    rlvr launch RECIPE [key=value ...] --print --topology ddp:8
    rlvr harness RECIPE [key=value ...] --to DIR

Exit codes: 0, 1 (failed: one line on stderr says what, where and what to do), 2 (bad arguments).
What needs torch or pandas is imported by the commands that need it, so that `rlvr --help` is quick.
"""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

import rlvr
from rlvr.cli import (
    audit,
    data,
    doctor,
    export,
    harness,
    knowledge,
    launch,
    models,
    oracle,
    predict,
    probe,
    runs,
    verifiers,
)
from rlvr.types import Error

app = typer.Typer(
    help="Reinforcement learning from verifiable rewards for biology.", no_args_is_help=True, add_completion=False
)
app.add_typer(models.app, name="models")
app.add_typer(data.app, name="data")
data.app.command("audit")(audit.audit)
app.add_typer(verifiers.app, name="verifiers")
app.add_typer(knowledge.app, name="knowledge")
app.command()(doctor.doctor)
app.add_typer(oracle.app, name="oracle")
app.command()(predict.predict)
app.command()(probe.probe)
app.command()(runs.evaluate)
app.command()(runs.score)
app.command()(runs.report)
app.command()(export.export)
app.command()(launch.launch)
app.command()(harness.harness)


def _version(asked: bool) -> None:
    if asked:
        print(rlvr.__version__)
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("rlvr").setLevel(logging.INFO)


def main() -> None:
    """The console script: a user's mistake is one line, not a traceback."""
    try:
        app()
    except Error as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
