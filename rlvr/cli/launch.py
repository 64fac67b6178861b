"""`rlvr launch RECIPE --print --topology ddp:8`: the commands for many processes or nodes, printed."""

from __future__ import annotations

from typing import Annotated

import typer

from rlvr.types import Error
from rlvr.yaml_file import each_once


def launch(
    recipe: Annotated[str, typer.Argument(help="A recipe's name or path.")],
    topology: Annotated[
        str, typer.Option(help="ddp:N, fsdp2:N, zero2:N, zero3:N, vllm-server:T+V or slurm:NODESxGPUS.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(callback=each_once, help="key=value, dotted: grpo.max_steps=20")
    ] = None,
    printing: Annotated[bool, typer.Option("--print", help="Print the commands; nothing is started.")] = False,
) -> None:
    """Print the exact commands for a topology; starts nothing and writes nothing."""
    from rlvr.training.launch.commands import Topology, commands

    if not printing:
        raise Error("rlvr launch starts nothing itself: add --print, and run what it prints")
    print(commands(recipe, overrides or [], Topology.parse(topology)))
