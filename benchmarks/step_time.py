"""A GRPO step's time by part, from a run's metrics: sync, generate, verify, write, update, idle.

    python benchmarks/step_time.py runs/quickstart [--out benchmarks/results/step_time.json]

Medians over all steps but the first (which warms caches), and each part as a share of the median step.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any

from rlvr.training.trainer.grpo import PARTS

ALL = (*PARTS, "update", "idle")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lines = [json.loads(line) for line in (options.run / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["phase"] == "grpo" and "time/idle" in line]
    if not steps:
        raise SystemExit(f"{options.run}: fewer than two GRPO steps were logged; train longer")
    report: dict[str, Any] = json.loads((options.run / "report.json").read_text())
    seconds = {part: round(median(step[f"time/{part}"] for step in steps), 4) for part in ALL}
    whole = median(sum(step[f"time/{part}"] for part in ALL) for step in steps)
    grpo = report["recipe"]["grpo"]
    result = {
        "recipe": report["recipe_name"],
        "steps": len(steps),
        "completions_per_step": grpo["per_device_train_batch_size"] * grpo.get("gradient_accumulation_steps", 1),
        "median_seconds": {**seconds, "step": round(whole, 3)},
        "share": {part: round(value / whole, 6) for part, value in seconds.items()},
        "machine": report["machine"],
        "versions": report["versions"],
        "seed": report["seed"],
    }
    text = json.dumps(result, indent=2)
    if options.out:
        options.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
