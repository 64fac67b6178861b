"""Every patch of TRL or vLLM that the engine needs, each guarded by the version it was read in.

Engine options that TRL 1.16 has no field for (github.com/huggingface/trl/pull/6816), float32 linear layers on
vLLM's CPU build, and prompt positions that TRL scores on the CPU only to mask them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import trl

from rlvr.recipe import Vllm
from rlvr.types import Error


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
