"""Rationales: in the trained format, from evidence, for training questions alone."""

from __future__ import annotations

import pytest

from rlvr import prompts
from rlvr.completions import parse
from rlvr.opening import gather
from rlvr.rationales import rationale, rows
from rlvr.recipe import load
from rlvr.types import Error

QUESTIONS = gather(load("quickstart"))[1]
TEMPLATE = prompts.load("perturbation/response")


def test_every_training_rationale_parses_to_its_measurement() -> None:
    train = [q for q in QUESTIONS if q.split == "train"]
    for question in train:
        completion = parse(rationale(question, TEMPLATE), TEMPLATE.answers, question.fields)
        assert completion.answer == question.truth["answer"]
        assert completion.thought is not None
        assert all(item["perturbation"] in completion.thought for item in question.fields["evidence"])
    assert len(train) > 300


def test_held_out_questions_are_refused() -> None:
    for split in ("validation", "test"):
        question = next(q for q in QUESTIONS if q.split == split)
        with pytest.raises(Error, match=f"is in the {split} split"):
            rows(question, TEMPLATE)


def test_the_completion_is_one_assistant_turn() -> None:
    question = next(q for q in QUESTIONS if q.split == "train")
    row = rows(question, TEMPLATE)
    assert [turn["role"] for turn in row["prompt"]] == ["system", "user"]
    assert row["completion"] == [{"role": "assistant", "content": rationale(question, TEMPLATE)}]
