"""Wall time and peak memory of `make quickstart`, from a fresh clone to the report.

    python benchmarks/quickstart.py            writes benchmarks/results/quickstart.json

Clones the checkout's HEAD into a temporary folder with an empty model cache, sets up, runs, and copies
what the run printed of itself: seconds per stage and its headline. Packages may come from pip's cache.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "quickstart.json"


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        clone = Path(scratch) / "rlvr"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        environment = {**os.environ, "RLVR_CACHE": str(Path(scratch) / "cache")}
        seconds = {
            "install": timed(["make", ".venv/.installed"], clone, environment),
            "quickstart, after installation": timed(["make", "quickstart"], clone, environment),
        }
        run = clone / "runs" / "quickstart"
        report: dict[str, Any] = json.loads((run / "report.json").read_text())
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    kept = ("headline", "n_questions", "n_train", "seed", "machine", "versions", "before", "warm_start", "after")
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "seconds": seconds,
        "peak_memory_gib_of_largest_process": round(peak, 2),
        "stages_seconds": report["seconds"],
        **{key: report[key] for key in kept},
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def timed(command: list[str], folder: Path, environment: dict[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True)
    return round(time.perf_counter() - started, 1)


if __name__ == "__main__":
    main()
