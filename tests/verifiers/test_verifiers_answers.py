"""Verifiers of answers: direction, response, batch_unique, ranking, profile, set_overlap."""

from __future__ import annotations

import itertools
import json
import math
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import f1_score, jaccard_score, ndcg_score

import rlvr
from rlvr import prompts
from rlvr.completions import parse, reference
from rlvr.plugins import load
from rlvr.testing.checks import check
from rlvr.types import Completion, Error, Question, Reason
from rlvr.verifier import Verifier

GENES = ["CD3E", "LAT", "CBLB", "ZAP70", "VAV1"]


def ask(task, fields, truth, name="q"):
    return Question(f"hand:{task}:{name}", task, fields, truth, "hand", "train")


def ranking(values, genes=GENES):
    relevance = dict(zip(genes, values, strict=False))
    best = sorted(relevance, key=lambda gene: -relevance[gene])
    fields = {"context": "T cells", "readout": "IL-2", "genes": list(relevance)}
    return ask("perturbation/ranking", fields, {"answer": best, "relevance": relevance}, str(values))


def profile(truth, baseline, genes=GENES):
    fields = {"context": "T cells", "modality": "CRISPRi knockdown", "perturbation": "LAT", "genes": genes}
    values = {"answer": dict(zip(genes, truth, strict=False)), "baseline": dict(zip(genes, baseline, strict=False))}
    return ask("perturbation/profile", {**fields, "genes": list(values["answer"])}, values, str(truth))


def names(truth, genes=GENES):
    return ask("perturbation/set", {"context": "T cells", "genes": genes}, {"answer": truth}, str(truth))


TYPES = ["B cell", "naive CD4 T cell", "monocyte", "NK cell"]


def cells(truth=("NK cell", "B cell", "monocyte", "naive CD4 T cell")):
    fields = {"tissue": "blood", "species": "human", "cells": [["CD3E"]] * len(truth), "options": TYPES}
    return ask("cell/batch", fields, {"answer": list(truth), "ids": {}})


@cache
def verifier_class(name):
    return load("verifiers", name, Verifier)


def judge(name, question, answer, **options):
    """The verdict on an answer as its verifier sees it: lists and mappings in JSON."""
    said = answer if isinstance(answer, str | None) else json.dumps(answer)
    completion = Completion("", "So.", said)
    return verifier_class(name)(**options).verify(question, completion)


RANKED = [ranking(v) for v in ([3.0, 1.0, 0.5, 0.0, 2.0], [1.0, 1.0, 0.0, 2.0, 0.0])]
PROFILES = [profile([1.0, -2.0, 0.5, 0.0, 0.1], [0.5, -0.25, 1.0, 0.0, 0.3]), profile([1, 0, 0, 0, 2], [0] * 5)]
SETS = [names(["T cell activation", "signal transduction, by p53"]), names(["LAT", "ZAP70", "CD3E"])]
CASES = [
    ("ranking", {}, RANKED),
    ("ranking", {"score": "spearman"}, RANKED),
    ("profile", {}, PROFILES),
    ("profile", {"score": "rmse"}, PROFILES),
    ("set_overlap", {}, SETS),
    ("set_overlap", {"score": "jaccard"}, SETS),
    ("batch_unique", {}, [cells(), cells(TYPES[::-1])]),
    ("batch_unique", {"score": "cell"}, [cells(), cells(TYPES[::-1])]),
]


@pytest.mark.parametrize(("name", "options", "asked"), CASES, ids=[f"{n}{o or ''}" for n, o, _ in CASES])
def test_the_kit_and_the_red_team_find_nothing(name, options, asked):
    verifier = load("verifiers", name, Verifier)(**options)
    found = check(verifier, asked, prompts.load(asked[0].task))
    assert [finding for finding in found if not finding.ok] == []


@pytest.mark.parametrize(
    ("name", "task", "truths"),
    [
        ("direction", "perturbation/direction", ["up", "down"]),
        ("direction", "perturbation/response", ["up", "none", "down"]),
        ("response", "perturbation/response", ["up", "none", "down"]),
        ("label", "perturbation/effect", ["yes", "no"]),
    ],
)
def test_the_kit_finds_nothing_on_the_closed_sets(make_question, name, task, truths):
    asked = [make_question(task=task, truth={"answer": truth}, id=truth) for truth in truths]
    shown = [{"perturbation": "LAT", "answer": truths[0], "similarity": 9}]
    asked = [make_question({"evidence": shown}, q.truth, task=task, id=q.id) for q in asked]
    found = check(load("verifiers", name, Verifier)(), asked, prompts.load(task))
    assert [finding for finding in found if not finding.ok] == []


