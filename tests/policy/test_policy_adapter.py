"""Adapters and the bases they belong to, judged from the files of both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from rlvr import policy
from rlvr.types import Error

LORA = {"r": 5, "target_modules": ["q_proj", "up_proj"]}


def base(folder: Path, hidden: int = 32, tied: bool = True, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    sizes = {"hidden_size": hidden, "intermediate_size": 48, "vocab_size": 40, "num_hidden_layers": 2}
    config = LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=tied)
    LlamaForCausalLM(config).save_pretrained(folder)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder


def tuned(on: Path, folder: Path) -> Path:
    """An adapter as PEFT saves it, with nothing of ours beside it."""
    model = policy.add_lora(LlamaForCausalLM.from_pretrained(on), LORA)
    model.save_pretrained(folder)
    return folder


def edit(adapter: Path, **values: Any) -> Path:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return adapter


@pytest.mark.parametrize("tied", [True, False])
def test_a_base_has_one_fingerprint_loaded_or_not(tmp_path: Path, tied: bool) -> None:
    one, other = base(tmp_path / "one", tied=tied), base(tmp_path / "other", tied=tied, seed=1)
    digest = policy.fingerprint(LlamaForCausalLM.from_pretrained(one))
    assert policy.fingerprint_of(str(one)) == digest != policy.fingerprint_of(str(other))


def test_an_adapter_of_another_base_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    one, wide = base(tmp_path / "one"), base(tmp_path / "wide", hidden=64)
    adapter = tuned(one, tmp_path / "adapter")
    policy.check_adapter(adapter, str(one))
    with pytest.raises(Error, match=r"adapts model\.layers.* has with shape"):
        policy.check_adapter(adapter, str(wide))
    with pytest.raises(Error, match="does not fit this base"):
        policy.load_adapter(LlamaForCausalLM.from_pretrained(wide), adapter)
    (adapter / "base.json").write_text(json.dumps({"name": "one", "sha256": policy.fingerprint_of(str(one))}))
    policy.check_adapter(adapter, str(one))
    (adapter / "base.json").write_text("{}")
    with pytest.raises(Error, match="names no base"):
        policy.check_adapter(adapter, str(one))


def test_an_adapter_of_another_name_is_refused(tmp_path: Path) -> None:
    adapter = edit(tuned(base(tmp_path / "one"), tmp_path / "adapter"), base_model_name_or_path="Org/Model")
    with pytest.raises(Error, match="belongs to Org/Model, the model is Org/Model-Instruct"):
        policy.check_adapter(adapter, "Org/Model-Instruct")


def test_the_rank_is_the_adapters_own_rounded_up_to_one_that_vllm_takes(tmp_path: Path) -> None:
    adapter = tuned(base(tmp_path / "one"), tmp_path / "adapter")
    assert policy.lora_rank(adapter) == 8
    assert policy.lora_rank(edit(adapter, r=16)) == 16
    assert policy.lora_rank(edit(adapter, rank_pattern={"q_proj": 17})) == 32
    for values, told in (({"r": 513}, "rank 513"), ({"use_dora": True}, "DoRA"), ({"bias": "all"}, "bias=all")):
        with pytest.raises(Error, match=told):
            policy.lora_rank(edit(adapter, **values))


def test_an_adapter_in_memory_and_saved_has_one_hash(tmp_path: Path) -> None:
    model = policy.add_lora(LlamaForCausalLM.from_pretrained(base(tmp_path / "one")), LORA)
    model.save_pretrained(tmp_path / "adapter")
    digest = policy.adapter_digest(model)
    assert policy.adapter_digest(tmp_path / "adapter") == digest
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if "lora_B" in name)[0, 0] = 1.0
    assert policy.adapter_digest(model) != digest


def test_broken_adapters_are_one_line(tmp_path: Path) -> None:
    adapter = tuned(base(tmp_path / "one"), tmp_path / "adapter")
    (adapter / "adapter_model.safetensors").write_bytes(b"\x00" * 40)
    own = str(tmp_path / "one")
    for broken in (lambda: policy.adapter_digest(adapter), lambda: policy.check_adapter(adapter, own)):
        with pytest.raises(Error, match=r"adapter_model\.safetensors cannot be read") as caught:
            broken()
        assert "\n" not in str(caught.value)
    (adapter / "adapter_config.json").write_text("[")
    with pytest.raises(Error, match=r"adapter_config\.json cannot be read"):
        policy.lora_rank(adapter)
    with pytest.raises(Error, match="holds no adapter"):
        policy.lora_rank(tmp_path)
