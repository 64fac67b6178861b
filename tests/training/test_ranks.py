"""Two real processes on one run: the same rewards and advantages as one, and one end for both."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from rlvr import prompts
from rlvr.questions.rationales import rows
from rlvr.recipe import load
from tests import tiny

pytestmark = pytest.mark.slow  # two processes

ROOT = Path(__file__).resolve().parents[2]
END = 60  # seconds within which a run must end once a rank has

# Completions come from a table, by prompt and place within the group; all else is the real training.
REPLAY = """
import json, sys
from rlvr.training.trainer.ranks import fail_together
from rlvr.recipe import load
from rlvr.training.trainer.grpo import Trainer
from rlvr.training.run import Run

config, world, told = sys.argv[1:]
texts = json.load(open(told))

def replay(self, prompt_ids, images, fields, num_generations, *rest):
    first, ids = self.accelerator.process_index * len(prompt_ids), []
    for place, prompt in enumerate(prompt_ids, first):
        text = texts[(sum(prompt) + place % num_generations) % len(texts)]
        ids.append(self.processing_class(text)["input_ids"] + [self.processing_class.eos_token_id] * bool(place % 5))
    return ids, None

Trainer._generate_single_turn = replay
with fail_together():
    run = Run(load(config))
    assert run.state.num_processes == int(world), run.state
    run.grpo()
"""

# train.py as it is, but for one rank, whose verifier fails on everything.
ONE_FAILS = """
import os, runpy, sys
from rlvr.recipe import Recipe
from broken import Broken

if os.environ["RANK"] == "1":
    plain = Recipe.open_verifiers
    Recipe.open_verifiers = lambda self: {**plain(self), "label": (Broken(), *plain(self)["label"][1:])}
sys.argv[0] = "train.py"
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""
BROKEN = """
from dataclasses import dataclass
from typing import ClassVar
from rlvr.verifier import Verifier

@dataclass(frozen=True)
class Broken(Verifier):
    name: ClassVar[str] = "label"

    def verify(self, question, completion):
        raise ValueError("the table is gone")
"""


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tiny.make(tmp_path_factory.mktemp("tiny"), tiny.planted(), steps=10)
    return folder


def written(model: Path, out: Path, *overrides: str) -> Path:
    """A recipe as a file beside its run."""
    values = [
        f"model={model}",
        f"output_dir={out}",
        "source.evidence=1",
        "verifiers={label: {weight: 1.0}, format: {weight: 0.2}}",
        "lora={r: 4, lora_alpha: 16, target_modules: [q_proj, v_proj]}",
        "sft={}",
        "evaluation.stages=[]",
        "grpo.num_generations=4",
        "grpo.per_device_train_batch_size=6",
        "grpo.max_completion_length=16",
        *overrides,
    ]
    path = out.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(load("quickstart", values).to_dict()))
    return path


def start(world: int, *script: object, stderr: Path) -> subprocess.Popen[bytes]:
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(world)]
    launch += ["--multi_gpu", "--main_process_port", "0"] if world > 1 else ["--cpu"]
    flags = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    path = f"{ROOT}:{Path(str(script[0])).parent}"
    environment = {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    with stderr.open("wb") as err:
        return subprocess.Popen([*launch, *flags, *map(str, script)], cwd=stderr.parent, env=environment, stderr=err)


def rollouts(run: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(path) for path in sorted((run / "rollouts").glob("*.parquet"))])


def test_two_ranks_reward_as_one(model: Path, tmp_path: Path) -> None:
    """The same global batches, though a group lies across both ranks (6 completions each, groups of 4)."""
    (tmp_path / "replay.py").write_text(REPLAY)
    asked, template = tiny.planted(), prompts.load("perturbation/response")
    told = [rows(question, template)["completion"][0]["content"] for question in asked if question.split == "train"]
    (tmp_path / "told.json").write_text(json.dumps([*told[:6], told[0][:40], told[1] * 2]))
    logged, table = {}, {}
    for world, each in ((1, 12), (2, 6)):
        out = tmp_path / f"run{world}"
        config = written(model, out, "grpo.max_steps=3", f"grpo.per_device_train_batch_size={each}")
        stderr = tmp_path / f"{world}.txt"
        running = start(world, tmp_path / "replay.py", config, world, tmp_path / "told.json", stderr=stderr)
        assert running.wait(timeout=600) == 0, stderr.read_text()[-3000:]
        lines = [json.loads(text) for text in (out / "metrics.jsonl").read_text().splitlines()]
        logged[world], table[world] = [entry for entry in lines if "reward" in entry], rollouts(out)
    one, two = table[1], table[2]
    assert len(one) == len(two) == 3 * 12
    assert one["label"].std() > 0 and one["format"].std() > 0 and one["advantage"].abs().max() > 0.1
    assert not one["finished"].all() and one["finished"].any()
    for column in ("step", "group", "question_id", "completion", "finished", "label", "format", "reward", "advantage"):
        assert one[column].tolist() == two[column].tolist(), column  # exactly
    for alone, both in zip(logged[1], logged[2], strict=True):
        for name in ("reward", "reward_std", "frac_reward_zero_std", "parsed", "completions/clipped_ratio"):
            assert alone[name] == pytest.approx(both[name], abs=1e-6), name
        assert alone["grad_norm"] == pytest.approx(both["grad_norm"], rel=1e-3)  # summed in another order


