"""What `rlvr export` writes loads in vLLM, adapter and merged model alike, and they agree with transformers.

make test-vllm
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from rlvr.training.export.write import export
from tests.training import test_export as exports

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]
pytest.importorskip("vllm", reason="vLLM is not installed here: make test-vllm")

ASK = """
import json, sys
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest
model, adapter, ids = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
llm = LLM(model, enforce_eager=True, dtype="float32", max_model_len=256, enable_lora=bool(adapter), max_lora_rank=16)
request = LoRARequest("policy", 1, adapter) if adapter else None
one = SamplingParams(temperature=0, max_tokens=1, logprobs=5)
out = llm.generate([{"prompt_token_ids": ids}], one, lora_request=request, use_tqdm=False)[0]
found = {token: entry.logprob for token, entry in out.outputs[0].logprobs[0].items()}
print("FOUND" + json.dumps(found))
"""
ENGINE = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "HF_HUB_OFFLINE": "1"}


def ask(model: Path, adapter: Path | str, ids: list[int]) -> dict[int, float]:
    """token -> log-probability of vLLM's five likeliest next tokens, from a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(model), str(adapter), json.dumps(ids)],
        env={**os.environ, **ENGINE},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {int(k): v for k, v in json.loads(done.stdout.partition("FOUND")[2].partition("\n")[0]).items()}


def test_vllm_loads_both(tmp_path: Path) -> None:
    base = exports.tiny.make(tmp_path / "base", exports.tiny.planted(), steps=1)
    config = LlamaConfig.from_pretrained(base)
    config.hidden_size, config.head_dim = 128, 32  # vLLM's attention for CPUs has no heads of size 24
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(base)
    run = exports.make_run(tmp_path / "run", base)
    ids = exports.ids(base)
    truth = torch.log_softmax(exports.trained(run, base)[0, -1], dim=-1)
    for found in (
        ask(base, export(run, tmp_path / "adapter"), ids[0].tolist()),
        ask(export(run, tmp_path / "merged", merged=True), "", ids[0].tolist()),
    ):
        assert len(found) >= 5 and int(truth.argmax()) in found
        for token, logprob in found.items():
            assert logprob == pytest.approx(float(truth[token]), abs=2e-3)
