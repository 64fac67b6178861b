"""The line of a step, the trackers, and every alarm: each provoked in real training, and silent in a sound run."""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM, TrainerCallback

from rlvr import jsonlines
from rlvr.evaluation.monitors import Reading
from rlvr.recipe import Alarm, Recipe, Watch, load
from rlvr.training.run import Run
from rlvr.training.watch import callbacks
from rlvr.training.watch.alarms import FILE, FIRST, Alarms
from rlvr.training.watch.callbacks import Stopped
from rlvr.training.watch.line import line
from rlvr.training.watch.trackers import refuse_tracker
from rlvr.types import Error, Reason, Verdict
from rlvr.verifier import Verifier
from tests import tiny

QUIET = {name: {"action": "none"} for name in ("zero_variance", "truncation", "reward", "hacking", "entropy")}


@dataclass(frozen=True)
class Coin(Verifier):
    """Right or wrong by a hash of the completion: rewards that differ, whatever the policy says."""

    name: ClassVar[str] = "label"

    def verify(self, question: Any, completion: Any) -> Verdict:
        heads = sha256(completion.text.encode()).digest()[0] % 2
        return Verdict(float(heads), Reason.CORRECT if heads else Reason.WRONG, ())


@dataclass(frozen=True)
class One(Coin):
    """Always right: rewards without variance."""

    name: ClassVar[str] = "format"

    def verify(self, question: Any, completion: Any) -> Verdict:
        return Verdict(1.0, Reason.CORRECT, ())


@dataclass(frozen=True)
class Broken(Coin):
    def verify(self, question: Any, completion: Any) -> Verdict:
        raise ValueError("the table is gone")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tiny.make(tmp_path_factory.mktemp("tiny"), tiny.planted(), steps=10)
    return folder


