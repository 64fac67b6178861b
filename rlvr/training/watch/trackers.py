"""Where metrics may go beside metrics.jsonl: what a recipe's `report_to` may name, checked before anything is spent."""

from __future__ import annotations

import importlib.util

from rlvr.types import Error, suggest

TRACKERS = ("tensorboard", "trackio", "wandb")  # each the name of its package, too


def refuse_tracker(report_to: str) -> None:
    """Raise Error if `report_to` is no tracker or its package is missing."""
    known = ("none", *TRACKERS)
    if report_to not in known:
        raise Error(
            f"recipe: report_to: no tracker {report_to!r}{suggest(report_to, known)}; known: {', '.join(known)}"
        )
    if report_to != "none" and importlib.util.find_spec(report_to) is None:
        raise Error(f"recipe: report_to is {report_to}, which is not installed: pip install {report_to}")
