"""How much memory a run takes on each device, from the model's configuration alone.

With P parameters of the base and T of the LoRA, L layers of which M are passed backwards, H the hidden size, I the
width of the MLP, Q and K the widths of the queries and of the keys (heads x head size), V the vocabulary, b bytes per
number in activations (2 under bfloat16 autocast, else 4), S = longest prompt + completion, all per process:

    weights       4 P               the base is loaded in float32
    adapter       4 T
    optimiser     12 T              gradients and AdamW's two moments, float32
    KV cache      2 L K S 4 n       n completions of a generation batch; only without vLLM
    activations   c L H b + c a     with gradient checkpointing: one input per layer, and one layer anew
                  c M a             without;  c = tokens of a micro-batch, a = (4 H + 4 Q + 4 I) b
    logits        8 min(c, 4096) min(V, 32768)      TRL's fused head works in tiles (trl/kernels/chunked_logprob.py)
    vLLM          the share of the GPU that it reserves; on a CPU, or with vllm.engine.kv_cache_memory_bytes, its copy
                  of the weights and its cache
    overhead      1 GiB             Python's libraries, or CUDA's context and its kernels

Sampling and updating take turns, so the larger of (KV cache) and (activations + logits) counts. On a CPU activations
count twice: measured on SmolLM2-135M, autograd keeps what the formula says (10115 numbers per token and layer, against
10752), while the process grows by nearly double, as glibc's allocator fragments. On a GPU the formula has not been
measured; fragments, or an attention kernel that is not memory-efficient, come on top. So above 80 % is a warning.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rlvr.training.doctor.findings import Severity, check, gathered

if TYPE_CHECKING:
    from rlvr.training.doctor.facts import Setup

GIB = 1024**3
OVERHEAD = GIB
TILE, TILE_WIDTH = 4096, 32768
TIGHT, FULL = 0.8, 1.0
FRAGMENTED = 2  # on a CPU: see above
NEEDS = ("batch", "grpo", "config", "size", "texts")
LINK = "https://github.com/huggingface/trl/blob/v1.16.0/docs/source/reducing_memory_usage.md"


def estimate(setup: Setup) -> dict[str, int]:
    """Bytes per process, by part; see the head of this file. "total" counts parts that take turns once."""
    text, size, grpo, batch = setup.config.get_text_config(), setup.size, setup.grpo, setup.batch
    activation = 2 if grpo.bf16 or grpo.fp16 else 4
    queries, _ = _widths(text)
    longest = setup.texts.longest + grpo.max_completion_length
    grpo_tokens = batch.per_device * longest
    one_layer = 4 * (text.hidden_size + queries + text.intermediate_size) * activation
    parts = {"weights": 4 * size.base, "adapter": 4 * size.trained, "optimiser": 12 * size.trained}
    updates = {"grpo": (grpo_tokens, grpo)}
    if setup.sft is not None:
        tokens = setup.sft.per_device_train_batch_size * max(setup.texts.rows.values())
        updates["sft"] = (tokens, setup.sft)

    inputs = text.num_hidden_layers * text.hidden_size * activation

    def activations(tokens: int, checkpointing: bool) -> int:
        return int(tokens * (inputs + one_layer if checkpointing else size.layers * one_layer))

    tokens, config = max(updates.values(), key=lambda u: activations(u[0], u[1].gradient_checkpointing))
    fragmented = FRAGMENTED if setup.machine.cpu else 1
    parts["activations"] = fragmented * activations(tokens, config.gradient_checkpointing)
    parts["logits"] = 8 * min(tokens, TILE) * min(text.vocab_size, TILE_WIDTH)
    parts["KV cache"] = 0 if setup.recipe.vllm.enabled else kv_bytes(setup, 4) * longest * _sampled(setup)
    parts["vLLM"] = _vllm(setup)
    parts["overhead"] = OVERHEAD
    turns = max(parts["KV cache"], parts["activations"] + parts["logits"])
    kept = ("weights", "adapter", "optimiser", "vLLM", "overhead")
    return {**parts, "total": turns + sum(parts[part] for part in kept)}


def kv_bytes(setup: Setup, number: int) -> int:
    """Bytes of keys and values for one token, at `number` bytes each."""
    text = setup.config.get_text_config()
    return 2 * int(text.num_hidden_layers) * _widths(text)[1] * number


def available(setup: Setup) -> int:
    """Bytes for one process: a GPU, or its share of main memory."""
    return setup.machine.ram_bytes // setup.processes if setup.machine.cpu else setup.machine.gpu_bytes


@check(Severity.REFUSE, LINK, needs=NEEDS)
def memory_suffices(setup: Setup) -> str | None:
    """More than there is ends in a killed process, often after the first long completions."""
    needed, there = estimate(setup)["total"], available(setup)
    if needed > FULL * there:
        return (
            f"about {needed / GIB:.1f} GiB per process are needed and {there / GIB:.1f} GiB are there; lower "
            "grpo.per_device_train_batch_size or grpo.max_completion_length, set grpo.gradient_checkpointing=true, "
            "or take a smaller model"
        )
    return None


@check(Severity.WARN, LINK, needs=NEEDS)
def memory_is_ample(setup: Setup) -> str | None:
    """The estimate leaves out what fragments."""
    needed, there = estimate(setup)["total"], available(setup)
    if TIGHT * there < needed <= FULL * there:
        return f"about {needed / GIB:.1f} GiB of {there / GIB:.1f} GiB per process will be used: little is left to err"
    return None


@check(Severity.REFUSE, "https://docs.vllm.ai/en/stable/configuration/conserving_memory/", needs=NEEDS)
def vllm_has_a_cache(setup: Setup) -> str | None:
    """vLLM refuses to start when its share does not hold its weights and one whole sequence."""
    if not setup.recipe.vllm.enabled or setup.machine.cpu or setup.grpo.vllm_mode != "colocate":
        return None
    share, number = setup.grpo.vllm_gpu_memory_utilization, 4 if setup.recipe.vllm.dtype == "float32" else 2
    length = setup.grpo.vllm_max_model_length or setup.config.get_text_config().max_position_embeddings
    ways = setup.grpo.vllm_tensor_parallel_size
    needed = (number * setup.size.base + kv_bytes(setup, number) * length) / ways
    there = share * setup.machine.gpu_bytes
    if needed > there:
        return (
            f"vLLM may take {there / GIB:.1f} GiB (grpo.vllm_gpu_memory_utilization {share:g}), but its weights and "
            f"one sequence of {length} tokens take {needed / GIB:.1f} GiB; raise it, or "
            "lower grpo.vllm_max_model_length"
        )
    return None


def _widths(text: object) -> tuple[int, int]:
    """Widths of queries and of keys."""
    heads = int(getattr(text, "num_attention_heads", 0))
    head = int(getattr(text, "head_dim", None) or getattr(text, "hidden_size", 0) // heads)
    return heads * head, int(getattr(text, "num_key_value_heads", None) or heads) * head


def _sampled(setup: Setup) -> int:
    """Completions that one process samples at once."""
    return setup.batch.completions // setup.processes


def _vllm(setup: Setup) -> int:
    if not setup.recipe.vllm.enabled or setup.grpo.vllm_mode != "colocate":
        return 0
    cache = int(setup.recipe.vllm.engine.get("kv_cache_memory_bytes") or 0)
    if setup.machine.cpu or cache:
        number = 4 if setup.recipe.vllm.dtype == "float32" else 2
        cache = cache or int(float(os.environ.get("VLLM_CPU_KVCACHE_SPACE", "0") or 0) * GIB)
        return number * setup.size.base + (cache or int(0.3 * setup.machine.ram_bytes))
    return int(setup.grpo.vllm_gpu_memory_utilization * setup.machine.gpu_bytes)


CHECKS = gathered(globals())
