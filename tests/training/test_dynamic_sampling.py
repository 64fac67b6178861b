"""Dynamic sampling: which groups are flat, what a batch looks like once others stand in their place, with one rank and
with two, and that a run that was stopped replaces the same ones again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import trl
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rlvr.prompts import load as load_prompt
from rlvr.recipe import Learning, Recipe, load
from rlvr.training.run import Run
from rlvr.training.trainer.dynamic_sampling import DynamicSampling, flat_groups
from rlvr.types import Error
from tests import tiny
from tests.chance import coin, verifiers

ROOT = Path(__file__).resolve().parents[2]
LORA = {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"], "layers_to_transform": None}
SIZE = 4  # completions of a group


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tiny.make(tmp_path_factory.mktemp("tiny"), tiny.planted(), steps=2)
    return folder


@pytest.fixture(autouse=True)
def by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the questions earn nothing whatever is written, the others by chance."""
    monkeypatch.setattr(Recipe, "open_verifiers", lambda self: verifiers())


def recipe(model: Path, out: Path, *overrides: str) -> Recipe:
    values = [
        f"model={model}",
        f"output_dir={out}",
        "source.evidence=1",
        "verifiers={label: {weight: 1.0}}",
        f"lora={json.dumps(LORA)}",
        "sft={}",
        "evaluation={stages: [], questions: 6, resamples: 50}",
        "grpo.max_steps=4",
        f"grpo.num_generations={SIZE}",
        "grpo.per_device_train_batch_size=16",
        "grpo.max_completion_length=6",
        "deadline=null",
        "learning.rounds=2",
        *overrides,
    ]
    return load("quickstart", values)


def read(folder: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(path) for path in sorted(folder.glob("*.parquet"))], ignore_index=True)


def metrics(run: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if "groups/rounds" in line]


def flat_after(rows: pd.DataFrame) -> int:
    return int((rows.groupby("group")["reward"].nunique() <= 1).sum())


scores = st.sampled_from([None, 0.0, 0.25, 0.5, 1.0])


@given(
    rows=st.lists(st.tuples(scores, scores), min_size=6, max_size=6),
    least=st.sampled_from([0.0, 0.3, 0.6]),
    apart=st.booleans(),
)
def test_flat_groups_are_those_without_spread(rows: list[tuple[float | None, ...]], least: float, apart: bool) -> None:
    """Against the definition, spelt out: None is left out of a sum, and a row of None alone out of its group."""
    weights = (1.0, 0.5)
    rewards = torch.tensor([[np.nan if cell is None else cell for cell in row] for row in rows])
    expected = []
    for start in (0, 3):
        kept = [row for row in rows[start : start + 3] if any(cell is not None for cell in row)]
        weighed = [[None if c is None else c * w for c, w in zip(row, weights, strict=True)] for row in kept]
        summed = [[sum(cell or 0.0 for cell in row)] for row in weighed]
        columns = [[c for c in column if c is not None] for column in zip(*(weighed if apart else summed), strict=True)]
        expected.append(all(max(column) - min(column) <= least + 1e-9 for column in columns if column))
    assert flat_groups(rewards, torch.tensor(weights), 3, least, apart) == expected


def test_flat_groups_take_others_places(model: Path, tmp_path: Path) -> None:
    """A real run: each batch is whole, rows and prompts belong together, and what was left out is kept and marked."""
    run = Run(recipe(model, tmp_path / "run"))
    run.grpo()
    rows, left = read(tmp_path / "run" / "rollouts"), read(tmp_path / "run" / "rollouts" / "discarded")
    logged = metrics(tmp_path / "run")
    questions = {question.id: question for question in run.questions}
    template = load_prompt("perturbation/response")
    assert len(logged) == 4 and sum(line["groups/replaced"] for line in logged) > 0
    for line in logged:
        at, out = rows[rows["step"] == line["step"]], left[left["step"] == line["step"]]
        groups = at.groupby("group")
        assert groups.size().tolist() == [SIZE] * 4
        assert groups["question_id"].nunique().eq(1).all() and at["question_id"].nunique() == 4
        flat, replaced = round(4 * line["groups/flat"]), round(line["groups/replaced"])
        assert flat_after(at) == flat - replaced  # what is still flat is what nothing took the place of
        assert 0 <= line["groups/rounds"] <= 2 and (line["groups/rounds"] == 0) == (flat == 0)
        assert len(out[out["round"] == 0]) == replaced * SIZE
        assert out[out["round"] == 0]["reward"].groupby(out["question_id"]).nunique().le(1).all()
        assert not set(out["question_id"]) & set(at["question_id"])
        assert at["reward"].mean() == pytest.approx(line["reward"], abs=1e-6)
        assert line["frac_reward_zero_std"] == pytest.approx(flat_after(at) / 4)
        assert groups["advantage"].mean().abs().max() < 1e-3
    for table in (rows, left):
        for row in table.to_dict("records"):
            question = questions[row["question_id"]]
            assert row["prompt"] == "\n\n".join(turn["content"] for turn in template.render(question))
            assert row["label"] == coin(question.id) * coin(row["completion"])
    assert set(left["phase"]) == {"discarded"} and set(left["why"]) <= {"flat", "unneeded"}
    assert set(rows["phase"]) == {"grpo"}


