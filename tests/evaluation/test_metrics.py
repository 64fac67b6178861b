"""The metrics against hand counts, scikit-learn and naive loops; the intervals against simulations."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from rlvr.evaluation import metrics
from rlvr.evaluation.metrics import bootstrap, ranking
from rlvr.types import Error

EFFECT, DIRECTION, RESPONSE = "perturbation/effect", "perturbation/direction", "perturbation/response"
THREE = ["none", "up", "down"]


def system(labels, scores, *, answers=None, readouts=None, clusters=None, names=("up", "down")):
    """Two labels; scores are the probabilities of the first."""
    scores = np.asarray(scores, dtype=float)
    n = len(labels)
    return metrics.System(
        labels=labels,
        probabilities=np.column_stack([scores, 1 - scores]),
        answers=[names[int(s < 0.5)] for s in scores] if answers is None else answers,
        label_names=list(names),
        readouts=["k562:A"] * n if readouts is None else readouts,
        clusters=[f"P{i}" for i in range(n)] if clusters is None else clusters,
    )


def values(found):
    return {name: interval["value"] for name, interval in found.items()}


# Counted by hand. Gene A: up .9 .5, down .5 .1 -> wins 1 + 1 + .5 + 1 of 4. Gene B: up .2, down .3 -> 0 of 1.
# Gene C has only up. Pooled: up .9 .5 .2 .7, down .5 .1 .3 -> 3 + 2.5 + 1 + 3 of 12.
HAND = system(
    ["up", "up", "down", "down", "up", "down", "up"],
    [0.9, 0.5, 0.5, 0.1, 0.2, 0.3, 0.7],
    answers=["up", "up", None, "down", "down", "down", "up"],
    readouts=["k562:A"] * 4 + ["k562:B"] * 2 + ["k562:C"],
)


def test_hand_counted_case():
    found = metrics.summarise(DIRECTION, **HAND, resamples=50)
    assert found["auroc"]["value"] == pytest.approx(9.5 / 12)
    assert found["auroc_macro_gene"]["value"] == pytest.approx((3.5 / 4 + 0) / 2)
    assert found["auroc_macro_gene"]["n"] == 2, "gene C has one label and does not count"
    assert found["auroc"]["n"] == 7
    assert found["accuracy"]["value"] == pytest.approx(5 / 7)
    assert found["balanced_accuracy"]["value"] == pytest.approx((3 / 4 + 2 / 3) / 2)
    # the third row is unparsed: up .9 .5 .2 .7 against down .1 .3 win 2 + 2 + 1 + 2 of 8, and 4 coin tosses
    assert found["auroc_strict"]["value"] == pytest.approx((7 + 2) / 12)


def test_the_same_gene_in_two_contexts_is_two_genes():
    labels, scores = ["up", "down", "up", "down"], [0.9, 0.8, 0.2, 0.1]
    apart = system(labels, scores, readouts=["k562:A", "k562:A", "rpe1:A", "rpe1:A"])
    together = system(labels, scores, readouts=["A"] * 4)
    assert metrics.summarise(DIRECTION, **apart, resamples=9)["auroc_macro_gene"]["value"] == 1.0
    assert metrics.summarise(DIRECTION, **together, resamples=9)["auroc_macro_gene"]["value"] == 0.75


def test_a_score_that_knows_only_the_gene_is_exactly_a_half_per_gene():
    rng = np.random.default_rng(0)
    genes = rng.integers(20, size=400)
    labels = np.where(rng.random(400) < genes / 20, "yes", "no").tolist()
    found = metrics.summarise(
        EFFECT, **system(labels, genes / 20, readouts=[f"k562:{g}" for g in genes], names=("yes", "no")), resamples=20
    )
    assert found["auroc_macro_gene"]["value"] == 0.5
    assert (found["auroc_macro_gene"]["low"], found["auroc_macro_gene"]["high"]) == (0.5, 0.5)
    assert found["auroc"]["value"] > 0.8


def test_three_classes_ask_for_effect_and_direction():
    # effect scores .9 .4 .7 .3 (true: 1 1 1 0): every effect above -> 1. Direction among the first three:
    # 8/9, 1/4, 1/7 with up, up, down -> both above -> 1. The last row's direction would be wrong and is not asked.
    table = np.array([[0.1, 0.8, 0.1], [0.6, 0.1, 0.3], [0.3, 0.1, 0.6], [0.7, 0.0, 0.3]])
    rows = metrics.System(
        labels=["up", "up", "down", "none"],
        probabilities=table,
        answers=["up", "none", "down", "none"],
        label_names=THREE,
        readouts=["cd4_il2:IL-2"] * 4,
        clusters=list("abcd"),
    )
    found = metrics.summarise(RESPONSE, **rows, resamples=50)
    assert values(found)["auroc_effect"] == 1.0
    assert values(found)["auroc_direction"] == 1.0
    assert found["auroc_direction"]["n"] == 3
    worse = table[:, [0, 2, 1]]  # up and down exchanged: the effect stays, the direction turns over
    turned = values(metrics.summarise(RESPONSE, **{**rows, "probabilities": worse}, resamples=9))
    assert (turned["auroc_effect"], turned["auroc_direction"], turned["auroc"]) == (1.0, 0.0, 0.5)
    assert turned["auroc_macro_gene"] == 0.5
    assert "f1" not in turned


def test_three_classes_do_not_depend_on_the_order_of_the_labels():
    rng = np.random.default_rng(1)
    labels = rng.choice(THREE, 60).tolist()
    table = rng.dirichlet([1, 1, 1], 60)
    rows = {"labels": labels, "answers": labels, "readouts": ["g"] * 60, "clusters": [str(i) for i in range(60)]}
    one = metrics.summarise(RESPONSE, probabilities=table, label_names=THREE, **rows, resamples=40)
    other = metrics.summarise(RESPONSE, probabilities=table[:, [2, 0, 1]], label_names=["down", "none", "up"], **rows)
    assert values(one) == pytest.approx(values(other))


@st.composite
def scored_rows(draw):
    """Rows with many ties, some genes of one label, unparsed answers and integer weights."""
    n = draw(st.integers(2, 40))
    column = lambda values: st.lists(values, min_size=n, max_size=n)  # noqa: E731
    return {
        "truth": draw(column(st.booleans())),
        "score": draw(column(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]))),
        "gene": draw(column(st.integers(0, 4))),
        "weight": draw(column(st.integers(0, 3))),
        "answer": draw(column(st.sampled_from(["yes", "no", None]))),
    }


def weighted_auroc(truth, score, weight):
    """scikit-learn's, or None where it is not defined."""
    truth, weight = np.asarray(truth), np.asarray(weight, dtype=float)
    if not weight[truth].sum() or not weight[~truth].sum():
        return None
    return reference.roc_auc_score(truth, score, sample_weight=weight)


