"""Every patch of TRL or vLLM that the engine needs, each guarded by the version it was read in.

Engine options that TRL 1.16 has no field for (github.com/huggingface/trl/pull/6816), a weight sync that leaves the base
alone (`rlvr.training.trainer.sync`), linear layers on vLLM's CPU build that can be loaded again, and prompt positions
that TRL scores on the CPU only to mask them.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import trl

from rlvr.recipe import Vllm
from rlvr.training import checks
from rlvr.types import Error, suggest


def refuse_engine(vllm: Vllm, config: Any) -> None:
    """Raise Error for what the engine would fail on later, before anything is spent. config: a trl.GRPOConfig."""
    if not vllm.enabled:
        return
    if not trl.__version__.startswith("1.16."):
        raise Error(
            f"vllm: engine options and weight sync are patched into trl 1.16; this is {trl.__version__}; "
            "install trl==1.16.*"
        )
    cpu = config.use_cpu or not torch.cuda.is_available()
    problem = (
        checks.engine_conflict(vllm, config.vllm_mode)
        or checks.server_without_cuda(vllm, config.vllm_mode, cpu)
        or checks.missing_vllm(vllm, importlib.util.find_spec("vllm") is not None)
    )
    if problem:
        raise Error(problem)
    from vllm.engine.arg_utils import EngineArgs

    known = {field.name for field in dataclasses.fields(EngineArgs)}
    for key in vllm.engine:
        if key not in known:
            raise Error(f"recipe: vllm.engine: unknown key {key!r}{suggest(key, known)} (vllm.EngineArgs)")


@contextmanager
def engine_options(vllm: Vllm, config: Any) -> Iterator[None]:
    """Inside, trl.GRPOTrainer builds its vLLM engine with the recipe's options, and syncs weights by `Sync`.

    config: the trl.GRPOConfig. Errors: as in `refuse_engine`.
    """
    refuse_engine(vllm, config)
    if not vllm.enabled:
        yield
        return
    import trl.generation.vllm_generation as generation
    import trl.trainer.grpo_trainer as grpo_trainer
    from vllm.platforms import current_platform

    from rlvr.training.trainer.sync import Sync

    if current_platform.is_cpu():
        _keep_cpu_weights_loadable()
    engine, backend = generation.LLM, grpo_trainer.VLLMGeneration

    def with_options(**theirs: Any) -> Any:
        ours = vllm.options()
        if "seed" in ours:  # TRL's differs by process: with one seed for all, all would sample alike
            ours["seed"] += theirs["seed"]
        return engine(**{**theirs, **ours})

    generation.LLM, grpo_trainer.VLLMGeneration = with_options, Sync
    try:
        yield
    finally:
        generation.LLM, grpo_trainer.VLLMGeneration = engine, backend


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
    # vLLM 0.31 packs linears on the CPU (float32, and bfloat16 where the processor has it) and deletes the weight, so
    # the first weight sync fails.
    import vllm._custom_ops as ops
    import vllm.model_executor.layers.utils as utils

    ops._supports_onednn = False
    utils.check_cpu_sgl_kernel = lambda *args, **options: False
