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
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from functools import partial as later
from pathlib import Path
from typing import Any

from rlvr import panels, policy, provenance, reasoning
from rlvr.evaluate.measure import SCORED_AT_ONCE, kept, max_tokens, measure
from rlvr.evaluate.parts import unfinished
from rlvr.evaluate.subject import Subject, chosen, trained
from rlvr.opening import first, gather, reward_layer, templates
from rlvr.recipe import Evaluation, Recipe
from rlvr.results import assemble
from rlvr.types import Error, Question

__all__ = ["SCORED_AT_ONCE", "Subject", "max_tokens", "measure", "run", "select", "trained", "unfinished"]


def select(questions: Sequence[Question], evaluation: Evaluation, split: str | None = None) -> list[Question]:
    """The held-out questions of a recipe: a committed panel, or the split, cut by hash order."""
    split = split or evaluation.split
    chosen = [q for q in questions if q.split == split]
    if evaluation.panel:
        chosen = panels.pinned(chosen, evaluation.panel, split)
    if not chosen:
        raise Error(f"the source has no questions in the {split} split; evaluate on another")
    tasks = list(dict.fromkeys(q.task for q in chosen))
    return [q for task in tasks for q in first([q for q in chosen if q.task == task], evaluation.questions)]


def run(
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
    and thoughts on what is shown (rlvr.reasoning), which asks some ten times as much."""
    started = time.perf_counter()
    stage = stage or ("after" if adapter else "before")
    sources, questions = gather(recipe)
    held_out = select(questions, recipe.evaluation, "test" if final else None)
    by_task = templates(recipe, {question.task for question in questions})
    layer = reward_layer(recipe, by_task)
    labels = [label for template in by_task.values() for label in template.slot_words.values()]
    saved = later(policy.SavedCompletions, completions, held_out, labels, partial) if completions else None
    who = chosen(recipe, adapter, server, saved)
    parts = kept(who, held_out, by_task, layer, recipe, stage, out)
    parts.check()
    if final and not parts.begun():
        provenance.enter(
            {
                "source": [dict(source) for source in recipe.sources],
                "model": who.facts["model"],
                "adapter": adapter.name if adapter else None,
                "n": len(held_out),
                "questions_sha256": panels.digest(held_out),
            }
        )
    who = replace(who, open=cache(who.open))
    measure(who, held_out, by_task, layer, recipe, stage, out, recipe.evaluation.budget)
    if reasons:
        reasoning.keep(who.open(), held_out, by_task, max_tokens(recipe), recipe, stage, out)
    seconds = {f"evaluate {stage}": round(time.perf_counter() - started, 1)}
    return assemble(out, recipe, sources, by_task, questions, seconds)
