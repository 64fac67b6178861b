"""What a finished run found, without its rows: stages, shortcuts, paired comparisons, and what it cost.

python benchmarks/summary.py runs/perturbqa_direction --out benchmarks/results/perturbqa_direction.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

KEPT = (
    "headline", "written", "split", "n_questions", "n_train", "seed", "seconds", "panel", "machine",
    "versions", "leak", "before", "warm_start", "after", "baselines", "comparisons", "recipe",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    report: dict[str, Any] = json.loads((options.run / "report.json").read_text())
    kept = {key: report[key] for key in KEPT if key in report}
    kept["recipe"].pop("output_dir", None)  # where it lay says nothing
    kept["training_curve"] = curve(options.run / "metrics.jsonl")
    text = json.dumps(kept, indent=1)
    if options.out:
        options.out.write_text(text + "\n")
    print(text)


def curve(metrics: Path) -> list[dict[str, float]]:
    """Reward, its spread, zero-variance share, entropy and length at each GRPO step."""
    names = ("step", "reward", "reward_std", "rewards/label/mean", "frac_reward_zero_std", "entropy",
             "completions/mean_length", "grad_norm", "learning_rate")  # fmt: skip
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    return [{n: line[n] for n in names if n in line} for line in lines if line["phase"] == "grpo" and "reward" in line]


if __name__ == "__main__":
    main()
