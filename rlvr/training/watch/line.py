"""The line that a run prints for each step, in at most 80 columns.

    >>> line({"reward": 0.4321, "reward_std": 0.12, "parsed": 0.98, "entropy": 1.5}, 12, 200, 3.21)
    '12/200 reward 0.432 ±0.120 parse 98% ent 1.50 3.2s ETA 10m'

Only what was logged is shown. ± is the spread of rewards within groups; cut, the share of completions that were cut off
at `grpo.max_completion_length`; ent, the entropy in nats per token; ETA, what is left at this pace.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NUMBERS = {"loss": "loss ", "reward": "reward ", "reward_std": "±"}
SHARES = {"parsed": "parse ", "completions/clipped_ratio": "cut "}


def line(logs: Mapping[str, Any], step: int, steps: int, seconds: float) -> str:
    """logs: what TRL logged at `step` of `steps`; seconds: that one step took."""
    known = {name: value for name, value in logs.items() if value is not None}
    if "reward" in known:
        known.pop("loss", None)  # GRPO's is near 0 by construction
    parts = [f"{step}/{steps}"]
    parts += [f"{label}{_short(known[name])}" for name, label in NUMBERS.items() if name in known]
    parts += [f"{label}{known[name]:.0%}" for name, label in SHARES.items() if name in known]
    parts += [f"ent {_short(known['entropy'])}"] if "entropy" in known else []
    parts += [f"{seconds:.1f}s" if seconds < 9.95 else _duration(seconds)]
    parts += [f"ETA {_duration((steps - step) * seconds)}"] if step < steps else []
    return " ".join(parts)


def _short(value: float) -> str:
    """Three digits or so, in at most five characters below 1000."""
    size = abs(value)
    return f"{value:.{3 if size < 1 else 2 if size < 10 else 1 if size < 100 else 0}f}"


def _duration(seconds: float) -> str:
    """Two units at most: 42s, 12m, 3h05m, 4d02h."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f}s"
    if minutes < 100:
        return f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours < 24 else f"{hours // 24}d{hours % 24:02d}h"
