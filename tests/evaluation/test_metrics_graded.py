"""Metrics of open answers, and of probabilities, against scikit-learn and by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from rlvr.evaluation import metrics
from rlvr.evaluation.metrics import bootstrap, calibration, graded, ranking
from rlvr.oracle import calibration as oracle_calibration

TYPES = ["B cell", "T cell", "monocyte"]


def measure(task, truths, answers, right=None):
    right = np.zeros(len(truths), dtype=bool) if right is None else np.array(right)
    clusters = [f"P{i}" for i in range(len(truths))]
    found = metrics.measured_open(task, {"": metrics.Open(truths, answers, right, clusters)}, resamples=20)[""]
    return {name: one["value"] for name, one in metrics.intervals(found).items()}


@settings(max_examples=80)
@given(st.lists(st.tuples(st.sampled_from(TYPES), st.sampled_from([*TYPES, None])), min_size=2, max_size=30))
def test_agreement_of_types_is_sklearns_with_each_unparsed_answer_alone(pairs):
    truths = [{"answer": true} for true, _ in pairs]
    found = measure("cell/type", truths, [given for _, given in pairs])
    filled = [given or f"unparsed {i}" for i, (_, given) in enumerate(pairs)]
    true = [t for t, _ in pairs]
    assert found["ari"] == pytest.approx(reference.adjusted_rand_score(true, filled), abs=1e-9)
    if max(len(set(true)), len(set(filled))) > 1:
        assert found["nmi"] == pytest.approx(reference.normalized_mutual_info_score(true, filled), abs=1e-9)


def test_an_unparsed_answer_that_is_drawn_twice_agrees_with_nobody():
    units = bootstrap.Clusters.of(["a", "b", "c"])
    truths = [{"answer": "B cell"}, {"answer": "B cell"}, {"answer": "T cell"}]
    found = graded.open_metrics(
        "cell/type", metrics.Open(truths, [None, "x", "y"], np.zeros(3, bool), list("abc")), units
    )
    drawn = found["ari"].of(np.array([[2.0], [1.0], [1.0]]))[0]
    expected = reference.adjusted_rand_score(["B", "B", "B", "T"], ["u1", "u2", "x", "y"])
    assert drawn == pytest.approx(expected)


def test_cells_and_batches_by_hand():
    truths = [{"answer": ["B cell", "T cell"]}, {"answer": ["B cell", "T cell", "monocyte"]}, {"answer": ["B cell"]}]
    answers = ['["b cell", "T cell"]', '["T cell", "B cell", "monocyte"]', None]
    found = measure("cell/batch", truths, answers, [True, False, False])
    assert found["accuracy"] == pytest.approx(1 / 3), "the batch-level accuracy"
    assert found["cell_accuracy"] == pytest.approx((2 + 1 + 0) / 6)
    assert measure("cell/batch", truths[:1], ['["B cell"]'])["cell_accuracy"] == 0.0, "another number of types"


PROFILE = {"answer": {"A": 1.0, "B": -1.0, "C": 0.5}, "baseline": {"A": 0.5, "B": 0.0, "C": 0.0}}


def test_profiles_by_hand():
    exact = measure("perturbation/profile", [PROFILE], [json.dumps(PROFILE["answer"])])
    assert (exact["rmse"], exact["pearson_delta"]) == (0.0, pytest.approx(1.0))
    mean = measure("perturbation/profile", [PROFILE], [json.dumps(PROFILE["baseline"])])
    assert mean["rmse"] == pytest.approx(math.sqrt((0.25 + 1 + 0.25) / 3))
    assert mean["pearson_delta"] == 0.0, "the baseline knows nothing beyond itself"
    guess = {"b": -2.0, "a": 1.0, "C": 0.0}
    deltas = np.corrcoef([0.5, -2.0, 0.0], [0.5, -1.0, 0.5])[0, 1]
    assert measure("perturbation/profile", [PROFILE], [json.dumps(guess)])["pearson_delta"] == pytest.approx(deltas)


@pytest.mark.parametrize(
    "answer",
    [None, '{"A": 1.0}', '{"A": 1, "B": 1, "D": 1}', '{"A": 1, "a": 1, "B": 1, "C": 1}', '{"A": 1e9, "B": 1, "C": 1}'],
)
def test_a_profile_that_is_no_answer_beats_neither_the_baseline_nor_no_change(answer):
    found = measure("perturbation/profile", [PROFILE], [answer])
    assert found["pearson_delta"] == 0.0
    assert found["rmse"] == pytest.approx(max(math.sqrt(1.5 / 3), math.sqrt(2.25 / 3)))


def test_orders_by_hand():
    truth = {"relevance": {"A": 3.0, "B": 1.0, "C": 0.0}}
    best = measure("perturbation/ranking", [truth], ['["A", "B", "C"]'])["ndcg"]
    worst = measure("perturbation/ranking", [truth], ['["C", "B", "a"]'])["ndcg"]
    assert best == pytest.approx(1.0)
    assert worst == pytest.approx((1 / math.log2(3) + 3 / 2) / (3 + 1 / math.log2(3)))
    for answer in (None, '["A", "B"]', '["A", "A", "B"]', '["A", "B", "D"]'):
        assert measure("perturbation/ranking", [truth], [answer])["ndcg"] == 0.0, answer


def test_other_open_tasks_have_their_accuracy():
    assert measure("sequence/orf", [{"answer": "ATG"}] * 4, ["ATG"] * 3 + [None], [True] * 3 + [False]) == {
        "accuracy": 0.75
    }


@st.composite
def claims(draw):
    n = draw(st.integers(2, 40))
    column = lambda values: draw(st.lists(values, min_size=n, max_size=n))  # noqa: E731
    return column(st.booleans()), column(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9, 1.0])), column(st.integers(0, 3))


@settings(max_examples=80)
@given(claims())
def test_precision_and_brier_are_sklearns(case):
    truth, score, weight = map(np.array, case)
    labels = np.where(truth, "yes", "no").tolist()
    rows = ranking.Rows.of(
        "perturbation/effect", labels, ["yes", "no"], ["g"] * len(truth), [f"{i:02d}" for i in range(len(truth))]
    )
    table = np.column_stack([score, 1 - score])
    question = ranking.rankings(rows, table)["auroc"]
    weights = weight.astype(float)[:, None]
    found = ranking.auprc(question).of(weights)[0]
    if weight[truth].sum() and weight[~truth].sum():
        assert found == pytest.approx(reference.average_precision_score(truth, score, sample_weight=weight), abs=1e-12)
    else:
        assert math.isnan(found)
    brier = calibration.calibration_metrics(rows, table, labels)["brier"].of(np.ones((len(truth), 1)))[0]
    assert brier == pytest.approx(np.mean((score - truth) ** 2))


def test_precision_within_readouts_is_the_mean_of_sklearns():
    rng = np.random.default_rng(0)
    truth, score, gene = rng.random(300) < 0.2, np.round(rng.random(300), 1), rng.integers(12, size=300)
    rows = ranking.Rows.of(
        "perturbation/effect",
        np.where(truth, "yes", "no").tolist(),
        ["yes", "no"],
        [str(g) for g in gene],
        [str(i) for i in range(300)],
    )
    question = ranking.rankings(rows, np.column_stack([score, 1 - score]))["auroc"]
    each = [
        reference.average_precision_score(truth[gene == g], score[gene == g])
        for g in range(12)
        if 0 < truth[gene == g].sum() < (gene == g).sum()
    ]
    assert ranking.auprc(question, by_readout=True).of(np.ones((300, 1)))[0] == pytest.approx(np.mean(each))


def test_calibration_by_hand():
    """Ten bins of two: .05 .15 ... .95, each said twice; the first five bins hold once, the others never."""
    said = np.repeat(np.arange(10) / 10 + 0.05, 2)
    held = np.array([True, False] * 5 + [False, False] * 5)
    labels = np.where(held, "up", "down").tolist()
    system = metrics.System(
        labels=labels,
        probabilities=np.column_stack([said, 1 - said]),
        answers=labels,
        label_names=["up", "down"],
        readouts=["g"] * 20,
        clusters=[str(i) for i in range(20)],
    )
    found = metrics.summarise("perturbation/direction", **system, resamples=50)
    gaps = [abs(p - (0.5 if i < 5 else 0.0)) for i, p in enumerate(said[::2])]
    assert found["ece"]["value"] == pytest.approx(np.mean(gaps))
    assert found["ece"]["low"] <= found["ece"]["value"] <= found["ece"]["high"]
    table = metrics.reliability("perturbation/direction", system)
    assert [row["n"] for row in table] == [2] * 10
    assert (table[0]["said"], table[0]["held"]) == (pytest.approx(0.05), 0.5)


def test_with_many_labels_the_likeliest_is_judged_and_the_brier_score_is_sklearns():
    rng = np.random.default_rng(2)
    table, names = rng.dirichlet([1, 1, 1], 60), ["none", "up", "down"]
    labels = rng.choice(names, 60).tolist()
    system = metrics.System(
        labels=labels,
        probabilities=table,
        answers=labels,
        label_names=names,
        readouts=["g"] * 60,
        clusters=[str(i) for i in range(60)],
    )
    found = metrics.summarise("perturbation/response", **system, resamples=5)
    order = [names.index(name) for name in sorted(names)]
    expected = reference.brier_score_loss(labels, table[:, order], labels=sorted(names))
    assert found["brier"]["value"] == pytest.approx(expected)
    bins = metrics.reliability("perturbation/response", system)
    assert sum(row["n"] for row in bins) == 60
    assert min(row["low"] for row in bins) >= 1 / 3
    assert np.average([row["held"] for row in bins], weights=[row["n"] for row in bins]) == pytest.approx(
        np.mean([names[i] == label for i, label in zip(table.argmax(axis=1), labels, strict=True)])
    )


def test_equal_probabilities_share_a_bin():
    labels = ["up"] * 30 + ["down"] * 10
    system = metrics.System(
        labels=labels,
        probabilities=np.tile([0.75, 0.25], (40, 1)),
        answers=labels,
        label_names=["up", "down"],
        readouts=["g"] * 40,
        clusters=[str(i) for i in range(40)],
    )
    assert len(metrics.reliability("perturbation/direction", system)) == 1
    assert metrics.summarise("perturbation/direction", **system, resamples=5)["ece"]["value"] == 0.0


def test_one_calibration_error_for_policies_and_oracles():
    rng = np.random.default_rng(0)
    said = np.round(rng.beta(2, 5, 300), 2)  # with ties
    held = (rng.random(300) < said).astype(float)
    system = metrics.System(
        labels=["up" if x else "down" for x in held],
        probabilities=np.column_stack([said, 1 - said]),
        answers=["up"] * 300,
        label_names=["up", "down"],
        readouts=["g"] * 300,
        clusters=[str(i) for i in range(300)],
    )
    found = metrics.summarise("perturbation/direction", **system, resamples=5)["ece"]["value"]
    assert found == pytest.approx(oracle_calibration.ece(said, held))


@pytest.mark.parametrize("right", [0, 1, 2])
def test_no_interval_leaves_the_range_of_its_metric(right):
    """Small, extreme systems: the interval of a metric is within the range, that of a difference within its own."""
    rng = np.random.default_rng(right)
    labels = rng.choice(["up", "down"], 12).tolist()
    told = np.array([[1.0, 0.0] if label == "up" else [0.0, 1.0] for label in labels])
    shares = {0: 1 - told, 1: told, 2: np.full((12, 2), 0.5)}[right]

    def system(probabilities):
        return metrics.System(
            labels=labels,
            probabilities=probabilities,
            answers=labels,
            label_names=["up", "down"],
            readouts=[f"g{i % 3}" for i in range(12)],
            clusters=[str(i) for i in range(12)],
        )

    both = metrics.measured("perturbation/direction", {"a": system(shares), "b": system(told)}, 0, 200)
    for name, found in metrics.intervals(both["a"]).items():
        if found["low"] is not None:
            assert (-1 if name == "mcc" else 0) <= found["low"] <= found["high"] <= 1, (name, found)
    for name, found in metrics.differences(both["a"], both["b"]).items():
        if found["low"] is not None and name != "mcc":
            assert -1 <= found["low"] <= found["high"] <= 1, (name, found)
    ece = metrics.summarise("perturbation/direction", **system(np.full((12, 2), 0.5)), resamples=200)["ece"]
    assert ece["low"] >= 0
