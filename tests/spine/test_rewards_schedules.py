"""Weights that change with the training step: how a recipe says them, and that rows and TRL agree on them."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr.answers import Choice
from rlvr.completions import reference
from rlvr.plugins import load
from rlvr.rewards.layer import RewardLayer, Weighted
from rlvr.schedules import Schedule
from rlvr.types import Error
from rlvr.verifier import Verifier

ANSWERS = {"perturbation/direction": Choice({"up": "up", "down": "down"})}
RIGHT = reference("ZAP70 on IL-2", "down")


def layer_of(**weights) -> RewardLayer:
    verifiers = {name: Weighted(load("verifiers", name, Verifier)(), weight) for name, weight in weights.items()}
    return RewardLayer(verifiers, ANSWERS)


@pytest.mark.parametrize(
    ("value", "weights"),
    [
        (1.5, {0: 1.5, 7: 1.5}),
        (0, {0: 0.0, 99: 0.0}),
        ({0: 0.0, 20: 1.0}, {0: 0.0, 5: 0.25, 10: 0.5, 20: 1.0, 1000: 1.0}),
        ({10: 1, 20: 3, 40: 0}, {0: 1.0, 10: 1.0, 15: 2.0, 20: 3.0, 30: 1.5, 40: 0.0, 50: 0.0}),
        ({"20": 1.0, "0": 0.0}, {5: 0.25}),  # a recipe that has been through JSON
        (Schedule(((3, 2.0),)), {0: 2.0, 9: 2.0}),
    ],
)
def test_a_weight_by_step(value, weights):
    schedule = Schedule.parse(value, "recipe: verifiers.label.weight")
    assert {step: schedule.at(step) for step in weights} == pytest.approx(weights)


@pytest.mark.parametrize(
    "value",
    [
        *(-1.0, math.nan, math.inf, True, "1.0", None, [1, 2], {}),
        *({-1: 1.0}, {0.5: 1.0}, {"a": 1.0}, {True: 1.0}, {0: 0.0, "0": 1.0}),
        *({0: -1.0}, {0: "1"}, {0: True}, {0: math.nan}),
    ],
)
def test_a_mistaken_weight_is_named(value):
    with pytest.raises(Error, match=r"recipe: verifiers.label.weight must be a number of at least 0, or steps") as said:
        Schedule.parse(value, "recipe: verifiers.label.weight")
    assert repr(value) in str(said.value) and "\n" not in str(said.value)


numbers = st.floats(0, 1e6)


@given(st.dictionaries(st.integers(0, 1000), numbers, min_size=1, max_size=6), st.integers(0, 2000))
def test_it_goes_through_its_points_and_stays_between_them(points, step):
    schedule = Schedule.parse(points, "weight")
    assert all(schedule.at(at) == pytest.approx(weight) for at, weight in points.items())
    before = [at for at in points if at <= step] or [min(points)]
    after = [at for at in points if at >= step] or [max(points)]
    ends = points[max(before)], points[min(after)]
    assert min(ends) - 1e-6 <= schedule.at(step) <= max(ends) + 1e-6


def test_rows_weigh_as_the_step_does_and_the_weight_is_logged(make_question):
    layer = layer_of(label=1.0, format={0: 0.0, 20: 1.0})
    for step, weight in ((0, 0.0), (10, 0.5), (30, 1.0)):
        layer.step = step
        logged = {}
        for function in layer.functions():
            function([], [RIGHT], question=[make_question().to_json()], log_metric=logged.__setitem__)
        assert layer.last_rows[0]["reward"] == 1.0 + weight
        assert layer.last_rows[0]["format"] == 1.0  # what was earned is not weighted
        assert logged == {"errors/label": 0.0, "errors/format": 0.0, "weights/format": weight}
        assert layer.weights() == [1.0, weight]
    assert layer.weights(5) == [1.0, 0.25]


def test_a_weight_of_0_leaves_a_reward_of_0_and_not_none(make_question):
    assert layer_of(label=0.0).score([make_question()], [RIGHT])[0]["reward"] == 0.0


def test_the_trainer_trains_with_the_weights_of_the_step(monkeypatch):
    import torch
    from trl import GRPOTrainer

    from rlvr.training.trainer.grpo import Trainer

    trainer = object.__new__(Trainer)
    trainer._layer, trainer._seconds = layer_of(label=1.0, format={0: 0.0, 20: 1.0}), {"verify": 0.0}
    trainer.state = SimpleNamespace(global_step=5)
    trainer.accelerator = SimpleNamespace(device=torch.device("cpu"))
    seen = []
    monkeypatch.setattr(
        GRPOTrainer, "_calculate_rewards", lambda self, *_: seen.append((self._layer.step, self.reward_weights))
    )
    logged: dict[str, float] = {}
    monkeypatch.setattr(Trainer, "_log_metric", lambda self, name, value: logged.update({name: value}))
    trainer._layer.last_rows = [{"answer": "up"}, {"answer": None}]
    trainer._calculate_rewards([], [], [], [])
    ((step, weights),) = seen
    assert logged == {"parsed": 0.5}
    assert step == 5
    assert (weights.tolist(), weights.dtype) == ([1.0, 0.25], torch.float32)
