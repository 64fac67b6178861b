"""What a question shows, and what its truth holds, against a slow reading of the same rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr import prompts
from rlvr.knowledge.annotations import COMPLEX_ROOT, Annotations, Node
from rlvr.questions.evidence import PRIOR, build_questions
from rlvr.types import Error, Question

TERMS = {
    "all": Node("all"),
    COMPLEX_ROOT: Node("protein-containing complex", ("all",)),
    "tcr": Node("T cell receptor complex", (COMPLEX_ROOT,)),
    "signal": Node("signalling", ("all",)),
    "kinase": Node("kinase activity", ("signal",)),
}
BASE = Annotations.build(
    {
        "CD3E": ["tcr", "signal"],
        "CD3G": ["tcr", "signal"],
        "LCK": ["kinase"],
        "ZAP70": ["kinase", "tcr"],
        "GAPDH": ["all"],
        "CBLB": ["signal"],
    },
    TERMS,
    {"OLD70": "ZAP70"},
)
GENES = ["CBLB", "CD3E", "CD3G", "GAPDH", "LCK", "NOPE", "OLD70", "ZAP70"]
LABELS = ("none", "up", "down")


def questions(rows: list[tuple[str, str, str, str]], k: int = 4, **more: Any) -> list[Question]:
    """From (perturbation, readout, label, split)."""
    table = pd.DataFrame(rows, columns=["perturbation", "readout", "label", "split"]).assign(context="cd4")
    made = build_questions(
        table,
        BASE,
        task="perturbation/response",
        source="hand",
        labels=LABELS,
        k=k,
        modality="CRISPRi knockdown",
        contexts={"cd4": "CD4+ T cells"},
        **more,
    )
    return list(made)


def test_a_question_is_what_was_measured() -> None:
    (asked, *_) = questions([("CD3E", "IL-2", "down", "test"), ("CD3G", "IL-2", "down", "train")])
    assert asked.id == "hand:perturbation/response:cd4:CD3E:IL-2"
    assert (asked.task, asked.source, asked.split) == ("perturbation/response", "hand", "test")
    item = {
        "perturbation": "CD3G",
        "answer": "down",
        "similarity": 100,
        "shared": "T cell receptor complex",
    }
    assert asked.fields == {
        "perturbation": "CD3E",
        "readout": "IL-2",
        "context": "CD4+ T cells",
        "modality": "CRISPRi knockdown",
        "evidence": [item],
    }
    rate = {"none": 1 / 4, "up": 1 / 4, "down": 2 / 4}  # one row and one of each label
    vote = {label: round((PRIOR * r + (label == "down")) / (PRIOR + 1), 6) for label, r in rate.items()}
    assert asked.truth == {
        "answer": "down",
        "neighbours": vote,
        "partners": vote,
        "core": False,
        "annotations": 4,
        "context": "cd4",
        "shared": ["tcr"],
    }
    assert Question.from_json(asked.to_json()) == asked


def test_what_nothing_is_known_of_has_no_vote_and_no_evidence() -> None:
    unknown, unrelated, alone = questions(
        [("NOPE", "IL-2", "up", "train"), ("GAPDH", "IL-2", "up", "train"), ("LCK", "TNF", "up", "validation")]
    )
    for asked in (unknown, unrelated, alone):
        assert (asked.fields["evidence"], asked.truth["neighbours"], asked.truth["partners"]) == ([], None, None)


def test_an_old_symbol_is_the_same_gene() -> None:
    first, second = questions([("OLD70", "IL-2", "down", "train"), ("ZAP70", "IL-2", "down", "test")])
    assert (first.fields["evidence"], second.fields["evidence"]) == ([], [])


def test_equal_neighbours_come_in_the_order_of_their_names() -> None:
    rows = [("CD3G", "IL-2", "up", "train"), ("CD3E", "IL-2", "down", "train"), ("CBLB", "IL-2", "up", "test")]
    for order in (rows, [rows[1], rows[0], rows[2]]):
        assert [e["perturbation"] for e in questions(order)[2].fields["evidence"]] == ["CD3E", "CD3G"]
    assert [e["perturbation"] for e in questions(rows, k=1)[2].fields["evidence"]] == ["CD3E"]
    assert questions(rows, k=0)[2].fields["evidence"] == []
    assert questions(rows, k=0)[2].truth == {**questions(rows)[2].truth, "shared": []}


def slow_vote(rows: list[tuple[str, str, str, str]], row: tuple[str, str, str, str]) -> dict[str, float] | None:
    """The rule in plain loops: other genes of the training split with the same readout."""
    own = BASE.resolve(row[0]) or row[0]
    pool = [r for r in rows if r[3] == "train" and r[1] == row[1] and (BASE.resolve(r[0]) or r[0]) != own]
    weights = [BASE.similarity([row[0]], [r[0]])[0, 0] ** 2 for r in pool]
    if not sum(weights):
        return None
    vote = {}
    for label in LABELS:
        rate = (sum(r[2] == label for r in pool) + 1) / (len(pool) + len(LABELS))
        mass = sum(w for w, r in zip(weights, pool, strict=True) if r[2] == label)
        vote[label] = (mass + PRIOR * rate) / (sum(weights) + PRIOR)
    return vote


MEASURED = st.lists(
    st.tuples(
        st.sampled_from(GENES),
        st.sampled_from(["IL-2", "TNF"]),
        st.sampled_from(LABELS),
        st.sampled_from(["train", "train", "validation", "test"]),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda row: row[:2],
)


@settings(max_examples=60, deadline=None)
@given(MEASURED)
def test_votes_and_evidence_follow_the_rules(rows: list[tuple[str, str, str, str]]) -> None:
    measured = {(p, r): (label, split) for p, r, label, split in rows}
    for row, asked in zip(rows, questions(rows, k=2), strict=True):
        expected = slow_vote(rows, row)
        assert asked.truth["neighbours"] == (None if expected is None else pytest.approx(expected, abs=1e-6))
        shown = asked.fields["evidence"]
        assert all(measured[(e["perturbation"], row[1])] == (e["answer"], "train") for e in shown)
        assert all((BASE.resolve(e["perturbation"]) or e["perturbation"]) != BASE.resolve(row[0]) for e in shown)
        close = [BASE.similarity([row[0]], [e["perturbation"]])[0, 0] for e in shown]
        assert close == sorted(close, reverse=True)
        assert all(0 < e["similarity"] <= 100 and e["shared"] for e in shown)
        for vote in (asked.truth["neighbours"], asked.truth["partners"]):
            assert vote is None or sum(vote.values()) == pytest.approx(1.0, abs=1e-5)


@settings(max_examples=15, deadline=None)
@given(MEASURED, st.randoms(use_true_random=False))
def test_a_label_reaches_neither_its_own_question_nor_held_out_ones_others(
    rows: list[tuple[str, str, str, str]], random: Any
) -> None:
    """Changing a row's own label, and every held-out label, changes no prompt field and no vote of it."""
    before = questions(rows)
    for i, row in enumerate(rows):
        changed = [
            (p, r, random.choice(LABELS) if j == i or split != "train" else label, split)
            for j, (p, r, label, split) in enumerate(rows)
        ]
        after = questions(changed)[i]
        assert after.fields == before[i].fields
        assert after.truth["neighbours"] == before[i].truth["neighbours"], row


