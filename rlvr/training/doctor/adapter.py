"""Traps of LoRA and of the base under it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rlvr.training.doctor.findings import Severity, check, gathered

if TYPE_CHECKING:
    from rlvr.training.doctor.facts import Setup

TRL = "https://github.com/huggingface/trl"
HEADS = {"lm_head", "embed_tokens", "wte", "embed_out"}  # embeddings and output heads, under their usual names
VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
LOW_RATE = 5e-6  # full fine-tuning's rates; a LoRA wants about ten times as much
LORA_DOCS = "https://docs.vllm.ai/en/stable/features/lora/"


def _names(value: Any) -> Iterable[str]:
    return (value,) if isinstance(value, str) else value or ()


@check(Severity.REFUSE, "https://github.com/huggingface/peft/issues/2018")
def lora_spares_the_head(setup: Setup) -> str | None:
    """TRL multiplies by lm_head.weight itself, so an adapter there never trains; tied embeddings break on merging."""
    lora = setup.recipe.lora
    named = [n for key in ("target_modules", "modules_to_save") for n in _names(lora.get(key)) if n in HEADS]
    if named or lora.get("trainable_token_indices"):
        return (
            f"lora adapts {', '.join(named) or 'token embeddings'}: TRL does not train a head's adapter, and merging "
            "breaks tied embeddings; leave embeddings and lm_head out"
        )
    return None


@check(Severity.REFUSE, LORA_DOCS)
def vllm_takes_the_lora(setup: Setup) -> str | None:
    """vLLM's LoRA requests, which evaluation uses, know plain LoRA."""
    lora = setup.recipe.lora
    strange = [f"{key}={lora[key]}" for key in ("use_dora", "modules_to_save") if lora.get(key)]
    strange += [f"bias={lora['bias']}"] if lora.get("bias", "none") != "none" else []
    if setup.recipe.vllm.enabled and strange:
        return f"vLLM refuses an adapter with lora.{', lora.'.join(strange)}; leave it out, or vllm.enabled=false"
    return None


@check(Severity.WARN, LORA_DOCS)
def vllm_takes_the_rank(setup: Setup) -> str | None:
    """The engine's max_lora_rank comes from a fixed list."""
    rank = setup.recipe.lora.get("r", 8)
    if setup.recipe.vllm.enabled and rank not in VLLM_RANKS:
        return f"lora.r {rank} is no rank that vLLM's max_lora_rank knows ({', '.join(map(str, VLLM_RANKS))}); use one"
    return None


@check(Severity.WARN, f"{TRL}/blob/v1.16.0/trl/trainer/model_config.py")
def lora_has_no_dropout(setup: Setup) -> str | None:
    """Log-probabilities are computed in train mode: dropout makes policy and sampler differ by chance."""
    rate = setup.recipe.lora.get("lora_dropout", 0.0)
    if rate and not (setup.grpo is not None and setup.grpo.disable_dropout):
        return f"lora.lora_dropout {rate:g} is noise in the log-probabilities that GRPO compares; set it to 0"
    return None


@check(Severity.WARN, "https://thinkingmachines.ai/blog/lora/", needs=("grpo",))
def lora_learns_fast_enough(setup: Setup) -> str | None:
    """trl.GRPOConfig's default, 1e-6, is for full fine-tuning."""
    rate = setup.grpo.learning_rate
    if 0 < rate < LOW_RATE:
        return f"grpo.learning_rate {rate:g} is a rate for full fine-tuning; a LoRA wants about ten times it, from 1e-5"
    return None


@check(Severity.REFUSE, f"{TRL}/issues/4973", needs=("config",))
def quantised_base_has_no_vllm(setup: Setup) -> str | None:
    """TRL would load vLLM with bitsandbytes and push merged weights of other shapes into it."""
    if setup.recipe.vllm.enabled and getattr(setup.config, "quantization_config", None):
        return (
            f"{setup.recipe.model} is quantised: a LoRA on it cannot be merged into vLLM's weights (QLoRA with vLLM); "
            "take the unquantised model, or vllm.enabled=false"
        )
    return None


@check(Severity.WARN, "https://huggingface.co/docs/peft/developer_guides/quantization", needs=("config",))
def quantised_base_cannot_be_merged(setup: Setup) -> str | None:
    """An export would have to round the merged weights again."""
    if not setup.recipe.vllm.enabled and getattr(setup.config, "quantization_config", None):
        return f"{setup.recipe.model} is quantised: merging a LoRA into it loses precision; export the adapter"
    return None


@check(Severity.WARN, f"{TRL}/blob/v1.16.0/trl/trainer/grpo_trainer.py", needs=("grpo",))
def model_kwargs_do_nothing(setup: Setup) -> str | None:
    """The base is loaded before TRL sees it."""
    given = setup.grpo.model_init_kwargs
    if given:
        return (
            f"grpo.model_init_kwargs ({', '.join(given)}) is ignored: the base is loaded before TRL sees it, in "
            "float32; leave it out"
        )
    return None


CHECKS = gathered(globals())
