"""The parts of exact resume, one by one: data order, checkpoints, the run's folder, metrics.jsonl, what is kept."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from accelerate import PartialState
from hypothesis import given
from hypothesis import strategies as st
from transformers import TrainerControl, TrainerState
from trl.trainer.utils import RepeatSampler

from rlvr.answers import build as build_answers
from rlvr.rewards.layer import RewardLayer, Weighted
from rlvr.training.trainer import checkpoints, folder
from rlvr.training.trainer.folder import open_folder
from rlvr.training.trainer.jsonlines import JsonLines
from rlvr.training.trainer.order import Order
from rlvr.training.trainer.state import read_states, write_states
from rlvr.types import Error, Reason, Verdict
from rlvr.verifier import Verifier


@given(st.integers(1, 30), st.integers(1, 4), st.integers(0, 5), st.integers(0, 2**31), st.booleans())
def test_the_order_of_an_epoch_is_trls(count: int, batch: int, epoch: int, seed: int, shuffle: bool) -> None:
    """Whichever epoch a process begins with, and how often it asks, it sees what TRL's sampler gives in a whole run."""
    options: dict[str, Any] = {"mini_repeat_count": 2, "batch_size": batch, "repeat_count": 2, "shuffle": shuffle}
    whole = RepeatSampler(range(count), seed=seed, **options)
    epochs = [list(whole) for _ in range(epoch + 2)]
    order = Order(RepeatSampler(range(count), seed=seed, **options))
    order.set_epoch(epoch)
    assert list(order) == epochs[epoch]
    order.set_epoch(epoch + 1)
    assert list(order) == epochs[epoch + 1]
    assert len(order) == len(epochs[0])


def checkpoint(home: Path, step: int) -> Path:
    side = home / ".partial" / f"checkpoint-{step}"
    (side / "ref").mkdir(parents=True)
    (side / "weights").write_bytes(bytes([step]) * 100)
    (side / "ref" / "weights").write_bytes(b"reference")
    checkpoints.publish(side, home)
    return home / side.name


