"""Verifiers of form: length and repetition (format is in test_verifiers.py)."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr import prompts
from rlvr.completions import parse, reference
from rlvr.plugins import load
from rlvr.testing.checks import check
from rlvr.types import Error, Reason
from rlvr.verifier import Verifier

FORM = ["format", "length", "repetition"]
TEMPLATE = prompts.load("perturbation/direction")
HONEST = (
    "ZAP70 phosphorylates LAT after the T cell receptor is engaged. Knocking LAT down lowered IL-2 here, CBLB, which "
    "restrains the same signal, raised it. Losing ZAP70 should cut the signal short of calcium release, so less IL-2."
)


@cache
def verifier_class(name):
    return load("verifiers", name, Verifier)


def judge(make_question, name, thought, word="down", finished=True, **options):
    completion = parse(reference(thought, word), TEMPLATE.answers, {}, finished=finished)
    return verifier_class(name)(**options).verify(make_question(), completion)


@pytest.mark.parametrize("name", FORM)
def test_the_kit_and_the_red_team_find_nothing(make_question, name):
    asked = [make_question(), make_question(truth={"answer": "up"}, id="other")]
    found = check(verifier_class(name)(), asked, TEMPLATE)
    assert [finding for finding in found if not finding.ok] == []


@pytest.mark.parametrize("name", FORM)
def test_an_honest_thought_earns_one_and_an_empty_one_nothing(make_question, name):
    assert judge(make_question, name, HONEST).score == 1.0
    assert judge(make_question, name, "Less.").score == 1.0
    blank = ("\U00013441\U00013442", "\u2800", "\U000e0041")
    for empty in (*blank, "", " \n", "\u200b\u2060", "...", "--- ---", "\u3164", "\uffa0 \u115f.\u1160"):
        verdict = judge(make_question, name, empty)
        assert (verdict.score, verdict.reason) == (0.0, Reason.MALFORMED)


@pytest.mark.parametrize("name", ["length", "repetition"])
def test_brevity_without_an_answer_earns_nothing(make_question, name):
    for word, finished in (("", True), ("up or down", True), ("down", False)):
        verdict = judge(make_question, name, HONEST, word, finished)
        assert (verdict.score, verdict.reason) == (0.0, Reason.UNPARSED)
    assert judge(make_question, name, HONEST, "up").score == 1.0  # which answer is for others to say


@pytest.mark.parametrize(("words", "score"), [(5, 1), (10, 1), (11, 0.9), (15, 0.5), (19, 0.1), (20, 0), (900, 0)])
def test_length_falls_in_a_line(make_question, words, score):
    """The tags make no words of their own here; the answer is one, joined to them."""
    verdict = judge(make_question, "length", " ".join(["so"] * (words - 1)), free=10, most=20)
    assert verdict.score == pytest.approx(score)
    assert verdict.reason is (Reason.WELL_FORMED if score == 1 else Reason.TOO_LONG)


def test_leaving_out_white_space_makes_nothing_shorter(make_question):
    assert judge(make_question, "length", HONEST.replace(" ", "")).score == 1.0
    assert judge(make_question, "length", "so" * 50_000).score == 0.0


@pytest.mark.parametrize(("free", "most"), [(0, 10), (10, 10), (20, 10), (-5, 10)])
def test_lengths_rise(free, most):
    with pytest.raises(Error, match=f"free is {free} and most {most}"):
        verifier_class("length")(free=free, most=most)


@settings(deadline=None)
@given(words=st.integers(0, 1000), more=st.integers(1, 500))
def test_more_words_never_earn_more(make_question, words, more):
    short, long = (judge(make_question, "length", "so " * n + "x").score for n in (words, words + more))
    assert long <= short


def test_the_share_of_new_n_grams(make_question):
    """a b c d a b c d has the 4-grams abcd, bcda, cdab, dabc and abcd again."""
    assert judge(make_question, "repetition", "a b c d a b c d").score == 0.8
    assert judge(make_question, "repetition", "A, b; C d.\nA b c\td").score == 0.8
    assert judge(make_question, "repetition", "a b c d a b c d").reason is Reason.REPETITIVE
    assert judge(make_question, "repetition", "a a b", n=1).score == pytest.approx(2 / 3)
    assert judge(make_question, "repetition", "a a a").score == 1.0  # too short to go round in circles
    with pytest.raises(Error, match="n is 0"):
        verifier_class("repetition")(n=0)


@pytest.mark.parametrize("joined", [" ", ". ", "\n", "", ", and then ", "\u200b", " \u2014 "])
def test_going_round_in_circles_is_seen_however_it_is_joined(make_question, joined):
    assert judge(make_question, "repetition", joined.join([HONEST] * 60)).score < 0.3
    assert judge(make_question, "repetition", joined.join(["GENE"] * 2000)).score < 0.1


def test_a_thought_beyond_all_bounds(make_question):
    verdict = judge(make_question, "repetition", " ".join(map(str, range(200_000))))
    assert (verdict.score, verdict.reason) == (0.0, Reason.TOO_LONG)


@settings(deadline=None)
@given(thought=st.text(st.sampled_from("ab \n.\u200b"), max_size=200) | st.text(max_size=50), times=st.integers(2, 5))
def test_saying_it_again_never_earns_more(make_question, thought, times):
    once, again = (f" x {thought} " * n for n in (1, times))
    short = {"free": 5, "most": 9}
    assert judge(make_question, "length", again, **short).score <= judge(make_question, "length", once, **short).score
    if judge(make_question, "repetition", once).score == 1.0:
        assert judge(make_question, "repetition", again).score <= 1.0
    assert judge(make_question, "repetition", once * 50).score < 0.1
