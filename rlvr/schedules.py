"""Weights that change while a run goes on.

In a recipe, `length: {weight: {0: 0.0, 20: 1.0}}` raises the weight from 0 at the start to 1 after 20 training steps,
where it stays; `label: {weight: 1.0}` is constant.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlvr.types import Error


@dataclass(frozen=True)
class Schedule:
    """A weight by training step: straight lines between `points`, (step, weight) in ascending order of step;
    constant before the first and after the last. Steps count from 0, weights are finite and at least 0."""

    points: tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        steps = [step for step, _ in self.points]
        if not steps or steps[0] < 0 or steps != sorted(set(steps)):
            raise Error(f"schedule {self.points}: needs ascending steps of at least 0")
        if not all(math.isfinite(weight) and weight >= 0 for _, weight in self.points):
            raise Error(f"schedule {self.points}: every weight must be a number of at least 0")

    def at(self, step: int) -> float:
        """The weight after `step` training steps (0: the first batch)."""
        after = bisect_right(self.points, step, key=lambda point: point[0])
        if after in (0, len(self.points)):
            return self.points[max(after - 1, 0)][1]
        (start, low), (end, high) = self.points[after - 1 : after + 1]
        return low + (high - low) * (step - start) / (end - start)

    @property
    def changes(self) -> bool:
        return len(self.points) > 1

    @classmethod
    def parse(cls, value: Any, where: str) -> Schedule:
        """A number, a mapping of steps to numbers as a recipe has it, or a Schedule. Raises Error, naming `where`."""
        if isinstance(value, cls):
            return value
        try:
            points = value.items() if isinstance(value, Mapping) else [(0, value)]
            return cls(tuple(sorted((_step(step), _number(weight)) for step, weight in points)))
        except (Error, TypeError, ValueError) as error:
            raise Error(
                f"{where} must be a number of at least 0, or steps and such numbers, as in {{0: 0.0, 20: 1.0}}; "
                f"not {value!r}"
            ) from error


def _step(key: Any) -> int:
    # JSON and other tools make strings of a mapping's keys.
    if isinstance(key, str) and key.isdecimal():
        return int(key)
    if isinstance(key, int) and not isinstance(key, bool):
        return key
    raise TypeError(f"{key!r} is no step")


def _number(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise TypeError(f"{value!r} is no number")
