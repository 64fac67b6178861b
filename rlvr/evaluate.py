"""Measures a policy on held-out questions, with the shortcut rows beside it.

    rlvr evaluate RECIPE --adapter runs/quickstart/adapter --out DIR

The same prompts, parser and verifiers that train also measure. The test split needs `--final`, and each
use of it is appended to a ledger that the report shows.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from accelerate import PartialState
from accelerate.utils import gather_object
from tqdm import tqdm

from rlvr import panels, policy, provenance
from rlvr.completions import lenient
from rlvr.opening import Templates, first, gather, reward_layer, templates
from rlvr.prompts import Template
from rlvr.recipe import Evaluation, Recipe
from rlvr.results import assemble
from rlvr.rewards import RewardLayer, Row
from rlvr.tables import write_parquet
from rlvr.types import Error, Question

SCORED_AT_ONCE = 512  # completions


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


def measure(
    sampler: policy.Sampler,
    questions: Sequence[Question],
    by_task: Templates,
    layer: RewardLayer,
    max_tokens: int,
    title: str,
) -> pd.DataFrame:
    """One row per question: completion, slot probabilities and every verdict. Ranks share the work."""
    state = PartialState()
    rows: list[dict[str, Any]] = []
    with (
        state.split_between_processes(list(range(len(questions)))) as mine,
        tqdm(total=len(mine), desc=f"evaluate {title}", disable=not state.is_main_process) as bar,
    ):
        for task, template in by_task.items():
            asked = [questions[i] for i in mine if questions[i].task == task]
            if asked:
                rows += _measured(sampler, asked, template, layer, max_tokens, bar.update)
    if state.num_processes > 1:
        rows = gather_object(rows)
    return pd.DataFrame(rows)


def _measured(
    sampler: policy.Sampler,
    asked: Sequence[Question],
    template: Template,
    layer: RewardLayer,
    max_tokens: int,
    progress: policy.Progress,
) -> list[dict[str, Any]]:
    """The rows of one task's questions."""
    rendered = [template.render(q) for q in asked]
    answered = sampler.answer(rendered, template.slot_words, max_tokens, progress)
    scored: list[Row] = []
    for start in range(0, len(asked), SCORED_AT_ONCE):  # the layer's deadline is meant for a batch
        part = answered[start : start + SCORED_AT_ONCE]
        scored += layer.score(asked[start : start + len(part)], [a.text for a in part], [a.finished for a in part])
    return [
        {
            **_identity(question),
            "prompt": "\n\n".join(message["content"] for message in messages),
            "lenient": lenient(answer.text, template.answers, question.fields),
            **row,
            **{f"p/{label}": share for label, share in answer.probabilities.items()},
        }
        for question, messages, answer, row in zip(asked, rendered, answered, scored, strict=True)
    ]


def _identity(question: Question) -> dict[str, Any]:
    truth = question.truth["answer"]
    return {
        "question_id": question.id,
        "task": question.task,
        "context": str(question.truth.get("context", "")),
        "perturbation": question.cluster,
        "readout": str(question.fields.get("readout", "")),
        "split": question.split,
        "truth": truth if isinstance(truth, str) else json.dumps(truth),
    }


def keep(table: pd.DataFrame, run: Path, stage: str) -> None:
    """evaluations/<stage>.parquet"""
    write_parquet(table, run / "evaluations" / f"{stage}.parquet")


def run(recipe: Recipe, adapter: Path | None, out: Path, final: bool) -> dict[str, Any]:
    """Evaluate a base model or an adapter as a recipe would; writes rows and report.json under `out`."""
    started = time.perf_counter()
    sources, questions = gather(recipe)
    held_out = select(questions, recipe.evaluation, "test" if final else None)
    by_task = templates(recipe, {question.task for question in questions})
    layer = reward_layer(recipe, by_task)
    max_tokens = int(recipe.grpo.get("max_completion_length", 256))
    if final:
        provenance.enter(
            {
                "source": [dict(source) for source in recipe.sources],
                "model": recipe.model,
                "adapter": adapter.name if adapter else None,
                "n": len(held_out),
                "questions_sha256": panels.digest(held_out),
            }
        )
    sampler: policy.Sampler
    if recipe.vllm.enabled:
        engine: dict[str, Any] = {"enforce_eager": recipe.vllm.enforce_eager, "dtype": recipe.vllm.dtype}
        rank = int(recipe.lora.get("r", 8))
        sampler = policy.VllmSampler(recipe.model, adapter, rank=rank, **engine)
    else:
        model, tokenizer = policy.load_base(recipe.model)
        tuned = policy.load_adapter(model, adapter) if adapter else model
        sampler = policy.TransformersSampler(tuned, tokenizer, recipe.evaluation.batch_size)
    stage = "after" if adapter else "before"
    keep(measure(sampler, held_out, by_task, layer, max_tokens, stage), out, stage)
    seconds = {f"evaluate {stage}": round(time.perf_counter() - started, 1)}
    return assemble(out, recipe, sources, by_task, questions, seconds)
