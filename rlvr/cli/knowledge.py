"""`rlvr knowledge build | show`: the knowledge base, from which releases, and what could not be placed in it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlvr.cli.printing import Json, print_rows
from rlvr.types import Error

if TYPE_CHECKING:
    from rlvr.knowledge import KnowledgeBase


class Release(StrEnum):
    """Which files the knowledge base is built from."""

    PINNED = "pinned"
    LATEST = "latest"


app = typer.Typer(help="What is known before any experiment.", no_args_is_help=True)


@app.command("build")
def build(
    release: Annotated[
        Release,
        typer.Option(help="pinned: the set that benchmarks use; latest: today's official files, from their sites"),
    ] = Release.PINNED,
    file: Annotated[list[str] | None, typer.Option(help="A newer release: PART=PATH, as in ontology=go.obo")] = None,
    cutoff: Annotated[str | None, typer.Option(help="Leave out GO annotation made after this day: 2018-06-30")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Leave out what rests on this paper: PMID:35688146")] = None,
    noncommercial: Annotated[bool, typer.Option("--noncommercial", help="Take in CORUM.")] = False,
    as_json: Json = False,
) -> None:
    """Build the knowledge base into the cache, or find it there if it was built from the same before. Recipes name one
    that is not the pinned one by its path, which is printed."""
    from rlvr import knowledge
    from rlvr.knowledge import latest

    named = dict(map(_part, file or []))
    files = {**(latest.fetch_latest() if release is Release.LATEST else {}), **named}
    built = knowledge.build(files, cutoff=cutoff, exclude_references=exclude or [], noncommercial=noncommercial)
    _print_base(built, as_json)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="upstream, sample, or the path of a built one.")] = "upstream",
    as_json: Json = False,
) -> None:
    """Its version, its options, every release with its licence, and what the build dropped."""
    from rlvr.knowledge import KnowledgeBase

    _print_base(KnowledgeBase.open(name), as_json)


def _part(given: str) -> tuple[str, Path]:
    part, mark, path = given.partition("=")
    if not mark:
        raise Error(f"--file {given!r}: write PART=PATH, for example ontology=go-basic.obo")
    return part, Path(path)


def _print_base(base: KnowledgeBase, as_json: bool) -> None:
    dropped: Counter[tuple[str, str]] = Counter()
    for source, reason, _, rows in base.dropped():
        dropped[source, reason] += rows
    lost = [{"source": source, "dropped": reason, "rows": rows} for (source, reason), rows in sorted(dropped.items())]
    releases = [asdict(release) for release in base.releases()]
    head = {"path": str(base.path), "version": base.version, **base.options}
    if as_json:
        print_rows([head | {"releases": releases, "dropped": lost}], as_json)
        return
    for key, value in head.items():
        print(f"{key}: {value or '-'}")
    print()
    print_rows([{key: value for key, value in release.items() if key != "sha256"} for release in releases])
    if lost:
        print()
        print_rows(lost)
