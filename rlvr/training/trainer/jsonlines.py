"""metrics.jsonl: one line for each log of a trainer, and each once, however often the run was killed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import TrainerCallback

from rlvr.files import write_atomically
from rlvr.types import Error


class JsonLines(TrainerCallback):  # type: ignore[misc]
    """Appends every log of a trainer to a file, on the main process. `phase`: warm_start or grpo.

    A run that goes on cuts the file back to the lines that its checkpoint knew.
    """

    def __init__(self, path: Path, phase: str) -> None:
        self.path, self.phase = path, phase

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 0:  # a killed run may have begun this phase
            lines = self._lines()
            self._cut(next((n for n, line in enumerate(lines) if self._from_here(line)), len(lines)))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if state.is_world_process_zero and logs:
            line = json.dumps({"phase": self.phase, "step": state.global_step, "time": time.time(), **logs})
            try:
                with self.path.open("a", encoding="utf-8") as out:
                    out.write(line + "\n")
                    out.flush()
                    os.fsync(out.fileno())
            except OSError as error:
                raise Error(
                    f"cannot write {self.path}: {error.strerror}; free some space, and the same command goes on"
                ) from error

    def state(self) -> dict[str, Any]:
        return {"lines": len(self._lines())}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._cut(state["lines"])

    def _lines(self) -> list[bytes]:
        return self.path.read_bytes().splitlines(keepends=True) if self.path.is_file() else []

    def _from_here(self, line: bytes) -> bool:
        """Whether a line is of this phase, or was never finished."""
        return not line.endswith(b"\n") or bool(json.loads(line)["phase"] == self.phase)

    def _cut(self, count: int) -> None:
        lines = self._lines()
        if PartialState().is_main_process and len(lines) > count:
            write_atomically(self.path, b"".join(lines[:count]))
