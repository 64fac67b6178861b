"""The one GRPOTrainer subclass.

What it adds to trl.GRPOTrainer: rollouts with every verdict and its advantage as Parquet, weights that follow
a schedule, the step time split into generate, verify and update, and a random state of its own after vLLM has
started (github.com/huggingface/trl/pull/7040). What it patches in TRL and vLLM is in `rlvr.trainer.engine`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import set_seed
from trl import GRPOTrainer

from rlvr.recipe import Recipe
from rlvr.rewards import RewardLayer
from rlvr.tables import write_parquet
from rlvr.trainer.engine import engine_options


class Trainer(GRPOTrainer):  # type: ignore[misc]
    """trl.GRPOTrainer whose rewards come from a RewardLayer and whose rollouts are kept."""

    def __init__(self, recipe: Recipe, layer: RewardLayer, rollouts: Path, **options: Any) -> None:
        self._layer, self._rollouts = layer, rollouts
        self._seconds = {"generate": 0.0, "verify": 0.0}
        with engine_options(recipe.vllm):
            super().__init__(reward_funcs=layer.functions(), **options)
        layer.eos_token_ids = {*self.eos_token_ids, self._tokenizer.pad_token_id}  # TRL's own test of truncation
        if recipe.vllm.enabled:
            # vLLM seeds the process with its rank, so every seed would sample alike.
            set_seed(recipe.seed + self.accelerator.process_index)

    def _generate(self, prompts: list[Any]) -> Any:
        with self._timed("generate"):
            return super()._generate(prompts)

    def _calculate_rewards(self, *args: Any) -> Any:
        self._layer.step = self.state.global_step
        # TRL reads them right after: rows, logs and advantages then rest on the same weights.
        self.reward_weights = torch.tensor(self._layer.weights(), dtype=torch.float32, device=self.accelerator.device)
        with self._timed("verify"):
            return super()._calculate_rewards(*args)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        scored: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if self.model.training:
            self._write_rollouts([row["prompt"] for row in inputs], scored["advantages"].tolist())
        return scored

    def training_step(self, *args: Any, **options: Any) -> torch.Tensor:
        self._seconds = {"generate": 0.0, "verify": 0.0}
        started = time.perf_counter()
        loss: torch.Tensor = super().training_step(*args, **options)
        whole = time.perf_counter() - started
        metrics = self._metrics["train"]
        for part, seconds in self._seconds.items():
            metrics[f"time/{part}"].append(seconds)
        metrics["time/update"].append(whole - sum(self._seconds.values()))
        return loss

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._seconds[part] += time.perf_counter() - started

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
