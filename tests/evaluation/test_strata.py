"""Strata are read from questions and training alone, and each from its own fact."""

from __future__ import annotations

from rlvr.evaluation.results.strata import in_order, strata
from rlvr.types import Question


def ask(perturbation, readout, split="train", context="k562", species=None, **truth):
    fields = {"perturbation": perturbation, "readout": readout} | ({"species": species} if species else {})
    told = {"answer": "up", "context": context, **truth}
    return Question(
        f"{split}:{context}:{perturbation}:{readout}", "perturbation/direction", fields, told, "hand", split
    )


TRAIN = [
    *(ask(f"P{i}", "COMMON", annotations=i, core=False, partners=None) for i in range(6)),
    *(ask(f"P{i}", "SOME", annotations=i, core=False, partners=None) for i in range(3)),
    ask("P9", "RARE", annotations=100, core=True, partners=None),
]


def of(name, **question):
    """The stratum of one question, beside one of each other kind so that no division falls away."""
    held_out = [ask("NEW", "RARE", "test", **{"annotations": 0, "core": False, "partners": None, **question})]
    others = [
        ask("P1", "COMMON", "test", "rpe1", "mouse", annotations=1, core=True, partners={"up": 1.0}),
        ask("NEW2", "UNSEEN", "test", "jurkat", "human", annotations=90, core=False, partners=None),
        ask("Q" * 400, "SOME", "test", annotations=3, core=False, partners=None),
    ]
    return strata(TRAIN, held_out + others)[name]


def test_each_division_reads_its_own_fact():
    assert of("seen_gene") == ["unseen", "seen in training", "unseen", "unseen"]
    assert of("seen_readout") == ["seen in training", "seen in training", "unseen", "seen in training"]
    assert of("core") == ["other genes", "core machinery", "other genes", "other genes"]
    assert of("partner") == ["without", "with a partner", "without", "without"]
    assert of("context") == ["k562", "rpe1", "jurkat", "k562"]
    assert of("species") == [None, "mouse", "human", None]
    rare = strata(TRAIN, [ask("A", name, "test") for name in ("RARE", "UNSEEN", "SOME", "COMMON")])["rarity"]
    assert [name.split()[0] for name in rare] == ["rare", "rare", "rare", "middling"]
    elsewhere = strata(TRAIN, [ask("A", "COMMON", "test"), ask("A", "COMMON", "test", "rpe1")])["rarity"]
    assert elsewhere == ["middling", "rare (at most 3)"], "in other cells it is another readout"
    assert [name.split()[0] for name in of("annotations")] == ["few", "few", "many", "some"]
    assert of("length")[3].startswith("long")


def test_a_readout_that_is_perturbed_elsewhere_is_a_seen_gene():
    found = strata(TRAIN, [ask("RARE", "X", "test"), ask("NEW", "X", "test")])
    assert found["seen_gene"] == ["seen in training", "unseen"]


def test_the_answer_of_a_held_out_question_changes_nothing_where_something_is_read_out():
    one, other = (
        strata(TRAIN, [ask("A", "RARE", "test", answer=word), ask("B", "COMMON", "test")]) for word in ("up", "down")
    )
    assert one == other


def test_what_all_have_in_common_or_none_has_divides_nothing():
    same = [ask("A", "COMMON", "test"), ask("B", "COMMON", "test")]
    assert strata(TRAIN, same) == {}
    assert strata(TRAIN, []) == {}
    assert strata([], same) == {}


def test_strata_come_from_little_to_much():
    assert in_order(["many (over 9)", "some", "few (at most 3)"]) == ["few (at most 3)", "some", "many (over 9)"]
    assert in_order(["rpe1", "k562"]) == ["k562", "rpe1"]
