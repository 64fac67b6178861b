"""Panels: the small fixed sets of held-out questions on which policies are compared.

Sampling a policy on every test row takes hours, and few rows drawn at random leave most readouts
without both labels. A panel takes the readouts that have enough rows of every label, by one fixed rule;
`data/panels.tsv` pins each by the hash of its question ids. benchmarks/pin_panels.py writes that table.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path

from rlvr.options import build
from rlvr.plugins import folders
from rlvr.types import Error, Question, suggest

ENOUGH = 3  # rows of each label that a readout needs: with fewer, its AUROC is mostly noise


@dataclass(frozen=True)
class Pin:
    """One row of panels.tsv: how the panel is drawn, how many questions it has, and their digest."""

    name: str
    split: str
    source: str
    context: str
    task: str
    genes: int
    per_label: int
    seed: int
    n: int
    sha256: str


_WHOLE = ("genes", "per_label", "seed", "n")


def panel(questions: Sequence[Question], *, genes: int, per_label: int, seed: int) -> tuple[list[Question], str]:
    """The panel among the held-out questions of one task, in the order given, and its digest.

    A readout (within its context) counts if it has at least ENOUGH rows of every label of the task; of
    those, the first `genes` by the hash of the seed and their name; of each, the first `per_label` rows
    of each label by the hash of the seed and their id. The order of the questions changes nothing.
    """
    labels = {str(question.truth["answer"]) for question in questions}
    strata: dict[str, dict[str, list[Question]]] = defaultdict(lambda: defaultdict(list))
    for question in questions:
        readout = f"{question.truth.get('context')}:{question.fields['readout']}"
        strata[readout][str(question.truth["answer"])].append(question)
    full = [readout for readout, rows in strata.items() if all(len(rows[label]) >= ENOUGH for label in labels)]
    chosen: set[str] = set()
    for readout in sorted(full, key=lambda name: _hash(seed, name))[:genes]:
        for rows in strata[readout].values():
            chosen.update(sorted((question.id for question in rows), key=lambda name: _hash(seed, name))[:per_label])
    kept = [question for question in questions if question.id in chosen]
    return kept, digest(kept)


def digest(questions: Sequence[Question]) -> str:
    """sha256 of the sorted question ids: tells whether two sets of questions are the same."""
    return sha256("\n".join(sorted(question.id for question in questions)).encode()).hexdigest()


def pinned(questions: Sequence[Question], name: str, split: str) -> list[Question]:
    """The committed panel of that name among a source's questions. Errors: unknown name or split,
    questions from which another panel comes out than the one that was pinned."""
    known = {(pin.name, pin.split): pin for pin in read(table_path())}
    if (name, split) not in known:
        listed = sorted({pin for pin, _ in known})
        raise Error(f"no panel {name!r} for the {split} split{suggest(name, listed)}; known: {', '.join(listed)}")
    pin = known[name, split]
    held_out = [question for question in questions if question.split == split]
    kept, found = panel(held_out, genes=pin.genes, per_label=pin.per_label, seed=pin.seed)
    if found != pin.sha256:
        raise Error(
            f"panel {name} ({split}): the source gives {len(kept)} questions with sha256 {found[:12]}, pinned are "
            f"{pin.n} with {pin.sha256[:12]} for {pin.task} of {pin.source}, {pin.context}; use that source unchanged"
        )
    return kept


def table_path() -> Path:
    """Where the committed table lies."""
    return next(path for folder in folders("data") if (path := folder / "panels.tsv").is_file())


def read(path: Path) -> list[Pin]:
    """The rows of a table of panels."""
    with path.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    try:
        return [build(Pin, {**row, **{name: int(row[name]) for name in _WHOLE}}, str(path)) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise Error(f"{path}: not a table of panels ({error!r}); take the committed one") from error


def write(path: Path, pins: Sequence[Pin]) -> None:
    """The table of these panels."""
    names = [field.name for field in fields(Pin)]
    lines = ["\t".join(names), *("\t".join(str(getattr(pin, name)) for name in names) for pin in pins)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _hash(seed: int, name: str) -> str:
    return sha256(f"{seed}:{name}".encode()).hexdigest()
