"""Strata: the same score among the seen and the unseen, the well and the little studied, the rare and the common.

    strata(train, held_out)  ->  {"annotations": ["few (at most 12)", "many (over 80)", None, ...], ...}

Each stratum is read from a question's fields, its truth and the training questions, never from an answer. A fact that
a question lacks gives None. Thirds are thirds of the training questions.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from rlvr.questions.splits.leaks import About
from rlvr.types import Question

ENOUGH = 10  # clusters under which a stratum is counted and not scored

MIDDLE, HIGH = ("some", "middling"), ("many", "common", "long")
Number = Callable[[Question], float | None]


def strata(train: Sequence[Question], held_out: Sequence[Question]) -> dict[str, list[str | None]]:
    """Name of a division -> the stratum of each held-out question. One that puts all of them together is left out.

    seen_gene: whether training asks about this gene (perturbed, TF, or asked for), in whatever role.
    seen_readout: whether training reads out this gene (or target).
    annotations: how well studied the gene is. partner, core: whether a training gene shares its complex; whether it
    belongs to the core machinery.
    rarity: how often training asks about this readout, or has this answer where nothing is read out.
    context, species: the cells. length: characters of what the prompt may show.
    """
    asked = [About.of(question) for question in held_out]
    told = [About.of(question) for question in train]
    subjects = {name for about in told for name in (*about.subjects, *about.objects)}
    objects = {name for about in told for name in about.objects}
    counts = Counter(map(_common, train))
    found: dict[str, list[str | None]] = {
        "seen_gene": [_seen(about.subjects, subjects) for about in asked],
        "seen_readout": [_seen(about.objects, objects) for about in asked],
        "annotations": _thirds(train, held_out, _annotations, ("few", "some", "many")),
        "partner": [_either(q.truth, "partners", ("with a partner", "without")) for q in held_out],
        "core": [_either(q.truth, "core", ("core machinery", "other genes")) for q in held_out],
        "rarity": _thirds(train, held_out, lambda q: float(counts[_common(q)]), ("rare", "middling", "common")),
        "context": [str(q.truth.get("context") or "") or None for q in held_out],
        "species": [str(q.fields.get("species") or "") or None for q in held_out],
        "length": _thirds(train, held_out, _length, ("short", "middling", "long")),
    }
    return {name: column for name, column in found.items() if len(set(column)) > 1}


def in_order(names: Iterable[str]) -> list[str]:
    """Strata from little to much, others by name."""
    return sorted(names, key=lambda name: (name.startswith(MIDDLE) + 2 * name.startswith(HIGH), name))


def _seen(names: Sequence[str], known: set[str]) -> str | None:
    if not names:
        return None
    return "seen in training" if known.issuperset(names) else "unseen"


def _either(truth: Any, fact: str, words: tuple[str, str]) -> str | None:
    return None if fact not in truth else words[0] if truth[fact] else words[1]


def _annotations(question: Question) -> float | None:
    count = question.truth.get("annotations")
    return None if count is None else float(count)


def _common(question: Question) -> tuple[str, str]:
    """What is rare or common about a question: its readout, else its answer."""
    answer = question.truth["answer"]
    return question.task, question.readout or (answer if isinstance(answer, str) else "")


def _length(question: Question) -> float:
    return float(len(json.dumps(dict(question.fields), ensure_ascii=False)))


def _thirds(
    train: Sequence[Question], held_out: Sequence[Question], fact: Number, words: tuple[str, str, str]
) -> list[str | None]:
    """The third of the training questions that each held-out one would fall into; one stratum if they are equal."""
    known = [value for question in train if (value := fact(question)) is not None]
    if not known:
        return [None] * len(held_out)
    low, high = np.quantile(known, [1 / 3, 2 / 3], method="lower")
    if low == high:
        names = [f"{words[0]} (at most {low:g})", f"{words[2]} (over {low:g})"]
        cuts = [float(low)]
    else:
        names = [f"{words[0]} (at most {low:g})", words[1], f"{words[2]} (over {high:g})"]
        cuts = [float(low), float(high)]
    return [None if (value := fact(question)) is None else names[bisect_left(cuts, value)] for question in held_out]
