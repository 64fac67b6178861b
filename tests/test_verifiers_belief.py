"""Verifiers of belief: brier and log_score are proper, oracle and neighbours pay what an oracle believes."""

from __future__ import annotations

import pickle
import random
from functools import cache

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rlvr import prompts
from rlvr.completions import parse, reference
from rlvr.plugins import load
from rlvr.testing.checks import check
from rlvr.types import Completion, Error, Reason
from rlvr.verifier import Verifier

SCORES = ["brier", "log_score"]
EFFECT = "perturbation/effect_probability"


@cache
def verifier_class(name):
    return load("verifiers", name, Verifier)


def judge(name, question, answer, **options):
    return verifier_class(name)(**options).verify(question, Completion("", "So.", answer))


def expected(make_question, name, stated, belief, **options):
    """What saying `stated` earns on average, if it comes true with probability `belief`."""
    yes, no = (
        judge(name, make_question(task=EFFECT, truth={"answer": label}), repr(stated), **options).score
        for label in ("yes", "no")
    )
    return belief * yes + (1 - belief) * no


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("task", [EFFECT, "perturbation/direction_probability"])
def test_the_kit_and_the_red_team_find_nothing(make_question, name, task):
    labels = ("yes", "no") if task == EFFECT else ("up", "down")
    shown = [{"perturbation": "LAT", "answer": labels[0], "similarity": 9}]
    asked = [make_question({"evidence": shown}, {"answer": label}, task=task, id=label) for label in labels]
    found = check(verifier_class(name)(), asked, prompts.load(task))
    assert [finding for finding in found if not finding.ok] == []


probability = st.floats(0, 1)


@settings(deadline=None)
@given(stated=probability, belief=probability)
@pytest.mark.parametrize("name", SCORES)
def test_saying_what_one_believes_earns_the_most(make_question, name, stated, belief):
    """The proof that the scores are proper, and strictly so inside the log score's bounds."""
    honest = expected(make_question, name, belief, belief)
    other = expected(make_question, name, stated, belief)
    assert other <= honest + 1e-12
    inside = name == "brier" or (0.01 <= belief <= 0.99)
    if inside and abs(stated - belief) > 1e-3:
        assert other < honest


@settings(deadline=None)
@given(stated=probability, belief=probability, floor=st.floats(1e-6, 0.49))
def test_the_log_score_is_proper_at_every_floor(make_question, stated, belief, floor):
    found = [expected(make_question, "log_score", said, belief, floor=floor) for said in (stated, belief)]
    assert found[0] <= found[1] + 1e-9


@pytest.mark.parametrize("floor", [0.0, 0.5, -1.0, float("nan")])
def test_a_floor_that_is_none(floor):
    with pytest.raises(Error, match=r"must lie between 0 and \.5"):
        verifier_class("log_score")(floor=floor)


@pytest.mark.parametrize(
    ("name", "scores"),
    [("brier", [1.0, 0.75, 0.0, 0.19]), ("log_score", [1.0, 0.8513, 0.0, 0.5011])],
)
def test_known_scores(make_question, name, scores):
    assert verifier_class(name).proper
    question = make_question(task="perturbation/direction_probability", truth={"answer": "up"})
    assert [judge(name, question, said).score for said in ("1.0", "0.5", "0.0", "0.1")] == pytest.approx(
        scores, abs=1e-4
    )
    opposite = make_question(task="perturbation/direction_probability", truth={"answer": "down"})
    assert [judge(name, opposite, said).score for said in ("0.0", "0.5", "1.0", "0.9")] == pytest.approx(
        scores, abs=1e-4
    )


@pytest.mark.parametrize("name", SCORES)
def test_silence_is_worth_no_more_than_certain_error(make_question, name):
    question = make_question(task=EFFECT, truth={"answer": "yes"})
    silent = judge(name, question, None)
    assert (silent.score, silent.reason) == (0.0, Reason.UNPARSED)
    assert judge(name, question, "0.0").score == 0.0
    with pytest.raises(Error, match="truth 'perhaps' is none of yes, no, up, down"):
        judge(name, make_question(task=EFFECT, truth={"answer": "perhaps"}), "0.5")


