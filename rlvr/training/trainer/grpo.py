"""The one GRPOTrainer subclass.

What it adds to trl.GRPOTrainer: rollouts with every verdict and its advantage as Parquet, weights that follow
a schedule, the step time by part (see PARTS), and a random state of its own after vLLM has started
(github.com/huggingface/trl/pull/7040). What it patches in TRL and vLLM is in `rlvr.training.trainer.patches`.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import set_seed

from rlvr.recipe import Recipe
from rlvr.rewards.layer import RewardLayer
from rlvr.tables import write_parquet
from rlvr.training.trainer.answer_entropy import AnswerEntropy
from rlvr.training.trainer.dynamic_sampling import DynamicSampling
from rlvr.training.trainer.order import Order
from rlvr.training.trainer.patches import engine_options
from rlvr.training.trainer.resume import Resuming
from rlvr.training.trainer.shared_prefix import SharedPrefix
from rlvr.training.trainer.sync import BaseUnchanged

# Seconds of a micro-step, logged as time/<part>. The rest of it is time/update (forward and backward), and what passes
# before it time/idle: the optimiser's step, logging, checkpoints, the next batch.
PARTS = ("sync", "generate", "verify", "write")


class Trainer(Resuming, DynamicSampling, AnswerEntropy, SharedPrefix):
    """trl.GRPOTrainer whose rewards come from a RewardLayer and whose rollouts are kept."""

    def __init__(
        self, recipe: Recipe, layer: RewardLayer, rollouts: Path, answer_words: Collection[int] = (), **options: Any
    ) -> None:
        self._layer, self._rollouts, self.learning, self.answer_words = layer, rollouts, recipe.learning, answer_words
        self._seconds, self._ended = dict.fromkeys(PARTS, 0.0), 0.0
        with engine_options(recipe.vllm, options["args"]):
            super().__init__(reward_funcs=layer.functions(), **options)
        self.keep("rewards", layer)
        layer.eos_token_ids = {*self.eos_token_ids, self._tokenizer.pad_token_id}  # TRL's own test of truncation
        if recipe.vllm.enabled:
            self.vllm_generation.timed = lambda: self._timed("sync")
            self.add_callback(BaseUnchanged(self.vllm_generation))
            # vLLM seeds the process with its rank, so every seed would sample alike.
            set_seed(recipe.seed + self.accelerator.process_index)

    def _get_train_sampler(self, dataset: Any = None) -> Order:
        return Order(super()._get_train_sampler(dataset))

    def unused_completions(self) -> Any:
        between = self._step % (self.args.steps_per_generation * self.num_iterations)
        return self._buffered_inputs if between else None

    def forget(self, step: int) -> None:
        for path in self._rollouts.rglob("*step_*"):  # those begun too: `aside` puts a dot before their name
            if int(path.name.lstrip(".").split("_")[1]) > step or path.name.startswith("."):
                path.unlink()

    def _generate(self, prompts: list[Any]) -> Any:
        with self._timed("generate"):
            return super()._generate(prompts)

    def _calculate_rewards(self, *args: Any) -> Any:
        self._layer.step = self.state.global_step
        # TRL reads them right after: rows, logs and advantages then rest on the same weights.
        self.reward_weights = torch.tensor(self._layer.weights(), dtype=torch.float32, device=self.accelerator.device)
        with self._timed("verify"):
            rewards = super()._calculate_rewards(*args)
        rows = self._layer.last_rows
        self._log_metric("parsed", sum(row["answer"] is not None for row in rows) / len(rows))
        return rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        scored: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if self.model.training:
            with self._timed("write"):
                self._write_rollouts([row["prompt"] for row in inputs], scored["advantages"].tolist())
        return scored

    def training_step(self, *args: Any, **options: Any) -> torch.Tensor:
        self._seconds = dict.fromkeys(PARTS, 0.0)
        started = time.perf_counter()
        loss: torch.Tensor = super().training_step(*args, **options)
        whole = time.perf_counter() - started
        metrics = self._metrics["train"]
        for part, seconds in self._seconds.items():
            metrics[f"time/{part}"].append(seconds)
        metrics["time/update"].append(whole - sum(self._seconds.values()))
        if self._ended:
            metrics["time/idle"].append(started - self._ended)
        self._ended = started + whole
        return loss

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        started, within = time.perf_counter(), sum(self._seconds.values())
        yield
        within = sum(self._seconds.values()) - within  # parts of this part are counted for themselves
        self._seconds[part] += time.perf_counter() - started - within

    def _write_rollouts(self, prompts: Sequence[Any], advantages: Sequence[float]) -> None:
        step, rank = self.state.global_step + 1, self.accelerator.process_index
        first = rank * len(prompts)
        rows = [
            {
                "step": step,
                "phase": "grpo",
                "group": (first + place) // self.num_generations,
                "prompt": "\n\n".join(turn["content"] for turn in prompt),
                **row,
                "advantage": advantage,
            }
            for place, (row, prompt, advantage) in enumerate(
                zip(self._layer.last_rows, prompts, advantages, strict=True)
            )
        ]
        name = f"step_{step:06d}_{self._step:07d}_rank{rank}.parquet"
        write_parquet(pd.DataFrame(rows), self._rollouts / name)