def test_a_policy_that_never_earns_ends_its_rounds(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing to be had anywhere: two rounds, then the batch trains as it is, with advantage 0."""
    monkeypatch.setattr(Recipe, "open_verifiers", lambda self: verifiers(never=True))
    run = Run(recipe(model, tmp_path / "run", "grpo.max_steps=1"))
    run.grpo()
    (line,) = metrics(tmp_path / "run")
    assert (line["groups/flat"], line["groups/replaced"], line["groups/rounds"]) == (1.0, 0, 2)
    assert read(tmp_path / "run" / "rollouts")["advantage"].eq(0).all()
    left = read(tmp_path / "run" / "rollouts" / "discarded")
    assert left.groupby("round").size().to_dict() == {1: 16, 2: 16}
    assert left["question_id"].nunique() == 8  # each round asks what the ones before did not


def test_few_questions_end_the_search(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recipe, "open_verifiers", lambda self: verifiers(never=True))
    run = Run(recipe(model, tmp_path / "run", "grpo.max_steps=1", "source.questions=6"))
    run.grpo()
    left = read(tmp_path / "run" / "rollouts" / "discarded")
    assert left.groupby("round").size().to_dict() == {1: 2 * SIZE}  # 6 questions, of which 4 were in the batch


@pytest.mark.slow
def test_a_resumed_run_replaces_the_same_groups(model: Path, tmp_path: Path) -> None:
    asked = recipe(model, tmp_path / "run", "grpo.save_strategy=steps", "grpo.save_steps=2")
    Run(asked).grpo()
    first = [read(tmp_path / "run" / "rollouts" / part) for part in ("", "discarded")]
    shutil.rmtree(tmp_path / "run" / "adapter")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "checkpoint-4")
    Run(asked).grpo()
    again = [read(tmp_path / "run" / "rollouts" / part) for part in ("", "discarded")]
    for one, other in zip(first, again, strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_without_rounds_nothing_is_touched(model: Path, tmp_path: Path) -> None:
    run = Run(recipe(model, tmp_path / "run", "learning.rounds=0", "grpo.max_steps=1"))
    run.grpo()
    assert metrics(tmp_path / "run") == []
    assert not (tmp_path / "run" / "rollouts" / "discarded").exists()


def test_another_trl_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trl, "__version__", "1.17.0")

    class Sampling(DynamicSampling):
        learning = Learning(rounds=1)

    with pytest.raises(Error, match=r"trl 1\.16; this is 1\.17\.0"):
        Sampling()


@pytest.mark.slow
def test_two_ranks_take_the_same_rounds(model: Path, tmp_path: Path) -> None:
    """Two real processes, with a group that lies on both: equal counts, and every row where it belongs."""
    out, config = tmp_path / "run", tmp_path / "two.yaml"
    overrides = ["grpo.per_device_train_batch_size=6", "grpo.max_steps=3"]
    config.write_text(yaml.safe_dump(recipe(model, out, *overrides).to_dict()))
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    flags = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    done = subprocess.run(
        [*launch, *flags, str(ROOT / "tests" / "chance.py"), str(config)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((out / "versions.json").read_text())["world_size"] == 2
    rows, left = read(out / "rollouts"), read(out / "rollouts" / "discarded")
    logged = metrics(out)
    assert len(logged) == 3 and sum(line["groups/replaced"] for line in logged) > 0
    for line in logged:
        at, out_ = rows[rows["step"] == line["step"]], left[left["step"] == line["step"]]
        assert at.groupby("group").size().tolist() == [SIZE] * 3
        assert at.groupby("group")["question_id"].nunique().eq(1).all()
        flat, replaced = round(3 * line["groups/flat"]), round(line["groups/replaced"])
        assert flat_after(at) == flat - replaced
        assert len(out_[out_["round"] == 0]) == replaced * SIZE
        # Each round samples as many groups on each rank as would fill every flat place.
        tried = out_[out_["round"] > 0].groupby("round").size()
        sampled = tried.sum() // SIZE + replaced
        assert sampled % 2 == 0 and sampled >= (2 * ceil(flat / 2) if line["groups/rounds"] else 0)
        assert at.groupby("group")["advantage"].mean().abs().max() < 1e-3
