"""Verifiers in a process that can be killed: whatever they do, every completion has its row."""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlvr.answers import Choice
from rlvr.completions import reference
from rlvr.plugins import load
from rlvr.rewards.layer import RewardLayer, Weighted
from rlvr.rewards.worker import MOST_LOST, Worker
from rlvr.types import Error
from rlvr.verifier import Verifier
from tests.faulty import Faulty, FaultyBatch, FaultyRemote, Meeting, Unsure

ANSWERS = {"perturbation/direction": Choice({"up": "up", "down": "down"})}
SHORT, LONG = 3.0, 60.0  # seconds: for batches that are to be late, and for those that are not


def layer_of(*verifiers: Verifier, deadline: float | None = LONG) -> RewardLayer:
    return RewardLayer({v.name: Weighted(v) for v in verifiers}, ANSWERS, 1.0, deadline=deadline)


def score(layer, question, commands):
    return layer.score([question] * len(commands), [reference(command, "down") for command in commands])


def process_of(row) -> int:
    return int(json.loads(row["faulty/evidence"])[0]["record"])


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds: float = 20.0) -> bool:
    ends = time.monotonic() + seconds
    while not condition() and time.monotonic() < ends:
        time.sleep(0.05)
    return bool(condition())


def test_a_worker_says_what_this_process_would(make_question):
    commands = ["fine", "raise", "none", "number", "nan", "inf", "memory", "ZAP70 and IL-2", "fine"] * 3
    questions = [make_question(), make_question(truth={"neighbours": None}), make_question({"perturbation": ""})]
    built_in = [load("verifiers", name, Verifier)() for name in ("format", "label", "mention", "neighbours")]

    def rows(deadline):
        layer = layer_of(Faulty(), *built_in, deadline=deadline)
        asked = [questions[i % 3] for i in range(len(commands))]
        found = layer.score(asked, [reference(command, "down") for command in commands])
        return [{k: v for k, v in row.items() if k not in ("faulty/evidence", "faulty/error")} for row in found], [
            str(row["faulty/error"]).splitlines()[-1] for row in found
        ]

    assert rows(LONG) == rows(None)


def test_it_is_another_process_without_torch_that_serves_all_batches(make_question, tmp_path):
    layer = layer_of(Faulty(str(tmp_path / "notes")))
    first = score(layer, make_question(), ["a", "b"])
    second = score(layer, make_question(), ["c"])
    assert len({process_of(row) for row in (*first, *second)} | {os.getpid()}) == 2
    assert "torch: False" in first[0]["faulty/evidence"]
    # What it needs is opened once, and each completion is asked about once.
    assert (tmp_path / "notes").read_text().split("\n") == [f"opened by {process_of(first[0])}", "a", "b", "c", ""]


LATE = "no verdict within 3 s, its process was killed"
LETHAL = {
    "hang": LATE,
    "spin": LATE,
    "stop": LATE,
    "exit": "its process died (exit code 3)",
    "leave": "its process died (exit code 4)",
    "segfault": "its process died (SIGSEGV)",
    "kill": "its process died (SIGKILL)",
}
KINDS = ("hang", "exit")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "command"),
    [*((Faulty, command) for command in LETHAL), *((k, c) for k in (FaultyBatch, FaultyRemote) for c in KINDS)],
)
def test_what_kills_a_worker_costs_its_own_row(make_question, caplog, kind, command):
    layer = layer_of(kind(), Unsure(), deadline=SHORT)
    rows = score(layer, make_question(), ["a", command, "b", "c"])
    assert [row[kind.name] for row in rows] == [1.0, None, 1.0, 1.0]
    assert [row["unsure"] for row in rows] == [1.0, None, 1.0, 1.0]  # the verdict on it stands, but does not train
    assert [row["unsure/reason"] for row in rows] == ["correct"] * 4
    bad = rows[1]
    assert bad[f"{kind.name}/reason"] == "error"
    assert bad[f"{kind.name}/error"].splitlines()[0] == LETHAL[command]
    assert f"verifier {kind.name} failed on 1 of 4: {LETHAL[command]}" in caplog.text
    if command in ("hang", "spin", "segfault"):
        assert 'faulty.py", line' in bad[f"{kind.name}/error"]  # the stack leads to the place
    assert (layer.errors[kind.name], layer.asked[kind.name]) == (1, 4)
    assert score(layer, make_question(), ["d"])[0][kind.name] == 1.0


def test_a_remote_verifier_that_waits_costs_its_own_row(make_question):
    layer = layer_of(FaultyRemote(), Faulty(), deadline=SHORT)
    rows = score(layer, make_question(), [*"abcdefghijkl", "wait", *"mnopqrst"])
    assert [i for i, row in enumerate(rows) if row["faulty_remote/error"]] == [12]
    assert all(row["faulty/reason"] == "correct" for row in rows)


