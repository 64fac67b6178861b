"""Credit for near misses: what stands nearer to the truth earns more, and what says nothing earns little."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr.answers import Options
from rlvr.completions import parse, reference
from rlvr.knowledge import KnowledgeBase
from rlvr.plugins import load
from rlvr.types import Completion, Question, Reason
from rlvr.verifier import Verifier

CELLS = {
    "CD4-positive, alpha-beta T cell": "CL:0000624",
    "CD8-positive, alpha-beta T cell": "CL:0000625",
    "T cell": "CL:0000084",
    "B cell": "CL:0000236",
    "epithelial cell": "CL:0000066",
    "cell": "CL:0000000",
    "no such cell": "CL:9999999",
    "nameless": None,
}
PROCESSES = {
    "T cell receptor signaling pathway": "GO:0050852",
    "signal transduction": "GO:0007165",
    "mRNA splicing, via spliceosome": "GO:0000398",
}
TRUTH = "CD4-positive, alpha-beta T cell"


def question(answer=TRUTH, ids=CELLS, task="cell/type"):
    fields = {"tissue": "blood", "species": "human", "genes": ["CD4"], "options": list(ids)}
    return Question("q", task, fields, {"answer": answer, "ids": dict(ids)}, "hand", "train")


def verifier():
    return load("verifiers", "ontology", Verifier)(knowledge="sample")


def verdict(asked, answer):
    return verifier().verify(asked, parse(reference("so", answer), Options(), asked.fields))


def test_credit_falls_with_distance():
    scores = [verdict(question(), name).score for name in CELLS]
    exact, sibling, parent, cousin, other, root, unknown, nameless = scores
    assert exact == 1.0 > sibling > cousin > other > 0.0
    assert 1.0 > parent > cousin
    assert root <= 0.15
    assert unknown == nameless == 0.0


def test_functions_are_graded_too():
    asked = question("T cell receptor signaling pathway", PROCESSES, "knowledge/function")
    exact, ancestor, other = (verdict(asked, name).score for name in PROCESSES)
    assert exact == 1.0 > ancestor > other >= 0.0


@given(st.sampled_from(list(CELLS)[:6]), st.sampled_from(list(CELLS)[:6]))
def test_nearness_is_symmetric_and_is_one_for_the_same_alone(a, b):
    score = verdict(question(a), b).score
    assert score == verdict(question(b), a).score
    assert (score == 1.0) == (a == b)


def test_it_abstains_where_the_truth_has_no_place_in_the_ontology():
    for answer in ("T cell", "epithelial cell", "nonsense"):
        assert verdict(question("nameless"), answer).reason is Reason.NOT_APPLICABLE
        assert verdict(question("no such cell"), answer).reason is Reason.UNCOVERED


@pytest.mark.parametrize("answer", ["T cell, B cell", "T\u200b cell", "Т cell", "", "x" * 10**6])
def test_what_is_no_option_earns_nothing(answer):
    assert verdict(question("T cell"), answer).score == 0.0


def test_a_question_without_identifiers_is_an_error():
    asked = Question("q", "cell/type", {"options": ["T cell"]}, {"answer": "T cell"}, "hand", "train")
    with pytest.raises(KeyError):
        verdict(asked, "T cell")


@given(st.none() | st.text() | st.sampled_from(list(CELLS)))
def test_any_answer_gets_a_score(answer):
    found = verifier().verify(question(), Completion("", "", answer))
    assert found.score is not None and 0.0 <= found.score <= 1.0


def test_the_evidence_says_what_was_compared():
    (item,) = verdict(question(), "T cell").evidence
    assert item.record == "CL:0000084"
    shared = len(KnowledgeBase.open("sample").ancestors("CL:0000084"))
    assert f"shares {shared} of" in item.statement  # all that stands above a T cell stands above the truth