@settings(max_examples=150, deadline=None)
@given(scored_rows())
def test_weighted_auroc_is_sklearns(case):
    labels = ["yes" if t else "no" for t in case["truth"]]
    rows = ranking.Rows.of(
        EFFECT, labels, ["yes", "no"], [str(g) for g in case["gene"]], [f"{i:02d}" for i in range(len(labels))]
    )
    score = np.array(case["score"])
    question = ranking.rankings(rows, np.column_stack([score, 1 - score]))["auroc"]
    weights = np.array(case["weight"], dtype=float)[:, None]
    pooled = ranking.auroc(question).of(weights)[0]
    expected = weighted_auroc(case["truth"], case["score"], case["weight"])
    assert math.isnan(pooled) if expected is None else pooled == pytest.approx(expected, abs=1e-12)

    genes = np.array(case["gene"])
    by_gene = [
        weighted_auroc(np.array(case["truth"])[genes == g], score[genes == g], np.array(case["weight"])[genes == g])
        for g in range(5)
    ]
    known = [value for value in by_gene if value is not None]
    macro = ranking.auroc(question, by_readout=True).of(weights)[0]
    assert macro == pytest.approx(np.mean(known), abs=1e-12) if known else math.isnan(macro)


@settings(max_examples=100, deadline=None)
@given(scored_rows())
def test_strict_auroc_gives_half_a_point_to_every_pair_with_an_unparsed_row(case):
    labels = ["yes" if t else "no" for t in case["truth"]]
    found = metrics.summarise(
        EFFECT, **system(labels, case["score"], answers=case["answer"], names=("yes", "no")), resamples=2
    )
    pairs = [
        0.5 if case["answer"][i] is None or case["answer"][j] is None or a == b else float(a > b)
        for i, a in enumerate(case["score"])
        for j, b in enumerate(case["score"])
        if case["truth"][i] and not case["truth"][j]
    ]
    assert found["auroc_strict"]["value"] == (pytest.approx(np.mean(pairs)) if pairs else None)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(THREE), st.sampled_from([*THREE, None])), min_size=1, max_size=40).filter(
        lambda rows: len({truth for truth, _ in rows}) > 1
    )
)
def test_answers_are_scored_as_by_sklearn_with_unparsed_as_one_more_answer(pairs):
    truth = [a for a, _ in pairs]
    answers = [b for _, b in pairs]
    n = len(pairs)
    found = values(
        metrics.summarise(RESPONSE, truth, None, answers, THREE, ["g"] * n, [str(i) for i in range(n)], resamples=2)
    )
    filled = [b or "unparsed" for b in answers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = {
            "accuracy": reference.accuracy_score(truth, filled),
            "balanced_accuracy": reference.balanced_accuracy_score(truth, filled),
            "macro_f1": reference.f1_score(truth, filled, labels=THREE, average="macro", zero_division=np.nan),
            "mcc": reference.matthews_corrcoef(truth, filled),
        }
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_unparsed_counts_as_wrong():
    labels = ["up", "down"] * 10
    right = metrics.summarise(DIRECTION, **system(labels, [0.9, 0.1] * 10, answers=labels), resamples=20)
    silent = metrics.summarise(DIRECTION, **system(labels, [0.9, 0.1] * 10, answers=[None] * 20), resamples=20)
    calibration = {"brier": pytest.approx(0.01), "brier_strict": pytest.approx(0.01), "ece": pytest.approx(0.1)}
    assert values(right) == dict.fromkeys(right, 1.0) | calibration
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "f1", "mcc"):
        assert silent[name]["value"] == 0.0, name
    assert silent["auroc"]["value"] == 1.0, "the forced slot is scored whatever was said before"
    assert silent["auroc_strict"]["value"] == 0.5
    assert silent["brier"]["value"] == pytest.approx(0.01)
    assert silent["brier_strict"]["value"] == 1.0