@pytest.mark.parametrize("deadline", [None, LONG])
def test_a_remote_verifier_cancelled_from_within_costs_its_own_row(make_question, deadline):
    rows = score(layer_of(FaultyRemote(), deadline=deadline), make_question(), ["a", "cancel", "raise", "b"])
    assert [row["faulty_remote"] for row in rows] == [1.0, None, None, 1.0]
    assert "was cancelled from within" in rows[1]["faulty_remote/error"]
    assert "the table is gone" in rows[2]["faulty_remote/error"]


@pytest.mark.parametrize("deadline", [None, LONG])
def test_remote_verifiers_wait_at_the_same_time(make_question, tmp_path, deadline):
    here, there = (Meeting(str(tmp_path), *names) for names in (("a", "b"), ("b", "a")))
    layer = RewardLayer({"here": Weighted(here), "there": Weighted(there)}, ANSWERS, deadline=deadline)
    (row,) = score(layer, make_question(), ["x"])
    assert (row["here"], row["there"]) == (1.0, 1.0)


def test_the_processes_lost_on_a_batch_are_counted_and_the_rest_not_asked(make_question, tmp_path):
    layer = layer_of(Faulty(str(tmp_path / "notes")))
    rows = score(layer, make_question(), ["a", *["exit"] * (MOST_LOST + 3), "b"])
    errors = [row["faulty/error"] for row in rows]
    assert errors[0] is None
    assert all(error.startswith("its process died (exit code 3)") for error in errors[1 : MOST_LOST + 1])
    assert all(error.startswith(f"not asked: {MOST_LOST} worker") for error in errors[MOST_LOST + 1 :])
    assert (tmp_path / "notes").read_text().count("exit") == MOST_LOST
    assert score(layer, make_question(), ["c"])[0]["faulty"] == 1.0  # the next batch starts anew


def test_one_that_hangs_while_asked_whether_it_applies_is_no_worse(make_question):
    layer = layer_of(Unsure(), deadline=SHORT)
    questions = [make_question(id="a"), make_question({"perturbation": "hang"}, id="b")]
    rows = layer.score(questions, [reference("x", "down")] * 2)
    assert [row["unsure"] for row in rows] == [1.0, None]


def test_a_worker_that_died_between_batches_costs_nothing(make_question):
    layer = layer_of(Faulty())
    (row,) = score(layer, make_question(), ["a"])
    os.kill(process_of(row), signal.SIGKILL)
    assert wait_until(lambda: not is_running(process_of(row)))
    (again,) = score(layer, make_question(), ["a"])
    assert again["faulty"] == 1.0 and process_of(again) != process_of(row)


def test_an_interrupted_batch_is_not_answered_later(make_question, monkeypatch):
    layer = layer_of(Faulty())
    (before,) = score(layer, make_question(), ["a"])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("rlvr.rewards.worker._Child._receive", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        score(layer, make_question(), ["b", "c"])
    assert not is_running(process_of(before))
    (after,) = score(layer, make_question(), ["d"])
    assert (after["faulty"], after["thought"]) == (1.0, "d")


def test_it_ends_with_the_layer(make_question):
    layer = layer_of(Faulty())
    process = process_of(score(layer, make_question(), ["a"])[0])
    assert is_running(process)
    del layer
    gc.collect()
    assert not is_running(process)


PARENT = """
import sys
sys.path[:0] = [{root!r}]
from rlvr.completions import reference
from rlvr.types import Question
from tests.faulty import Faulty
from tests.rewards.test_worker import layer_of, process_of, score
question = Question("q", "perturbation/direction", {{}}, {{}}, "s", "train")
layer = layer_of(Faulty())
print(process_of(score(layer, question, ["a"])[0]), flush=True)
score(layer, question, ["{command}"])
"""


@pytest.mark.parametrize("command", ["a", "hang", "spin"])
def test_it_ends_with_its_parent_even_if_that_is_killed(command):
    code = PARENT.format(root=str(Path(__file__).parents[2]), command=command)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        process = int(parent.stdout.readline())
        if command != "a":
            assert is_running(process)
            time.sleep(0.5)  # it is in the midst of its fault now
            parent.kill()
    assert wait_until(lambda: not is_running(process))


def test_mistakes_of_the_caller_are_named(make_question):
    class Local(Faulty):
        pass

    with pytest.raises(Error, match="verifier 'local' cannot be sent to its worker process"):
        Worker({"local": Local()}, 1.0)
    for deadline in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(Error, match=f"deadline {deadline} must be a number of seconds above 0"):
            layer_of(Faulty(), deadline=deadline)


def test_a_verifier_that_the_worker_cannot_import_is_an_error(make_question, monkeypatch, tmp_path):
    (tmp_path / "vanishing.py").write_text("from tests.faulty import Faulty\nclass Vanishing(Faulty):\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    vanishing = importlib.import_module("vanishing")
    layer = layer_of(vanishing.Vanishing())
    (tmp_path / "vanishing.py").unlink()
    for cached in tmp_path.glob("__pycache__/*"):
        cached.unlink()
    with pytest.raises(Error, match=r"cannot be loaded in a worker process: ModuleNotFoundError: .*vanishing"):
        score(layer, make_question(), ["a"])
