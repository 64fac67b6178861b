"""What training refuses and `rlvr doctor` finds: pure functions of a recipe and of what it opens, the same for both.

    if problem := checks.unfilled_batch(len(questions), batch):
        raise Error(problem)                       # training; doctor makes a finding of the same sentence

A check returns one sentence, what is wrong and what to do, or None.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from rlvr.loading import Templates
from rlvr.policy.chat import encode
from rlvr.prompts import Messages
from rlvr.questions.splits import refuse_leak
from rlvr.recipe import Vllm
from rlvr.training.trainer.batch import Batch
from rlvr.types import Question

UNBOUNDED = 10**9  # tokens: a model that names no limit
AT_ONCE = 256  # conversations that are tokenised together
UNRESUMABLE = ("save_only_model", "ignore_data_skip", "enable_jit_checkpoint")
SERVER_DOCS = "https://huggingface.co/docs/trl/vllm_integration"
ELSEWHERE = {  # options of vllm.LLM -> where a recipe sets them
    "model": "model",
    "enforce_eager": "vllm.enforce_eager",
    "dtype": "vllm.dtype",
    "tensor_parallel_size": "grpo.vllm_tensor_parallel_size",
    "gpu_memory_utilization": "grpo.vllm_gpu_memory_utilization",
    "max_model_len": "grpo.vllm_max_model_length",
    "enable_sleep_mode": "grpo.vllm_enable_sleep_mode",
    "model_impl": "grpo.vllm_model_impl",
}
FIXED = {  # options that the loop rests on
    "distributed_executor_backend": "TRL runs the engine in the trainer's own processes",
    "logprobs_mode": "the importance ratio compares processed log-probabilities",
    "trust_remote_code": "code that comes with a model is not run",
    "enable_lora": "weights are synced with the LoRA in them, and evaluation sets it itself",
}


def unresumable(section: str, options: Mapping[str, Any]) -> str | None:
    """Checkpoints without the optimiser or the data's place. section: sft or grpo; options: what the recipe gives."""
    if key := next((key for key in UNRESUMABLE if options.get(key)), None):
        return f"recipe: {section}.{key} makes checkpoints that no run can go on from; remove it"
    return None


def engine_conflict(vllm: Vllm, mode: str) -> str | None:
    """Options of the vLLM engine that are set elsewhere, cannot be set, or do not reach it. mode: grpo.vllm_mode."""
    if not vllm.enabled:
        return None
    for key in vllm.engine:
        if key in ELSEWHERE:
            return f"recipe: vllm.engine.{key} is set by `{ELSEWHERE[key]}`; remove it from vllm.engine"
        if key in FIXED:
            return f"recipe: vllm.engine.{key} cannot be set: {FIXED[key]}; remove it"
    if mode == "server" and vllm.engine:
        return (
            f"recipe: vllm.engine ({', '.join(vllm.engine)}) does not reach a server that is started by itself; "
            "give these options to `vllm serve`, or set grpo.vllm_mode=colocate"
        )
    return None


def server_without_cuda(vllm: Vllm, mode: str, cpu: bool) -> str | None:
    """A vLLM server takes weights by NCCL alone. mode: grpo.vllm_mode; cpu: the trainer runs without a GPU."""
    if vllm.enabled and mode == "server" and cpu:
        return (
            "grpo.vllm_mode=server sends weights by NCCL: the trainer needs a CUDA device, and the server another "
            f"({SERVER_DOCS}); `rlvr launch RECIPE --print --topology vllm-server:1+1` prints both commands; on a "
            "CPU set grpo.vllm_mode=colocate"
        )
    return None


def missing_vllm(vllm: Vllm, installed: bool) -> str | None:
    """The vLLM switch needs vLLM."""
    if vllm.enabled and not installed:
        return "vllm.enabled is true but vllm is not installed: pip install 'rlvr[vllm]', or vllm.enabled=false"
    return None


def unknown_critic(critic: str | None, verifiers: Collection[str]) -> str | None:
    """The critic of the warm start is one of the recipe's verifiers."""
    if critic is not None and critic not in verifiers:
        return f"learning.critic {critic!r} is none of the verifiers: {', '.join(verifiers)}"
    return None


