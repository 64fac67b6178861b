"""Patches of TRL: same numbers as TRL's own, undone afterwards, refused on another version."""

from __future__ import annotations

import pytest
import torch
import trl
import trl.trainer.utils as utils
from transformers import LlamaConfig, LlamaForCausalLM
from trl import GRPOConfig

from rlvr.recipe import Vllm
from rlvr.training.trainer.config import checked_config
from rlvr.training.trainer.patches import engine_options, masked_positions_skipped
from rlvr.types import Error


def loss_and_gradient() -> tuple[float, torch.Tensor]:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    model = LlamaForCausalLM(config)
    utils.add_fused_lm_head(model)
    ids = torch.arange(48).reshape(3, 16) % 64
    labels = ids.clone()
    labels[:, :9] = -100
    labels[1, 12:] = -100
    out = model(input_ids=ids, labels=labels, fused_lm_head=True)
    out.loss.backward()
    gradient = model.model.layers[0].self_attn.q_proj.weight.grad
    assert gradient is not None
    return float(out.loss), gradient


def test_skipping_masked_positions_changes_nothing_but_the_work() -> None:
    plain_loss, plain = loss_and_gradient()
    scored: list[int] = []
    real = utils._ChunkedLogProbFunction.apply

    class Counting:
        @staticmethod
        def apply(hidden: torch.Tensor, *rest: object) -> object:
            scored.append(hidden.shape[0])
            return real(hidden, *rest)

    with pytest.MonkeyPatch.context() as patch, masked_positions_skipped():
        patch.setattr(utils, "_ChunkedLogProbFunction", Counting)
        loss, gradient = loss_and_gradient()
    assert scored == [3 * 7 - 4]  # the labels that count, of 45 positions
    assert loss == pytest.approx(plain_loss, rel=1e-6)
    assert torch.allclose(gradient, plain, rtol=1e-5, atol=1e-8)
    assert not utils._use_triton(torch.device("cpu"))  # undone


def test_engine_options_refuse_another_trl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trl, "__version__", "1.17.0")
    config = GRPOConfig(use_cpu=True, bf16=False, output_dir="unused")
    with pytest.raises(Error, match=r"trl 1\.16; this is 1\.17\.0"), engine_options(Vllm(enabled=True), config):
        pass
    with engine_options(Vllm(), config):  # not asked for, not guarded
        pass


@pytest.mark.parametrize(
    ("options", "told"),
    [({"max_stps": 3}, "did you mean 'max_steps'"), ({"num_generations": 3, "per_device_train_batch_size": 8}, "grpo")],
)
def test_trl_options_are_checked(options: dict[str, object], told: str) -> None:
    with pytest.raises(Error, match=told) as caught:
        checked_config(GRPOConfig, "grpo", options, {"use_cpu": True, "bf16": False, "output_dir": "x"})
    assert "\n" not in str(caught.value)
