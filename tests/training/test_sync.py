"""Weight sync: what is pushed is base + LoRA to the bit, the base stays as it was, and a change of it stops the run."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM
from trl import GRPOConfig
from trl.generation.vllm_generation import VLLMGeneration

from rlvr.recipe import Vllm, load
from rlvr.training.checks import ELSEWHERE, FIXED
from rlvr.training.trainer.patches import engine_options, refuse_engine
from rlvr.training.trainer.sync import EVERY, Sync, adapted_layers
from rlvr.types import Error

DTYPES = [torch.float32, torch.bfloat16]


def policy(dtype: torch.dtype = torch.float32, **lora: Any) -> PeftModel:
    """A random model under a random LoRA; embeddings tied, as in the smallest real ones."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        tie_word_embeddings=True,
    )
    options = {"task_type": "CAUSAL_LM", "r": 8, "lora_alpha": 16, "target_modules": "all-linear", **lora}
    model = get_peft_model(LlamaForCausalLM(config).to(dtype), LoraConfig(**options))
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return model


class Received:
    """Stands for vLLM: keeps what it was sent, and gives back completions with log-probabilities of a model's."""

    def __init__(self) -> None:
        self.weights: dict[str, torch.Tensor] = {}
        model = SimpleNamespace(load_weights=self.load_weights)
        worker = SimpleNamespace(model_runner=SimpleNamespace(model=model))
        executor = SimpleNamespace(driver_worker=worker)
        self.llm_engine = SimpleNamespace(
            model_executor=executor, model_config=SimpleNamespace(dtype=torch.float32), dtype=torch.float32
        )

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        self.weights |= {name: weight.detach().clone() for name, weight in weights}

    def reset_prefix_cache(self) -> None: ...


def side(kind: type[VLLMGeneration], model: Any) -> Any:
    class Pushed(kind):  # type: ignore[misc]
        def _init_vllm(self) -> None:
            self.llm = Received()

    return Pushed(model, Accelerator(cpu=True), None)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lora", [{}, {"use_rslora": True}, {"modules_to_save": ["lm_head"]}, {"bias": "lora_only"}])
def test_the_push_is_trls_first_one(dtype: torch.dtype, lora: dict[str, Any]) -> None:
    ours, theirs = side(Sync, policy(dtype, **lora)), side(VLLMGeneration, policy(dtype, **lora))
    ours.sync_weights(), theirs.sync_weights()
    assert ours.llm.weights.keys() == theirs.llm.weights.keys()
    for name, weight in theirs.llm.weights.items():
        assert ours.llm.weights[name].dtype == weight.dtype and torch.equal(ours.llm.weights[name], weight), name
    plain = policy(dtype, **lora).get_base_model().model.layers[0].mlp.up_proj.base_layer.weight
    assert not torch.equal(ours.llm.weights["model.layers.0.mlp.up_proj.weight"], plain)  # the LoRA is in it


def test_the_base_stays_where_trl_lets_it_drift() -> None:
    for kind, stays in ((Sync, True), (VLLMGeneration, False)):
        one = side(kind, policy(torch.bfloat16))
        before = {name: weight.clone() for name, weight in one.model.state_dict().items()}
        for _ in range(EVERY + 1):
            one.sync_weights()
        after = one.model.state_dict()
        assert all(torch.equal(weight, after[name]) for name, weight in before.items()) is stays


def test_a_changed_base_stops_the_run() -> None:
    one = side(Sync, policy())
    one.check_base()  # nothing synced, nothing to hold against it
    one.sync_weights()
    with torch.no_grad():
        next(iter(adapted_layers(one.model).values())).base_layer.weight[0, 0] += 2**-20
    for _ in range(EVERY - 2):
        one.sync_weights()
    told = r"model\.layers\.0\.self_attn\.q_proj\.weight changed within 10 weight syncs"
    with pytest.raises(Error, match=told):
        one.sync_weights()
    with pytest.raises(Error, match="do not use this run"):
        one.check_base()


@pytest.mark.parametrize(
    ("lora", "told"),
    [
        ({"use_dora": True}, "Dora.*use plain LoRA on linear layers"),
        ({"lora_bias": True}, "more than a sum"),
        ({"target_modules": ["embed_tokens"]}, "Embedding"),
    ],
)
def test_adapters_that_are_no_sum_are_refused(lora: dict[str, Any], told: str) -> None:
    with pytest.raises(Error, match=told):
        side(Sync, policy(**lora))


def test_a_merged_or_missing_lora_is_refused() -> None:
    one = side(Sync, policy())
    one.model.merge_adapter()
    with pytest.raises(Error, match="unmerge_adapter"):
        one.sync_weights()
    with pytest.raises(Error, match="no LoRA"):
        side(Sync, policy().get_base_model().lm_head)


