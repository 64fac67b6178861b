"""The tasks in inspect_ai, with the verifiers as scorer, so that its models and its log viewer serve.

    pip install 'rlvr[harness]'
    inspect eval rlvr/rlvr -T recipe=quickstart -T limit=50 --model openai/MODEL && inspect view

inspect_ai finds the task by its entry point; inspect.aisi.org.uk documents its models and options. A verifier that
abstains gives NaN there, which inspect_ai leaves out of its means; an answer that does not parse counts as wrong.
"""

from __future__ import annotations

import asyncio
import json
from math import nan
from typing import Any

from rlvr.completions import is_finished, turn_text
from rlvr.evaluation.harness import Asked
from rlvr.loading import first
from rlvr.prompts import Messages
from rlvr.types import Error

try:
    from inspect_ai import Task, task
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.model import ChatMessage, ChatMessageSystem, ChatMessageUser, GenerateConfig, ModelOutput
    from inspect_ai.scorer import Score, Scorer, Target, mean, scorer, stderr
    from inspect_ai.solver import TaskState, generate
except ImportError as error:
    raise Error("inspect_ai is not installed: pip install 'rlvr[harness]'") from error


@task
def rlvr(recipe: str = "quickstart", overrides: str = "", split: str = "validation", limit: int | None = None) -> Task:
    """A recipe's held-out questions as one task.

    overrides: key=value, several parted by spaces. split: train or validation. limit: at most so many questions, by
    hash order, as `evaluation.questions` takes them. Standard errors are clustered by
    perturbation.
    """
    asked = Asked.open(recipe, overrides.split(), split)
    samples = [
        Sample(
            input=_chat(asked.messages(question)),
            target=asked.target(question),
            id=question.id,
            metadata={"task": question.task, "perturbation": question.cluster, "question": question.to_json()},
        )
        for question in first(asked.questions, limit)
    ]
    return Task(
        dataset=MemoryDataset(samples, name=f"rlvr-{asked.name}-{split}"),
        solver=generate(),
        scorer=verdicts(asked),
        config=GenerateConfig(temperature=0.0, max_tokens=asked.max_tokens),
        metadata={"recipe": recipe, "overrides": overrides, "split": split},
    )


@scorer(metrics={"*": [mean(), stderr(cluster="perturbation")]})
def verdicts(asked: Asked) -> Scorer:
    """Every verifier's score, whether the answer is right, and whether there was one."""
    questions = {question.id: question for question in asked.questions}

    async def score(state: TaskState, target: Target) -> Score:
        question = questions[str(state.sample_id)]
        finished = is_finished(state.output.stop_reason)
        row = await asyncio.to_thread(asked.verdicts, question, _text(state.output), finished)
        names = list(asked.layer.verifiers)
        return Score(
            value={
                "correct": float(row["answer"] == asked.right(question)),
                "parsed": float(row["answer"] is not None),
                "reward": _number(row["reward"]),
                **{name: _number(row[name]) for name in names},
            },
            answer=row["answer"],
            explanation="\n".join(f"{name}: {row[name]} ({row[f'{name}/reason']})" for name in names),
            metadata={"thought": row["thought"], **{name: json.loads(row[f"{name}/evidence"]) for name in names}},
        )

    return score


def _chat(messages: Messages) -> list[ChatMessage]:
    kinds: dict[str, Any] = {"system": ChatMessageSystem, "user": ChatMessageUser}
    return [kinds[turn["role"]](content=turn["content"]) for turn in messages]


def _text(output: ModelOutput) -> str:
    """What the model wrote; a thought that its provider splits off is put back."""
    if output.empty:
        return ""
    content = output.message.content
    parts = content if isinstance(content, str) else [part.model_dump() for part in content]
    return turn_text({"content": parts})


def _number(score: float | None) -> float:
    return nan if score is None else score