def naive_intervals(rows, statistic, seed, resamples):
    """The same draws, each as a table of its own."""
    names = sorted(set(rows["clusters"]))
    members = [[i for i, c in enumerate(rows["clusters"]) if c == name] for name in names]
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        picked = rng.integers(len(names), size=len(names))
        drawn.append(statistic([i for cluster in picked for i in members[cluster]]))
    kept = [value for value in drawn if value is not None]
    return (*np.percentile(kept, [2.5, 97.5]), len(drawn) - len(kept))


@pytest.fixture(scope="module")
def clustered():
    rng = np.random.default_rng(3)
    n = 90
    labels = np.where(rng.random(n) < 0.12, "up", "down").tolist()
    scores = np.round(rng.random(n) * 0.6 + 0.3 * (np.array(labels) == "up"), 1)
    answers = [None if u < 0.1 else ("up" if s > 0.5 else "down") for u, s in zip(rng.random(n), scores, strict=True)]
    clusters = [f"P{i}" for i in rng.integers(12, size=n)]
    return system(
        labels, scores, answers=answers, readouts=[f"g{i}" for i in rng.integers(6, size=n)], clusters=clusters
    )


def test_intervals_equal_a_naive_loop_over_the_same_draws(clustered):
    found = metrics.summarise(DIRECTION, **clustered, seed=7, resamples=120)
    truth = np.array([label == "up" for label in clustered["labels"]])
    score = clustered["probabilities"][:, 0]
    genes = np.array(clustered["readouts"])
    right = np.array([a == b for a, b in zip(clustered["answers"], clustered["labels"], strict=True)])

    def pooled(rows):
        return weighted_auroc(truth[rows], score[rows], np.ones(len(rows)))

    def macro(rows):
        inside = [np.array(rows)[genes[rows] == g] for g in sorted(set(genes))]
        known = [pooled(part) for part in inside if len(part) and pooled(part) is not None]
        return np.mean(known) if known else None

    for name, statistic in {"auroc": pooled, "auroc_macro_gene": macro, "accuracy": lambda r: right[r].mean()}.items():
        low, high, dropped = naive_intervals(clustered, statistic, 7, 120)
        assert found[name]["low"] == pytest.approx(low), name
        assert found[name]["high"] == pytest.approx(high), name
        assert found[name].get("dropped", 0) == dropped, name


