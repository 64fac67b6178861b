"""One base and one adapter, asked in every way: vLLM, transformers, a real `vllm serve`, and saved completions.

    make test-vllm

The same text gets the same verdicts, and the figures differ by no more than their intervals allow.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
import torch
import yaml

from rlvr import policy
from rlvr.evaluation.run import evaluate
from rlvr.policy import Server
from rlvr.recipe import Recipe, load
from rlvr.types import Error

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]
pytest.importorskip("vllm", reason="vLLM is not installed here: make test-vllm")

ROOT = Path(__file__).resolve().parents[2]
ENGINE = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "HF_HUB_OFFLINE": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "PYTHONPATH": str(ROOT),
}
TASK = "perturbation/response"
VERDICTS = ["question_id", "completion", "answer", "finished", "label", "format", "reward", "truth", "lenient"]


def recipe() -> Recipe:
    return load(
        "quickstart",
        [
            "source.evidence=1",
            "verifiers={label: {weight: 1.0}, format: {weight: 0.2}}",
            "grpo.max_completion_length=16",
            "grpo.vllm_max_model_length=640",
            "evaluation.questions=8",
            "evaluation.batch_size=8",
            "evaluation.resamples=200",
            "vllm={enforce_eager: true, dtype: float32}",
            "deadline=null",
        ],
    )


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of rank 3, which no vLLM takes as it is, that changes what the base says."""
    torch.manual_seed(0)
    base, _ = policy.load_base("smollm2-135m")
    digest = policy.fingerprint(base)
    tuned = policy.add_lora(base, {"r": 3, "lora_alpha": 6, "target_modules": ["q_proj", "up_proj"]})
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02)
    folder = tmp_path_factory.mktemp("tuned") / "adapter"
    policy.save_adapter(tuned, folder, "smollm2-135m", digest)
    return folder


@pytest.fixture(scope="module")
def server(adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real `vllm serve` of the base and the adapter."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log"
    options = f"--served-model-name base --host 127.0.0.1 --port {port} --dtype float32 --enforce-eager"
    options += " --max-model-len 640 --max-num-seqs 8"
    lora = ["--enable-lora", "--max-lora-rank", "8", "--lora-modules", f"tuned={adapter}"]
    folder = policy.weights.local_folder("smollm2-135m")
    # What `vllm serve` starts; the command itself looks for the package's GPU build by name.
    serve = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]
    with log.open("w") as out:
        process = subprocess.Popen(
            [*serve, *options.split(), *lora], env={**os.environ, **ENGINE}, stdout=out, stderr=out
        )
    try:
        ended = time.monotonic() + 600
        while time.monotonic() < ended and process.poll() is None:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(1)
        else:
            raise AssertionError(log.read_text()[-4000:])
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def found(adapter: Path, server: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    """stage -> way of asking -> the folder it wrote."""
    out = tmp_path_factory.mktemp("found")
    (out / "recipe.yaml").write_text(yaml.safe_dump(recipe().to_dict(), sort_keys=False))
    folders: dict[str, dict[str, Path]] = {}
    for stage, tuned in (("before", None), ("after", adapter)):
        to = {way: out / f"{stage}_{way}" for way in ("transformers", "vllm", "server")}
        evaluate(recipe(), tuned, to["transformers"], final=False)
        served = Server(server, "tuned" if tuned else "base", concurrency=4)
        evaluate(recipe(), None, to["server"], final=False, server=served, stage=stage)
        command = [sys.executable, "-m", "rlvr.cli", "evaluate", str(out / "recipe.yaml"), "--backend", "vllm"]
        command += ["--out", str(to["vllm"]), *(["--adapter", str(tuned)] if tuned else [])]
        done = subprocess.run(
            command, env={**os.environ, **ENGINE}, capture_output=True, text=True, timeout=900, check=False
        )
        assert done.returncode == 0, done.stderr[-4000:]
        folders[stage] = to
    return folders


def table(folder: Path, stage: str) -> pd.DataFrame:
    return pd.read_parquet(folder / "evaluations" / f"{stage}.parquet").set_index("question_id", drop=False)


@pytest.mark.parametrize("stage", ["before", "after"])
def test_every_way_of_asking_gives_the_same_answers(found: dict[str, dict[str, Path]], stage: str) -> None:
    tables = {way: table(folder, stage) for way, folder in found[stage].items()}
    ours = tables["transformers"]
    shares = [column for column in ours if column.startswith("p/")]
    assert len(ours) == 8 and len(shares) == 3
    for way, other in tables.items():
        same = ours["completion"] == other["completion"]
        assert same.mean() >= 0.75, way  # a near tie may fall either way
        assert (ours.loc[same, shares] - other.loc[same, shares]).abs().to_numpy().max() < 0.01, way
        assert (ours.loc[same, "tokens"] == other.loc[same, "tokens"]).all(), way
        assert ours.loc[same, VERDICTS].equals(other.loc[same, VERDICTS]), way


@pytest.mark.parametrize("stage", ["before", "after"])
def test_figures_agree_within_their_intervals(found: dict[str, dict[str, Path]], stage: str) -> None:
    measured = {way: json.loads((to / "report.json").read_text())[stage][TASK] for way, to in found[stage].items()}
    for metric in ("accuracy", "auroc", "parse_rate"):
        values: list[dict[str, Any]] = [figures[metric] for figures in measured.values()]
        for one in values:
            assert all(other["value"] is None or one["low"] <= other["value"] <= one["high"] for other in values), (
                metric
            )


@pytest.mark.parametrize("way", ["transformers", "vllm", "server"])
def test_the_same_text_gets_the_same_verdicts(found: dict[str, dict[str, Path]], way: str, tmp_path: Path) -> None:
    """What each way has written, scored again as saved completions."""
    for stage in ("before", "after"):
        written = found[stage][way] / "evaluations" / f"{stage}.parquet"
        evaluate(recipe(), None, tmp_path / stage, final=False, completions=written, stage=stage)
        first, again = table(found[stage][way], stage), table(tmp_path / stage, stage)
        pd.testing.assert_frame_equal(first, again)


def test_the_adapter_was_asked(found: dict[str, dict[str, Path]]) -> None:
    for way in ("transformers", "vllm", "server"):
        before, after = (table(found[stage][way], stage) for stage in ("before", "after"))
        assert (before["p/up"] - after["p/up"]).abs().max() > 0.005, way  # between ways it is 1e-5


def test_a_served_model_that_is_not_there(server: str, tmp_path: Path) -> None:
    with pytest.raises(Error, match=r"404.*does not exist"):
        evaluate(recipe(), None, tmp_path, final=False, server=Server(server, "nobody"))


def test_samples_from_the_server(server: str, tmp_path: Path) -> None:
    sampler = policy.ServerSampler(Server(server, "tuned", concurrency=4))
    prompt = [[{"role": "user", "content": "Say a word."}]]
    options = {"temperature": 1.0, "samples": 3, "seed": 1}
    first, again = (sampler.answer(prompt, {}, 8, lambda n: None, **options) for _ in range(2))
    assert len({answered.text for answered in first}) > 1
    assert [answered.text for answered in first] == [answered.text for answered in again]
