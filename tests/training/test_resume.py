"""A run that is killed, stopped, starved of disk or handed a damaged checkpoint goes on exactly, or stops cleanly.

The runs are those of benchmarks/kills.py: a tiny model, a warm start, GRPO over several epochs, generations that serve
two steps, logs and checkpoints in between. `alone` was never stopped; every other must end in the same bits.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from benchmarks import kills
from rlvr.files import write_atomically
from rlvr.options import build
from rlvr.recipe import Recipe
from rlvr.training.run import Run
from rlvr.training.trainer import checkpoints
from rlvr.training.trainer.grpo import Trainer
from rlvr.training.trainer.resume import Resuming
from rlvr.training.trainer.stop import STOPPED
from rlvr.types import Error
from tests import tiny

pytestmark = pytest.mark.slow  # whole runs, killed and resumed

ROOT = Path(kills.__file__).resolve().parent.parent


class Killed(BaseException):
    """What no handler of an ordinary error catches."""


@contextmanager
def pinned() -> Iterator[None]:
    """On one core, as in `kills.launch`."""
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, {random.choice(sorted(cores))})
    torch.set_num_threads(1)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pinned():
        return tiny.make(
            tmp_path_factory.mktemp("tiny"), tiny.planted(), steps=120
        )  # enough that its completions parse: rewards differ


@pytest.fixture(scope="session")
def alone(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("alone")
    done = kills.launch(kills.write(home, model), ROOT / "train.py")
    assert done.returncode == 0, done.stderr[-3000:]
    logged = [json.loads(line) for line in (home / "run" / "metrics.jsonl").read_text().splitlines()]
    assert sum(line.get("grad_norm", 0) > 0 for line in logged if line["phase"] == "grpo") >= 3  # there is a signal
    return home / "run"


@pytest.fixture(autouse=True)
def sigterm() -> Iterator[None]:
    """Training that dies leaves its handler behind."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def one_core() -> Iterator[None]:
    with pinned():
        yield


def go(home: Path, model: Path, **changed: Any) -> Path:
    """What train.py does, in this process."""
    run = Run(build(Recipe, yaml.safe_load(kills.write(home, model, **changed).read_text()), "test"))
    run.evaluate("before")
    run.warm_start()
    run.evaluate("warm_start")
    run.grpo()
    run.evaluate("after")
    run.report()
    return home / "run"


def kill(patch: pytest.MonkeyPatch, owner: type, method: str, call: int, *, after: bool = False) -> None:
    """Let the n-th call raise, before or after it has done its work."""
    plain, calls = getattr(owner, method), Counter[str]()

    def dying(*args: Any, **options: Any) -> Any:
        calls[method] += 1
        if calls[method] == call and not after:
            raise Killed
        result = plain(*args, **options)
        if calls[method] == call:
            raise Killed
        return result

    patch.setattr(owner, method, dying)


@pytest.mark.usefixtures("one_core")
def test_goes_on_from_wherever_it_was_killed(model: Path, alone: Path, tmp_path: Path) -> None:
    """One run dies at each place in turn: in the warm start, between the halves of a generation, in later epochs,
    before and after checkpoints, while rows are written, when only the last line and the adapter are missing."""
    places: list[tuple[type, str, int, bool]] = [
        (Run, "evaluate", 1, True),
        (Resuming, "_save_checkpoint", 1, False),
        (Resuming, "_save_checkpoint", 2, True),
        (Run, "_save", 1, False),
        (Trainer, "_write_rollouts", 1, True),  # rows of a step that no checkpoint knows
        (Trainer, "training_step", 4, True),  # checkpoint-3 lies between two steps of one generation
        (Trainer, "_calculate_rewards", 3, False),
        (Resuming, "_save_checkpoint", 2, True),
        (Trainer, "training_step", 3, False),
        (Run, "_save", 1, False),  # all steps done: nothing may be trained twice
        (Run, "report", 1, False),
    ]
    for owner, method, call, after in places:
        with pytest.MonkeyPatch.context() as patch:
            kill(patch, owner, method, call, after=after)
            with pytest.raises(Killed):
                go(tmp_path, model)
    go(tmp_path, model)
    assert kills.differences(alone, tmp_path / "run") == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipe.yaml", "run"]  # nothing moved aside
    go(tmp_path, model)  # finished now, so another begins
    assert (tmp_path / "run-1" / "report.html").is_file()
    assert kills.differences(alone, tmp_path / "run") == []