def test_resamples_without_both_labels_are_dropped_and_counted():
    rows = system(["up", "down", "down"], [0.9, 0.2, 0.1])
    found = metrics.summarise(DIRECTION, **rows, seed=0, resamples=1000)["auroc"]
    assert (found["value"], found["low"], found["high"]) == (1.0, 1.0, 1.0)
    # no "up" in (2/3)^3 of the draws, only "up" in (1/3)^3: one third
    assert 0.28 < found["dropped"] / 1000 < 0.39


def test_draws_do_not_depend_on_the_chunk(clustered, monkeypatch):
    whole = metrics.summarise(DIRECTION, **clustered, resamples=100)
    monkeypatch.setattr(bootstrap, "_CHUNK_BYTES", 7 * 8 * 4 * 90)
    cut = metrics.summarise(DIRECTION, **clustered, resamples=100)
    assert {name: pytest.approx(interval, abs=1e-12) for name, interval in whole.items()} == cut
    assert metrics.summarise(DIRECTION, **clustered, resamples=100, seed=1) != whole


@pytest.mark.slow
def test_intervals_cover_the_truth_of_simulated_clusters():
    """Rows of a perturbation share a random effect: 95 % intervals must hold the population's value in about
    95 % of 200 experiments. Below 86 % has a chance under 1e-6 if they do; resampling rows reaches about 70 %."""
    rng = np.random.default_rng(11)
    inside = dict.fromkeys(("accuracy", "auroc"), 0)
    by_rows = 0

    def experiment(perturbations, rows_each):
        shift = np.repeat(rng.normal(0, 1, perturbations), rows_each)
        truth = rng.random(perturbations * rows_each) < 0.5
        z = np.where(truth, 0.7, -0.7) + shift * np.where(truth, 1, -1) + rng.normal(0, 1, len(truth))
        clusters = np.repeat([f"P{i}" for i in range(perturbations)], rows_each).tolist()
        return system(np.where(truth, "up", "down").tolist(), 1 / (1 + np.exp(-z)), clusters=clusters)

    population = values(metrics.summarise(DIRECTION, **experiment(20_000, 10), resamples=0))
    for index in range(200):
        rows = experiment(60, 10)
        found = metrics.summarise(DIRECTION, **rows, seed=index, resamples=300)
        for name in inside:
            inside[name] += found[name]["low"] <= population[name] <= found[name]["high"]
        single = {**rows, "clusters": [str(i) for i in range(600)]}
        rowwise = metrics.summarise(DIRECTION, **single, seed=index, resamples=100)["accuracy"]
        by_rows += rowwise["low"] <= population["accuracy"] <= rowwise["high"]
    assert min(inside.values()) >= 172, inside
    assert by_rows < 165, "the simulation must need clusters, or it proves nothing"


