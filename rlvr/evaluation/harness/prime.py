"""The tasks as an environment of PrimeIntellect's `verifiers`, for its evaluations and for training with prime-rl.

    rlvr harness quickstart --to rlvr-quickstart      # the environment as a package, ready for the hub
    pip install ./rlvr-quickstart && vf-eval rlvr-quickstart -m MODEL -n 20 -r 4

The harness finds an environment by the name of its package, so `rlvr.evaluation.harness.package` writes one around a
recipe; all it holds is an import of this file and the recipe's text. The reward is the recipe's weighted sum; every
verifier's score is a metric beside it. A verifier that abstains on a question gives that question no metric. Training
questions are the default there, since the harness trains.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import cache
from typing import Literal

from rlvr.completions import turn_text
from rlvr.evaluation.harness import Asked
from rlvr.rewards.layer import Row
from rlvr.types import Error, Question

try:
    import verifiers.v1 as vf
except ImportError as error:
    raise Error("PrimeIntellect's verifiers is not installed: pip install 'rlvr[harness]'") from error


class RecipeConfig(vf.TasksetConfig):
    """What `--taskset.` takes: a recipe's name or path, key=value overrides, and the split."""

    recipe: str = "quickstart"
    overrides: list[str] = []  # noqa: RUF012 - pydantic copies it
    split: Literal["train", "validation"] = "train"


class QuestionData(vf.TaskData):
    """One question. It rides on the trace, truth and all: the policy is shown `prompt` and `system_prompt` alone."""

    question: str
    opened: tuple[str, tuple[str, ...], str]


class QuestionTask(vf.Task[QuestionData, vf.State, vf.TaskConfig]):
    """A question that is scored by its recipe's verifiers."""

    @property
    def key(self) -> str:
        return str(self.data.id)

    @vf.reward
    async def reward(self, trace: vf.Trace) -> float:
        """The weighted sum; 0 where a verifier failed, which the harness has no word for (it is a metric: failed)."""
        return float((await self._row(trace))["reward"] or 0.0)

    @vf.metric
    async def verdicts(self, trace: vf.Trace) -> dict[str, float]:
        row, asked = await self._row(trace), opened(*self.data.opened)
        scores = {name: row[name] for name in asked.layer.verifiers if row[name] is not None}
        return {"parsed": float(row["answer"] is not None), "failed": float(row["reward"] is None), **scores}

    async def _row(self, trace: vf.Trace) -> Row:
        asked = opened(*self.data.opened)
        written = trace.assistant_messages
        text = turn_text(written[-1].model_dump()) if written else ""
        question = Question.from_json(self.data.question)
        return await asyncio.to_thread(asked.verdicts, question, text, not trace.is_truncated)


class Questions(vf.Taskset[QuestionTask, RecipeConfig]):
    """A recipe's questions; a package of its own (`rlvr.evaluation.harness.package`) fills in the recipe."""

    def load(self) -> Iterator[QuestionTask]:
        where = (self.config.recipe, tuple(self.config.overrides), self.config.split)
        asked = opened(*where)
        for question in asked.questions:
            system, user = (turn["content"] for turn in asked.messages(question))
            data = QuestionData(
                id=question.id, prompt=user, system_prompt=system, question=question.to_json(), opened=where
            )
            yield QuestionTask(data, self.config.task)


@cache
def opened(recipe: str, overrides: tuple[str, ...], split: str) -> Asked:
    """A recipe is opened once in a process, whoever of its thousands of tasks asks first."""
    return Asked.open(recipe, overrides, split)