def answering(one: Any, shift: float) -> Any:
    """A vLLM that completes greedily with the model's own log-probabilities, off by `shift`."""

    def generate(inputs: list[dict[str, list[int]]], sampling_params: Any, use_tqdm: bool) -> list[Any]:
        found = []
        for ids in (row["prompt_token_ids"] for row in inputs):
            with torch.no_grad():
                logits = one.model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)
            token = int(logits.argmax())
            top = {token: SimpleNamespace(rank=1, logprob=float(logits[token]) + shift)}
            found.append(
                SimpleNamespace(prompt_token_ids=ids, outputs=[SimpleNamespace(token_ids=[token], logprobs=[top])])
            )
        return found

    return generate


@pytest.mark.parametrize(("shift", "agrees"), [(0.0, True), (0.005, True), (-0.02, False), (float("nan"), False)])
def test_log_probabilities_are_compared_once(shift: float, agrees: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import trl.generation.vllm_generation as generation

    monkeypatch.setattr(generation, "SamplingParams", lambda **options: SimpleNamespace(**options), raising=False)
    one = side(Sync, policy())
    one.llm.generate = answering(one, shift)
    prompts = [[1, 2, 3], [4, 5], [6]]
    one.generate(prompts, None, 1)  # before any sync there is nothing to compare
    one.sync_weights()
    one.temperature = 0.7
    one.model.train()
    if agrees:
        assert one.gap(prompts) == pytest.approx(abs(shift), abs=1e-5)
        one.generate(prompts, None, 1)
        one.llm.generate = answering(one, 1.0)
        one.generate(prompts, None, 1)  # looked at once
        assert one.temperature == 0.7 and one.model.training
    else:
        with pytest.raises(Error, match=r"vLLM \(float32\) and the trainer \(float32\) differ by .* 0\.01 is allowed"):
            one.generate(prompts, None, 1)


def config(**options: Any) -> GRPOConfig:
    return GRPOConfig(use_cpu=True, bf16=False, output_dir="unused", **options)


@pytest.mark.parametrize("key", [*ELSEWHERE, *FIXED])
def test_options_that_are_not_the_recipes_are_refused(key: str) -> None:
    with pytest.raises(Error, match=f"vllm.engine.{key} "):
        refuse_engine(Vllm(True, engine={key: 1}), config())
    refuse_engine(Vllm(False, engine={key: 1}), config())  # not used, not looked at


def test_a_server_needs_cuda_and_takes_no_options() -> None:
    from rlvr.training.launch.commands import Topology, commands

    with pytest.raises(Error, match="needs a CUDA device, and the server another") as caught:
        refuse_engine(Vllm(True), config(vllm_mode="server"))
    topology = str(caught.value).partition("--topology ")[2].partition("`")[0]
    assert "vllm serve" in commands("qwen2.5-3b_80gb", [], Topology.parse(topology))  # what the message points to
    cuda = SimpleNamespace(use_cpu=False, vllm_mode="server")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Error, match="vllm serve"):
        patch.setattr(torch.cuda, "is_available", lambda: True)
        refuse_engine(Vllm(True, engine={"seed": 1}), cuda)


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_vllm_has_to_be_there() -> None:
    with pytest.raises(Error, match=r"pip install 'rlvr\[vllm\]'"), engine_options(Vllm(True), config()):
        pass


def test_the_recipe_carries_engine_options() -> None:
    recipe = load("quickstart", ["vllm={enabled: true, dtype: float32, engine: {kv_cache_memory_bytes: 1048576}}"])
    assert recipe.vllm.options() == {"enforce_eager": False, "dtype": "float32", "kv_cache_memory_bytes": 1048576}


SHARDED = """
import os
import torch, torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from accelerate import Accelerator
import tests.training.test_sync as t
accelerator = Accelerator(cpu=True)
whole = t.side(t.Sync, t.policy(torch.bfloat16))
whole.sync_weights()
split = t.side(t.Sync, t.policy(torch.bfloat16))
mesh = init_device_mesh("cpu", (2,))
for layer in split.model.get_base_model().model.layers:
    fully_shard(layer, mesh=mesh)
fully_shard(split.model, mesh=mesh)
split.sync_weights(); split.check_base()
assert split.llm.weights.keys() == whole.llm.weights.keys()
same = all(torch.equal(split.llm.weights[k], w) for k, w in whole.llm.weights.items())
# One write: `print` makes several, and the two ranks' pieces mix.
os.write(1, f"rank {dist.get_rank()} of {dist.get_world_size()} same {same}\\n".encode())
# Not torch's own way out: with gloo it aborts now and then ("terminate called without an active exception").
try:
    dist.barrier()  # the other rank may still be reading
finally:
    os._exit(0)
"""


@pytest.mark.slow
def test_split_weights_are_put_together(tmp_path: Path) -> None:
    """FSDP 2 on two processes pushes what one process pushes."""
    (tmp_path / "sharded.py").write_text(SHARDED)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    here = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [*launch, str(tmp_path / "sharded.py")],
        env={**os.environ, "PYTHONPATH": str(here), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert all(f"rank {rank} of 2 same True" in done.stdout for rank in (0, 1)), done.stdout
