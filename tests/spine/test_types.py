"""The four types: what they refuse, and the way of a Question through JSON."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr.types import ABSTENTIONS, Completion, Error, Evidence, Question, Reason, Verdict

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(
    fields=st.dictionaries(st.text(), json_values, max_size=4),
    truth=st.dictionaries(st.text(), json_values, max_size=4),
    split=st.sampled_from(["train", "validation", "test"]),
)
def test_a_question_survives_json(fields, truth, split):
    question = Question("id", "task", fields, truth, "source", split)
    again = Question.from_json(question.to_json())
    assert again == question
    assert again.to_json() == question.to_json()


def test_json_does_not_depend_on_the_order_of_keys(make_question):
    question = make_question()
    turned = dataclasses.replace(question, fields=dict(reversed(list(question.fields.items()))))
    assert turned.to_json() == question.to_json()


def test_an_unknown_split_is_refused_by_name(make_question):
    with pytest.raises(Error, match=r"split 'dev' is not one of train, validation, test"):
        make_question(split="dev")


def test_a_question_holds_no_nan(make_question):
    with pytest.raises(ValueError, match="not JSON compliant"):
        make_question(truth={"p": math.nan}).to_json()


@pytest.mark.parametrize("score", [0, 0.0, 0.5, 1, 1.0, True])
def test_scores_within_bounds_are_kept(score):
    assert Verdict(score, Reason.BELIEF).score == score


@pytest.mark.parametrize("score", [-0.001, 1.001, math.nan, math.inf, -math.inf])
def test_scores_out_of_bounds_are_refused(score):
    with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
        Verdict(score, Reason.BELIEF)


@pytest.mark.parametrize("reason", list(Reason))
def test_abstention_and_reason_must_agree(reason):
    fitting, other = (None, 0.0) if reason in ABSTENTIONS else (0.0, None)
    assert Verdict(fitting, reason).score == fitting
    with pytest.raises(ValueError, match="does not fit reason"):
        Verdict(other, reason)


@pytest.mark.parametrize(
    "thing",
    [Completion("text", None, None), Evidence("s", "r", "x", True), Verdict(1.0, Reason.CORRECT)],
)
def test_they_are_frozen(thing):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(thing, dataclasses.fields(thing)[0].name, None)
