"""How often a policy already passes each training question, before anything is spent on training it.

    rlvr probe RECIPE --samples 8 --questions 400 [--adapter runs/RUN/warm_start/adapter] --out runs/probe

Samples as GRPO would, at the recipe's temperature, and asks the recipe's verifiers. A probe that was killed goes on
with the same command. A question that always or never passes teaches nothing (rlvr.training.learning.pool leaves it
out); what passed may teach another policy (rlvr.training.learning.critic).

Every completion stands in evaluations/probe.parquet, and in probe.parquet for each question: task, samples, scored,
passed, pass_rate, reward, reward_deviation, parse_rate, and best, the completion that earned the most and passed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from rlvr import policy
from rlvr.evaluation.measure import Evaluation
from rlvr.evaluation.subject import chosen
from rlvr.loading import first, gather, reward_layer, templates
from rlvr.recipe import Recipe
from rlvr.rewards.layer import RewardLayer
from rlvr.tables import write_parquet
from rlvr.types import Error, Reason

PASS = 0.5  # the least score that passes where a verdict is not "correct"
BARS = 40  # characters of the longest bar
EDGES = ((0.0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.0))


def probe(
    recipe: Recipe,
    out: Path,
    samples: int,
    most: int | None,
    *,
    adapter: Path | None = None,
    server: policy.Server | None = None,
    by: str | None = None,
) -> pd.DataFrame:
    """probe.parquet as a table: one row for each of at most `most` training questions, taken by hash.

    by: the verifier whose score of at least .5 passes; None: the one of the greatest weight. Errors: what an evaluation
    of the recipe would refuse, fewer than two samples, an unknown verifier.
    """
    if samples < 2:
        raise Error(f"probe: {samples} samples say nothing of how often a question passes; take at least 2")
    temperature = float(recipe.grpo.get("temperature", 1.0))
    as_trained = replace(recipe.evaluation, samples=samples, temperature=temperature, max_tokens=None)
    asking = replace(recipe, evaluation=as_trained)
    questions = first([question for question in gather(recipe)[1] if question.split == "train"], most)
    by_task = templates(recipe, {question.task for question in questions})
    layer = reward_layer(recipe, by_task)
    deciding = _deciding(layer, by)
    Evaluation(chosen(asking, adapter, server, None), questions, by_task, layer, asking, "probe", out).run()
    columns = ["question_id", "task", "completion", "answer", "reward", deciding, f"{deciding}/reason"]
    found = summarise(pd.read_parquet(out / "evaluations" / "probe.parquet", columns=columns), deciding)
    write_parquet(found, out / "probe.parquet")
    return found


def summarise(rows: pd.DataFrame, deciding: str) -> pd.DataFrame:
    """One row for each question, from one row for each completion. What no verifier could score does not count."""
    # no score, no pass; a right answer passes however little its verifier pays for it
    passed = (pd.to_numeric(rows[deciding]) >= PASS) | (rows[f"{deciding}/reason"] == Reason.CORRECT)
    rows = rows.assign(passed=passed, reward=pd.to_numeric(rows["reward"]))
    by_question = rows.groupby("question_id", sort=False)
    best = rows[passed].sort_values("reward", ascending=False, kind="stable").drop_duplicates("question_id")
    found = pd.DataFrame(
        {
            "task": by_question["task"].first(),
            "samples": by_question.size(),
            "scored": by_question["reward"].count(),
            "passed": by_question["passed"].sum().astype(int),
            "reward": by_question["reward"].mean(),
            "reward_deviation": by_question["reward"].std(ddof=0),
            "parse_rate": by_question["answer"].count() / by_question.size(),
            "best": best.set_index("question_id")["completion"],
        }
    )
    found = found[found["scored"] > 0].rename_axis("question_id")
    if found.empty:
        raise Error("probe: no completion got a reward: every verifier failed or abstained on every question")
    found.insert(4, "pass_rate", found["passed"] / found["scored"])
    return found.reset_index()


def histogram(pass_rates: Sequence[float]) -> str:
    """How many questions pass how often, in at most 80 columns: what always or never passes stands apart."""
    bins = {"never": sum(rate == 0.0 for rate in pass_rates)}
    for low, high in EDGES:
        bins[f"to {high:.0%}"] = sum(low < rate <= high for rate in pass_rates if rate < 1.0)
    bins["always"] = sum(rate == 1.0 for rate in pass_rates)
    longest = max(bins.values())
    lines = [f"{'passes':>8}  questions"]
    lines += [f"{name:>8}  {'#' * round(BARS * count / longest):<{BARS}} {count:>8}" for name, count in bins.items()]
    useful = len(pass_rates) - bins["never"] - bins["always"]
    return "\n".join([*lines, f"{useful} of {len(pass_rates)} questions sometimes pass: only these can teach"])


def _deciding(layer: RewardLayer, by: str | None) -> str:
    weights = dict(zip(layer.verifiers, layer.weights(), strict=True))
    if by is not None and by not in weights:
        raise Error(f"probe: the recipe has no verifier {by!r}; choose one of {', '.join(weights)}")
    return by or max(weights, key=weights.__getitem__)
