"""The one GRPOTrainer subclass, and every patch of TRL or vLLM.

What it adds to trl.GRPOTrainer: rollouts with every verdict and its advantage as Parquet, weights that follow
a schedule, and the step time split into generate, verify and update. What it patches: engine options that
TRL 1.16 has no field for (github.com/huggingface/trl/pull/6816), the random state after vLLM starts
(pull/7040), float32 linear layers on vLLM's CPU build, and prompt positions that TRL scores on the CPU only
to mask them.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import trl
from transformers import set_seed
from trl import GRPOTrainer

from rlvr.plugins import suggest
from rlvr.recipe import Recipe, Vllm
from rlvr.rewards import RewardLayer
from rlvr.tables import write_parquet
from rlvr.types import Error


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


@contextmanager
def engine_options(vllm: Vllm) -> Iterator[None]:
    """Pass the recipe's engine options to the vLLM engine that TRL is about to build."""
    if not vllm.enabled:
        yield
        return
    if not trl.__version__.startswith("1.16."):
        raise Error(f"vllm: engine options are patched into trl 1.16; this is {trl.__version__}; install trl==1.16.*")
    try:
        import trl.generation.vllm_generation as generation
        from vllm.platforms import current_platform
    except ImportError as error:
        raise Error("vllm.enabled is true but vllm is not installed: pip install 'rlvr[vllm]'") from error
    if current_platform.is_cpu() and vllm.dtype == "float32":
        _keep_cpu_weights_loadable()
    plain = generation.LLM
    generation.LLM = functools.partial(plain, enforce_eager=vllm.enforce_eager, dtype=vllm.dtype)
    try:
        yield
    finally:
        generation.LLM = plain


@contextmanager
def masked_positions_skipped() -> Iterator[None]:
    """Leave prompt positions out of the LM head on the CPU, as TRL does on a GPU.

    Without Triton trl 1.16 scores every position and masks afterwards (`compact` in trl/trainer/utils.py,
    meant for devices that compile a graph per shape). Eager torch does not, and the prompt is most of a
    batch. Same loss, same gradients; no upstream issue yet.
    """
    if torch.cuda.is_available() or not trl.__version__.startswith("1.16."):
        yield
        return
    import trl.trainer.utils as utils

    plain = utils._use_triton
    utils._use_triton = lambda device: True
    try:
        yield
    finally:
        utils._use_triton = plain


def _keep_cpu_weights_loadable() -> None:
    # vLLM 0.31 packs float32 linears on the CPU and deletes the weight, so the first weight sync fails.
    import vllm._custom_ops as ops
    import vllm.model_executor.layers.utils as utils

    ops._supports_onednn = False
    utils.check_cpu_sgl_kernel = lambda *args, **options: False


def checked_config(kind: type, section: str, options: Mapping[str, Any], fixed: Mapping[str, Any]) -> Any:
    """A TRL configuration from a recipe section; a wrong key or value is one clear error."""
    fields = set(kind.__dataclass_fields__)  # type: ignore[attr-defined]
    for key in options:
        if key not in fields:
            raise Error(f"recipe: {section}: unknown key {key!r}{suggest(key, fields)} (trl.{kind.__name__})")
    try:
        return kind(**{**options, **fixed})
    except (TypeError, ValueError) as error:
        raise Error(f"recipe: {section}: {' '.join(str(error).split())}") from error