def overconfidence(proper: Sequence[str], scale_rewards: str) -> str | None:
    """Divided by its group's deviation, a proper score rewards over-confidence. proper: names of the verifiers with
    such scores; scale_rewards: as trl.GRPOConfig holds it."""
    if proper and scale_rewards == "group":
        return (
            f"{', '.join(proper)}: scaling by the group's deviation makes stated probabilities over-confident "
            "(arXiv:2508.11800); set grpo.scale_rewards=none"
        )
    return None


def lone_completions(batch: Batch) -> str | None:
    """An advantage is a comparison within the group."""
    if batch.num_generations < 2:
        return "grpo.num_generations is 1: an advantage compares completions of one prompt; give at least 2, better 8"
    return None


def unfilled_batch(questions: int, batch: Batch) -> str | None:
    """TRL drops what does not fill a generation batch: too few questions would train on nothing."""
    if questions < batch.prompts:
        return (
            f"{questions} training questions do not fill one generation batch of {batch.prompts} prompts; "
            "lower grpo.generation_batch_size or raise grpo.num_generations"
        )
    return None


def sharded_training(environment: Mapping[str, str]) -> str | None:
    """accelerate's FSDP and DeepSpeed. With accelerate 1.15 ranks above 0 load zeros under FSDP, and the adapter is in
    shards when it is saved; ZeRO empties weights, and hides gradients from the guard against NaN. environment: as
    `accelerate launch` sets it."""
    for variable, name in (("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed")):
        if environment.get(variable, "").lower() in ("true", "1"):
            return f"{name} is not proven here: a LoRA fits on each GPU; launch with --multi_gpu (rlvr launch RECIPE)"
    return None


def prompt_room(model: Any, vllm: Vllm, config: Any) -> int:
    """Tokens that a prompt may have beside the completion. model: transformers' configuration of the base; config: a
    trl.GRPOConfig."""
    limit = getattr(model.get_text_config(), "max_position_embeddings", None) or UNBOUNDED
    if vllm.enabled and config.vllm_max_model_length:
        limit = min(limit, config.vllm_max_model_length)
    return int(limit - config.max_completion_length)


def long_prompt(lengths: Mapping[str, int], room: int, completion: int) -> str | None:
    """TRL truncates no prompt: one that is too long raises, or hangs the others. lengths: tokens by question id;
    completion: grpo.max_completion_length."""
    longest = max(lengths, key=lengths.__getitem__, default=None)
    if longest is not None and lengths[longest] > room:
        return (
            f"question {longest}: prompt of {lengths[longest]} tokens, but only {room} fit beside {completion} of "
            "completion; shorten the evidence or the completion"
        )
    return None


def control_token(prompts: Mapping[str, Messages], special: Iterable[str]) -> str | None:
    """A name that holds one ends the user's turn and writes the assistant's. prompts: by question id; special: the
    tokenizer's control tokens."""
    tokens = sorted(special)
    for question, messages in prompts.items():
        text = "\n".join(message["content"] for message in messages)
        if token := next((token for token in tokens if token in text), None):
            return f"question {question}: its prompt contains the control token {token!r}; clean the data"
    return None


def refuse_leaking_split(questions: Sequence[Question], held_out: Sequence[Question], allow_leak: str) -> None:
    """Raise Error where training questions share what defines a question that will be measured: `held_out`, and those
    of the test split. allow_leak: the recipe's reason why they may, which is then a warning."""
    train = [question for question in questions if question.split == "train"]
    test = [question for question in questions if question.split == "test"]
    refuse_leak(train, [*held_out, *test], allow_leak)


def rendered(questions: Iterable[Question], templates: Templates) -> dict[str, Messages]:
    """The prompts, by question id."""
    return {question.id: templates[question.task].render(question) for question in questions}


def token_counts(tokenizer: Any, conversations: Mapping[str, Messages], answered: bool = False) -> dict[str, int]:
    """Tokens of each conversation through the chat template. answered: it ends in the assistant's turn; else the
    template opens that turn, as when the policy is asked."""
    counts: dict[str, int] = {}
    everything = list(conversations)
    for start in range(0, len(everything), AT_ONCE):
        names = everything[start : start + AT_ONCE]
        messages = [conversations[name] for name in names]
        ids = encode(tokenizer, messages, answered)
        counts |= dict(zip(names, map(len, ids), strict=True))
    return counts
