"""The seconds of each stage of a run, over all its starts.

with stopwatch.timed("grpo"): ...
stopwatch.state()                       # {"data": 1.2, "grpo": 340.1}
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class Stopwatch:
    """Seconds of each stage, over all starts of a run; what ran after the last checkpoint before a kill is lost."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}  # stages that are running
        self._spent: dict[str, float] = {}

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        self._since[stage] = time.perf_counter() - self._spent.get(stage, 0.0)
        yield
        self._spent[stage] = round(time.perf_counter() - self._since.pop(stage), 1)

    def state(self) -> dict[str, float]:
        now = time.perf_counter()
        return self._spent | {stage: round(now - since, 1) for stage, since in self._since.items()}

    def restore(self, state: Mapping[str, float]) -> None:
        now = time.perf_counter()
        self._spent |= state
        self._since |= {stage: now - state[stage] for stage in self._since.keys() & state.keys()}
