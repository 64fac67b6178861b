"""A training run as a process that faults are done to (benchmarks/faults.py): started, watched, stopped."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import kills

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 900.0  # seconds; a hang is a result, too
URL = "RLVR_FAULTS_URL"


class Running:
    """The command of a run, started; `again` gives it once more and waits for its end."""

    def __init__(self, folder: Path, model: Path, ranks: int = 1, remote: str = "", **changed: Any) -> None:
        self.run, self._ranks = folder / "run", ranks
        self._config = kills.write(folder, model, **changed)
        self._script = Path(__file__).with_name("faults.py") if remote else ROOT / "train.py"
        self._told = {"RLVR_CACHE": str(folder / "cache"), **({URL: remote} if remote else {})}
        self._stderr = folder / "stderr.txt"
        self.start()

    def start(self) -> None:
        command, cores = [sys.executable], os.sched_getaffinity(0)
        if self._ranks > 1:
            flags = "--num_machines 1 --main_process_port 0 --mixed_precision no --dynamo_backend no"
            command += ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(self._ranks)]
            command += flags.split()
        else:  # on a busy machine threads that wait for each other cost more than they do
            cores = {random.choice(sorted(cores))}
        environment = {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", **self._told}
        with self._stderr.open("wb") as err:
            self.process = subprocess.Popen(
                [*command, str(self._script), "--config", str(self._config)],
                env={**os.environ, **environment},
                stdout=subprocess.DEVNULL,
                stderr=err,
                preexec_fn=lambda: os.sched_setaffinity(0, cores),
            )

    def until_beyond_a_checkpoint(self) -> None:
        """Until a step is logged that the newest checkpoint does not hold."""
        wait_for(lambda: self.step() > newest(self.run) > 0 or self.process.poll() is not None)
        if self.process.poll() is not None:
            raise SystemExit(f"the run ended by itself:\n{self.told()[-3000:]}")

    def below(self, parent: int | None = None) -> list[int]:
        """The children of a process."""
        found = subprocess.run(["pgrep", "-P", str(parent or self.process.pid)], capture_output=True, text=True)
        return [int(line) for line in found.stdout.split()]

    def rank(self, number: int) -> int:
        return next(
            process for process in self.below() if f"\0RANK={number}\0" in Path(f"/proc/{process}/environ").read_text()
        )

    def end(self) -> dict[str, Any]:
        """Wait for the end after a fault: exit code, seconds, the last that was said."""
        since = time.monotonic()
        self.process.wait(PATIENCE)
        lines = [line.strip() for line in self.told().splitlines() if line.strip(" =-")]
        spoken = [line for line in lines if re.search(r"error|Error|SIG|Signal|saved", line)]
        return {
            "exit code": self.process.returncode,
            "seconds to its end": round(time.monotonic() - since, 1),
            "said": re.sub(r"/\S*/", "", spoken[-1])[:200] if spoken else "",
        }

    def told(self) -> str:
        return self._stderr.read_text(errors="replace")

    def step(self) -> int:
        path = self.run / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.is_file() else []
        return max(
            (int(json.loads(line)["step"]) for line in lines if '"grpo"' in line and line.endswith("}")), default=0
        )

    def again(self, alone: Path) -> dict[str, Any]:
        """The same command once more."""
        reached, saved = self.step(), newest(self.run)
        self.start()
        self.process.wait(PATIENCE)
        if self.process.returncode:
            raise SystemExit(f"the same command did not go on:\n{self.told()[-3000:]}")
        return {"again": max(0, reached - saved), "lost": kills.differences(alone, self.run) or "nothing"}

    def unrewarded(self) -> str:
        """How many completions a verifier failed on: they are left out of their groups."""
        table = pd.concat(pd.read_parquet(path) for path in (self.run / "rollouts").glob("*.parquet"))
        failed = int(table.filter(like="/error").notna().any(axis=1).sum())
        return f"{failed} of {len(table)} completions have no reward" if failed else "nothing"


def newest(run: Path) -> int:
    return max((int(path.name.rpartition("-")[2]) for path in run.glob("checkpoints/checkpoint-*")), default=0)


def wait_for(condition: Callable[[], object]) -> None:
    ends = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > ends:
            raise SystemExit("waited too long")
        time.sleep(0.02)