@pytest.mark.usefixtures("one_core")
def test_goes_on_with_a_frozen_reference(model: Path, tmp_path: Path) -> None:
    """With beta above 0 the warm-started adapter is the reference, which a checkpoint must neither lose nor become."""
    grpo = {**kills.recipe(model, tmp_path)["grpo"], "beta": 0.1, "max_steps": 6}
    changed: dict[str, Any] = {"grpo": grpo, "evaluation": {"stages": [], "questions": 2}}
    runs = [tmp_path / "one" / "run", tmp_path / "other" / "run"]
    for run in runs:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Run, "report", lambda self: None)
            patch.setattr(Run, "evaluate", lambda self, stage: None)
            if run is runs[1]:
                kill(patch, Trainer, "training_step", 5)
                with pytest.raises(Killed):
                    go(run.parent, model, **changed)
                kill(patch, Trainer, "training_step", 100)
            go(run.parent, model, **changed)
    one, other = ((run / "adapter" / "adapter_model.safetensors").read_bytes() for run in runs)
    assert one == other
    assert one != (runs[0] / "warm_start" / "adapter" / "adapter_model.safetensors").read_bytes()
    lines = [[kills._untimed(json.loads(x)) for x in (run / "metrics.jsonl").read_text().splitlines()] for run in runs]
    assert lines[0] == lines[1]
    assert any(line.get("kl", 0) > 0 for line in lines[0])


@pytest.mark.timeout(900)
def test_goes_on_after_real_kills(model: Path, alone: Path, tmp_path: Path) -> None:
    """SIGKILL at random moments of real processes behind `accelerate launch`; benchmarks/kills.py does it 20 times."""
    wanted = Counter({"generation": 1, "optimiser step": 1, "checkpoint write": 1})
    fell = kills.killed(tmp_path, model, wanted, random.Random(0))
    assert len(fell) >= 3
    assert kills.differences(alone, tmp_path / "run") == []


@pytest.mark.timeout(900)
def test_sigterm_saves_and_leaves(model: Path, alone: Path, tmp_path: Path) -> None:
    config = kills.write(tmp_path, model)
    command = [sys.executable, str(ROOT / "train.py"), "--config", str(config)]
    told = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    run = tmp_path / "run"
    with subprocess.Popen(command, env=told, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        os.sched_setaffinity(process.pid, {min(os.sched_getaffinity(0))})
        deadline = time.monotonic() + 240
        while len(list(run.glob("rollouts/step_*"))) < 3 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=120)[1]
    assert process.returncode == STOPPED == 75, said[-3000:]
    step = int(said.rpartition("SIGTERM: step ")[2].split()[0])
    assert step >= 4 and checkpoints.damage(run / "checkpoints" / f"checkpoint-{step}") is None
    assert not (run / "adapter").exists()
    done = kills.launch(config, ROOT / "train.py")
    assert done.returncode == 0, done.stderr[-3000:]
    assert kills.differences(alone, run) == []


@pytest.mark.timeout(900)
def test_two_ranks_go_on_together(model: Path, tmp_path: Path) -> None:
    """Each rank has its own random state, counts and completions. A pair is killed in the third epoch of the warm start
    and again in GRPO, and ends as one that was left alone."""
    train = kills.recipe(model, tmp_path)
    changed = {
        "grpo": {**train["grpo"], "max_steps": 8, "per_device_train_batch_size": 4},
        "sft": {**train["sft"], "save_steps": 1},
    }
    aims: list[list[Any] | None] = [None, ["optimiser step", 6, 0.0], ["generation", 3, 0.0], None]
    for name, aim in zip(("alone", "killed", "killed", "killed"), aims, strict=True):
        told = {kills.NOTE: str(tmp_path / name / "note"), **({kills.KILL: json.dumps(aim)} if aim else {})}
        done = kills.launch(kills.write(tmp_path / name, model, **changed), Path(kills.__file__), told, ranks=2)
        assert (done.returncode != 0) is bool(aim), done.stderr[-3000:]
    one, other = tmp_path / "alone" / "run", tmp_path / "killed" / "run"
    assert json.loads((other / "versions.json").read_text())["world_size"] == 2
    assert len(list((other / "rollouts").glob("*rank1.parquet"))) == 4
    assert kills.differences(one, other) == []
    states = [(other / "checkpoints" / "checkpoint-8" / f"rng_state_{rank}.pth").read_bytes() for rank in (0, 1)]
    assert states[0] != states[1]


