"""`rlvr doctor RECIPE`: what a recipe would run into on this machine, before anything is spent. Ends in go or no-go."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from rlvr.cli.printing import Json
from rlvr.yaml_file import each_once

if TYPE_CHECKING:
    from rlvr.training.doctor.examination import Diagnosis

GIB = 1024**3


def doctor(
    recipe: Annotated[str, typer.Argument(help="A recipe's name or path.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(callback=each_once, help="key=value, dotted: grpo.max_steps=20")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes that `accelerate launch` will start.")] = 1,
    ask: Annotated[int, typer.Option(min=0, help="Put so many questions to the untrained model (loads it).")] = 0,
    as_json: Json = False,
) -> None:
    """Versions, memory, batch arithmetic, prompts, chat template and known traps. Exits 1 on no-go."""
    from rlvr.recipe import load

    asked = load(recipe, overrides or [])  # a mistake in it shows before torch is loaded

    from rlvr.training.doctor.examination import examine

    diagnosis = examine(asked, processes, ask)
    if as_json:
        print(json.dumps(diagnosis.to_dict(), indent=2, ensure_ascii=False))
    else:
        _print(diagnosis)
    if not diagnosis.go:
        raise typer.Exit(1)


def _print(diagnosis: Diagnosis) -> None:
    found = diagnosis.to_dict()
    print("versions: " + ", ".join(f"{name} {version}" for name, version in found["versions"].items()))
    machine, batch = found["machine"], found["batch"]
    gpus = f"{machine['gpus']} GPU of {machine['gpu_bytes'] / GIB:.1f} GiB" if machine["gpus"] else "no GPU"
    print(f"machine: {gpus}, {machine['ram_bytes'] / GIB:.1f} GiB of main memory")
    if batch:
        print(
            f"batch: {batch['completions']} completions of {batch['prompts']} prompts in groups of "
            f"{batch['num_generations']}, on {batch['processes']} process{'es' if batch['processes'] > 1 else ''}"
        )
    if found["longest_prompt"]:
        print(f"prompts: the longest has {found['longest_prompt']} tokens")
    if found["memory"]:
        parts = [f"{name} {size / GIB:.2f}" for name, size in found["memory"].items() if size and name != "total"]
        total, there = found["memory"]["total"] / GIB, found["available"] / GIB
        print(f"memory, GiB per process: about {total:.1f} of {there:.1f} ({', '.join(parts)})")
    if trial := found["trial"]:
        print(
            f"untrained: {trial['parsed']:.0%} of {trial['completions']} completions parse, "
            f"{trial['truncated']:.0%} are cut off, "
            f"{trial['zero_variance']:.0%} of {trial['questions']} groups have equal rewards"
        )
    if found["findings"]:
        print()
    for finding in found["findings"]:
        print(f"{finding['severity']}: {finding['check']}: {finding['message']}")
        if finding["link"]:
            print(f"    {finding['link']}")
    counts = [f"{sum(f['severity'] == s for f in found['findings'])} to {s}" for s in ("refuse", "warn")]
    print(f"\n{found['checks']} checks: {', '.join(counts)}\n{'go' if found['go'] else 'no-go'}")
