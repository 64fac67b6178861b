"""Panels: the rule that draws them, and the committed table that pins them."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from rlvr import plugins
from rlvr.options import build
from rlvr.questions import panels
from rlvr.source import Source
from rlvr.types import Error, Question

TASK = "perturbation/direction"


def ask(index, readout, answer, split="test", context="k562"):
    fields = {"perturbation": f"P{index}", "readout": readout}
    truth = {"answer": answer, "context": context}
    return Question(f"hand:{TASK}:{context}:P{index}:{readout}", TASK, fields, truth, "hand", split)


def gene(readout, ups, downs, **options):
    answers = ["up"] * ups + ["down"] * downs
    return [ask(index, readout, answer, **options) for index, answer in enumerate(answers)]


QUESTIONS = [
    *gene("RICH", 9, 30),
    *gene("ENOUGH", panels.ENOUGH, 5),
    *gene("POOR", panels.ENOUGH - 1, 40),
    *gene("ONE", 12, 0),
    *gene("RICH", 4, 4, context="rpe1"),
]


def test_only_readouts_with_enough_rows_of_each_label_and_at_most_so_many_rows():
    kept, _ = panels.panel(QUESTIONS, genes=10, per_label=4, seed=0)
    counts = Counter((q.truth["context"], q.fields["readout"], q.truth["answer"]) for q in kept)
    assert counts == {
        ("k562", "RICH", "up"): 4,
        ("k562", "RICH", "down"): 4,
        ("k562", "ENOUGH", "up"): 3,
        ("k562", "ENOUGH", "down"): 4,
        ("rpe1", "RICH", "up"): 4,
        ("rpe1", "RICH", "down"): 4,
    }


def test_at_most_so_many_readouts_and_the_rest_as_if_they_were_alone():
    all_three, _ = panels.panel(QUESTIONS, genes=3, per_label=4, seed=0)
    two, _ = panels.panel(QUESTIONS, genes=2, per_label=4, seed=0)
    assert len({(q.truth["context"], q.fields["readout"]) for q in two}) == 2
    assert {q.id for q in two} < {q.id for q in all_three}


def test_the_order_of_the_questions_changes_nothing_and_the_seed_does():
    shuffled = random.Random(0).sample(QUESTIONS, len(QUESTIONS))
    kept, digest = panels.panel(QUESTIONS, genes=3, per_label=4, seed=0)
    again, same = panels.panel(shuffled, genes=3, per_label=4, seed=0)
    assert digest == same == panels.digest(kept)
    assert {q.id for q in kept} == {q.id for q in again}
    assert panels.panel(QUESTIONS, genes=3, per_label=4, seed=1)[1] != digest


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A table that pins the panel of QUESTIONS."""
    kept, digest = panels.panel(QUESTIONS, genes=3, per_label=4, seed=0)
    path = tmp_path / "panels.tsv"
    panels.write(path, [panels.Pin("hand", "test", "hand", "k562", TASK, 3, 4, 0, len(kept), digest)])
    monkeypatch.setattr(panels, "table_path", lambda: path)
    return path


def test_a_pinned_panel_comes_out_of_all_splits_of_a_source(table):
    train = gene("RICH", 9, 9, split="train")
    kept = panels.pinned([*train, *QUESTIONS], "hand", "test")
    assert {q.split for q in kept} == {"test"}
    assert panels.digest(kept) == panels.read(table)[0].sha256


@pytest.mark.parametrize("change", ["a row less", "a label turned", "another readout"])
def test_a_panel_that_is_no_longer_the_pinned_one_is_an_error(table, change):
    questions = {
        "a row less": panels.panel(QUESTIONS, genes=3, per_label=4, seed=0)[0][1:],
        "a label turned": [replace(q, truth={**q.truth, "answer": "up"}) for q in QUESTIONS[:10]] + QUESTIONS[10:],
        "another readout": [*QUESTIONS, *[q for i in range(20) for q in gene(f"NEW{i}", 5, 5)]],
    }[change]
    with pytest.raises(Error, match="panel hand") as caught:
        panels.pinned(questions, "hand", "test")
    assert "\n" not in str(caught.value)


def test_an_unknown_panel_or_split_is_named_with_the_nearest(table):
    with pytest.raises(Error, match=r"no panel 'hnad' for the test split, did you mean 'hand'\?"):
        panels.pinned(QUESTIONS, "hnad", "test")
    with pytest.raises(Error, match="for the validation split"):
        panels.pinned(QUESTIONS, "hand", "validation")


@pytest.mark.parametrize("text", ["name\tsplit\nhand\ttest\n", "", "nonsense\n1\n"])
def test_a_broken_table_is_an_error_or_knows_nothing(table, text):
    table.write_text(text)
    with pytest.raises(Error):
        panels.pinned(QUESTIONS, "hand", "test")


def test_the_committed_table_is_whole_and_holds_no_rows_of_the_benchmark():
    pins = panels.read(panels.table_path())
    assert {(pin.context, pin.task.rpartition("/")[2], pin.split) for pin in pins} == {
        (context, task, split)
        for context in ("k562", "rpe1")
        for task in ("direction", "effect")
        for split in ("validation", "test")
    }
    assert len({(pin.name, pin.split) for pin in pins}) == len(pins)
    for pin in pins:
        assert 250 <= pin.n <= 450, pin.name
        assert len(pin.sha256) == 64 and set(pin.sha256) <= set("0123456789abcdef"), pin.name


@pytest.mark.perturbqa
def test_the_source_still_gives_the_pinned_panels_of_k562_direction():
    options = {"context": "k562", "task": "direction", "evidence": 0}
    questions = list(build(plugins.load("data", "perturbqa", Source), options, "source perturbqa").questions())
    for pin in panels.read(panels.table_path()):
        if pin.name == "k562_direction":
            kept = panels.pinned(questions, pin.name, pin.split)
            assert len(kept) == pin.n
            assert min(Counter(q.fields["readout"] for q in kept).values()) >= 2 * panels.ENOUGH
