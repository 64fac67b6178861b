"""Tests of differences against enumeration, SciPy and hand counts; Holm against a worked example."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from rlvr.evaluation import metrics
from rlvr.evaluation.metrics import paired

DIRECTION = "perturbation/direction"


@settings(max_examples=100)
@given(st.lists(st.integers(-5, 5), max_size=9))
def test_the_sign_flip_test_is_the_enumeration_of_all_signs(differences):
    seen = abs(sum(differences))
    sums = [
        sum(s * d for s, d in zip(signs, differences, strict=True))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    assert paired.sign_flip(differences) == pytest.approx(np.mean([abs(total) >= seen for total in sums]))


def test_with_one_row_per_cluster_it_is_the_exact_sign_test():
    differences = [1] * 19 + [-1] * 6 + [0] * 400
    assert paired.sign_flip(differences) == pytest.approx(binomtest(19, 25).pvalue)


def test_it_stays_exact_for_many_clusters_of_many_sizes():
    """Against a normal approximation, which is good here: 3,000 clusters, sizes up to 40."""
    rng = np.random.default_rng(0)
    differences = rng.integers(-40, 41, 3000)
    z = differences.sum() / np.sqrt((differences**2).sum())
    assert paired.sign_flip(differences) == pytest.approx(2 * norm.sf(abs(z)), abs=2e-3)
    assert 0 < paired.sign_flip(np.full(3000, 7)) < 1e-15


def test_what_counts_no_rows_is_refused():
    with pytest.raises(ValueError, match="whole numbers"):
        paired.sign_flip([0.5, 1.0])


def test_the_bootstrap_p_is_two_sided_and_never_0():
    draws = np.concatenate([np.full(990, 0.1), np.full(9, -0.1)])
    assert paired.bootstrap_p(draws) == pytest.approx(2 * 10 / 1000)
    assert paired.bootstrap_p(-draws) == paired.bootstrap_p(draws)
    assert paired.bootstrap_p(np.full(999, 1.0)) == 2 / 1000
    assert paired.bootstrap_p(np.zeros(99)) == 1.0


def test_holm_by_hand():
    """p .01 .04 .03 .005 of four: times 3, 1, 2 and 4, never falling: .03 .06 .06 .02 (R's p.adjust says the same)."""
    assert paired.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert paired.holm([0.9, 0.8]) == [1.0, 1.0]
    assert paired.holm([]) == []


def system(labels, first, clusters):
    first = np.asarray(first)
    return metrics.System(
        labels=labels,
        probabilities=np.column_stack([first, 1 - first]),
        answers=["up" if p > 0.5 else "down" for p in first],
        label_names=["up", "down"],
        readouts=["k562:A"] * len(labels),
        clusters=clusters,
    )


def test_the_null_is_rejected_as_often_as_the_level_says():
    """Two equally good systems, whose errors come in clusters: at 10 %, 120 experiments reject about 12 times (2 to
    26 holds with a chance above .999); row by row they would reject 35 times."""
    rng = np.random.default_rng(1)
    rejected = dict.fromkeys(("accuracy", "auroc"), 0)
    for seed in range(120):
        shift = np.repeat(rng.normal(0, 2, (2, 30)), 8, axis=1)
        truth = rng.random(240) < 0.5
        scores = [1 / (1 + np.exp(-np.where(truth, 1, -1) * (0.7 + own) - rng.normal(0, 1, 240))) for own in shift]
        labels = np.where(truth, "up", "down").tolist()
        clusters = np.repeat([f"P{i}" for i in range(30)], 8).tolist()
        both = {name: system(labels, s, clusters) for name, s in zip("ab", scores, strict=True)}
        drawn = metrics.measured(DIRECTION, both, seed, 200, only=list(rejected))
        found = metrics.differences(drawn["a"], drawn["b"])
        for name in rejected:
            rejected[name] += found[name]["p"] < 0.1
    assert all(2 <= count <= 26 for count in rejected.values()), rejected


def test_the_detectable_difference_is_found_four_times_in_five():
    """A true gain of exactly the printed size: of 150 experiments, 120 should reject at 5 % (97 to 141 allowed)."""
    rng = np.random.default_rng(3)
    clusters = [f"P{i // 4}" for i in range(1000)]

    def experiment(gain):
        plain = rng.random(1000) < 0.5
        changed = rng.random(1000) < 0.2 + gain  # of which so many more for the better that `gain` is gained
        better = np.where(changed, rng.random(1000) < 0.5 + gain / (2 * (0.2 + gain)), plain)
        plain = np.where(changed, ~better, plain)
        columns = [metrics.means({"accuracy": right}, clusters, resamples=200) for right in (better, plain)]
        return metrics.differences(*columns)["accuracy"]

    said = np.mean([experiment(0.0)["detectable"] for _ in range(20)])
    found = [experiment(said) for _ in range(150)]
    assert np.mean([one["value"] for one in found]) == pytest.approx(said, rel=0.1)
    assert 97 <= sum(one["p"] < 0.05 for one in found) <= 141


def test_correction_is_over_the_tasks_of_one_pair_and_metric():
    def one(p):
        return {"value": 0.1, "low": 0.0, "high": 0.2, "n": 9, "p": p}

    found = {
        "after - before": {
            "a": {"auroc": one(0.01), "accuracy": one(0.5)},
            "b": {"auroc": one(0.03)},
            "c": {"auroc": {"value": None}},
        },
        "after - majority": {"a": {"auroc": one(0.02)}},
    }
    metrics.correct(found)
    assert found["after - before"]["a"]["auroc"]["p_holm"] == 0.02
    assert found["after - before"]["b"]["auroc"]["p_holm"] == 0.03
    assert found["after - before"]["a"]["accuracy"]["p_holm"] == 0.5
    assert "p_holm" not in found["after - before"]["c"]["auroc"]
    assert found["after - majority"]["a"]["auroc"]["p_holm"] == 0.02
    json.dumps(found, allow_nan=False)