@pytest.fixture(scope="session")
def interrupted(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that died in its eleventh step, with the checkpoints of steps 6 and 9."""
    home = tmp_path_factory.mktemp("interrupted")
    with pytest.MonkeyPatch.context() as patch, pinned():
        kill(patch, Trainer, "training_step", 11)
        with pytest.raises(Killed):
            go(home, model)
    sizes = {p.name: p.stat().st_size for p in (home / "run" / "checkpoints" / "checkpoint-9").iterdir()}
    assert 30_000 < sizes["adapter_model.safetensors"] < 60_000 < sizes["optimizer.pt"]
    return home / "run"


@pytest.mark.usefixtures("one_core")
def test_damaged_checkpoints(
    model: Path, alone: Path, interrupted: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A flipped byte, a missing file, a half-written one: one line each, and the one before it is used."""
    home = shutil.copytree(interrupted, tmp_path / "run") / "checkpoints"
    shutil.copytree(home / "checkpoint-9", home / "checkpoint-12")
    (home / "checkpoint-12" / "rng_state.pth").unlink()
    shutil.copytree(home / "checkpoint-6", home / ".partial" / "checkpoint-15")
    for left in ("step_000012_0000099_rank0.parquet", ".step_000005_0000004_rank0.parquet.x1"):  # never written again
        (tmp_path / "run" / "rollouts" / left).touch()
    optimizer = home / "checkpoint-9" / "optimizer.pt"
    content = bytearray(optimizer.read_bytes())
    content[len(content) // 2] ^= 1
    optimizer.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        go(tmp_path, model)
    said = [record.message for record in caplog.records if "ignored" in record.message]
    assert len(said) == 3
    assert "checkpoint-12 is damaged (rng_state.pth is missing): ignored" in said[0]
    assert "checkpoint-9 is damaged (optimizer.pt is not what was saved): ignored" in said[1]
    assert "checkpoint-15 was not finished: ignored" in said[2]
    assert kills.differences(alone, tmp_path / "run") == []


def stops_for_want_of_space(home: Path, model: Path) -> None:
    """One line, nothing half-written, and what was saved before is whole."""
    with pytest.raises(Error, match=r"cannot save checkpoint-12: .*the same command goes on") as caught:
        go(home, model)
    assert "\n" not in str(caught.value)
    saved = home / "run" / "checkpoints"
    assert sorted(path.name for path in saved.iterdir()) == ["README.md", "checkpoint-6", "checkpoint-9"]
    assert checkpoints.damage(saved / "checkpoint-9") is None


@pytest.mark.usefixtures("one_core")
def test_a_full_disk_stops_cleanly(model: Path, alone: Path, interrupted: Path, tmp_path: Path) -> None:
    """No file may grow beyond so many bytes: first the adapter (safetensors) does not fit, then the optimizer
    (torch.save)."""
    shutil.copytree(interrupted, tmp_path / "run")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (30_000, 60_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            stops_for_want_of_space(tmp_path, model)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    go(tmp_path, model)
    assert kills.differences(alone, tmp_path / "run") == []


@pytest.mark.usefixtures("one_core")
def test_a_disk_that_is_really_full(model: Path, alone: Path, interrupted: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        shutil.copytree(interrupted, disk / "run")
        filler, room = disk / "filler", shutil.disk_usage(disk).free - 150_000  # for rows and logs, not a checkpoint
        filler.write_bytes(bytes(room))
        stops_for_want_of_space(disk, model)
        filler.unlink()
        go(disk, model)
        assert kills.differences(alone, disk / "run") == []
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.mark),))


@pytest.mark.usefixtures("one_core")
def test_no_pickle_is_run(model: Path, interrupted: Path, tmp_path: Path) -> None:
    """Sums that fit the files do not make them trusted."""
    for file in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "completions_rank0.pt"):
        home = tmp_path / file
        found = shutil.copytree(interrupted, home / "run") / "checkpoints" / "checkpoint-9"
        torch.save(Bomb(tmp_path / "exploded"), found / file)
        write_atomically(found / checkpoints.SUMS, json.dumps(checkpoints._sums(found)).encode())
        assert checkpoints.damage(found) is None
        with pytest.raises(pickle.UnpicklingError, match="weights_only"):
            go(home, model)
        assert not (tmp_path / "exploded").exists()
