"""Reads `metrics.jsonl` into the report's curves and the split of a step's time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlvr.evaluation.report.plots import Picture, Series, curves
from rlvr.evaluation.report.text import finite

PANELS = (  # title, key in the log, whether it lies between 0 and 1, what a reader should know
    ("Reward", "reward", False, "weighted sum of a completion\u2019s verdicts, mean of the step"),
    ("Entropy", "entropy", False, "nats per token; near 0 nothing is explored any more"),
    ("Zero-variance share", "frac_reward_zero_std", True, "groups whose rewards are all equal teach nothing"),
    ("Completion length", "completions/mean_length", False, "tokens"),
    ("Step time", "step_time", False, "seconds"),
)
PARTS = "time/"  # time/generate, time/verify, time/update: the seconds of each part of a step


@dataclass(frozen=True)
class Panel:
    title: str
    note: str
    n: int  # logged steps
    picture: Picture


@dataclass(frozen=True)
class Part:
    """A share of the mean GRPO step."""

    name: str
    seconds: float
    share: float
    n: int


def series(rows: Sequence[Mapping[str, Any]], phase: str, key: str) -> Series | None:
    """One logged quantity over the steps of a phase; a step logged twice (a resumed run) counts once, the
    later time. None if it was never logged."""
    found = {}
    for row in rows:
        step, value = finite(row.get("step")), finite(row.get(key))
        if row.get("phase") == phase and step is not None and value is not None:
            found[step] = value
    steps = sorted(found)
    return (np.array(steps), np.array([found[step] for step in steps])) if found else None


def panels(rows: Sequence[Mapping[str, Any]]) -> list[Panel]:
    """The warm start's loss, then GRPO's curves in the order a reader asks for them."""
    found = []
    if loss := series(rows, "warm_start", "loss"):
        note = "cross-entropy on the rationales"
        found.append(Panel("Warm-start loss", note, len(loss[0]), curves({"loss": loss}, "Warm-start loss")))
    for title, key, unit, note in PANELS:
        if line := series(rows, "grpo", key):
            found.append(Panel(title, note, len(line[0]), curves({title: line}, title, unit=unit)))
        if key == "reward" and (verdicts := _verdicts(rows)):
            steps = max(len(steps) for steps, _ in verdicts.values())
            note = "mean score of each verifier, before weights"
            found.append(Panel("Verdicts", note, steps, curves(verdicts, "Mean verdicts", unit=True)))
    return found


def _verdicts(rows: Sequence[Mapping[str, Any]]) -> dict[str, Series]:
    keys = dict.fromkeys(key for row in rows for key in row if key.startswith("rewards/") and key.endswith("/mean"))
    lines = {key.removeprefix("rewards/").removesuffix("/mean"): series(rows, "grpo", key) for key in keys}
    return {name: line for name, line in lines.items() if line}


def step_parts(rows: Sequence[Mapping[str, Any]]) -> list[Part]:
    """The mean seconds of each logged part of a GRPO step and its share of their sum."""
    keys = dict.fromkeys(key for row in rows for key in row if key.startswith(PARTS))
    lines = {key.removeprefix(PARTS): series(rows, "grpo", key) for key in keys}
    means = {name: (float(line[1].mean()), len(line[1])) for name, line in lines.items() if line}
    total = sum(seconds for seconds, _ in means.values())
    return [Part(name, s, s / total if total else 0.0, n) for name, (s, n) in means.items()]
