"""What training refuses and doctor finds, as pure functions: no model, no data.

pytest tests/training/test_checks.py
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import LlamaConfig, LlavaConfig
from trl import GRPOConfig

from rlvr.recipe import Vllm, load
from rlvr.training import checks
from rlvr.training.checks import UNBOUNDED, UNRESUMABLE
from rlvr.training.run import Run
from rlvr.training.trainer.batch import Batch
from rlvr.training.trainer.config import checked_config
from rlvr.types import Error


def grpo(**options: Any) -> Any:
    return SimpleNamespace(**{"max_completion_length": 56, "vllm_max_model_length": None, **options})


@pytest.mark.parametrize("key", UNRESUMABLE)
def test_checkpoints_that_no_run_can_go_on_from(key: str) -> None:
    message = checks.unresumable("sft", {"max_steps": 3, key: True})
    assert message == f"recipe: sft.{key} makes checkpoints that no run can go on from; remove it"
    assert checks.unresumable("sft", {"max_steps": 3, key: False}) is None


def test_the_room_of_a_model_with_images_is_that_of_its_text() -> None:
    """Its limit stands in the part for text; read from the whole, there would be none."""
    plain = LlamaConfig(max_position_embeddings=256)
    assert checks.prompt_room(plain, Vllm(False), grpo()) == 200
    assert checks.prompt_room(LlavaConfig(text_config=plain), Vllm(False), grpo()) == 200
    assert checks.prompt_room(plain, Vllm(True), grpo(vllm_max_model_length=156)) == 100
    assert checks.prompt_room(plain, Vllm(False), grpo(vllm_max_model_length=156)) == 200
    assert checks.prompt_room(SimpleNamespace(get_text_config=lambda: None), Vllm(False), grpo()) == UNBOUNDED - 56


def test_the_longest_prompt_decides() -> None:
    assert checks.long_prompt({"a": 10, "b": 12}, 12, 56) is None
    assert checks.long_prompt({}, 12, 56) is None
    message = checks.long_prompt({"a": 10, "b": 13, "c": 1}, 12, 56)
    assert message is not None and message.startswith("question b: prompt of 13 tokens, but only 12 fit beside 56")


class Bytes:
    """A tokenizer of one token a byte, whose template adds three to open the assistant's turn."""

    def apply_chat_template(self, chats: Any, add_generation_prompt: bool, return_dict: bool) -> list[list[int]]:
        opening = [0] * 3 * add_generation_prompt
        return [[*"".join(turn["content"] for turn in chat).encode(), *opening] for chat in chats]


def test_tokens_are_counted_not_characters() -> None:
    """Letters of two bytes, and what the template adds, count in full; more conversations than go at once."""
    chats = {str(n): [{"role": "user", "content": "β" * n}] for n in range(checks.AT_ONCE + 3)}
    assert checks.token_counts(Bytes(), chats) == {str(n): 2 * n + 3 for n in range(checks.AT_ONCE + 3)}
    assert checks.token_counts(Bytes(), chats, answered=True)["5"] == 10


def test_a_control_token_is_named() -> None:
    clean, hostile = [{"role": "user", "content": "TP53"}], [{"role": "user", "content": "X</s>"}]
    assert checks.control_token({"a": clean}, ["<s>", "</s>"]) is None
    message = checks.control_token({"a": clean, "b": hostile}, ["<s>", "</s>"])
    assert message == "question b: its prompt contains the control token '</s>'; clean the data"


def test_batches() -> None:
    batch = Batch.from_recipe({"per_device_train_batch_size": 8, "num_generations": 2}, processes=2)
    assert batch.prompts == 8
    assert checks.unfilled_batch(8, batch) is None and checks.lone_completions(batch) is None
    assert "7 training questions do not fill" in str(checks.unfilled_batch(7, batch))
    lone = Batch.from_recipe({"num_generations": 1}, processes=1)
    assert "at least 2" in str(checks.lone_completions(lone))


def test_scores_critics_and_engines() -> None:
    assert "brier: scaling" in str(checks.overconfidence(["brier"], "group"))
    assert checks.overconfidence([], "group") is None and checks.overconfidence(["brier"], "none") is None
    assert checks.unknown_critic(None, ["label"]) is None and checks.unknown_critic("label", ["label"]) is None
    assert "none of the verifiers: label, format" in str(checks.unknown_critic("labl", ["label", "format"]))
    assert checks.engine_conflict(Vllm(False, engine={"dtype": "float32"}), "colocate") is None
    assert "does not reach a server" in str(checks.engine_conflict(Vllm(True, engine={"seed": 1}), "server"))
    assert checks.server_without_cuda(Vllm(True), "server", cpu=False) is None
    assert checks.missing_vllm(Vllm(False), installed=False) is None


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, None),
        ({"ACCELERATE_USE_FSDP": "false", "ACCELERATE_USE_DEEPSPEED": "false"}, None),
        ({"ACCELERATE_USE_FSDP": "true"}, "FSDP is not proven here"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "DeepSpeed is not proven here"),
    ],
)
def test_sharded_training_is_refused(environment: dict[str, str], said: str | None) -> None:
    found = checks.sharded_training(environment)
    assert found is None if said is None else said in str(found)


def test_a_run_under_fsdp_is_refused_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(Error, match="FSDP is not proven here"):
        Run(load("quickstart", ["model=nowhere", f"output_dir={tmp_path}"]))


def test_rewards_are_not_scaled_unless_a_recipe_says_so() -> None:
    hardware = {"use_cpu": True, "bf16": False}
    fixed = {"output_dir": "unused", "report_to": "none"}
    assert checked_config(GRPOConfig, "grpo", hardware, fixed).scale_rewards == "none"
    assert checked_config(GRPOConfig, "grpo", {**hardware, "scale_rewards": "group"}, fixed).scale_rewards == "group"
