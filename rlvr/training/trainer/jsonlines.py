"""metrics.jsonl: one line for each log of a trainer, and each once, however often the run was killed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import TrainerCallback

from rlvr import jsonlines


class JsonLines(TrainerCallback):  # type: ignore[misc]
    """Appends every log of a trainer to a file, on the main process. `phase`: warm_start or grpo.

    A run that goes on cuts the file back to the lines that its checkpoint knew, and half a line with them.
    """

    def __init__(self, path: Path, phase: str) -> None:
        self.path, self.phase = path, phase

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 0:  # a killed run may have begun this phase
            rows = self._rows()
            self._cut(next((n for n, row in enumerate(rows) if row.get("phase") == self.phase), len(rows)))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if state.is_world_process_zero and logs:
            row = {"phase": self.phase, "step": state.global_step, "time": time.time(), **logs}
            jsonlines.append(self.path, [row])

    def state(self) -> dict[str, Any]:
        return {"lines": len(self._rows())}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._cut(state["lines"])

    def _rows(self) -> list[dict[str, Any]]:
        return jsonlines.read(self.path)[0]

    def _cut(self, count: int) -> None:
        if PartialState().is_main_process:
            jsonlines.keep(self.path, self._rows()[:count])
