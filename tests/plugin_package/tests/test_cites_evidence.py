"""`cites_evidence` keeps the contract of verifiers, and pays what it says it pays."""

from __future__ import annotations

import pytest
from rlvr_cites_evidence import CitesEvidence

from rlvr.testing import VerifierConformance
from rlvr.types import Completion, Question, Reason

QUESTION = Question(
    "q",
    "perturbation/direction",
    {
        "perturbation": "ZAP70",
        "readout": "IL-2",
        "evidence": [
            {"perturbation": "LAT", "similarity": 71, "answer": "down"},
            {"perturbation": "CBLB", "similarity": 34, "answer": "up"},
        ],
    },
    {"answer": "down"},
    "hand",
    "train",
)


class TestContract(VerifierConformance):
    """Honest play, wrong and broken answers, every cheat; see rlvr/testing."""

    verifier = CitesEvidence()


class TestContractWithAnOption(VerifierConformance):
    verifier = CitesEvidence(least=2)


@pytest.mark.parametrize(
    ("thought", "least", "score", "reason"),
    [
        ("LAT fell, so ZAP70 falls.", 1, 1.0, Reason.CORRECT),
        ("LAT fell, so ZAP70 falls.", 2, 0.5, Reason.PARTIAL),
        ("LAT fell, but CBLB rose.", 2, 1.0, Reason.CORRECT),
        ("LAT fell, but CBLB rose.", 9, 1.0, Reason.CORRECT),  # there are no more to be named
        ("ZAP70 is near LAT2 and PLATE.", 1, 0.0, Reason.MISSING),
        ("LAT " + " ".join(f"GENE{i}" for i in range(20)), 1, 0.0, Reason.STUFFED),
    ],
)
def test_what_it_pays(thought: str, least: int, score: float, reason: Reason) -> None:
    verdict = CitesEvidence(least=least).verify(QUESTION, Completion("", thought, "down"))
    assert (verdict.score, verdict.reason) == (score, reason)


def test_an_answer_that_does_not_parse_earns_nothing() -> None:
    assert CitesEvidence().verify(QUESTION, Completion("", "LAT fell", None)).reason is Reason.UNPARSED


def test_it_abstains_without_evidence() -> None:
    bare = Question("q", QUESTION.task, {**QUESTION.fields, "evidence": []}, QUESTION.truth, "hand", "train")
    assert not CitesEvidence().applies(bare)


def test_what_it_cites_is_evidence_of_the_verdict() -> None:
    verdict = CitesEvidence().verify(QUESTION, Completion("", "LAT fell", "down"))
    assert [(item.record, item.statement) for item in verdict.evidence] == [("LAT", "measured: down")]
