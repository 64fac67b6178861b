"""Genes under other names: consistent within a question, repeatable, and nothing but names changes."""

from __future__ import annotations

import re

import pytest

from rlvr import prompts
from rlvr.loading import gather
from rlvr.questions import renaming
from rlvr.recipe import Learning, load
from rlvr.training.learning.critic import warm_start_rows
from rlvr.types import Error

QUESTIONS = [question for question in gather(load("quickstart"))[1] if question.split == "train"][:200]
TEMPLATE = prompts.load("perturbation/response")


def test_names_are_dealt_within_the_questions_and_nothing_else_changes() -> None:
    dealt = renaming.dealt(QUESTIONS, 0)
    pool = {name for question in QUESTIONS for name in renaming.genes(question)}
    moved = 0
    for before, after in zip(QUESTIONS, dealt, strict=True):
        old, new = renaming.genes(before), renaming.genes(after)
        assert len(old) == len(new) and set(new) <= pool
        moved += old != new
        assert (before.id, before.split, before.truth) == (after.id, after.split, after.truth)
        back = renaming.under(after, dict(zip(new, old, strict=True)))
        assert back.fields["perturbation"] == before.fields["perturbation"]
        assert [e["answer"] for e in after.fields["evidence"]] == [e["answer"] for e in before.fields["evidence"]]
        assert [e["similarity"] for e in after.fields["evidence"]] == [
            e["similarity"] for e in before.fields["evidence"]
        ]
    assert moved > 0.95 * len(QUESTIONS)
    assert dealt == renaming.dealt(QUESTIONS, 0) != renaming.dealt(QUESTIONS, 1)


def test_names_are_exchanged_at_once_and_whole(make_question) -> None:
    fields = {"perturbation": "A", "readout": "AB", "known": {"A": ["binds AB, not ABC"]}, "evidence": []}
    told = renaming.under(make_question(fields), {"A": "AB", "AB": "A"})
    assert {name: told.fields[name] for name in fields} == {
        "perturbation": "AB",
        "readout": "A",
        "known": {"AB": ["binds A, not ABC"]},
        "evidence": [],
    }


def test_the_warm_start_sees_other_names_in_prompt_and_rationale_alike() -> None:
    by_task = {TEMPLATE.task: TEMPLATE}
    plain, other = (warm_start_rows(QUESTIONS, by_task, Learning(rename=rename), []) for rename in (False, True))
    assert plain != other
    for one, two in zip(plain, other, strict=True):
        answers = [re.findall(r"<answer>.*</answer>", row["completion"][0]["content"]) for row in (one, two)]
        assert answers[0] == answers[1] != []
        thought = two["completion"][0]["content"].removeprefix("<think>").partition(":")[0]
        assert all(name in two["prompt"][-1]["content"] for name in thought.split(" on "))


def test_sampled_rationales_cannot_be_renamed() -> None:
    with pytest.raises(Error, match=r"learning\.rename is for written rationales"):
        Learning(rename=True, rationales="probe.parquet")