def test_a_system_compared_with_itself_differs_by_exactly_nothing(clustered):
    found = metrics.compare(DIRECTION, clustered, clustered, resamples=200)
    assert set(found) == set(metrics.summarise(DIRECTION, **clustered, resamples=1))
    for name, interval in found.items():
        assert (interval["value"], interval["low"], interval["high"]) == (0.0, 0.0, 0.0), name


def test_a_paired_difference_is_the_difference_of_the_values_and_narrower_than_apart(clustered):
    other = {**clustered, "probabilities": clustered["probabilities"] ** 2}
    other["probabilities"] /= other["probabilities"].sum(axis=1, keepdims=True)
    noise = np.random.default_rng(5).normal(0, 0.02, len(clustered["labels"]))
    score = np.clip(clustered["probabilities"][:, 0] + noise, 0, 1)
    noisy = {**clustered, "probabilities": np.column_stack([score, 1 - score])}
    a, b = (metrics.summarise(DIRECTION, **rows, resamples=400)["auroc"] for rows in (clustered, noisy))
    paired = metrics.compare(DIRECTION, clustered, noisy, resamples=400)["auroc"]
    assert paired["value"] == pytest.approx(a["value"] - b["value"])
    assert paired["low"] <= paired["value"] <= paired["high"]
    unpaired = math.hypot(a["high"] - a["low"], b["high"] - b["low"])
    assert paired["high"] - paired["low"] < unpaired / 2
    squared = metrics.compare(DIRECTION, clustered, other, resamples=50)["auroc"]
    assert (squared["low"], squared["high"]) == (0.0, 0.0), "a monotone change of the scores ranks the same"


def test_what_cannot_be_computed_is_none_with_a_reason_and_json_safe():
    one_label = metrics.summarise(DIRECTION, **system(["up"] * 4, [0.9] * 4), resamples=20)
    assert one_label["auroc"]["value"] is None
    assert one_label["auroc"]["reason"] == "only one label occurs"
    assert one_label["accuracy"]["value"] == 1.0
    assert one_label["mcc"]["value"] is None
    wordless = metrics.summarise(DIRECTION, **{**HAND, "probabilities": None}, resamples=20)
    assert wordless["auroc"] | {"n": 0} == {
        "value": None, "low": None, "high": None, "n": 0, "reason": "the system gives no probabilities",
    }  # fmt: skip
    empty = metrics.summarise(DIRECTION, **system([], []), resamples=20)
    assert {interval["reason"] for interval in empty.values()} == {"no rows"}
    alone = metrics.summarise(DIRECTION, **system(["up", "down"], [0.9, 0.1], clusters=["P", "P"]), resamples=20)
    assert alone["auroc"]["value"] == 1.0
    assert alone["auroc"]["low"] is None, "one perturbation has no interval"
    gap = metrics.compare(DIRECTION, HAND, {**HAND, "probabilities": None}, resamples=20)
    assert gap["accuracy"]["value"] == 0.0
    assert gap["auroc"]["value"] is None
    for found in (one_label, wordless, empty, alone, gap):
        json.dumps(found, allow_nan=False)


def test_a_task_of_many_labels_has_no_auroc():
    names = ["B cell", "T cell", "monocyte", "NK cell"]
    found = metrics.summarise("cell/type", names, np.eye(4), names, names, ["g"] * 4, list("abcd"), resamples=9)
    assert set(found) == {"accuracy", "balanced_accuracy", "macro_f1", "mcc", "brier", "brier_strict", "ece"}


