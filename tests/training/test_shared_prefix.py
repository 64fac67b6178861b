"""A group's prompt is computed once, and every number is the one of the plain way up to rounding."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from trl.trainer.utils import add_fused_lm_head

from rlvr.recipe import load
from rlvr.training.run import Run
from rlvr.training.trainer import shared_prefix
from rlvr.training.trainer.grpo import Trainer
from rlvr.training.trainer.shared_prefix import groups_kept_whole, masks, one_prefill, pack, refusal
from tests import tiny

SIZES: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
KINDS = {
    "llama": (LlamaForCausalLM, LlamaConfig(**SIZES)),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**SIZES, head_dim=8)),
    # Every other layer or so sees a window that is shorter than the prompt.
    "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig(**SIZES, head_dim=8, sliding_window=7, sliding_window_pattern=2)),
}


def model_of(kind: str, attention: str) -> Any:
    torch.manual_seed(0)
    built, config = KINDS[kind]
    model = built._from_config(config, attn_implementation=attention).eval()
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    return model


def batch(groups: int = 3, size: int = 4, prompt: int = 20, completion: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    """ids and mask of shuffled groups: prompts of several lengths on the right of their half, completions on the left
    of theirs, one of them of a single token."""
    torch.manual_seed(1)
    ids = torch.zeros(groups * size, prompt + completion, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for group in range(groups):
        text = torch.randint(1, 97, (prompt - 4 * group,))
        for turn in range(size):
            row, length = group * size + turn, 1 + (5 * turn + group) % completion
            ids[row, 4 * group : prompt], mask[row, 4 * group : prompt] = text, 1
            ids[row, prompt : prompt + length], mask[row, prompt : prompt + length] = torch.randint(1, 97, (length,)), 1
    order = torch.randperm(groups * size)
    return ids[order], mask[order]


def gradients(model: Any, loss: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("most", [4096, 30], ids=["a row a prompt", "rows of 30 tokens"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", KINDS)
def test_log_probabilities_entropies_and_gradients_are_those_of_the_plain_way(
    kind: str, attention: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_prefix, "TOKENS", most)
    model, (ids, mask), completion = model_of(kind, attention), batch(), 9
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :-completion] = -100
    kept = mask[:, -completion:].bool()
    weights = torch.randn(2, *kept.shape)

    out = model(input_ids=ids, attention_mask=mask, labels=labels, fused_lm_head=True)
    plain = [torch.where(kept, values[:, -completion:], 0.0) for values in (out.log_probs, out.entropy)]
    packed = pack(ids, mask, completion)
    assert packed is not None and (packed.input_ids.size(0) == 3) == (most == 4096)
    assert packed.input_ids.numel() < ids.numel()
    seen = masks(packed, model.config, model.dtype, attention == "eager")
    out = model(
        input_ids=packed.input_ids,
        attention_mask=seen,
        position_ids=packed.positions,
        labels=packed.labels,
        fused_lm_head=True,
        use_cache=False,
    )
    ours = [packed.unpacked(values) for values in (out.log_probs, out.entropy)]
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-5)
    one, other = (gradients(model, (weights[0] * lp).sum() + (weights[1] * e).sum()) for lp, e in (ours, plain))
    assert (one - other).norm() / other.norm() < 2e-5


def test_nothing_is_packed_where_no_prompt_stands_twice() -> None:
    ids, mask = batch(groups=3, size=1)
    assert pack(ids, mask, 9) is None


def test_layers_that_carry_a_state_and_flash_attention_are_refused() -> None:
    config = LlamaConfig(**SIZES)
    config._attn_implementation = "flash_attention_2"
    assert "takes no mask of blocks" in (refusal(config) or "")
    config._attn_implementation = "sdpa"
    assert refusal(config) is None
    config.layer_types = ["full_attention", "linear_attention"]
    assert "linear_attention" in (refusal(config) or "")


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_completions_are_the_same_tokens_with_one_prefill(kind: str) -> None:
    model, (ids, mask) = model_of(kind, "sdpa"), batch()
    prompts, seen = ids[:, :20], mask[:, :20]
    how = GenerationConfig(do_sample=False, max_new_tokens=12, pad_token_id=0, eos_token_id=5)
    plain = model.generate(input_ids=prompts, attention_mask=seen, generation_config=how)
    read: list[int] = []
    handle = model.model.embed_tokens.register_forward_hook(lambda _, given, __: read.append(given[0].numel()))
    with one_prefill(model):
        ours = model.generate(input_ids=prompts, attention_mask=seen, generation_config=how)
    handle.remove()
    assert torch.equal(plain, ours)
    assert read[:2] == [3 * 19, 12]  # three prompts less their last token, then one token of each completion
    assert model.generate.__func__ is type(model).generate  # nothing is left behind


def test_groups_stay_whole_when_a_generation_batch_is_shuffled() -> None:
    import trl.trainer.grpo_trainer as grpo_trainer

    plain = grpo_trainer.shuffle_sequence_dict
    rows = {"ids": torch.arange(12), "names": [str(i) for i in range(12)], "none": None, "count": torch.tensor(3.0)}
    torch.manual_seed(0)
    with groups_kept_whole(4):
        mixed = grpo_trainer.shuffle_sequence_dict(rows)
    assert grpo_trainer.shuffle_sequence_dict is plain
    groups = mixed["ids"].view(3, 4)
    assert sorted(groups[:, 0].tolist()) == [0, 4, 8] and (groups - groups[:, :1] == torch.arange(4)).all()
    assert groups[:, 0].tolist() != [0, 4, 8]
    assert mixed["names"] == [str(i) for i in mixed["ids"].tolist()]
    assert mixed["none"] is None and mixed["count"] == 3.0


def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shares: bool, name: str) -> dict[str, torch.Tensor]:
    """The adapter after two GRPO steps of two micro-batches each."""
    monkeypatch.setattr(Trainer, "shares_prefix", shares)
    options = {"grpo.max_steps": 2, "grpo.per_device_train_batch_size": 8, "grpo.gradient_accumulation_steps": 2}
    options |= {"grpo.num_generations": 4, "grpo.max_completion_length": 12, "evaluation.stages": "[]", "sft": "{}"}
    run = Run(
        load(
            "quickstart",
            [f"model={tmp_path / 'model'}", f"output_dir={tmp_path / name}", "lora.layers_to_transform=null"]
            + [f"{key}={value}" for key, value in options.items()],
        )
    )
    run.grpo()
    return {key: value.detach().clone() for key, value in run.model.named_parameters() if value.requires_grad}


@pytest.mark.slow
def test_a_run_learns_what_it_learns_the_plain_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.make(tmp_path / "model", tiny.planted(), steps=30)
    plain = trained(tmp_path, monkeypatch, False, "plain")
    ours = trained(tmp_path, monkeypatch, True, "ours")
    for name, values in plain.items():
        torch.testing.assert_close(ours[name], values, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_where_the_numbers_differ_training_goes_on_the_plain_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tiny.make(tmp_path / "model", tiny.planted(), steps=30)
    plain = trained(tmp_path, monkeypatch, False, "plain")
    broken = shared_prefix.masks

    # A block sees the blocks before it.
    monkeypatch.setattr(shared_prefix, "masks", lambda *given: torch.ones_like(broken(*given)).tril())
    caplog.set_level(logging.WARNING)
    wrong = trained(tmp_path, monkeypatch, True, "wrong")
    assert "training goes on without it" in caplog.text
    for name, values in plain.items():
        torch.testing.assert_close(wrong[name], values, rtol=1e-3, atol=1e-5)
