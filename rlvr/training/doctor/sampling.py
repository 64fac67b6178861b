"""Traps of sampling: with vLLM, without it, and of running on what machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rlvr.training import checks
from rlvr.training.doctor.findings import Severity, check, gathered

if TYPE_CHECKING:
    from rlvr.training.doctor.facts import Setup

TRL = "https://github.com/huggingface/trl"
VLLM = "https://github.com/vllm-project/vllm"
LONG = 1024  # tokens, from which small gaps between vLLM and the trainer add up
LOCAL = ("0.0.0.0", "localhost", "127.0.0.1")
CPU_HEADS = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)  # sizes that vLLM's attention has for CPUs


def _vllm(setup: Setup) -> bool:
    return setup.recipe.vllm.enabled


@check(Severity.REFUSE, f"{TRL}/issues/6789", needs=("grpo",))
def vllm_samples_untruncated(setup: Setup) -> str | None:
    """vLLM's log-probabilities are then of the kept tokens, the trainer's of all: the ratio is off by that mass."""
    grpo = setup.grpo
    cut = [f"top_p {grpo.top_p:g}"] if grpo.top_p < 1 else []
    cut += [f"top_k {grpo.top_k}"] if (grpo.top_k or 0) > 0 else []
    cut += [f"min_p {grpo.min_p:g}"] if (grpo.min_p or 0) > 0 else []
    if _vllm(setup) and cut:
        return f"grpo.{', grpo.'.join(cut)} with vLLM biases the importance ratio; sample untruncated"
    return None


@check(Severity.REFUSE, f"{TRL}/pull/7040", needs=("grpo",))
def groups_are_not_seeded(setup: Setup) -> str | None:
    """A seed per request gives every completion of a group the same words."""
    if _vllm(setup) and "seed" in (setup.grpo.generation_kwargs or {}):
        return "grpo.generation_kwargs.seed makes the completions of a group identical; set the recipe's seed instead"
    return None


@check(Severity.WARN, f"{TRL}/blob/v1.16.0/trl/trainer/grpo_trainer.py", needs=("grpo",))
def no_stop_strings(setup: Setup) -> str | None:
    """TRL takes any end but EOS for truncation."""
    stops = (setup.grpo.generation_kwargs or {}).keys() & {"stop", "stop_strings", "stop_token_ids"}
    if stops:
        return (
            f"grpo.generation_kwargs.{min(stops)}: a completion that ends there counts as cut off, so it is no answer "
            "(and mask_truncated_completions drops it); let it end in EOS"
        )
    return None


@check(Severity.REFUSE, checks.SERVER_DOCS, needs=("grpo",))
def sleep_needs_a_gpu(setup: Setup) -> str | None:
    """vLLM raises on a CPU."""
    if _vllm(setup) and setup.machine.cpu and setup.grpo.vllm_enable_sleep_mode:
        return "grpo.vllm_enable_sleep_mode needs a GPU; set it to false"
    return None


@check(Severity.WARN, f"{VLLM}/issues/29341", needs=("grpo",))
def sleep_is_watched(setup: Setup) -> str | None:
    """Level 2 throws the weights away; TRL pushes them again on waking."""
    if _vllm(setup) and not setup.machine.cpu and setup.grpo.vllm_enable_sleep_mode:
        return (
            "grpo.vllm_enable_sleep_mode has woken up to gibberish before: watch sampling/sampling_logp_difference "
            "in the first steps"
        )
    return None


@check(Severity.REFUSE, checks.SERVER_DOCS, needs=("grpo",))
def server_has_its_own_gpu(setup: Setup) -> str | None:
    """Weights go to the server by NCCL, between two CUDA devices."""
    if problem := checks.server_without_cuda(setup.recipe.vllm, setup.grpo.vllm_mode, setup.machine.cpu):
        return problem
    if not (_vllm(setup) and setup.grpo.vllm_mode == "server"):
        return None
    local = setup.grpo.vllm_server_base_url is None and setup.grpo.vllm_server_host in LOCAL
    if local and setup.processes >= setup.machine.gpus:
        return (
            f"a vLLM server on this machine needs a GPU of its own, and {setup.processes} processes take all "
            f"{setup.machine.gpus}; give it another GPU, another machine (grpo.vllm_server_base_url), or use colocate"
        )
    return None


@check(Severity.REFUSE, "https://docs.vllm.ai/en/stable/api/vllm/", needs=("grpo",))
def engine_options_are_free(setup: Setup) -> str | None:
    """What a recipe sets elsewhere, and what the loop rests on, is not given to the engine again."""
    return checks.engine_conflict(setup.recipe.vllm, setup.grpo.vllm_mode)


@check(Severity.WARN, f"{TRL}/issues/3671", needs=("grpo",))
def colocated_engine_is_whole(setup: Setup) -> str | None:
    """Reported to hang with a LoRA."""
    ways = setup.grpo.vllm_tensor_parallel_size
    if _vllm(setup) and setup.grpo.vllm_mode == "colocate" and ways > 1:
        return f"grpo.vllm_tensor_parallel_size {ways} with a LoRA in colocate mode may hang; prefer 1"
    return None


@check(Severity.WARN, f"{TRL}/issues/4772", needs=("grpo",))
def long_completions_are_not_masked(setup: Setup) -> str | None:
    """The product of many ratios near 1 leaves the allowed range, and the whole sequence is dropped."""
    grpo = setup.grpo
    masks = grpo.vllm_importance_sampling_correction and grpo.vllm_importance_sampling_mode == "sequence_mask"
    if _vllm(setup) and masks and grpo.max_completion_length >= LONG:
        return (
            f"with {grpo.max_completion_length} tokens, small gaps between vLLM and the trainer add up and mask whole "
            "completions; set grpo.vllm_importance_sampling_mode=token_truncate"
        )
    return None


@check(Severity.WARN, "https://arxiv.org/abs/2510.26788", needs=("grpo",))
def sampler_and_trainer_share_a_dtype(setup: Setup) -> str | None:
    """vLLM's "auto" runs a float32 model in bfloat16; the trainer, without autocast, in float32."""
    full = not (setup.grpo.bf16 or setup.grpo.fp16)
    if _vllm(setup) and full and setup.recipe.vllm.dtype != "float32":
        return (
            f"vLLM samples in {setup.recipe.vllm.dtype} (auto: bfloat16) and the trainer compares in float32; "
            "set vllm.dtype=float32, or grpo.bf16=true"
        )
    return None


