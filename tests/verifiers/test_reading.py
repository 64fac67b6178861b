"""`reading` pays a thought for what it reads and compares, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr import prompts
from rlvr.completions import reference
from rlvr.plugins import load
from rlvr.questions import rationales
from rlvr.types import Completion, Error, Reason
from rlvr.verifier import Verifier

READING = load("verifiers", "reading", Verifier)
SHOWN = [("NOP16", "up", 80), ("AC004556.1", "down", 15)]
RIGHT = "ZAP70 on IL-2: like NOP16 up 80, AC004556.1 down 15: up leads by 65."


def question(make_question, shown=SHOWN, contrastive=True, task="perturbation/direction", words=None):
    evidence = [dict(zip(("perturbation", "answer", "similarity"), item, strict=True)) for item in shown]
    more = {"words": words} if words else {}
    return make_question({"evidence": evidence, **more}, {"contrastive": contrastive}, task=task)


def verdict(asked, thought, answer="up", **options):
    return READING(**options).verify(asked, Completion(reference(thought, answer), thought, answer))


def test_a_thought_as_the_warm_start_writes_it_earns_all(make_question):
    asked = question(make_question)
    assert rationales.thought(asked, prompts.load(asked.task)) == RIGHT
    found = verdict(asked, RIGHT)
    assert (found.score, found.reason) == (1.0, Reason.CORRECT)
    assert [fact.statement for fact in found.evidence] == ["up 80", "down 15", "up leads by 65"]
    assert verdict(asked, RIGHT, answer="down").score == 1.0  # the answer is for others to judge


@pytest.mark.parametrize(
    ("old", "new", "score"),
    [
        ("NOP16 up 80", "NOP16 80: up", 1.0),  # as the prompt has it
        ("NOP16 up 80", "NOP16 up 85", 0.75),
        ("NOP16 up 80", "NOP16 down 80", 0.75),
        ("NOP16 up 80", "NOP1 up 80", 0.75),
        ("NOP16 up 80", "NOP16 up 80, NOP16 up 80", 0.75),  # said once, or not at all
        ("up leads by 65", "up leads by 60", 0.875),
        ("up leads by 65", "up leads by 85", 0.5),
        ("up leads by 65", "up leads by", 0.5),
        ("up leads by 65", "up leads by 0065", 0.5),
        ("up leads by 65", "up leads by ６５", 0.5),
        ("up leads by 65", "it leads by 65", 0.5),
        ("up leads by 65", "down leads by 65", 0.5),
        ("up leads by 65", "even", 0.5),
        ("up leads by 65", "only up", 0.5),
        ("up leads by 65", "up leads by 65. down leads by 65", 0.5),  # either is no comparison
        ("up leads by 65", "up leads by 65, even", 0.5),
        (": up leads by 65", "", 0.5),
        (RIGHT, "up leads by 65", 0.5),
        (RIGHT, "", 0.0),
        (RIGHT, "leads", 0.0),
    ],
)
def test_each_fault_costs_its_part(make_question, old, new, score):
    assert verdict(question(make_question), RIGHT.replace(old, new)).score == score


def test_a_near_draw(make_question):
    asked = question(make_question, [("NOP16", "up", 20), ("ARID2", "down", 15)])
    read = "like NOP16 up 20, ARID2 down 15: "
    paid = {end: verdict(asked, read + end).score for end in ("up leads by 05", "even", "down leads by 05")}
    assert paid == {"up leads by 05": 1.0, "even": 0.875, "down leads by 05": 0.75}
    assert verdict(asked, read + "even", leeway=5).score == 0.5
    even = question(make_question, [("NOP16", "up", 20), ("ARID2", "down", 20)])
    assert verdict(even, "like NOP16 up 20, ARID2 down 20: even.").score == 1.0


def test_one_label_alone_cannot_lead(make_question):
    asked = question(make_question, [("NOP16", "up", 20), ("ARID2", "up", 15)])
    read = "like NOP16 up 20, ARID2 up 15: "
    assert [verdict(asked, read + end).score for end in ("only up", "only down", "up leads by 05")] == [1.0, 0.5, 0.5]


def test_without_contrast_there_is_nothing_to_compare(make_question):
    asked = question(make_question, contrastive=False, task="perturbation/effect", words={"up": "more", "down": "less"})
    assert verdict(asked, "like NOP16 more, AC004556.1 less.").score == 1.0
    assert verdict(asked, "like NOP16 up, AC004556.1 less.").score == 0.5
    assert not READING().applies(question(make_question, []))
    assert not READING().applies(question(make_question, task="cell/type"))


def test_a_label_may_have_several_words(make_question):
    words = {"up": "protects", "down": "does not"}
    asked = question(make_question, [("NOP16", "down", 20), ("ARID2", "up", 15)], words=words)
    read = "like NOP16 does not 20, ARID2 protects 15: "
    assert READING().honest(asked).thought == read + "does not leads by 05."
    paid = {end: verdict(asked, read + end).score for end in ("does not leads by 05", "protects leads by 05")}
    assert paid == {"does not leads by 05": 1.0, "protects leads by 05": 0.75}


def test_a_leeway_of_nothing_is_refused():
    with pytest.raises(Error, match="leeway is 0; it must be at least 1"):
        READING(leeway=0)


def test_what_cannot_be_a_thought(make_question):
    asked = question(make_question)
    assert READING().verify(asked, Completion(RIGHT, None, "up")).reason is Reason.UNPARSED
    assert READING().verify(asked, Completion(RIGHT, RIGHT, None)).reason is Reason.UNPARSED
    assert verdict(asked, RIGHT + " and" * 10_000).reason is Reason.TOO_LONG


@given(
    shown=st.lists(
        st.tuples(st.sampled_from(["A1", "B-2", "C.3", "D"]), st.sampled_from(["up", "down"]), st.integers(0, 100)),
        min_size=1,
        max_size=4,
        unique_by=lambda item: item[0],
    ),
    noise=st.text(max_size=40),
)
def test_honest_play_earns_all_and_nothing_earns_more(make_question, shown, noise):
    asked = question(make_question, shown)
    honest = READING().honest(asked)
    assert verdict(asked, honest.thought).score == 1.0
    assert 0.0 <= verdict(asked, noise + honest.thought + noise).score <= 1.0
    assert verdict(asked, noise).score <= 0.5  # without the names nothing is read
