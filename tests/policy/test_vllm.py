"""vLLM for real, on its CPU build: sampling with an adapter, and GRPO with vLLM in the trainer's process.

    make test-vllm

Runs in an environment of its own; every other test runs without vLLM.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM

from rlvr.recipe import load
from tests import tiny

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]
pytest.importorskip("vllm", reason="vLLM is not installed here: make test-vllm")

ROOT = Path(__file__).resolve().parents[2]
ENGINE = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "HF_HUB_OFFLINE": "1",
    "CUDA_VISIBLE_DEVICES": "",
}
ARGS = ["sft.max_steps=2", "grpo.max_steps=2", "evaluation.questions=8", "evaluation.stages=[after]"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two warm-start steps and two GRPO steps of SmolLM2-135M, sampled by vLLM in colocate mode."""
    folder = tmp_path_factory.mktemp("vllm")
    recipe = load(
        "quickstart",
        [
            *ARGS,
            f"output_dir={folder / 'run'}",
            "sft.per_device_train_batch_size=4",
            "sft.learning_rate=3.0e-3",
            "grpo.per_device_train_batch_size=8",
            "grpo.num_generations=4",
            "grpo.max_completion_length=32",
            "grpo.vllm_max_model_length=512",
            "vllm={enabled: true, enforce_eager: true, dtype: float32}",
        ],
    )
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.to_dict()))
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1"]
    flags = ["--mixed_precision", "no", "--dynamo_backend", "no"]
    done = subprocess.run(
        [*launch, *flags, str(ROOT / "train.py"), "--config", str(folder / "recipe.yaml")],
        env={**os.environ, **ENGINE, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder / "run"


def test_grpo_samples_with_vllm(run: Path) -> None:
    """vLLM sampled the rollouts, and after a weight sync it agrees with the trainer on log-probabilities."""
    logs = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in logs if "reward" in line]
    assert len(steps) == 2
    for step in steps:
        assert step["sampling/sampling_logp_difference/max"] < 1e-2  # float32 on both sides
        assert step["sampling/importance_sampling_ratio/mean"] == pytest.approx(1.0, abs=0.05)
        assert step["time/sync"] > 0 and step["time/generate"] > 0
    rows = pd.concat([pd.read_parquet(path) for path in (run / "rollouts").glob("*.parquet")])
    assert len(rows) == 16 and rows["completion"].nunique() > 4
    assert {"vllm-cpu", "vllm"} & set(json.loads((run / "versions.json").read_text()))


def test_samplers_agree_on_an_adapter(run: Path) -> None:
    """Greedy text and slot probabilities from vLLM's LoRA request are those of transformers."""
    out = run.parent
    command = [
        sys.executable,
        "-m",
        "rlvr.cli",
        "evaluate",
        str(out / "recipe.yaml"),
        "--adapter",
        str(run / "adapter"),
    ]
    tables = {}
    for name, override in (("vllm", "vllm.enabled=true"), ("transformers", "vllm.enabled=false")):
        done = subprocess.run(
            [*command, "--out", str(out / name), override],
            env={**os.environ, **ENGINE, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        tables[name] = pd.read_parquet(out / name / "evaluations" / "after.parquet").set_index("question_id")
    ours, other = tables["vllm"], tables["transformers"].loc[tables["vllm"].index]
    same = ours["completion"].str.strip() == other["completion"].str.strip()
    assert same.mean() >= 0.75  # a near tie may fall either way
    shares = [column for column in ours if column.startswith("p/")]
    assert (ours.loc[same, shares] - other.loc[same, shares]).abs().to_numpy().max() < 0.02
    base = pd.read_parquet(run / "evaluations" / "after.parquet").set_index("question_id").loc[ours.index]
    assert (other[shares] - base[shares]).abs().to_numpy().max() < 1e-3  # the saved adapter is the trained one


# One engine lives in a process: what it takes a trainer in bfloat16 to show is shown in one go, and printed.
COLOCATED = """
import json, sys
import torch
from datasets import Dataset
from rlvr import policy
from rlvr.recipe import load
from rlvr.training.trainer.grpo import Trainer
from rlvr.training.trainer.sync import Sync
from rlvr.training.run import Run
from rlvr.types import Error

recipe = load(sys.argv[1])
run = Run(recipe)
model = policy.add_lora(policy.load_base(recipe.model, "bfloat16")[0], recipe.lora)
before = {name: weight.clone() for name, weight in model.state_dict().items()}
rows = [{"prompt": run.templates[q.task].render(q), "question": q.to_json()} for q in run.train]
options = {"args": run.grpo_config, "train_dataset": Dataset.from_list(rows), "processing_class": run.tokenizer}
trainer = Trainer(recipe, run.layer, run.folder / "rollouts", model=model, **options)
trainer.train()
sync = trainer.vllm_generation
assert type(sync) is Sync
config = sync.llm.llm_engine.vllm_config
after = model.state_dict()
stays = [torch.equal(weight, after[name]) for name, weight in before.items() if "lora_" not in name]
prompts = [run.tokenizer(text)["input_ids"] for text in ("the receptor", "a knockdown of")]
found = {
    "engine": [config.cache_config.kv_cache_memory_bytes, config.model_config.seed, str(config.model_config.dtype)],
    "eager": config.model_config.enforce_eager,
    "compared": sync._agreed,
    "syncs": sync._syncs,
    "stays": all(stays),
    "learned": any(not torch.equal(weight, after[name]) for name, weight in before.items() if "lora_B" in name),
    "gap": sync.gap(prompts),
}
with torch.no_grad():  # what a lost or garbled push would leave in vLLM
    for weight in sync.llm.llm_engine.model_executor.driver_worker.model_runner.model.parameters():
        weight.mul_(1.5)
sync.llm.reset_prefix_cache()
sync._agreed = False
try:
    sync.generate(prompts, None, 1)
    found["planted"] = "not caught"
except Error as error:
    found["planted"] = str(error)
print("FOUND" + json.dumps(found))
"""


def test_the_base_stays_in_bfloat16_and_a_garbled_push_is_caught(tmp_path: Path) -> None:
    """GRPO on a bfloat16 base with vLLM beside it: engine options, first-sync check, base, planted disagreement."""
    base = tiny.make(tmp_path / "base", tiny.planted(), steps=1)
    config = LlamaConfig.from_pretrained(base)
    config.hidden_size, config.head_dim = 128, 32  # vLLM's attention for CPUs has no heads of size 24
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(base)
    recipe = load(
        "quickstart",
        [
            f"model={base}",
            f"output_dir={tmp_path / 'run'}",
            "sft={}",
            "source.evidence=1",
            "lora.layers_to_transform=null",
            "report_to=none",
            "grpo.max_steps=3",
            "grpo.per_device_train_batch_size=8",
            "grpo.num_generations=4",
            "grpo.max_completion_length=8",
            "grpo.learning_rate=1e-2",
            "grpo.entropy_coef=0.1",  # an untrained model earns nothing, and would learn nothing
            "grpo.vllm_max_model_length=512",
            "vllm={enabled: true, enforce_eager: true, dtype: bfloat16}",
            "vllm.engine={kv_cache_memory_bytes: 67108864, seed: 7}",
        ],
    )
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.to_dict()))
    without = {key: value for key, value in ENGINE.items() if key != "VLLM_CPU_KVCACHE_SPACE"}
    done = subprocess.run(
        [sys.executable, "-c", COLOCATED, str(tmp_path / "recipe.yaml")],
        env={**os.environ, **without, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.partition("FOUND")[2].partition("\n")[0])
    assert found["engine"] == [67108864, 7, "torch.bfloat16"] and found["eager"]
    assert found["compared"] and found["syncs"] == 3
    assert found["stays"] and found["learned"]
    assert found["gap"] < 0.15  # after three large steps; .082 on a processor without bfloat16
    assert "vLLM (bfloat16) and the trainer (bfloat16) differ" in found["planted"]