@pytest.fixture
def start(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """start(verifiers={name: one of the above}, watch={...}, "grpo.max_steps=3"): a run, ready for grpo()."""

    def begin(*overrides: str, verifiers: dict[str, Verifier], watch: dict[str, Any]) -> Run:
        plain = Recipe.open_verifiers

        def stand_ins(self: Recipe) -> Any:
            return {name: (verifiers[name], *rest) for name, (_, *rest) in plain(self).items()}

        monkeypatch.setattr(Recipe, "open_verifiers", stand_ins)
        recipe = load(
            "quickstart",
            [
                f"model={model}",
                f"output_dir={tmp_path / 'run'}",
                "source.evidence=1",
                f"verifiers={json.dumps({name: {'weight': 1.0} for name in verifiers})}",
                "lora={r: 4, lora_alpha: 16, target_modules: [q_proj, v_proj]}",
                "sft={}",
                "evaluation.stages=[]",
                "deadline=null",
                "max_error_rate=1.0",
                "grpo.num_generations=4",
                "grpo.per_device_train_batch_size=8",
                "grpo.max_completion_length=6",
                "grpo.lr_scheduler_type=constant",
                f"watch={json.dumps(watch)}",
                *overrides,
            ],
        )
        return Run(recipe)

    return begin


@pytest.fixture
def meddle(monkeypatch: pytest.MonkeyPatch) -> Callable[[TrainerCallback], None]:
    """Adds a callback to the trainer of the run to come."""

    def add(callback: TrainerCallback) -> None:
        plain = callbacks.one_line_a_step
        monkeypatch.setattr(
            "rlvr.training.run.one_line_a_step", lambda trainer: (plain(trainer), trainer.add_callback(callback))
        )

    return add


def metrics(run: Run) -> list[dict[str, Any]]:
    lines = [json.loads(text) for text in (run.folder / "metrics.jsonl").read_text().splitlines()]
    return [entry for entry in lines if "reward" in entry]


def fired_in(run: Run) -> list[dict[str, Any]]:
    """The rows of alarms.jsonl."""
    return jsonlines.read(run.folder / FILE)[0]


def rows(run: Run) -> list[tuple[str, int]]:
    return [(row["alarm"], row["step"]) for row in fired_in(run)]


def test_a_sound_run_prints_one_line_a_step_and_no_alarm(
    start: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    run = start("grpo.max_steps=4", "grpo.beta=0.01", verifiers={"label": Coin()}, watch={"truncation": {"limit": 1}})
    run.grpo()
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 4 and max(map(len, printed)) <= 80
    for step, (text, logged) in enumerate(zip(printed, metrics(run), strict=True), 1):
        assert text.startswith(f"{step}/4 reward {logged['reward']:.3f} ±")
        assert f"parse {logged['parsed']:.0%} cut {logged['completions/clipped_ratio']:.0%} ent " in text
        assert ("ETA" in text) == (step < 4)
    assert rows(run) == []
    assert list((run.folder / "checkpoints").rglob("events.out.tfevents.*"))  # TensorBoard, the default


def test_truncation_and_groups_of_one_reward_warn_once(
    start: Callable[..., Run], caplog: pytest.LogCaptureFixture
) -> None:
    watch = {"truncation": {"patience": 2}, "zero_variance": {"patience": 3}}
    run = start("grpo.max_steps=5", "grpo.max_completion_length=1", verifiers={"format": One()}, watch=watch)
    run.grpo()
    assert all(
        entry["completions/clipped_ratio"] > 0.3 and entry["frac_reward_zero_std"] == 1 for entry in metrics(run)
    )
    assert rows(run) == [("truncation", 2), ("zero_variance", 3)]
    told = [record.message for record in caplog.records if record.message.startswith("alarm ")]
    assert len(told) == 2 and "above 0.3 for 2 steps" in told[0] and "max_completion_length" in told[0]


def test_kl_lowers_the_rate_down_to_its_floor(start: Callable[..., Run]) -> None:
    watch = {**QUIET, "kl": {"limit": 1e-12, "patience": 1, "action": "lower_rate"}, "floor": 0.25}
    options = ("grpo.max_steps=6", "grpo.beta=0.04", "grpo.learning_rate=1e-2", "grpo.save_strategy=steps")
    run = start(*options, "grpo.save_steps=6", verifiers={"label": Coin()}, watch=watch)
    run.grpo()
    logged = metrics(run)
    first = next(entry["step"] for entry in logged if entry["kl"] > 1e-12)
    assert rows(run) == [("kl", step) for step in range(first, first + 3)]  # twice lowered, then told once more
    rates = [entry["learning_rate"] for entry in logged]
    assert rates[: first + 2] == pytest.approx([*[1e-2] * first, 5e-3, 2.5e-3]) and set(rates[first + 1 :]) == {2.5e-3}
    # What is halved is the schedule itself, as a checkpoint keeps it.
    schedule = torch.load(run.folder / "checkpoints" / "checkpoint-6" / "scheduler.pt", weights_only=True)
    assert schedule["base_lrs"] == pytest.approx([2.5e-3] * len(schedule["base_lrs"]))


class Harden(TrainerCallback):  # type: ignore[misc]
    """From some step on the policy knows but one word: its logits grow forty times."""

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if state.global_step == FIRST + 1:
            with torch.no_grad():
                model.base_model.model.model.norm.weight.mul_(40)


def test_entropy_collapse_stops_and_reward_collapse_is_told(
    start: Callable[..., Run], meddle: Callable[[TrainerCallback], None]
) -> None:
    meddle(Harden())
    falling = json.dumps({"format": {"weight": {"0": 1.0, str(FIRST): 1.0, str(FIRST + 1): 0.0}}})
    watch = {**QUIET, "entropy": {"patience": 8, "action": "stop"}, "reward": {"patience": 1}}
    run = start("grpo.max_steps=40", f"verifiers={falling}", verifiers={"format": One()}, watch=watch)
    with pytest.raises(Stopped, match=r"alarm entropy: .* below 0\.1 for 8 steps.*the same command goes on") as caught:
        run.grpo()
    assert "\n" not in str(caught.value)
    last = FIRST + 9  # the first hard step is FIRST + 2
    # Rewards of 1 for FIRST + 1 steps, then 0: the mean of ten is below half once six of them are 0.
    assert rows(run) == [("reward", FIRST + 7), ("entropy", last)]
    assert metrics(run)[-1]["step"] == last
    assert (run.folder / "checkpoints" / f"checkpoint-{last}").is_dir() and not (run.folder / "adapter").exists()


def test_verifier_errors_gradient_and_hacking(start: Callable[..., Run]) -> None:
    watch = {
        **QUIET,
        "verifier_errors": {"patience": 2},
        "gradient": {"limit": 1e-9, "patience": 3},
        "hacking": {"patience": 1},
        "monitors_every": 7,
    }
    # Of two verifiers of one weight the constant one moves nothing: the other has all of the reward's variance.
    dominant = json.dumps({"label": {"weight": 0.25}, "format": {"weight": 1.0}, "mention": {"weight": 0.0}})
    run = start(
        "grpo.max_steps=8",
        f"verifiers={dominant}",
        verifiers={"label": Coin(), "format": One(), "mention": One()},
        watch=watch,
    )
    run.grpo()
    assert rows(run) == [("gradient", 3), ("hacking", 7)]
    (hacked,) = (row for row in fired_in(run) if row["alarm"] == "hacking")
    assert hacked["subject"] == "dominance label" and "100% of the reward's variance" in hacked["detail"]


def test_failing_verifiers_are_told(start: Callable[..., Run]) -> None:
    watch = {**QUIET, "verifier_errors": {"patience": 2}}
    run = start("grpo.max_steps=3", verifiers={"label": Broken()}, watch=watch)
    run.grpo()
    assert [(row["alarm"], row["subject"], row["step"], row["value"]) for row in fired_in(run)] == [
        ("verifier_errors", "label", 2, 1.0)
    ]


class Poison(TrainerCallback):  # type: ignore[misc]
    """The gradient of the second step is no number."""

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if state.global_step == 1:
            weight = next(p for p in model.parameters() if p.requires_grad)
            weight.register_hook(lambda gradient: gradient * math.nan)


def test_a_gradient_that_is_no_number_changes_no_weight_and_stops(
    start: Callable[..., Run], meddle: Callable[[TrainerCallback], None]
) -> None:
    meddle(Poison())
    options = ("grpo.max_steps=5", "grpo.save_strategy=steps", "grpo.save_steps=1", "grpo.learning_rate=1e-2")
    run = start(*options, verifiers={"label": Coin()}, watch=QUIET)
    with pytest.raises(Stopped, match="alarm not_finite: 1 at step 2"):
        run.grpo()
    assert rows(run) == [("not_finite", 2)]
    one, two = (
        load_file(run.folder / "checkpoints" / f"checkpoint-{step}" / "adapter_model.safetensors") for step in (1, 2)
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(weight.abs().sum() > 0 for name, weight in one.items() if "lora_B" in name)


@pytest.mark.vllm
def test_an_importance_ratio_far_from_one_is_told(
    model: Path,
    tmp_path: Path,
    start: Callable[..., Run],
    meddle: Callable[[TrainerCallback], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """vLLM is left with other weights than the trainer's: what it samples is unlikely to the trainer."""
    pytest.importorskip("vllm", reason="vLLM is not installed here: make test-vllm")

    class Garble(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            from trl.generation.vllm_generation import VLLMGeneration

            def leave_garbled(self: Any) -> None:
                for weight in self.llm.llm_engine.model_executor.driver_worker.model_runner.model.parameters():
                    torch.manual_seed(0)
                    weight.data.copy_(torch.randn_like(weight))
                self.llm.reset_prefix_cache()

            for kind in (VLLMGeneration, *VLLMGeneration.__subclasses__()):
                monkeypatch.setattr(kind, "sync_weights", leave_garbled)

    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    meddle(Garble())
    watch = {**QUIET, "importance_ratio": {"patience": 2}}
    wide = tmp_path / "wide"  # vLLM's CPU build knows no heads of 24
    shutil.copytree(model, wide)
    LlamaForCausalLM(LlamaConfig.from_pretrained(model, head_dim=32)).save_pretrained(wide)
    options = ("grpo.max_steps=4", f"model={wide}", "vllm={enabled: true, enforce_eager: true, dtype: float32}")
    run = start(*options, "grpo.vllm_max_model_length=512", verifiers={"label": Coin()}, watch=watch)
    run.grpo()
    ratios = [entry["sampling/importance_sampling_ratio/mean"] for entry in metrics(run)]
    assert ratios[0] == pytest.approx(1.0, abs=1e-2)
    assert rows(run) == [("importance_ratio", 3)], ratios


def shaken(log: int) -> dict[str, float]:
    """Logs of which many are beyond some limit, each time another."""
    return {
        "loss": 0.0,
        "grad_norm": math.nan if log % 13 == 7 else log % 3 * 20.0,
        "reward": 0.1 if log % 40 > 14 else 1.0,
        "entropy": 0.01 if log % 30 > 19 else 1.0,
        "kl": float(log % 4),
        "frac_reward_zero_std": 1.0 if log % 25 > 5 else 0.0,
        "errors/label": 0.5 if log % 7 > 2 else 0.0,
    }


def play(alarms: Alarms, logs: range) -> Iterator[tuple[str, str, int]]:
    for log in logs:
        monitors = [Reading("length", "", 3.0, 2.0, log % 20 < 10, "grew")] if log % 5 == 0 else []
        yield from ((f.alarm, f.subject, f.step) for f in alarms.read(log, shaken(log), monitors))


@given(st.integers(1, 119))
def test_alarms_go_on_from_a_checkpoint_as_if_nothing_had_been(cut: int) -> None:
    whole = list(play(Alarms(Watch()), range(1, 120)))
    assert {"not_finite", "zero_variance", "verifier_errors", "hacking", "reward"} <= {alarm for alarm, _, _ in whole}
    first, second = Alarms(Watch()), Alarms(Watch())
    begun = list(play(first, range(1, cut)))
    second.restore(json.loads(json.dumps(first.state())))
    list(play(first, range(cut, 120)))  # the state is a copy
    assert [*begun, *play(second, range(cut, 120))] == whole


def test_alarms_go_on_after_a_kill_amid_a_row(tmp_path: Path) -> None:
    """A killed run has left half a row: a checkpoint counts whole ones, and what comes next is a row of its own."""
    whole, path = [{"alarm": "kl", "step": 1}, {"alarm": "kl", "step": 9}], tmp_path / FILE
    watcher = callbacks.Watcher(load("quickstart", []), tmp_path, {})
    jsonlines.append(path, whole)
    with path.open("a") as out:
        out.write('{"alarm": "kl", "st')
    state = json.loads(json.dumps(watcher.state()))
    assert state["rows"] == 2
    watcher.restore(state)
    assert path.read_text() == "".join(json.dumps(row) + "\n" for row in whole)
    with path.open("a") as out:
        out.write('{"al')
    watcher.restore({**state, "rows": 1})
    jsonlines.append(path, whole[1:])
    assert jsonlines.read(path) == (whole, 0)


def test_patience_counts_training_steps_not_logs_and_a_recovered_metric_may_be_told_again() -> None:
    alarms = Alarms(replace(Watch(), kl=Alarm(1.0, 20)))
    values = {10: 2.0, 20: 2.0, 30: 2.0, 40: 0.5, 50: 2.0, 60: 2.0}  # logging_steps=10
    fired = [step for step, value in values.items() if alarms.read(step, {"loss": 0.0, "kl": value})]
    assert fired == [20, 60]


def test_metrics_that_are_missing_none_or_no_number_are_no_alarm() -> None:
    alarms = Alarms(Watch(kl=Alarm(1.0, 1), gradient=Alarm(1.0, 1)))
    assert alarms.read(1, {"loss": 0.0, "kl": None, "grad_norm": 0.5}) == []
    assert alarms.read(2, {}) == []
    assert [f.alarm for f in alarms.read(3, {"loss": 0.0, "kl": 9.0, "grad_norm": math.inf})] == [
        "kl",
        "gradient",
        "not_finite",
    ]


shares, numbers = st.floats(0, 1), st.floats(0, 99_999)


@given(
    st.fixed_dictionaries(
        {"loss": numbers, "reward": st.floats(0, 99), "reward_std": st.floats(0, 99), "entropy": st.floats(0, 20)},
        optional={"parsed": shares, "completions/clipped_ratio": shares, "kl": numbers, "num_tokens": numbers},
    ),
    st.integers(1, 100_000),
    st.floats(0, 100_000),
)
def test_a_line_fits_eighty_columns(logs: dict[str, float], steps: int, seconds: float) -> None:
    for step in (1, steps):
        assert len(line(logs, step, steps, seconds)) <= 80


def test_lines() -> None:
    logs = {"reward": 0.4321, "reward_std": 0.12, "parsed": 0.98, "entropy": 1.5, "completions/clipped_ratio": 0.031}
    assert line(logs, 12, 200, 3.21) == "12/200 reward 0.432 ±0.120 parse 98% cut 3% ent 1.50 3.2s ETA 10m"
    assert line({"loss": 1.234, "entropy": None}, 70, 70, 61.0) == "70/70 loss 1.23 61s"
    assert line({"loss": 1.0}, 1, 1001, 90.0).endswith("90s ETA 1d01h")


def test_a_tracker_is_refused_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("none", "tensorboard"):
        refuse_tracker(name)
    asked = load("quickstart", ["report_to=wnadb", "model=nowhere", f"output_dir={tmp_path / 'run'}"])
    with pytest.raises(Error, match="no tracker 'wnadb', did you mean 'wandb'"):
        Run(asked)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in ("wandb", "trackio"):
        with pytest.raises(Error, match=f"not installed: pip install {name}"):
            Run(replace(asked, report_to=name))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("watch.entropy.acton=stop", "did you mean 'action'"),
        ("watch.entropy.patience=0", "patience must be at least 1, not 0"),
        ("watch.entropy.action=halt", "must be one of 'warn', 'lower_rate', 'stop', 'none'"),
        ("watch.floor=0", "floor must be above 0, not 0"),
        ("watch.entrpy={limit: 1}", "did you mean 'entropy'"),
    ],
)
def test_the_section_is_checked(override: str, told: str) -> None:
    with pytest.raises(Error, match=told):
        load("quickstart", [override])


def test_an_alarm_given_in_part_keeps_the_rest() -> None:
    watch = load("quickstart", ["watch.entropy.action=stop", "watch.kl={limit: 2}"]).watch
    assert watch == replace(Watch(), entropy=replace(Watch().entropy, action="stop"), kl=replace(Watch().kl, limit=2.0))