def test_a_checkpoint_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = checkpoint(tmp_path, 9)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda *_: 1 / 0)  # all is written but the name
        with pytest.raises(ZeroDivisionError):
            checkpoint(tmp_path, 10)
    assert checkpoints.newest(tmp_path) == first
    second = checkpoint(tmp_path, 100)
    assert checkpoints.newest(tmp_path) == second  # by number, not by name
    assert checkpoints.newest(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("weights", None, "weights is missing"),
        ("weights", b"x", "weights is not what was saved"),
        ("ref/weights", b"", "ref/weights is not what was saved"),
        ("more", b"x", "more is not what was saved"),
        (checkpoints.SUMS, None, "cannot be read"),
        (checkpoints.SUMS, b"{", "cannot be read"),
        (checkpoints.SUMS, b"[]", "holds no sums"),
    ],
)
def test_damage_is_seen_and_set_aside(
    tmp_path: Path, file: str, content: bytes | None, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    good = checkpoint(tmp_path, 1)
    for _ in range(2):
        bad = checkpoint(tmp_path, 2)
        (bad / file).unlink(missing_ok=True)
        if content is not None:
            (bad / file).write_bytes(content)
        assert told in str(checkpoints.damage(bad))
        assert checkpoints.newest(tmp_path) == good
    assert sum("is damaged" in record.message for record in caplog.records) == 2
    assert sorted(p.name for p in tmp_path.glob("damaged*")) == ["damaged-checkpoint-2", "damaged-checkpoint-2-1"]


RECIPE = {"model": "tiny", "grpo": {"learning_rate": 1e-5, "max_steps": 3}, "output_dir": "here", "seed": 0}
MADE_OF = {"world_size": 1, "base_sha256": "ab"}


def test_an_unfinished_run_is_gone_on_with_and_a_finished_one_moved(tmp_path: Path) -> None:
    run = tmp_path / "deep" / "run"
    open_folder(run, RECIPE, MADE_OF).close()
    (run / "metrics.jsonl").write_text("kept")
    open_folder(run, {**RECIPE, "output_dir": "./here"}, MADE_OF).close()
    assert (run / "metrics.jsonl").read_text() == "kept"
    (run / "report.html").write_text("done")
    open_folder(run, {**RECIPE, "seed": 1}, MADE_OF).close()
    assert (tmp_path / "deep" / "run-1" / "report.html").read_text() == "done"
    assert {path.name for path in run.iterdir()} == {".lock", "recipe.yaml", "versions.json"}


@pytest.mark.parametrize(
    ("recipe", "made_of", "told"),
    [
        ({**RECIPE, "grpo": {"learning_rate": 2e-5, "max_steps": 3}}, MADE_OF, "grpo.learning_rate is 1e-05 there"),
        ({**RECIPE, "grpo": {"max_steps": 3}}, MADE_OF, "None here"),
        ({**RECIPE, "sft": {"max_steps": 3}}, MADE_OF, "sft.max_steps is None there and 3 here"),
        (RECIPE, {**MADE_OF, "world_size": 2}, "world_size 1, and here it is 2"),
        (RECIPE, {**MADE_OF, "base_sha256": "cd"}, "base_sha256 ab, and here it is cd"),
    ],
)
def test_an_unfinished_run_of_something_else_is_refused(
    tmp_path: Path, recipe: dict[str, Any], made_of: dict[str, Any], told: str
) -> None:
    open_folder(tmp_path / "run", RECIPE, MADE_OF).close()
    held = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(Error, match="choose another output_dir") as caught:
        open_folder(tmp_path / "run", recipe, made_of)
    assert told in str(caught.value) and "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == held


def test_two_processes_never_write_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "PATIENCE", 0)
    open_folder(tmp_path / "run", RECIPE, MADE_OF).close()
    hold = "import fcntl, sys, time; f = open(sys.argv[1], 'wb'); fcntl.lockf(f, fcntl.LOCK_EX); print(); time.sleep(9)"
    command = [sys.executable, "-uc", hold, str(tmp_path / "run" / ".lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(Error, match="another process is writing this run"):
            open_folder(tmp_path / "run", RECIPE, MADE_OF)
        other.kill()  # as a killed run would: the lock ends with it
        other.wait()
        open_folder(tmp_path / "run", RECIPE, MADE_OF).close()


def logged(log: JsonLines, *steps: int) -> None:
    for step in steps:
        state = TrainerState(global_step=step, is_world_process_zero=True)
        log.on_log(None, state, TrainerControl(), {"loss": 1.0})


def held(path: Path) -> list[tuple[str, int]]:
    return [(line["phase"], line["step"]) for line in map(json.loads, path.read_text().splitlines())]


def test_every_line_of_metrics_stands_once(tmp_path: Path) -> None:
    PartialState()
    path = tmp_path / "metrics.jsonl"
    warm, grpo = JsonLines(path, "warm_start"), JsonLines(path, "grpo")
    start = TrainerState(global_step=0)
    logged(warm, 1, 2, 2)  # the last is the summary at the end, of the same step
    grpo.on_train_begin(None, start, None)
    assert held(path) == [("warm_start", 1), ("warm_start", 2), ("warm_start", 2)]
    logged(grpo, 1, 2)
    known = json.loads(json.dumps(grpo.state()))
    logged(grpo, 2, 3)
    with path.open("a") as out:
        out.write('{"phase": "grpo", "ste')  # a kill amid a write
    grpo.on_train_begin(None, TrainerState(global_step=2), None)
    grpo.restore(known)
    assert held(path)[3:] == [("grpo", 1), ("grpo", 2)]
    with path.open("a") as out:
        out.write('{"phase": "gr')
    grpo.on_train_begin(None, start, None)  # no checkpoint: the phase begins again
    assert held(path) == [("warm_start", 1), ("warm_start", 2), ("warm_start", 2)]
    warm.on_train_begin(None, start, None)
    assert path.read_text() == ""


class Kept:
    def __init__(self, **values: Any) -> None:
        self.values = values

    def state(self) -> dict[str, Any]:
        return self.values

    def restore(self, state: Any) -> None:
        self.values = dict(state)


def test_states_survive_to_the_last_bit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "state_rank0.json"
    values = {"third": 1 / 3, "least": 5e-324, "nan": math.nan, "list": [0.1 + 0.2, -0.0]}
    write_states(path, {"one": Kept(**values), "other": Kept(x=1)})
    one, new = Kept(), Kept(y=2)
    read_states(path, {"one": one, "new": new})
    assert repr(one.values) == repr(values)
    assert new.values == {"y": 2} and "keeps nothing of new" in caplog.text
    path.write_text("{")
    with pytest.raises(Error, match="cannot read"):
        read_states(path, {"one": one})


def test_counts_of_the_reward_layer_survive(make_question: Any) -> None:
    class Failing(Verifier):
        name, version, kind = "failing", "1", "hard"

        def verify(self, question: Any, completion: Any) -> Verdict:
            if "bad" in completion.text:
                raise RuntimeError("gone")
            return Verdict(1.0, Reason.CORRECT)

    def layer() -> RewardLayer:
        answers = build_answers({"up": "up", "down": "down"}, "test")
        return RewardLayer({"failing": Weighted(Failing())}, {"perturbation/direction": answers}, 0.04)

    first, second = layer(), layer()
    question = make_question()
    first.step = 14  # what scheduled weights go by
    first.score([question] * 10, ["bad", *["good"] * 9])
    second.restore(json.loads(json.dumps(first.state())))
    assert (second.step, second.asked, second.errors) == (14, first.asked, first.errors)
    for one in (first, second):
        with pytest.raises(Error, match=r"failed on 1 of 20 completions .*gone"):
            one.score([question] * 10, ["good"] * 10)