@settings(deadline=None)
@given(word=st.text(st.sampled_from("01.5e-+naif%\u0660 ")) | st.text())
@pytest.mark.parametrize("name", SCORES)
def test_no_word_raises_or_leaves_the_bounds(make_question, name, word):
    question = make_question(task=EFFECT, truth={"answer": "yes"})
    completion = parse(reference("So.", word), prompts.load(EFFECT).answers, question.fields)
    assert verifier_class(name)().verify(question, completion).score is not None


# Oracles. What each says of one question: up .25, down .75.
@pytest.fixture
def table(tmp_path):
    path = tmp_path / "model.csv"
    path.write_text("context,perturbation,readout,p\ncd4_il2,ZAP70,IL-2,0.25\n")
    return str(path)


def believers(table):
    return [("neighbours", {}), ("oracle", {}), ("oracle", {"predictions": table})]


def test_all_three_pay_the_probability_of_the_answer(make_question, table):
    for name, options in believers(table):
        assert verifier_class(name).kind == "soft"
        found = [judge(name, make_question(), said, **options) for said in ("down", "up", "maybe", None)]
        assert [verdict.score for verdict in found] == [0.75, 0.25, 0.0, 0.0]
        assert [verdict.reason for verdict in found] == [Reason.BELIEF] * 3 + [Reason.UNPARSED]
        assert [verdict.evidence[0].supports for verdict in found[:3]] == [True, False, False]
        assert "say down 0.75, up 0.25" in found[0].evidence[0].statement
        flipped = make_question(truth={"answer": "up"})
        assert judge(name, flipped, "down", **options) == found[0]  # the measurement has no part in it


def test_the_evidence_names_the_table_and_its_version(make_question, table):
    evidence = judge("oracle", make_question(), "up", predictions=table).evidence[0]
    assert evidence.source.startswith("model.csv ")
    assert len(evidence.source.split()[1]) == 12
    assert evidence.record == make_question().id


def test_what_an_oracle_does_not_cover_is_abstained_on(make_question, table):
    for said in ("up", "down", "x", None):
        uncovered = make_question({"perturbation": "GATA3"}, {"neighbours": None})
        for name, options in believers(table):
            verdict = judge(name, uncovered, said, **options)
            assert (verdict.score, verdict.reason) == (None, Reason.UNCOVERED)


def test_a_batch_is_a_loop_in_any_order_and_after_pickling(make_question, table):
    questions = [make_question(), make_question({"perturbation": "GATA3"}), make_question(truth={"neighbours": None})]
    pairs = [(q, Completion("", "So.", said)) for q in questions for said in ("up", "down", None)]
    order = random.Random(0).sample(range(len(pairs)), len(pairs))
    for name, options in believers(table):
        verifier = verifier_class(name)(**options)
        alone = [verifier.verify(*pair) for pair in pairs]
        assert list(verifier.verify_batch(pairs)) == alone
        copy = pickle.loads(pickle.dumps(verifier))
        assert list(copy.verify_batch([pairs[i] for i in order])) == [alone[i] for i in order]


def test_the_kit_finds_nothing_in_oracles(make_question, table):
    asked = [make_question(), make_question(id="other", truth={"neighbours": {"up": 0.9, "down": 0.1}})]
    for name, options in believers(table):
        found = check(verifier_class(name)(**options), asked, prompts.load("perturbation/direction"))
        assert [finding for finding in found if not finding.ok] == []


@settings(deadline=None)
@given(up=probability)
def test_honest_play_follows_the_oracle_and_the_measurement_among_equals(make_question, up):
    assume(up != 1 - up)
    question = make_question(truth={"neighbours": {"up": up, "down": 1 - up}})
    honest = verifier_class("neighbours")().honest(question).answer
    assert honest == ("up" if up > 1 - up else "down")
    even = make_question(truth={"neighbours": {"up": 0.5, "down": 0.5}, "answer": "up"})
    assert verifier_class("neighbours")().honest(even).answer == "up"
    assert verifier_class("neighbours")().honest(make_question(truth={"neighbours": None})).answer == "down"


def test_a_stated_probability_is_not_for_oracles(make_question):
    for name in ("neighbours", "oracle"):
        assert not verifier_class(name)().applies(make_question(task=EFFECT))
        assert verifier_class(name)().applies(make_question(task="perturbation/effect"))


def test_a_table_that_is_not_there_is_named(make_question):
    with pytest.raises(Error, match=r"nowhere/x.csv: no such file"):
        judge("oracle", make_question(), "up", predictions="nowhere/x.csv")
