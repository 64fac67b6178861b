"""Measures a policy on held-out questions, with the shortcut rows beside it.

    rlvr evaluate RECIPE --adapter runs/quickstart/adapter --out DIR
    rlvr evaluate RECIPE --server http://localhost:8000/v1 --model NAME --out DIR
    rlvr evaluate RECIPE --completions FILE --out DIR

The same prompts, parser and verifiers that train also measure. An evaluation that was killed goes on with the same
command; a budget (`evaluation.budget.minutes=30`) stops it with what it has. The test split needs `--final`, and each
use of it is appended to a ledger that the report shows.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache
from functools import partial as later
from pathlib import Path
from typing import Any

from rlvr import policy
from rlvr.evaluation import provenance, reasoning
from rlvr.evaluation.lengths import max_tokens
from rlvr.evaluation.measure import Evaluation
from rlvr.evaluation.results import assemble
from rlvr.evaluation.subject import chosen
from rlvr.loading import gather, reward_layer, select, templates
from rlvr.questions import panels
from rlvr.recipe import Recipe


def evaluate(
    recipe: Recipe,
    adapter: Path | None,
    out: Path,
    final: bool,
    *,
    server: policy.Server | None = None,
    completions: Path | None = None,
    partial: bool = False,
    stage: str | None = None,
    reasons: bool = False,
) -> dict[str, Any]:
    """Evaluate a base model, an adapter, a served model or saved completions as a recipe would; writes rows and
    report.json under `out`. stage: "before", "warm_start" or "after"; None: after with an adapter, else before.
    partial: completions may be missing, and count as wrong. reasons: measure besides whether answers rest on thoughts,
    and thoughts on what is shown (rlvr.evaluation.reasoning), which asks some ten times as much."""
    started = time.perf_counter()
    stage = stage or ("after" if adapter else "before")
    recipe.open_verifiers()  # a mistake in them shows before any data are read
    sources, questions = gather(recipe)
    held_out = select(questions, recipe.evaluation, "test" if final else None)
    by_task = templates(recipe, {question.task for question in questions})
    layer = reward_layer(recipe, by_task)
    labels = [label for template in by_task.values() for label in template.slot_words.values()]
    saved = later(policy.SavedCompletions, completions, held_out, labels, partial) if completions else None
    who = chosen(recipe, adapter, server, saved)
    evaluation = Evaluation(
        replace(who, open=cache(who.open)), held_out, by_task, layer, recipe, stage, out, recipe.evaluation.budget
    )
    evaluation.parts.check()
    if final and not evaluation.parts.begun():
        provenance.enter(
            {
                "source": [dict(source) for source in recipe.sources],
                "model": who.facts["model"],
                "adapter": adapter.name if adapter else None,
                "n": len(held_out),
                "questions_sha256": panels.digest(held_out),
            }
        )
    evaluation.run()
    if reasons:
        reasoning.keep(evaluation.who.open(), held_out, by_task, max_tokens(recipe), recipe, stage, out)
    seconds = {f"evaluate {stage}": round(time.perf_counter() - started, 1)}
    return assemble(out, recipe, sources, by_task, questions, seconds)