def test_faults_of_the_table_are_one_line() -> None:
    with pytest.raises(Error, match=r"hand, perturbation/response: row 1 of 1 \('sideways'\): label is none of"):
        questions([("CD3E", "IL-2", "sideways", "train")])
    table = pd.DataFrame({"perturbation": ["A"], "readout": ["B"], "context": ["cd9"], "label": ["up"]})
    made = build_questions(
        table.assign(split="train"), BASE, task="t", source="s", labels=LABELS, k=1, modality="m", contexts={"cd4": ""}
    )
    with pytest.raises(Error, match="context 'cd9' has no words; add it to contexts"):
        next(made)


def test_many_rows_are_made_in_vectors() -> None:
    """Work is done per readout, not per pair: as many matrix products as for one readout's rows."""
    random = np.random.default_rng(0)
    names = [f"G{i}" for i in range(200)]
    base = Annotations.build({n: [random.choice(["tcr", "kinase", "signal"])] for n in names}, TERMS, {})
    calls: list[int] = []
    original = Annotations.similarity

    class Counting(Annotations):
        def similarity(self, left: Any, right: Any) -> Any:
            calls.append(len(left))
            return original(self, left, right)

    counting = Counting(**{f: getattr(base, f) for f in Annotations.__dataclass_fields__})
    rows = [(n, f"R{j}", random.choice(LABELS), "train") for n in names for j in range(20)]
    table = pd.DataFrame(rows, columns=["perturbation", "readout", "label", "split"]).assign(context="cd4")
    made = build_questions(
        table, counting, task="t", source="s", labels=LABELS, k=4, modality="m", contexts={"cd4": "cells"}
    )
    assert sum(1 for _ in made) == 4000
    assert calls == [200]


# -- contrastive evidence and snippets ------------------------------------------------------------------------


