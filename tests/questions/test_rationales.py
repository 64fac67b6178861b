"""Rationales: in the trained format, from evidence, for training questions alone."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter

import pytest

from rlvr import prompts
from rlvr.completions import parse
from rlvr.loading import gather
from rlvr.questions.rationales import form_alone, rationale, rows, thought
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


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ([("NOP16", "up", 23), ("ARID2", "down", 12)], "A on B: like NOP16 up 23, ARID2 down 12: up leads by 11."),
        (
            [("X", "up", 9), ("Y", "down", 30), ("Z", "down", 7)],
            "A on B: like X up 09, Y down 30, Z down 07: down leads by 21.",
        ),
        ([("X", "up", 9), ("Y", "down", 9)], "A on B: like X up 09, Y down 09: even."),
        ([("X", "up", 9), ("Y", "up", 4)], "A on B: like X up 09, Y up 04: only up."),
        ([], "A on B: nothing related was measured."),
    ],
)
def test_contrastive_evidence_is_compared(make_question, shown, said) -> None:
    evidence = [dict(zip(("perturbation", "answer", "similarity"), item, strict=True)) for item in shown]
    fields = {"perturbation": "A", "readout": "B", "evidence": evidence}
    one = make_question(fields, {"answer": "up", "contrastive": True}, task="perturbation/direction")
    assert thought(one, prompts.load("perturbation/direction")) == said


def test_the_form_alone_spends_no_label_and_reads_some_of_the_evidence() -> None:
    train = [q for q in QUESTIONS if q.split == "train" and len(q.fields["evidence"]) >= 2]
    draw = random.Random(0)
    right, read = 0, Counter[int]()
    for question in train:
        text = form_alone(question, TEMPLATE, draw)
        completion = parse(text, TEMPLATE.answers, question.fields)
        assert completion.answer in TEMPLATE.slot_words.values() and completion.thought is not None
        right += completion.answer == question.truth["answer"]
        read[sum(item["perturbation"] in completion.thought for item in question.fields["evidence"])] += 1
    assert len(train) > 200
    assert right / len(train) == pytest.approx(1 / 3, abs=0.08)
    assert len(read) > 1 and not read[0]
    flipped = [dataclasses.replace(q, truth={**q.truth, "answer": "none"}) for q in train]
    texts = [[form_alone(q, TEMPLATE, random.Random(1)) for q in asked] for asked in (train, flipped)]
    assert texts[0] == texts[1]


def test_the_form_alone_refuses_held_out_questions_and_free_answers(make_question) -> None:
    held_out = next(q for q in QUESTIONS if q.split == "test")
    with pytest.raises(Error, match="is in the test split"):
        form_alone(held_out, TEMPLATE, random.Random(0))
    with pytest.raises(Error, match="format_only draws answers from a prompt's words"):
        form_alone(make_question(task="perturbation/profile"), prompts.load("perturbation/profile"), random.Random(0))
