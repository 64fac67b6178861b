"""A run's folder with evaluation rows of policies that are made up, scored by the real reward layer."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rlvr import prompts
from rlvr.completions import reference
from rlvr.evaluation.results import assemble
from rlvr.loading import reward_layer
from rlvr.recipe import Recipe
from rlvr.types import Question

DIRECTION = "perturbation/direction"
VERIFIERS = {"label": {"weight": 1.0}, "format": {"weight": 0.2}}
Policy = Callable[[Question, random.Random], str]  # a completion


def questions(task: str = DIRECTION, held_out: int = 40, leaked: int = 0) -> list[Question]:
    """Perturbations that each change four readouts, seven in ten up; `leaked` of those held out are trained on too."""
    draw = random.Random(7)
    words = {"perturbation/effect_probability": ("yes", "no")}.get(task, ("up", "down"))
    found = []
    for i in range(60 + held_out):
        split = "train" if i < 60 else "validation"
        name = f"GENE{i - 60 if i - 60 >= 0 and i - 60 < leaked else i}"
        for readout in ("IL2", "CD69", "MYC", "JUNB"):
            fields: dict[str, Any] = {
                "perturbation": name,
                "readout": readout,
                "context": "T cells",
                "modality": "CRISPRi knockdown",
                "evidence": [],
            }
            truth = {
                "answer": words[draw.random() > 0.7],
                "context": "t",
                "neighbours": None,
                "core": i % 4 == 0,
                "annotations": i % 30,
            }
            found.append(Question(f"made:{task}:{i}:{readout}", task, fields, truth, "made", split))
    return found


def knows(share: float, thought: str = "It is upstream.") -> Policy:
    """Right so often, else the other label."""

    def policy(question: Question, draw: random.Random) -> str:
        answer = question.truth["answer"]
        other = {"up": "down", "down": "up"}[answer]
        return reference(thought, answer if draw.random() < share else other)

    return policy


def rows_of(
    asked: Sequence[Question],
    policy: Policy,
    recipe: Recipe,
    samples: int = 1,
    labels: Sequence[str] = ("up", "down"),
    seed: int = 0,
) -> pd.DataFrame:
    """What evaluations/<stage>.parquet holds. The probability follows the answer, with noise."""
    template = prompts.load(asked[0].task)
    layer = reward_layer(recipe, {template.task: template})
    draw = random.Random(seed)
    pairs = [(question, sample) for question in asked for sample in range(samples)]
    texts = [policy(question, draw) for question, _ in pairs]
    scored = layer.score([question for question, _ in pairs], texts)
    rows: list[dict[str, Any]] = []
    for (question, sample), row in zip(pairs, scored, strict=True):
        truth = question.truth["answer"]
        first = min(0.99, max(0.01, draw.gauss({labels[0]: 0.7}.get(str(row["answer"]), 0.4), 0.1))) if labels else 0.0
        rows.append(
            {
                "question_id": question.id,
                "sample": sample,
                "context": str(question.truth.get("context", "")),
                "perturbation": question.cluster,
                "readout": str(question.fields.get("readout", "")),
                "split": question.split,
                "truth": truth if isinstance(truth, str) else json.dumps(truth),
                "prompt": "?",
                "lenient": row["answer"],
                **row,
                **dict(zip([f"p/{label}" for label in labels], (first, 1 - first), strict=False)),
            }
        )
    return pd.DataFrame(rows)


def recipe(task: str = DIRECTION, **changed: Any) -> Recipe:
    plain = {"model": "none", "source": {"name": "made"}, "verifiers": VERIFIERS, "deadline": None}
    made = Recipe(**{**plain, **changed})
    object.__setattr__(made, "evaluation", type(made.evaluation)(resamples=300))
    return made


def keep(run: Path, stage: str, table: pd.DataFrame, record: Mapping[str, Any] | None = None) -> Path:
    (run / "evaluations").mkdir(parents=True, exist_ok=True)
    table.to_parquet(run / "evaluations" / f"{stage}.parquet")
    if record is not None:
        (run / "evaluations" / f"{stage}.json").write_text(json.dumps(record))
    return run


def report(run: Path, asked: Sequence[Question], made: Recipe) -> dict[str, Any]:
    """assemble, read back from its file."""
    by_task = {task: prompts.load(task) for task in {question.task for question in asked}}
    assemble(run, made, [], by_task, asked, {})
    found: dict[str, Any] = json.loads((run / "report.json").read_text())
    return found
