"""Verifiers of belief: brier, log_score and soft_brier are proper; oracle, neighbours and preference pay what an oracle
believes, refuse one that is not calibrated, and keep silent where it is unsure."""

from __future__ import annotations

import json
import pickle
import random
from functools import cache
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rlvr import prompts
from rlvr.completions import parse, reference
from rlvr.loading import reward_layer, templates
from rlvr.plugins import load
from rlvr.recipe import load as load_recipe
from rlvr.rewards.layer import RewardLayer, Weighted
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
    heard = stated if name == "brier" else min(max(stated, 0.01), 0.99)
    inside = name == "brier" or (0.01 <= belief <= 0.99)
    if inside and abs(heard - belief) > 1e-3:
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
    path = tmp_path / "direction.csv"
    path.write_text("context,perturbation,readout,p\ncd4_il2,ZAP70,IL-2,0.25\n")
    write_card(tmp_path, ece=0.02)
    return str(path)


def write_card(folder, **fit):
    fits = [{"context": "cd4_il2", "task": "direction", **fit}] if fit else []
    (folder / "card.json").write_text(json.dumps({"fits": fits}))


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
    assert evidence.source.startswith("direction.csv ")
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


def test_a_table_that_is_not_there_is_named_with_the_command_that_makes_it(make_question):
    for name in ("oracle", "preference"):
        with pytest.raises(Error, match=r"nowhere/x.csv: no such file"):
            judge(name, make_question(), "up", predictions="nowhere/x.csv")
    verifier = verifier_class("oracle")(predictions="nowhere/x.csv", made_by="rlvr oracle fit HERE --out nowhere")
    with pytest.raises(Error, match="make it: rlvr oracle fit HERE --out nowhere"):
        verifier.prepare()


@pytest.mark.parametrize(
    ("fit", "told"),
    [
        ({"ece": 0.3}, r"expected calibration error 0\.300 in cd4_il2, allowed 0\.100"),
        ({"ece": float("nan")}, "not calibrated: expected calibration error nan"),
        ({"rows": 9}, "no card.json beside them gives their calibration error"),
        ({}, "does not speak of task direction"),
        (None, "no card.json beside them"),
    ],
)
def test_an_oracle_that_is_not_calibrated_is_refused(make_question, table, tmp_path, fit, told):
    copy = tmp_path / f"{fit}" / "direction.csv"
    copy.parent.mkdir()
    copy.write_bytes(Path(table).read_bytes())
    if fit is not None:
        write_card(copy.parent, **fit)
    for name in ("oracle", "preference", "soft_brier"):
        verifier = verifier_class(name)(predictions=str(copy))
        for refused in (verifier.prepare, lambda v=verifier: v.verify(make_question(), Completion("", "So.", "up"))):
            with pytest.raises(Error, match=told) as caught:
                refused()
            assert "\n" not in str(caught.value) and "rlvr oracle calibrate" in str(caught.value)
        verifier_class(name)(predictions=str(copy), most_error=None).prepare()  # said in as many words


def test_a_run_asks_before_it_starts(table, tmp_path):
    options = ["verifiers.oracle.predictions=nowhere/x.parquet", "verifiers.oracle.made_by=rlvr oracle fit"]
    recipe = load_recipe("quickstart", options)
    with pytest.raises(Error, match="make it: rlvr oracle fit"):
        reward_layer(recipe, templates(recipe, ["perturbation/response"]))


def test_the_lift_of_a_fitted_table_sets_the_readouts_rate_aside(make_question, tmp_path):
    path = tmp_path / "direction.csv"
    path.write_text("context,perturbation,readout,p,lift\ncd4_il2,ZAP70,IL-2,0.1,0.6\n")
    write_card(tmp_path, ece=0.02)
    for name, scores in (("oracle", {"p": 0.1, "lift": 0.6}), ("preference", {"p": 0.0, "lift": 1.0})):
        for column, score in scores.items():
            found = judge(name, make_question(), "up", predictions=str(path), column=column)
            assert found.score == pytest.approx(score)


