"""Soft against hard verifiers, as rbio1's paper asks: the same start, budget and seeds, and only the judge changed.

    rlvr oracle fit perturbqa:context=k562,task=direction --kind mlp --out oracles/k562_mlp
    python benchmarks/perturbqa/soft_hard.py --mlp oracles/k562_mlp/direction.parquet [--rows exp mlp] [--seeds 0 1 2]

Writes benchmarks/results/soft_hard.json. Rows: the experiment (`exp`), a network's predictions (`mlp`), the vote of
related knockdowns (`neighbours`), their sums with equal shares, and `biased`: an oracle that is planted wrong, sure of
the same answer whatever is asked. All are asked in every row, at weight 0 where they do not train, so `trained` shows
each one's score early and late in training. A policy that follows a wrong oracle earns more of it while its held-out
figures do not move, or fall.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.study import Study, options, write
from rlvr.loading import gather
from rlvr.oracle import LABELS
from rlvr.recipe import load
from rlvr.tables import write_parquet

RESULT = Path(__file__).resolve().parents[1] / "results" / "soft_hard.json"
ROWS = {
    "exp": ("label",),
    "mlp": ("mlp",),
    "neighbours": ("neighbours",),
    "exp+mlp": ("label", "mlp"),
    "exp+neighbours": ("label", "neighbours"),
    "mlp+neighbours": ("mlp", "neighbours"),
    "exp+mlp+neighbours": ("label", "mlp", "neighbours"),
    "biased": ("biased",),
}
FORM = "format: {weight: 0.2}"
SURE = 0.95  # of the rarer of two labels, so that agreeing with it is no shortcut
STEPS = 20


def plant(recipe: str, overrides: list[str], path: Path) -> Path:
    """Predictions of every question of a recipe that are sure of the training split's rarer label."""
    asked = [question for question in gather(load(recipe, overrides))[1] if len(LABELS.get(question.task, ())) == 2]
    first = LABELS[asked[0].task][0]
    train = [question for question in asked if question.split == "train"]
    rare = sum(question.truth["answer"] == first for question in train) * 2 < len(train)
    rows = [(q.truth["context"], q.fields["perturbation"], q.fields["readout"]) for q in asked]
    table = pd.DataFrame(rows, columns=["context", "perturbation", "readout"]).drop_duplicates()
    write_parquet(table.assign(p=SURE if rare else 1 - SURE), path)
    return path


def overrides(name: str, mlp: Path, biased: Path) -> list[str]:
    """The row's verifiers; the planted oracle has no card, and has to be let in in as many words."""
    share = 1.0 / len(ROWS[name])
    weights = {judge: share if judge in ROWS[name] else 0.0 for judge in ("label", "mlp", "neighbours", "biased")}
    judges = [
        f"label: {{weight: {weights['label']}}}",
        f"mlp: {{verifier: oracle, weight: {weights['mlp']}, predictions: {mlp}, column: lift}}",
        f"neighbours: {{weight: {weights['neighbours']}}}",
        f"biased: {{verifier: oracle, weight: {weights['biased']}, predictions: {biased}, most_error: null}}",
    ]
    return [f"verifiers={{{', '.join([*judges, FORM])}}}"]


def main() -> None:
    parser = options(__doc__, "perturbqa_direction", RESULT, tuple(ROWS))
    parser.add_argument("--mlp", type=Path, required=True, help="cross-fitted predictions with their card")
    parser.add_argument("--steps", type=int, default=STEPS, help="of GRPO, in every row")
    chosen = parser.parse_args()
    study = Study(chosen.recipe, chosen.folder, [f"grpo.max_steps={chosen.steps}", *chosen.set])
    biased = plant(chosen.recipe, list(study.overrides), chosen.folder / "biased" / chosen.mlp.name)
    rows = [study.row(name, seed, overrides(name, chosen.mlp, biased)) for seed in chosen.seeds for name in chosen.rows]
    write(chosen.out, rows, study)


if __name__ == "__main__":
    main()
