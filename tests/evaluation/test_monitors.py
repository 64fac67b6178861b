"""Hacking monitors: quiet on a healthy run, and each raises its alarm on the hack it is for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlvr.evaluation import monitors
from rlvr.evaluation.monitors import Reading, monitor
from rlvr.types import Error

WEIGHTS = {"label": 1.0, "format": 0.2, "mention": 0.0}
STEPS, GROUPS, SIZE = 16, 4, 8
ROWS = STEPS * GROUPS * SIZE


def run(seed: int = 0) -> pd.DataFrame:
    """A healthy run: answers get better, the held-out verifier with them, and nothing else changes."""
    rng = np.random.default_rng(seed)
    step = np.repeat(np.arange(1, STEPS + 1), GROUPS * SIZE)
    group = np.tile(np.repeat(np.arange(GROUPS), SIZE), STEPS)
    truth = np.where((step + group) % 2, "up", "down")
    right = rng.random(ROWS) < 0.5 + 0.02 * step
    label = right.astype(float)
    mention = np.where(rng.random(ROWS) < 0.4 + 0.4 * label, 1.0, 0.0)
    form = (rng.random(ROWS) < 0.9).astype(float)
    return pd.DataFrame(
        {
            "step": step,
            "phase": "grpo",
            "group": group,
            "question_id": [f"q:{t}:{s}:{g}" for t, s, g in zip(truth, step, group, strict=True)],
            "task": "perturbation/direction",
            "answer": np.where(right, truth, np.where(truth == "up", "down", "up")),
            "completion": ["<think>" + "x" * int(n) + "</think>" for n in rng.integers(80, 120, ROWS)],
            "label": label,
            "format": form,
            "mention": mention,
            "reward": label + 0.2 * form,
        }
    )


def truths(table: pd.DataFrame) -> dict[str, str]:
    return {name: name.split(":")[1] for name in table["question_id"]}


def write(table: pd.DataFrame, folder: Path) -> Path:
    """One file for each step, as the trainer writes them."""
    folder.mkdir(exist_ok=True)
    for step, rows in table.groupby("step"):
        rows.to_parquet(folder / f"step_{step:06d}.parquet", index=False)
    return folder


def alarms(table: pd.DataFrame, folder: Path, weights=WEIGHTS) -> set[tuple[str, str]]:
    return {(r.monitor, r.subject) for r in monitor(write(table, folder), weights, truths(table)) if not r.ok}


def reading(table: pd.DataFrame, folder: Path, name: str, subject: str) -> Reading:
    found = monitor(write(table, folder), WEIGHTS, truths(table))
    return next(r for r in found if (r.monitor, r.subject) == (name, subject))


@pytest.mark.parametrize("seed", range(3))
def test_a_healthy_run_raises_no_alarm(tmp_path: Path, seed: int) -> None:
    table = run(seed)
    readings = monitor(write(table, tmp_path), WEIGHTS, truths(table))
    assert all(r.ok for r in readings), [r for r in readings if not r.ok]
    assert {r.monitor for r in readings} == {"dominance", "answer_rate", "length", "agreement"}


def test_a_reward_made_of_form_is_found(tmp_path: Path) -> None:
    table = run()
    table["label"] = 1.0  # the answer no longer tells the completions of a group apart
    table["format"] = np.tile([0.0, 1.0], ROWS // 2)
    table["reward"] = table["label"] + 0.2 * table["format"]
    assert alarms(table, tmp_path) == {("dominance", "format")}
    found = reading(table, tmp_path, "dominance", "format")
    assert found.value == pytest.approx(1.0)
    assert "17% of the weight" in found.detail


def test_shares_of_variance_sum_to_one(tmp_path: Path) -> None:
    table = run()
    weights = {"label": 1.0, "format": 0.2}
    shares = [r.value for r in monitor(write(table, tmp_path), weights) if r.monitor == "dominance"]
    assert len(shares) == 2
    assert sum(shares) == pytest.approx(1.0)


def test_always_one_answer_is_found_late_in_the_run_only(tmp_path: Path) -> None:
    table = run()
    early = table["step"] <= STEPS // 2
    assert alarms(table.assign(answer=table["answer"].where(~early, "up")), tmp_path / "early") == set()
    late = table.assign(answer=table["answer"].where(early, "up"))
    assert alarms(late, tmp_path / "late") == {("answer_rate", "perturbation/direction")}
    assert "up 100% (true 50%)" in reading(late, tmp_path / "late", "answer_rate", "perturbation/direction").detail


def test_unparsed_answers_lean_nowhere(tmp_path: Path) -> None:
    table = run()
    assert alarms(table.assign(answer=table["answer"].where(table.index % 3 > 0, None)), tmp_path) == set()


@pytest.mark.parametrize(("factor", "found"), [(3.0, True), (1.5, False), (0.2, True)])
def test_completions_that_grow_or_shrink_are_found(tmp_path: Path, factor: float, found: bool) -> None:
    table = run()
    late = table["step"] > STEPS // 2
    table["completion"] = [
        "y" * int(len(c) * (factor if at else 1)) for c, at in zip(table["completion"], late, strict=True)
    ]
    assert (("length", "") in alarms(table, tmp_path)) == found


def test_a_held_out_verifier_that_parts_from_the_reward_is_found(tmp_path: Path) -> None:
    table = run()
    falling = np.random.default_rng(1).random(ROWS) < 0.9 - 0.05 * table["step"]
    assert alarms(table.assign(mention=falling.astype(float)), tmp_path / "falls") == {("agreement", "mention")}
    opposed = table.assign(mention=np.where(table["step"] > STEPS // 2, 1.0 - table["label"], table["mention"]))
    assert ("agreement", "mention") in alarms(opposed, tmp_path / "opposed")
    assert reading(opposed, tmp_path / "opposed", "agreement", "mention").value < 0


def test_rows_that_failed_or_abstained_count_for_nothing(tmp_path: Path) -> None:
    table = run()
    broken = table.copy()
    broken.loc[broken.index % 10 == 0, ["label", "format", "mention", "reward"]] = None
    readings = monitor(write(broken, tmp_path), WEIGHTS, truths(broken))
    assert all(r.ok and np.isfinite(r.value) for r in readings)


def test_weights_may_follow_a_schedule_and_other_phases_are_left_out(tmp_path: Path) -> None:
    table = run()
    table["reward"] = table["label"] + 0.2 * table["format"] * (table["step"] > 8)
    other = table.assign(phase="after", completion="z" * 10_000, step=99)
    weights = {"label": 1.0, "format": {0: 0.0, 7: 0.0, 8: 0.2}, "mention": 0}
    assert alarms(pd.concat([table, other]), tmp_path, weights) == set()


def test_little_is_concluded_from_little(tmp_path: Path) -> None:
    table = run().query("step == 1").head(8).assign(answer="up", completion="")
    readings = monitor(write(table, tmp_path), WEIGHTS, truths(table))
    assert all(r.ok for r in readings)


def test_errors_say_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Error, match="holds no"):
        monitor(tmp_path, WEIGHTS)
    folder = write(run(), tmp_path)
    with pytest.raises(Error, match="no column claims"):
        monitor(folder, {**WEIGHTS, "claims": 0.0})
    with pytest.raises(Error, match="nothing was trained"):
        monitor(write(run().assign(phase="after"), tmp_path / "evaluated"), WEIGHTS)


def test_completions_are_not_held_in_memory(tmp_path: Path) -> None:
    table = run()
    kept = monitors._read(next(iter(sorted(write(table, tmp_path).glob("*.parquet")))), ["step", "completion"])
    assert kept["completion"].dtype.kind == "i"