# Preference: only the order counts.
@settings(deadline=None)
@given(shares=st.lists(st.integers(1, 9), min_size=3, max_size=3))
def test_preference_pays_the_order_of_probabilities(make_question, shares):
    belief = {label: share / sum(shares) for label, share in zip(("none", "up", "down"), shares, strict=True)}
    question = make_question(task="perturbation/response", truth={"neighbours": belief})
    scores = {label: judge("preference", question, label).score for label in belief}
    assert sum(scores.values()) == pytest.approx(1.5)  # every comparison of two pays 1 in all
    for one in belief:
        for other in belief:
            assert (scores[one] > scores[other]) == (belief[one] > belief[other])
    assert judge("preference", question, "sideways").score == 0.0
    assert judge("preference", question, None).score == 0.0


@settings(deadline=None)
@given(up=probability, least=probability)
@pytest.mark.parametrize("name", ["neighbours", "oracle", "preference"])
def test_silence_and_weight_depend_on_the_question_alone(make_question, name, up, least):
    question = make_question(truth={"neighbours": {"up": up, "down": 1.0 - up}})
    sure = 2 * max(up, 1.0 - up) - 1
    assume(abs(sure - least) > 1e-9)
    plain = [judge(name, question, said) for said in ("up", "down", "x", None)]
    quiet = [judge(name, question, said, least=least) for said in ("up", "down", "x", None)]
    if sure < least:
        assert {(v.score, v.reason) for v in quiet} == {(None, Reason.UNSURE)}
    else:
        assert quiet == plain
    weighed = [judge(name, question, said, weighted=True).score for said in ("up", "down", "x", None)]
    assert weighed == pytest.approx([verdict.score * sure for verdict in plain])


@pytest.mark.parametrize("least", [-0.1, 1.1, float("nan")])
def test_a_confidence_that_is_none(least):
    with pytest.raises(Error, match="must lie between 0 and 1"):
        verifier_class("preference")(least=least)


@settings(deadline=None)
@given(stated=probability, p=probability)
def test_the_soft_brier_score_is_proper_and_its_measured_twin_on_average(make_question, stated, p):
    question = make_question(task=EFFECT, truth={"answer": "no", "neighbours": {"yes": p, "no": 1 - p}})
    found = judge("soft_brier", question, repr(stated)).score
    assert found == pytest.approx(expected(make_question, "brier", stated, p))
    best = judge("soft_brier", question, repr(p)).score
    assert found <= best + 1e-12
    if abs(stated - p) > 1e-3:
        assert found < best
    assert verifier_class("soft_brier").proper
    assert judge("soft_brier", question, None).score == 0.0


def test_the_kit_finds_nothing_in_a_soft_brier_score(make_question, table):
    labels = {"up": 0.9, "down": 0.1}
    asked = [
        make_question(task="perturbation/direction_probability", id=said, truth={"answer": said, "neighbours": labels})
        for said in labels
    ]
    for options in ({}, {"predictions": table}):
        found = check(
            verifier_class("soft_brier")(**options), asked, prompts.load("perturbation/direction_probability")
        )
        assert [finding for finding in found if not finding.ok] == []


def test_abstentions_are_counted(make_question):
    """The trainer's log gets the share of the batch that each soft verifier kept silent on."""
    known, unknown = make_question(), make_question(id="u", truth={"neighbours": None})
    layer = RewardLayer(
        {"neighbours": Weighted(verifier_class("neighbours")()), "format": Weighted(verifier_class("format")())},
        {known.task: prompts.load(known.task).answers},
    )
    logged = {}
    texts = [reference("So.", "up")] * 4
    asked = [q.to_json() for q in (known, unknown, unknown, unknown)]
    for function in layer.functions():
        function([None] * 4, texts, question=asked, log_metric=logged.__setitem__)
    assert logged["abstained/neighbours"] == 0.75
    assert "abstained/format" not in logged
