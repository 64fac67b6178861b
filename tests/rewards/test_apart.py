"""A verifier cannot touch another's verdict: not through a question, a class, or the pipe."""

from __future__ import annotations

import math
import sys

import pytest

from rlvr import plugins
from rlvr.answers import Choice
from rlvr.completions import reference
from rlvr.plugins import load
from rlvr.rewards.layer import RewardLayer, Weighted
from rlvr.rewards.trust import SHIPPED, is_shipped
from rlvr.rewards.worker import FORGED, MOST_LOST, _Batch
from rlvr.types import Error
from rlvr.verifier import Verifier
from tests.faulty import Faulty, Judge
from tests.tampering import ACTS, Impostor, Popping, Tamper, TamperBatch

ANSWERS = {"perturbation/direction": Choice({"up": "up", "down": "down"})}
TEXTS = [reference("ZAP70 and IL-2.", word) for word in ("up", "down", "up", "up")]
RIGHT = [0.0, 1.0, 0.0, 0.0]  # the label is down
BY_HAND = ("write_answer", "past_the_frozen", "empty_everything")


def label() -> Verifier:
    return load("verifiers", "label", Verifier)()


def layer_of(verifier: Verifier, deadline: float | None = 60.0, memory: float = 2.0) -> RewardLayer:
    """The verifier first, at weight 0; then `label`, and a bystander that rlvr does not ship."""
    named = {
        verifier.name: Weighted(verifier, 0.0),
        "label": Weighted(label()),
        "mention": Weighted(load("verifiers", "mention", Verifier)()),
        "faulty": Weighted(Faulty()),
    }
    return RewardLayer(named, ANSWERS, 1.0, deadline=deadline, memory=memory)


def reasons(rows, name="label"):
    return [row[f"{name}/reason"] for row in rows]


@pytest.mark.parametrize("kind", [Tamper, TamperBatch])
@pytest.mark.parametrize("deadline", [None, 60.0])
@pytest.mark.parametrize("act", BY_HAND)
def test_what_it_writes_into_a_question_changes_nothing(make_question, kind, act, deadline):
    question = make_question()
    before = question.to_json()
    rows = layer_of(kind(act), deadline).score([question] * 4, TEXTS)
    assert [row["label"] for row in rows] == RIGHT
    assert [row["mention"] for row in rows] == [1.0] * 4
    assert [row["reward"] for row in rows] == [value + 2.0 for value in RIGHT]
    assert [row["answer"] for row in rows] == ["up", "down", "up", "up"]
    assert question.to_json() == before


@pytest.mark.parametrize("deadline", [None, 60.0])
def test_one_that_takes_from_a_list_says_the_same_of_the_whole_group(make_question, deadline):
    rows = layer_of(Popping(), deadline).score([make_question()] * 4, TEXTS)
    assert [row["popping"] for row in rows] == [1.0] * 4
    assert [row["label"] for row in rows] == RIGHT


@pytest.mark.parametrize("act", sorted(ACTS.keys() - {*BY_HAND, "gluttony"}))
def test_what_it_does_to_a_class_or_the_pipe_changes_its_own_verdicts_alone(make_question, act):
    rows = layer_of(Tamper(act)).score([make_question()] * 4, TEXTS)
    assert reasons(rows) == ["wrong", "correct", "wrong", "wrong"]
    assert reasons(rows, "mention") == reasons(rows, "faulty") == ["correct"] * 4
    if act == "patch_label":
        assert [row["label"] for row in rows] == RIGHT
    else:
        assert all(row["tamper"] is None or 0.0 <= row["tamper"] <= 1.0 for row in rows)
    if act in ("another_name", "early"):
        assert all(
            row["tamper/error"].startswith(("its process sent what is no verdict", f"not asked: {MOST_LOST}"))
            for row in rows
        )


def forged(*fields, name="tamper", index=0):
    return {"said": [[name, index, list(fields)]], "begun": None, "done": False}


FORGERIES = [
    forged(1.0, "correct", "[]", name="label"),
    forged(1.0, "correct", "[]", name=["tamper"]),
    *(forged(1.0, "correct", "[]", index=index) for index in (1, -1, True, "0", None)),
    *(forged(score, "correct", "[]") for score in (1e9, -0.1, 10**400, math.nan, "1", None, [1])),
    *(forged(1.0, reason, "[]") for reason in ("because", "error", "uncovered", None, ["correct"])),
    *(forged(1.0, "correct", text) for text in ('[{"source": 1}]', "{", "[1]", '["ab"]', "[" * 10_000, 3)),
    forged("one"),
    forged(1, 2, 3, 4),
    {"said": [], "begun": ["tamper", [5]], "done": False},
    {"said": [], "begun": None, "done": True},
    {"said": 3},
    [1, 2, 3],
    "said",
    None,
]


@pytest.mark.parametrize("message", FORGERIES, ids=lambda message: f"{message!s:.60}")
def test_what_is_no_message_is_refused(message):
    with pytest.raises(FORGED):
        _Batch(["tamper"], 1, 2.0).note(message)


def test_memory_is_taken_from_the_glutton_alone(make_question):
    rows = layer_of(Tamper("gluttony")).score([make_question()] * 4, TEXTS)
    assert [row["tamper/error"].splitlines()[-1] for row in rows] == ["MemoryError"] * 4
    assert reasons(rows) == ["wrong", "correct", "wrong", "wrong"]
    with pytest.raises(Error, match=r"memory 0\.0 must be a number of GiB above 0"):
        layer_of(Faulty(), memory=0.0)


@pytest.mark.skipif(sys.platform != "linux", reason="held to by Linux alone")
def test_the_message_names_the_limit(make_question, caplog):
    layer_of(Tamper("gluttony")).score([make_question()], TEXTS[:1])
    assert "MemoryError (tampering.py:" in caplog.text
    assert "; its process may take 2 GiB (`memory` in the recipe)" in caplog.text


def test_those_that_rlvr_ships_are_known_and_nothing_else_is():
    shipped = {name for name, origin in plugins.names("verifiers").items() if origin == "built in"}
    assert shipped >= SHIPPED
    assert all(is_shipped(load("verifiers", name, Verifier)()) for name in SHIPPED - {"oracle", "orf"})
    assert not any(map(is_shipped, (Faulty(), Judge(), Impostor())))
