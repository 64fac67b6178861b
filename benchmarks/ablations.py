"""What each part of "learning that lasts" buys: the same start, steps and seeds, one part changed at a time.

    python benchmarks/ablations.py [--rows plain filter] [--seeds 0 1 2] [--set grpo.max_steps=20]

Writes benchmarks/results/ablations.json. Rows: plain GRPO; flat groups replaced (`filter`); questions that sometimes
pass (`pool`), and these from easy to hard (`curriculum`); all of it (`all`); and what the reward is: plain has the
measurement, `soft` the vote of related knockdowns in its place, `both` half of each. Every row takes the same number of
optimiser steps and of completions in a step; `filter` and `all` sample more to fill it, which `completions` and
`grpo_seconds` show. Held-out figures are of the recipe's validation questions, before (the warm start) and after.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.study import Study, options, write

RESULT = Path(__file__).resolve().parent / "results" / "ablations.json"
NAMES = ("plain", "filter", "pool", "curriculum", "all", "soft", "both")
FORM = "format: {weight: 0.2}, mention: {weight: 0.1}"
REWARDS = {"plain": (1.0, 0.0), "soft": (0.0, 1.0), "both": (0.5, 0.5)}
STEPS = 20


def overrides(name: str, pool: Path, steps: int) -> list[str]:
    """What a row changes. Both answer verifiers are asked in every row, one of them perhaps at weight 0."""
    hard, soft = REWARDS.get(name, REWARDS["plain"])
    given = [f"verifiers={{label: {{weight: {hard}}}, neighbours: {{weight: {soft}}}, {FORM}}}"]
    learning = []
    if name in ("filter", "all"):
        learning.append("rounds: 2")
    if name in ("pool", "curriculum", "all"):
        learning.append(f"pool: {pool}, keep: [0.01, 0.99]")
    if name in ("curriculum", "all"):
        learning.append(f"curriculum: {{0: 0.3, {max(1, steps * 3 // 4)}: 1.0}}")
    return [*given, f"learning={{{', '.join(learning)}}}"]


def main() -> None:
    parser = options(__doc__, "perturbqa_direction", RESULT, NAMES)
    parser.add_argument("--steps", type=int, default=STEPS, help="of GRPO, in every row")
    parser.add_argument("--samples", type=int, default=8, help="of each probed question")
    parser.add_argument("--questions", type=int, default=300, help="that are probed")
    chosen = parser.parse_args()
    study = Study(chosen.recipe, chosen.folder, [f"grpo.max_steps={chosen.steps}", *chosen.set])
    rows = []
    for seed in chosen.seeds:
        pool = study.probe(seed, chosen.samples, chosen.questions)
        rows += [study.row(name, seed, overrides(name, pool, chosen.steps)) for name in chosen.rows]
    write(chosen.out, rows, study)


if __name__ == "__main__":
    main()