@check(
    Severity.REFUSE,
    f"{VLLM}/blob/main/vllm/v1/attention/backends/cpu_attn.py",
    needs=("config",),
)
def vllm_knows_the_head_size(setup: Setup) -> str | None:
    """vLLM's attention for CPUs has a fixed list of them."""
    text = setup.config.get_text_config()
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    if _vllm(setup) and setup.machine.cpu and head not in CPU_HEADS:
        known = ", ".join(map(str, CPU_HEADS))
        return f"heads of size {head} are none that vLLM has for CPUs ({known}); vllm.enabled=false"
    return None


@check(Severity.WARN, "https://docs.vllm.ai/en/stable/getting_started/installation/cpu/")
def vllm_on_a_cpu_is_modest(setup: Setup) -> str | None:
    """Left alone, it asks for three tenths of the memory and compiles for minutes."""
    if not (_vllm(setup) and setup.machine.cpu):
        return None
    sized = os.environ.get("VLLM_CPU_KVCACHE_SPACE") or setup.recipe.vllm.engine.get("kv_cache_memory_bytes")
    missing = [] if sized else ["vllm.engine.kv_cache_memory_bytes=1073741824"]
    missing += [] if setup.recipe.vllm.enforce_eager else ["vllm.enforce_eager=true"]
    if missing:
        return f"vLLM on a CPU: set {' and '.join(missing)}, or it takes 30 % of the memory and minutes to start"
    return None


CHECKS = gathered(globals())