def test_direction_judges_true_effects_alone(make_question):
    verifier = load("verifiers", "direction", Verifier)()
    unchanged = make_question(task="perturbation/response", truth={"answer": "none"})
    assert not verifier.applies(unchanged)
    for said in ("up", "none", None):
        verdict = judge("direction", unchanged, said)
        assert (verdict.score, verdict.reason) == (None, Reason.NOT_APPLICABLE)
    changed = make_question(task="perturbation/response", truth={"answer": "down"})
    assert [judge("direction", changed, said).score for said in ("down", "up", "none", None)] == [1, 0, 0, 0]
    assert not verifier.applies(make_question(task="perturbation/effect", truth={"answer": "yes"}))


def test_a_wrong_sign_earns_as_little_as_no_change(make_question):
    question = make_question(task="perturbation/response", truth={"answer": "up"})
    assert [judge("response", question, said).score for said in ("up", "down", "none", None)] == [1, 0, 0, 0]
    with pytest.raises(Error, match="truth 'yes' is none of none, up, down"):
        judge("response", make_question(task="perturbation/response", truth={"answer": "yes"}), "up")


def test_no_constant_response_beats_the_largest_class_of_the_screens(make_question):
    """What partial credit would undo, on the real classes."""
    folder = next(folder for base in rlvr.__path__ if (folder := Path(base) / "data" / "sample").is_dir())
    shares = pd.read_csv(folder / "screens.tsv", sep="\t", keep_default_na=False)["label"].value_counts(normalize=True)
    for said in shares.index:
        asked = {c: make_question(task="perturbation/response", truth={"answer": c}) for c in shares.index}
        expected = sum(share * judge("response", asked[c], said).score for c, share in shares.items())
        assert expected == pytest.approx(shares[said])


def test_label_leaves_lists_numbers_and_probabilities_to_others(make_question):
    label = load("verifiers", "label", Verifier)()
    assert not label.applies(make_question(task="perturbation/effect_probability", truth={"answer": "yes"}))
    assert not any(label.applies(question) for question in (*RANKED, *PROFILES, *SETS, cells()))
    assert label.applies(make_question(task="my/own", truth={"answer": "either"}))


def test_a_name_inside_another_is_another(make_question):
    question = make_question(task="cell/type", truth={"answer": "T cell"})
    assert [judge("label", question, said).score for said in ("T cell", "naive T cell", "T")] == [1.0, 0.0, 0.0]


@settings(deadline=None)
@given(st.permutations(TYPES))
def test_a_batch_is_right_in_all_or_in_parts(said):
    right = sum(a == b for a, b in zip(said, cells().truth["answer"], strict=True))
    assert judge("batch_unique", cells(), said, score="cell").score == right / 4
    assert judge("batch_unique", cells(), said).score == float(right == 4)


@pytest.mark.parametrize(
    "said",
    [
        ["NK cell"] * 4,  # one likely type for every cell
        ["NK cell", "B cell", "monocyte"],
        ["NK cell", "B cell", "monocyte", "naive CD4 T cell", "B cell"],
        ["NK cell", "B cell", "monocyte", "Monocyte"],  # the same, spelt otherwise
        ["NK cell", "B cell", "monocyte", "T cell"],  # no option
        ["NK cell|B cell|monocyte|naive CD4 T cell"],
    ],
)
@pytest.mark.parametrize("score", ["batch", "cell"])
def test_a_batch_needs_each_cell_to_have_its_own_type(said, score):
    assert judge("batch_unique", cells(), said, score=score).score == 0.0


def test_the_case_of_a_type_does_not_matter():
    assert judge("batch_unique", cells(), ["nk cell", "b cell", "MONOCYTE", "Naive cd4 T cell"]).score == 1.0


values = st.lists(st.floats(0, 50, width=32), min_size=2, max_size=8).filter(lambda v: len(set(v)) > 1)


@settings(deadline=None)
@given(values, st.randoms())
def test_ndcg_and_spearman_are_those_of_the_libraries(relevance, rng):
    assume(min(set(relevance) - {0.0}) > 1e-3)
    genes = [f"G{i}" for i in range(len(relevance))]
    question = ranking(relevance, genes)
    said = rng.sample(genes, len(genes))
    places = [[-said.index(gene) for gene in genes]]
    expected = ndcg_score([relevance], places)
    assert judge("ranking", question, said).score == pytest.approx(expected)
    if len(set(relevance)) == len(relevance):
        r = spearmanr(relevance, places[0]).statistic
        assert judge("ranking", question, said, score="spearman").score == pytest.approx((1 + r) / 2)


