"""The shortcut rows: planted shortcuts are found, nothing else is, and the published figures come out."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from rlvr import plugins, prompts
from rlvr.evaluation import metrics
from rlvr.evaluation.shortcuts import PSEUDO_ROWS, open_shortcuts, shortcuts
from rlvr.questions.evidence import PRIOR
from rlvr.source import Source
from rlvr.types import Error, Question

LABELS = ["up", "down"]


def ask(perturbation, readout, answer, split="train", context="k562", evidence=None, **truth):
    task = "perturbation/direction"
    fields = {"perturbation": perturbation, "readout": readout}
    if evidence is not None:
        fields["evidence"] = evidence
    told = {"answer": answer, "context": context, **truth}
    return Question(f"hand:{task}:{context}:{perturbation}:{readout}", task, fields, told, "hand", split)


TRAIN = [  # 3 of 4 up
    ask("A", "X", "up", core=True, annotations=90, partners=None, neighbours=None, evidence=[]),
    ask("A", "Y", "down", core=True, annotations=90, partners=None, neighbours=None, evidence=[]),
    ask("B", "X", "up", core=False, annotations=10, partners=None, neighbours=None, evidence=[]),
    ask("C", "X", "up", core=False, annotations=10, partners=None, neighbours=None, evidence=[]),
]


def row(name, question, train=TRAIN):
    """The probability of "up" that a shortcut gives to one question."""
    return shortcuts(train, [question], LABELS)[name][0, 0]


FACTS = {"core": False, "annotations": 10, "partners": None, "neighbours": None, "evidence": []}


def shrunk(ups, n):
    """A rate of `ups` in `n` training rows with the pseudo-rows added."""
    return pytest.approx((ups + PSEUDO_ROWS * 0.75) / (n + PSEUDO_ROWS))


def test_each_shortcut_reads_its_own_fact():
    plain = ask("Z", "X", "up", **FACTS)
    assert row("majority", plain) == 0.75
    assert row("readout_frequency", plain) == shrunk(3, 3)
    assert row("readout_frequency", ask("Z", "Y", "up", **FACTS)) == shrunk(0, 1)
    assert row("perturbation_frequency", ask("A", "W", "up", **FACTS)) == shrunk(1, 2)
    assert row("core_machinery", ask("Z", "X", "up", **{**FACTS, "core": True})) == shrunk(1, 2)
    assert row("core_machinery", plain) == shrunk(2, 2)
    assert row("annotation_count", ask("Z", "X", "up", **{**FACTS, "annotations": 400})) == shrunk(1, 2)
    assert row("annotation_count", plain) == shrunk(2, 2)
    assert row("complex_partners", ask("Z", "X", "up", **{**FACTS, "partners": {"up": 0.2, "down": 0.8}})) == 0.2
    assert row("neighbour_vote", ask("Z", "X", "up", **{**FACTS, "neighbours": {"up": 0.9, "down": 0.1}})) == 0.9


def test_what_is_not_known_falls_to_the_overall_rate():
    stranger = ask("Z", "W", "up", context="rpe1", **FACTS)
    for name in ("readout_frequency", "perturbation_frequency", "leaked_pairs", "complex_partners", "neighbour_vote"):
        assert row(name, stranger) == 0.75, name
    assert row("readout_frequency", ask("Z", "X", "up", context="rpe1", **FACTS)) == 0.75, "X of other cells"
    assert row("evidence_vote", stranger) == pytest.approx(0.75)


def test_a_leaked_pair_is_seen_whatever_its_context():
    leaked = ask("A", "Y", "down", "test", context="rpe1", **FACTS)
    assert row("leaked_pairs", leaked) == 0.0
    assert row("leaked_pairs", ask("A", "X", "up", "test", context="rpe1", **FACTS)) == 1.0
    assert row("leaked_pairs", ask("B", "Y", "up", "test", context="rpe1", **FACTS)) == 0.75, "only halves were seen"


def test_leaked_pairs_rank_a_planted_leak_and_nothing_without_one():
    rng = np.random.default_rng(0)
    answers = rng.choice(LABELS, 200)
    held_out = [ask(f"P{i % 20}", f"G{i // 20}", a, "test", "rpe1") for i, a in enumerate(answers)]
    innocent = [ask(f"Q{i % 20}", f"G{i // 20}", a) for i, a in enumerate(rng.choice(LABELS, 200))]
    leak = [ask(q.fields["perturbation"], q.fields["readout"], q.truth["answer"]) for q in held_out[:60]]
    found = [
        score(shortcuts(train, held_out, LABELS)["leaked_pairs"], held_out)["auroc"]["value"]
        for train in (innocent, innocent + leak)
    ]
    assert found[0] == 0.5
    # 30 % of the rows are known: every pair with one of them is won, half of the others
    assert found[1] == pytest.approx(1 - 0.7**2 / 2, abs=0.05)


def score(table, held_out, labels=LABELS):
    """Point metrics of a shortcut."""
    return metrics.summarise(
        held_out[0].task,
        [q.truth["answer"] for q in held_out],
        table,
        [labels[i] for i in table.argmax(axis=1)],
        labels,
        [f"{q.truth['context']}:{q.fields['readout']}" for q in held_out],
        [q.fields["perturbation"] for q in held_out],
        resamples=0,
    )


def test_the_evidence_vote_reads_what_the_prompt_shows():
    shown = [
        {"perturbation": "B", "answer": "down", "similarity": 60, "shared": "ribosome"},
        {"perturbation": "C", "answer": "up", "similarity": 20, "shared": "ribosome"},
    ]
    found = row("evidence_vote", ask("Z", "X", "up", **{**FACTS, "evidence": shown}))
    readout = (3 + PSEUDO_ROWS * 0.75) / (3 + PSEUDO_ROWS)
    assert found == pytest.approx((0.2**2 + PRIOR * readout) / (0.6**2 + 0.2**2 + PRIOR))
    turned = [{**item, "answer": {"up": "down", "down": "up"}[item["answer"]]} for item in shown]
    assert row("evidence_vote", ask("Z", "X", "up", **{**FACTS, "evidence": turned})) > 0.5 > found


def test_the_answer_of_a_held_out_question_changes_nothing():
    questions = [ask("Z", "X", answer, "test", **FACTS) for answer in LABELS]
    for name, table in shortcuts(TRAIN, questions, LABELS).items():
        assert (table[0] == table[1]).all(), name


def test_every_row_is_a_distribution_also_with_three_labels():
    rng = np.random.default_rng(1)
    labels = ["none", "up", "down"]

    def random_question(index, split):
        vote = dict(zip(labels, rng.dirichlet([1, 1, 1]).tolist(), strict=True))
        facts = {
            "core": bool(rng.random() < 0.2),
            "annotations": int(rng.integers(0, 50)),
            "partners": vote if rng.random() < 0.5 else None,
            "neighbours": vote if rng.random() < 0.5 else None,
            "evidence": [{"answer": "none", "similarity": int(rng.integers(1, 100))}] * int(rng.integers(0, 4)),
        }
        return ask(f"{split}{index}", f"G{index % 7}", str(rng.choice(labels)), split, **facts)

    train = [random_question(i, "train") for i in range(80)]
    held_out = [random_question(i, "validation") for i in range(40)]
    found = shortcuts(train, held_out, labels)
    assert len(found) == 9
    for name, table in found.items():
        assert table.shape == (40, 3), name
        assert (table >= 0).all(), name
        assert np.allclose(table.sum(axis=1), 1), name


def test_a_source_without_the_facts_has_no_such_rows_and_nothing_held_out_is_no_fault():
    bare = [ask("A", "X", "up"), ask("B", "X", "down")]
    expected = ["majority", "readout_frequency", "perturbation_frequency", "leaked_pairs"]
    assert list(shortcuts(bare, bare[:1], LABELS)) == expected
    assert {table.shape for table in shortcuts(TRAIN, [], LABELS).values()} == {(0, 2)}


def test_bad_input_is_named():
    with pytest.raises(Error, match="no training question"):
        shortcuts([], TRAIN, LABELS)
    with pytest.raises(Error, match="'up' is not one of the labels yes, no"):
        shortcuts(TRAIN, TRAIN, ["yes", "no"])


def test_open_answers_have_their_shortcuts_too():
    def rank(name, genes, split="train"):
        relevance = {gene: float(i) for i, gene in enumerate(genes)}
        fields, truth = {"genes": genes, "readout": "X"}, {"answer": genes[::-1], "relevance": relevance}
        return Question(name, "perturbation/ranking", fields, truth, "hand", split)

    ranking = prompts.load("perturbation/ranking")
    train = [rank("a", ["A", "B"]), rank("b", ["A", "B"]), rank("c", ["C", "D"])]
    found = open_shortcuts(train, [rank("d", ["E", "F"], "test")], ranking)
    assert found == {"majority": ['["B", "A"]'], "as_listed": ['["E", "F"]']}

    def cell(name, answer, options, split="train"):
        return Question(name, "cell/type", {"options": options}, {"answer": answer}, "hand", split)

    known = [cell("a", "T cell", []), cell("b", "T cell", []), cell("c", "B cell", [])]
    asked = [
        cell("d", "NK", ["B cell", "T cell"], "test"),
        cell("e", "NK", ["NK", "B cell"], "test"),
        cell("f", "NK", ["NK"], "test"),
    ]
    assert open_shortcuts(known, asked, prompts.load("cell/type")) == {"majority": ["T cell", "B cell", "NK"]}


# What a table of each gene's training frequency scores on the official test splits (threshold .5).
GOLDEN = {
    ("k562", "effect"): {
        "auroc": 0.957,
        "accuracy": 0.934,
        "f1": 0.728,
        "balanced_accuracy": 0.817,
        "mcc": 0.696,
        "tpr": 0.658,
        "tnr": 0.977,
    },
    ("rpe1", "effect"): {
        "auroc": 0.978,
        "accuracy": 0.955,
        "f1": 0.836,
        "balanced_accuracy": 0.899,
        "mcc": 0.810,
        "tpr": 0.821,
        "tnr": 0.977,
    },
    ("k562", "direction"): {"auroc": 0.851},
    ("rpe1", "direction"): {"auroc": 0.940},
}
ROWS = {  # test rows, and genes with both labels
    ("k562", "effect"): (23_212, 665),
    ("rpe1", "effect"): (37_942, 684),
    ("k562", "direction"): (3_119, 150),
    ("rpe1", "direction"): (5_365, 193),
}
WORDS = {"effect": ["no", "yes"], "direction": ["down", "up"]}


def official(context, task):
    """The official rows as bare questions."""
    name = f"{context}-{'de' if task == 'effect' else 'dir'}.csv"
    source = plugins.load("data", "perturbqa", Source)
    path = next(file for file in source.files() if file.name == f"perturbqa/{name}").path()
    with path.open(newline="") as lines:
        for line in csv.DictReader(lines):
            answer = WORDS[task][int(line["label"])]
            yield Question(
                f"{context}:{line['pert']}:{line['gene']}",
                f"perturbation/{task}",
                {"perturbation": line["pert"], "readout": line["gene"]},
                {"answer": answer, "context": context},
                "perturbqa",
                line["split"],
            )


@pytest.mark.perturbqa
@pytest.mark.parametrize(("context", "task"), list(GOLDEN))
def test_gene_frequency_looks_excellent_pooled_and_is_exactly_a_half_per_gene(context, task):
    questions = list(official(context, task))
    train = [q for q in questions if q.split == "train"]
    held_out = [q for q in questions if q.split == "test"]
    labels = WORDS[task][::-1]
    table = shortcuts(train, held_out, labels)["readout_frequency"]
    found = score(table, held_out, labels)
    assert (found["auroc"]["n"], found["auroc_macro_gene"]["n"]) == ROWS[context, task]
    assert found["auroc_macro_gene"]["value"] == 0.5
    for name, value in GOLDEN[context, task].items():
        assert found[name]["value"] == pytest.approx(value, abs=0.0006), name  # the figures have three digits


@pytest.mark.perturbqa
def test_training_on_another_cell_line_leaks_the_pairs_of_the_test_split():
    """With RPE1 alone beside K562: most test perturbations are leaked, and a look-up of the leaked pairs
    beats chance per gene (all four lines together: .625)."""
    own, other = list(official("k562", "direction")), list(official("rpe1", "direction"))
    held_out = [q for q in own if q.split == "test"]
    honest = [q for q in own if q.split == "train"]
    leaking = honest + [q for q in other if q.split == "train"]
    labels = WORDS["direction"][::-1]
    seen = {q.fields["perturbation"] for q in leaking}
    tested = {q.fields["perturbation"] for q in held_out}
    assert 0.5 < len(tested & seen) / len(tested) <= 254 / 267
    assert not tested & {q.fields["perturbation"] for q in honest}
    clean, leaked = (shortcuts(train, held_out, labels)["leaked_pairs"] for train in (honest, leaking))
    assert score(clean, held_out, labels)["auroc_macro_gene"]["value"] == 0.5
    assert 0.52 < score(leaked, held_out, labels)["auroc_macro_gene"]["value"] < 0.625