def test_mean_is_the_share_of_rows_with_an_interval_over_clusters():
    found = metrics.mean([True] * 30 + [False] * 10, [f"P{i % 8}" for i in range(40)], resamples=500)
    assert (found["value"], found["n"]) == (0.75, 40)
    assert 0.5 < found["low"] < 0.75 < found["high"] <= 1.0
    always = metrics.mean([True] * 5, list("abcde"), resamples=10)
    assert (always["low"], always["high"]) == (1.0, 1.0)
    assert metrics.mean([], [])["value"] is None


def test_the_permutation_null_lies_about_a_half_and_below_a_real_score(clustered):
    null = metrics.permutation_null(DIRECTION, clustered, seed=2, permutations=400)
    found = metrics.summarise(DIRECTION, **clustered, resamples=1)
    for name in ("auroc", "auroc_macro_gene"):
        assert null[name]["mean"] == pytest.approx(0.5, abs=0.03)
        assert 0.5 < null[name]["high"] < found[name]["value"]
        assert null[name]["n"] == found[name]["n"]


def test_the_null_per_gene_keeps_each_genes_labels():
    """Scores that tell genes apart and nothing else: pooled labels dealt anew lose that, per gene nothing moves."""
    labels = ["up"] * 9 + ["down"] + ["down"] * 9 + ["up"]
    genes = ["k562:A"] * 10 + ["k562:B"] * 10
    rows = system(labels, [0.9] * 10 + [0.1] * 10, readouts=genes)
    null = metrics.permutation_null(DIRECTION, rows, permutations=200)
    assert (null["auroc_macro_gene"]["mean"], null["auroc_macro_gene"]["high"]) == (0.5, 0.5)
    assert null["auroc"]["high"] > 0.6


def test_the_null_of_three_classes_and_of_nothing():
    rng = np.random.default_rng(4)
    rows = metrics.System(
        labels=rng.choice(THREE, 90).tolist(),
        probabilities=rng.dirichlet([1, 1, 1], 90),
        answers=[None] * 90,
        label_names=THREE,
        readouts=rng.choice(["a", "b"], 90).tolist(),
        clusters=[str(i) for i in range(90)],
    )
    null = metrics.permutation_null(RESPONSE, rows, permutations=300)
    assert null["auroc"]["mean"] == pytest.approx(0.5, abs=0.02)
    assert null["auroc_macro_gene"]["n"] == 2
    nothing = {"mean": None, "high": None, "n": 0}
    silent = metrics.permutation_null(DIRECTION, {**HAND, "probabilities": None})
    assert silent == {"auroc": nothing, "auroc_macro_gene": nothing}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["up"]}, "1 labels, 7 answers"),
        ({"answers": ["up"]}, "7 labels, 1 answers"),
        ({"labels": ["UP", *HAND["labels"][1:]]}, "'UP' is not one of its labels, up, down"),
        ({"answers": ["left"] * 7}, "'left' is not one of its labels"),
        ({"probabilities": np.full((7, 3), 1 / 3)}, "shape (7, 3); give (7, 2)"),
        ({"probabilities": np.full((7, 2), np.nan)}, "no distribution"),
        ({"probabilities": np.full((7, 2), 0.9)}, "no distribution"),
        ({"probabilities": np.tile([1.5, -0.5], (7, 1))}, "no distribution"),
    ],
)
def test_bad_input_is_named(change, message):
    with pytest.raises(Error) as caught:
        metrics.summarise(DIRECTION, **{**HAND, **change})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_comparing_other_rows_or_a_response_without_its_labels_is_an_error():
    with pytest.raises(Error, match="differ in their labels"):
        metrics.compare(DIRECTION, HAND, {**HAND, "labels": ["down"] * 7})
    with pytest.raises(Error, match="they must be none, up, down"):
        metrics.summarise(RESPONSE, **HAND)
    with pytest.raises(Error, match="2 values, 1 clusters"):
        metrics.mean([True, False], ["a"])
