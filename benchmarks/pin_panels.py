"""Draws every panel of data/panels.tsv from its source again; prints them, and writes them with --write.

    RLVR_DATA=... python benchmarks/pin_panels.py [--write]

To add a panel, add its row with n 0 and sha256 -, then run with --write. Exits with 1 if the table and
what was drawn differ. The questions themselves are never written: their licence is not ours.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import lru_cache

from rlvr import plugins
from rlvr.options import build
from rlvr.questions import panels
from rlvr.source import Source
from rlvr.types import Question


@lru_cache(maxsize=1)  # some hundred thousand questions each
def questions(source: str, context: str, task: str) -> list[Question]:
    options = {"context": context, "task": task.rpartition("/")[2]}
    return list(build(plugins.load("data", source, Source), options, f"source {source}").questions())


def draw(pin: panels.Pin) -> panels.Pin:
    held_out = [q for q in questions(pin.source, pin.context, pin.task) if q.split == pin.split]
    kept, digest = panels.panel(held_out, genes=pin.genes, per_label=pin.per_label, seed=pin.seed)
    readouts = len({q.fields["readout"] for q in kept})
    print(f"{pin.name} {pin.split}: {len(kept)} questions, {readouts} readouts, {digest}", flush=True)
    return replace(pin, n=len(kept), sha256=digest)


def main(arguments: list[str]) -> int:
    path = panels.table_path()
    before = panels.read(path)
    after = [draw(pin) for pin in before]
    if "--write" in arguments:
        panels.write(path, after)
        return 0
    return int(before != after)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