@settings(deadline=None, max_examples=30)
@given(values)
def test_the_measured_order_earns_one_and_no_order_more(relevance):
    genes = [f"G{i}" for i in range(len(relevance))][:4]
    assume(len(set(relevance[:4])) > 1)
    question = ranking(relevance[:4], genes)
    for score in ("ndcg", "spearman"):
        assert judge("ranking", question, question.truth["answer"], score=score).score == 1.0
        found = [judge("ranking", question, list(said), score=score).score for said in itertools.permutations(genes)]
        assert max(found) == 1.0
        if score == "spearman":
            assert np.mean(found) == pytest.approx(0.5)
        else:
            said = judge("ranking", question, genes).evidence[0].statement
            assert float(said.split()[-1]) == pytest.approx(np.mean(found), abs=6e-4)


@pytest.mark.parametrize("said", [GENES[:-1], [*GENES, "LAT"], [*GENES[:-1], "LAT"], [*GENES[:-1], "TP53"], ["x"]])
@pytest.mark.parametrize("score", ["ndcg", "spearman"])
def test_each_gene_is_ranked_once(said, score):
    assert judge("ranking", RANKED[0], said, score=score).score == 0.0
    assert judge("ranking", RANKED[0], [gene.lower() for gene in RANKED[0].truth["answer"]], score=score).score == 1.0


def test_there_is_nothing_to_rank_where_all_effects_are_equal():
    for said in (GENES, ["x"], None):
        assert judge("ranking", ranking([2.0] * 5), said).reason is Reason.NOT_APPLICABLE
    with pytest.raises(Error, match="below 0"):
        judge("ranking", ranking([-1.0, 2.0]), GENES[:2])


amounts = st.lists(st.integers(-300, 300).map(lambda n: n / 100), min_size=4, max_size=8)


@st.composite
def profiles(draw):
    truth = draw(amounts)
    baseline = draw(st.lists(st.integers(-300, 300).map(lambda n: n / 100), min_size=len(truth), max_size=len(truth)))
    genes = [f"G{i}" for i in range(len(truth))]
    question = profile(truth, baseline, genes)
    assume(judge("profile", question, None).score is not None)
    return question


def told(question, values):
    return dict(zip(question.truth["answer"], map(float, values), strict=True))


@settings(deadline=None)
@given(profiles(), st.floats(-5, 5), st.floats(-5, 5))
def test_a_profile_made_of_the_baseline_and_a_constant_earns_nothing(question, constant, scale):
    baseline = np.array(list(question.truth["baseline"].values()))
    for score in ("pearson", "rmse"):
        found = judge("profile", question, told(question, constant + scale * baseline), score=score).score
        assert found == pytest.approx(0.0, abs=1e-6)
        assert judge("profile", question, question.truth["answer"], score=score).score == 1.0


def test_a_raw_correlation_of_deltas_would_pay_a_constant():
    """Why the score is one of skill: knowing nothing of the perturbation correlates at .9 here."""
    baseline = [2.0, 1.0, -1.0, -2.0, 0.0]
    question = profile([0.5, 0.0, -0.4, -0.3, 0.2], baseline)
    change = np.subtract(list(question.truth["answer"].values()), baseline)
    assert pearsonr(np.zeros(5) - baseline, change).statistic > 0.9
    assert judge("profile", question, told(question, [0] * 5)).score == 0.0


@settings(deadline=None)
@given(profiles(), st.lists(st.floats(-3, 3), min_size=8, max_size=8))
def test_the_skill_is_as_the_libraries_say(question, noise):
    truth, baseline = (np.array(list(question.truth[key].values()), float) for key in ("answer", "baseline"))
    answer = truth + noise[: len(truth)]
    given_answer = told(question, answer)
    design = np.column_stack([np.ones(len(truth)), baseline])
    rest = truth - design @ np.linalg.lstsq(design, truth, rcond=None)[0]
    skill = 1 - np.sqrt(np.mean((answer - truth) ** 2) / np.mean(rest**2))
    assert judge("profile", question, given_answer, score="rmse").score == pytest.approx(max(0, skill), abs=1e-6)
    if min(np.ptp(baseline), np.ptp(answer - baseline)) > 1e-3:
        r = pearsonr(answer - baseline, truth - baseline).statistic
        r0 = abs(pearsonr(baseline, truth - baseline).statistic)
        found = judge("profile", question, given_answer).score
        assert found == pytest.approx(max(0, (r - r0) / (1 - r0)), abs=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"LAT": None},  # missing
        {"TP53": 1.0},  # unknown
        {"lat": 1.0},  # repeated, spelt otherwise
        {"LAT": 1e308},
        {"LAT": -100.5},
    ],
)
@pytest.mark.parametrize("score", ["pearson", "rmse"])
def test_each_gene_has_one_amount_that_can_be(change, score):
    said = {gene: value for gene, value in {**PROFILES[0].truth["answer"], **change}.items() if value is not None}
    assert judge("profile", PROFILES[0], said, score=score).score == 0.0


