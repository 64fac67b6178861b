"""How often each label is the answer in training: right shares, from training questions alone."""

from __future__ import annotations

import pytest

from rlvr.loading import gather
from rlvr.questions.shares import PRIOR, with_label_shares
from rlvr.recipe import load


def test_shares_are_counted_by_readout_and_shrunk_towards_the_task(make_question) -> None:
    one = [make_question({"readout": "A"}, {"answer": "up"}, id=f"a{i}") for i in range(9)]
    one += [make_question({"readout": "A"}, {"answer": "down"}, id="a9")]
    other = [make_question({"readout": "B"}, {"answer": "down"}, id=f"b{i}") for i in range(30)]
    held_out = [make_question({"readout": "A"}, {"answer": "none"}, id=f"v{i}", split="validation") for i in range(5)]
    shares = {q.id: q.truth["label_shares"] for q in with_label_shares([*one, *other, *held_out])}
    assert PRIOR == 10
    assert shares["a0"] == shares["v0"]  # held-out labels are not counted: "none" is not even listed
    assert shares["a0"] == {"down": pytest.approx((1 + 10 * 31 / 40) / 20), "up": pytest.approx((9 + 10 * 9 / 40) / 20)}
    assert shares["b0"] == {"down": pytest.approx((30 + 10 * 31 / 40) / 40), "up": pytest.approx(10 * 9 / 40 / 40)}


def test_answers_that_are_no_word_have_no_shares(make_question) -> None:
    (question,) = with_label_shares([make_question({}, {"answer": ["GO:1", "GO:2"]})])
    assert "label_shares" not in question.truth


def test_a_task_without_training_questions_has_none(make_question) -> None:
    (question,) = with_label_shares([make_question(split="validation")])
    assert question.truth["label_shares"] == {}


def test_gathered_questions_bring_them_and_a_prompt_does_not_show_them() -> None:
    questions = gather(load("quickstart"))[1]
    assert all(sum(q.truth["label_shares"].values()) == pytest.approx(1, abs=1e-5) for q in questions)
    assert not any("label_shares" in q.fields for q in questions)