def below(parent: int) -> dict[int, list[int]]:
    """The process tree under `parent`: process -> children."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents.setdefault(int((entry / "stat").read_text().rpartition(")")[2].split()[1]), []).append(
                int(entry.name)
            )
        except OSError:
            continue
    tree: dict[int, list[int]] = {}
    todo = [parent]
    while todo:
        tree[todo[0]] = parents.get(todo[0], [])
        todo = [*todo[1:], *parents.get(todo[0], [])]
    return tree


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def rank_of(process: int) -> str | None:
    variables = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    return next((text.partition(b"=")[2].decode() for text in variables if text.startswith(b"RANK=")), None)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("victim", ["rank", "launcher"])
def test_a_killed_process_takes_all_others_with_it(model: Path, tmp_path: Path, victim: str) -> None:
    config, stderr = written(model, tmp_path / "run", "grpo.max_steps=100000"), tmp_path / "stderr.txt"
    running = start(2, ROOT / "train.py", "--config", config, stderr=stderr)
    try:
        wait_for(lambda: (tmp_path / "run" / "metrics.jsonl").is_file(), 600, running)
        tree = below(running.pid)
        ranks = {rank_of(process): process for process in tree[running.pid]}
        workers = [child for process in tree[running.pid] for child in tree[process]]
        assert set(ranks) == {"0", "1"} and len(workers) >= 2  # each rank has its verifiers in a process of its own
        os.kill(ranks["1"] if victim == "rank" else running.pid, signal.SIGKILL)
        assert running.wait(timeout=END) != 0
        wait_for(lambda: not any(map(alive, [*ranks.values(), *workers])), END)
    finally:
        end(running)
    if victim == "rank":
        told = stderr.read_text().splitlines()[-12:]
        assert any("rank      : 1" in text for text in told), told
        assert any("Signal 9 (SIGKILL) received" in text for text in told), told


def test_an_error_on_one_rank_ends_the_run_with_its_traceback(model: Path, tmp_path: Path) -> None:
    (tmp_path / "one_fails.py").write_text(ONE_FAILS)
    (tmp_path / "broken.py").write_text(BROKEN)
    overrides = ("grpo.max_steps=100000", "grpo.per_device_train_batch_size=24", "max_error_rate=0.5")
    config, stderr = written(model, tmp_path / "run", *overrides), tmp_path / "stderr.txt"
    running = start(2, tmp_path / "one_fails.py", ROOT / "train.py", "--config", config, stderr=stderr)
    try:
        # The clock starts when the verifier is heard to fail, in the first batch.
        wait_for(lambda: "verifier label failed on 24 of 24" in stderr.read_text(), 600, running)
        assert running.wait(timeout=END) != 0
    finally:
        end(running)
    told = stderr.read_text()
    last = told[told.rindex("Root Cause") :]
    assert "rank      : 1 (local_rank: 1)" in last and "Traceback (most recent call last)" in last
    assert "rlvr.types.Error: verifier label failed on 24 of 24" in last and "the table is gone" in last
    assert last.rstrip("= \n").endswith("mend it or leave it out")  # nothing comes after it


def test_an_alarm_stops_both_ranks_at_one_step(model: Path, tmp_path: Path) -> None:
    stop = "watch={truncation: {limit: -1.0, patience: 2, action: stop}}"
    config = written(model, tmp_path / "run", "grpo.max_steps=100000", stop)
    running = start(2, ROOT / "train.py", "--config", config, stderr=tmp_path / "stderr.txt")
    try:
        assert running.wait(timeout=600) != 0
    finally:
        end(running)
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").glob("checkpoint-*")) == ["checkpoint-2"]
    assert rollouts(tmp_path / "run")["step"].max() == 2
    assert "alarm truncation" in (tmp_path / "stderr.txt").read_text()
    assert len((tmp_path / "run" / "alarms.jsonl").read_text().splitlines()) == 1


def wait_for(condition: object, seconds: float, running: subprocess.Popen[bytes] | None = None) -> None:
    ends = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < ends, "did not come"
        assert running is None or running.poll() is None, f"ended with {running.returncode}"
        time.sleep(0.2)


def end(running: subprocess.Popen[bytes]) -> None:
    """Whatever a failed test has left."""
    for process in [pid for pid in below(running.pid) if alive(pid)]:
        os.kill(process, signal.SIGKILL)
    running.wait()