@pytest.mark.parametrize(
    ("truth", "baseline"),
    [([1, 2, 3, 4, 5], [2, 4, 6, 8, 10]), ([1] * 5, [0, 1, 2, 3, 4]), ([1.0, 2.0], [5.0, 3.0]), ([0] * 5, [0] * 5)],
)
def test_a_profile_that_the_baseline_says_is_not_judged(truth, baseline):
    for said in (None, {"x": 1.0}, dict(zip(GENES, truth, strict=False))):
        assert judge("profile", profile(truth, baseline), said).reason is Reason.NOT_APPLICABLE


TERMS = [f"term {i}" for i in range(12)]


@settings(deadline=None)
@given(st.sets(st.sampled_from(TERMS), min_size=1), st.sets(st.sampled_from(TERMS), min_size=1))
def test_overlaps_are_those_of_the_library(truth, said):
    assume(len(said) <= 3 * len(truth))
    rows = [[term in chosen for term in TERMS] for chosen in (truth, said)]
    question = names(sorted(truth))
    assert judge("set_overlap", question, sorted(said)).score == pytest.approx(f1_score(*rows))
    assert judge("set_overlap", question, sorted(said), score="jaccard").score == pytest.approx(jaccard_score(*rows))


@settings(deadline=None)
@given(st.sets(st.sampled_from(TERMS), min_size=1), st.lists(st.sampled_from(TERMS), min_size=1), st.randoms())
def test_padding_never_pays(truth, said, rng):
    """A name that does not belong, or that stands there already, never adds; order is nothing."""
    question = names(sorted(truth))
    for score in ("f1", "jaccard"):
        before = judge("set_overlap", question, said, score=score).score
        assert judge("set_overlap", question, rng.sample(said, len(said)), score=score).score == before
        assert judge("set_overlap", question, [*said, "elsewhere"], score=score).score <= before
        assert judge("set_overlap", question, [*said, said[0].upper()], score=score).score <= before


def test_everything_is_no_answer():
    everything = judge("set_overlap", names(TERMS[:3]), TERMS)
    assert (everything.score, everything.reason) == (0.0, Reason.STUFFED)
    assert judge("set_overlap", names(TERMS[:3]), TERMS[:3] * 300).score == 0.0
    with pytest.raises(Error, match="empty set"):
        judge("set_overlap", names([]), TERMS)


def test_symbols_become_current_ones(monkeypatch):
    """An alias counts where the knowledge base knows whose it is; otherwise names are compared as written."""

    class Aliases:
        def resolve(self, symbol, species="human"):
            assert len(symbol) <= 40
            return {"AARS": "AARS1", "AARS1": "AARS1"}.get(symbol)

    question = names(["AARS1", "T cell activation"])
    load("verifiers", "set_overlap", Verifier)
    monkeypatch.setattr(sys.modules["rlvr.verifiers.set_overlap"], "_knowledge", lambda which: Aliases())
    said = ["t cell ACTIVATION", "AARS"]
    assert judge("set_overlap", question, said, knowledge="sample").score == 1.0
    assert judge("set_overlap", question, said).score == 0.5
    assert judge("set_overlap", question, [*said, "x" * 10**6], knowledge="sample").score == pytest.approx(0.8)


def test_the_sample_knows_an_alias_of_one_gene():
    assert judge("set_overlap", names(["ZAP70", "LAT"]), ["ZAP-70", "LAT"], knowledge="sample").score == 1.0
    assert judge("set_overlap", names(["ZAP70", "LAT"]), ["ZAP-70", "LAT"]).score == 0.5


@pytest.mark.parametrize(("name", "_", "asked"), CASES[::2], ids=[case[0] for case in CASES[::2]])
@pytest.mark.parametrize("answer", ["up", "0.5", "null", '"LAT"'])
def test_a_prompt_that_asks_for_another_type_is_an_error(name, _, asked, answer):
    with pytest.raises(Error, match=r"not of type (items|numbers); mend the prompt's head"):
        judge(name, asked[0], answer)


@pytest.mark.parametrize("task", ["perturbation/profile", "perturbation/ranking", "perturbation/set"])
@settings(deadline=None)
@given(word=st.text(st.sampled_from("CD3ELAT:,|0123456789.-e \n\u200b")) | st.text())
def test_no_word_raises_or_leaves_the_bounds(task, word):
    verifier = load("verifiers", {"set": "set_overlap"}.get(name := task.split("/")[1], name), Verifier)()
    question = {"profile": PROFILES, "ranking": RANKED, "set": SETS}[name][0]
    template = prompts.load(task)
    verdict = verifier.verify(question, parse(reference("So.", word), template.answers, question.fields))
    assert verdict.score is not None
    assert math.isfinite(verdict.score)