def slow_turns(rows: list[tuple[str, str, str, str]], row: tuple[str, str, str, str], k: int) -> list[tuple[str, str]]:
    """The rule in plain loops: the most related measurement of each label, then the second of each, and so on."""
    own = BASE.resolve(row[0]) or row[0]
    pool = [r for r in rows if r[3] == "train" and r[1] == row[1] and (BASE.resolve(r[0]) or r[0]) != own]
    close = {r[0]: BASE.similarity([row[0]], [r[0]])[0, 0] for r in pool}
    related = sorted((r for r in pool if close[r[0]] > 0), key=lambda r: (-close[r[0]], r[0]))
    by_label = [[r for r in related if r[2] == label] for label in LABELS]
    found: list[tuple[str, str]] = []
    for turn in range(len(related)):
        now = [of_label[turn] for of_label in by_label if turn < len(of_label)]
        found += [(r[0], r[2]) for r in sorted(now, key=lambda r: (-close[r[0]], r[0]))]
    return found[:k]


@settings(max_examples=60, deadline=None)
@given(MEASURED, st.integers(0, 5), st.randoms(use_true_random=False))
def test_contrastive_evidence_takes_labels_in_turn_from_training_alone(
    rows: list[tuple[str, str, str, str]], k: int, random: Any
) -> None:
    made = questions(rows, k=k, contrastive=True)
    for row, asked in zip(rows, made, strict=True):
        shown = [(e["perturbation"], e["answer"]) for e in asked.fields["evidence"]]
        assert shown == slow_turns(rows, row, k)
    shuffled = random.sample(rows, len(rows))
    again = {q.id: q for q in questions(shuffled, k=k, contrastive=True)}
    assert all(again[q.id] == q for q in made)


def test_contrastive_evidence_shows_both_sides_where_the_nearest_agree() -> None:
    rows = [
        ("CD3E", "IL-2", "down", "train"),
        ("ZAP70", "IL-2", "down", "train"),
        ("CBLB", "IL-2", "up", "train"),
        ("CD3G", "IL-2", "down", "test"),
    ]
    answers = [e["answer"] for e in questions(rows, k=2)[3].fields["evidence"]]
    balanced = [e["answer"] for e in questions(rows, k=2, contrastive=True)[3].fields["evidence"]]
    assert (answers, sorted(balanced)) == (["down", "down"], ["down", "up"])
    nearest, both = (questions(rows, k=2, contrastive=more)[3].truth for more in (False, True))
    assert {**nearest, "shared": [], "contrastive": True} == {**both, "shared": []}


def test_contrastive_evidence_never_shows_the_gene_under_its_other_name() -> None:
    rows = [("OLD70", "IL-2", "down", "train"), ("LCK", "IL-2", "up", "train"), ("ZAP70", "IL-2", "down", "test")]
    (old, _, new) = questions(rows, contrastive=True)
    for asked in (old, new):
        assert [e["perturbation"] for e in asked.fields["evidence"]] == ["LCK"]


def test_snippets_are_the_rarest_annotations_within_their_budget() -> None:
    rows = [("ZAP70", "LCK", "down", "train"), ("NOPE", "IL-2", "up", "test")]
    known, unknown = questions(rows, snippets=100)
    rarest = dict(zip(("ZAP70", "LCK"), BASE.rarest(["ZAP70", "LCK"]), strict=True))
    assert known.fields["known"] == rarest
    sizes = dict(zip(BASE.names.tolist(), BASE.sizes.tolist(), strict=True))
    for terms in rarest.values():
        assert len(terms) >= 3 and [sizes[t] for t in terms] == sorted(sizes[t] for t in terms)
    assert unknown.fields["known"] == {"NOPE": [], "IL-2": []}
    for words in range(1, 9):
        told = questions(rows, snippets=words)[0].fields["known"]
        for gene, terms in told.items():
            assert terms == rarest[gene][: len(terms)]
            assert sum(len(t.split()) for t in terms) <= words
    assert all("known" not in q.fields for q in questions(rows))  # none unless asked for


@settings(max_examples=15, deadline=None)
@given(MEASURED, st.randoms(use_true_random=False))
def test_no_truth_reaches_a_prompt_with_all_of_it_shown(rows: list[tuple[str, str, str, str]], random: Any) -> None:
    """Neither another truth nor another label of the question, or of any held-out one, changes a byte."""
    template = prompts.load("perturbation/response")
    shown = questions(rows, k=3, contrastive=True, snippets=8)
    for i, asked in enumerate(shown):
        text = template.render(asked)
        other = random.choice(shown)
        assert template.render(replace(asked, truth=other.truth)) == text
        assert template.render(replace(asked, truth={})) == text
        changed = [
            (p, r, random.choice(LABELS) if j == i or split != "train" else label, split)
            for j, (p, r, label, split) in enumerate(rows)
        ]
        assert template.render(questions(changed, k=3, contrastive=True, snippets=8)[i]) == text


def test_snippets_stand_in_the_prompt() -> None:
    (asked, *_) = questions([("ZAP70", "IL-2", "down", "train")], snippets=100)
    text = prompts.load("perturbation/response").render(asked)[-1]["content"]
    assert "ZAP70 is annotated: " in text and "T cell receptor complex" in text
    assert "IL-2 is annotated" not in text
