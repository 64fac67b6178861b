"""Several samples of a question, by hand and by enumeration of all draws."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr.evaluation.metrics.samples import Samples, best_of, majority_at, pass_at, votes

# Three questions: three samples, one, and two.
SAMPLES = Samples.of(["a", "a", "a", "b", "c", "c"])
ANSWERS = ["up", "down", "up", None, "down", "up"]
RIGHT = np.array([True, False, True, False, False, True])


@given(st.lists(st.booleans(), min_size=1, max_size=7), st.data())
def test_pass_at_k_is_the_mean_over_all_draws_of_k(right, data):
    k = data.draw(st.integers(1, len(right)))
    found = pass_at(k, np.array(right), Samples.of(["q"] * len(right)))
    assert found[0] == pytest.approx(np.mean([any(draw) for draw in itertools.combinations(right, k)]))


def test_pass_at_k_of_the_paper_by_hand():
    """n = 5, c = 2, k = 3: 1 - C(3, 3) / C(5, 3) = .9."""
    assert pass_at(3, np.array([True, False, True, False, False]), Samples.of(["q"] * 5))[0] == pytest.approx(0.9)


def test_a_question_with_too_few_samples_has_no_value():
    assert SAMPLES.sizes() == [1, 2, 3]
    assert pass_at(1, RIGHT, SAMPLES).tolist() == pytest.approx([2 / 3, 0, 0.5])
    found = pass_at(2, RIGHT, SAMPLES)
    assert found[[0, 2]].tolist() == [1.0, 1.0]
    assert np.isnan(found[1])


def test_the_majority_by_hand():
    assert majority_at(3, ANSWERS, RIGHT, SAMPLES)[0] == 1.0
    two = majority_at(2, ANSWERS, RIGHT, SAMPLES)
    assert (two[0], two[2]) == (0.5, 0.5), "a tie is half"
    assert majority_at(1, ANSWERS, RIGHT, SAMPLES).tolist() == pytest.approx([2 / 3, 0, 0.5]), "unparsed is wrong"
    silent = majority_at(4, [None, None, "up", None], np.array([False, False, True, False]), Samples.of(["q"] * 4))
    assert silent[0] == 1.0, "what is not parsed has no vote"


def test_the_best_of_n_by_hand():
    scores = np.array([0.2, 0.9, 0.9, 0.1, np.nan, np.nan])
    found = best_of(scores, RIGHT, SAMPLES)
    assert found[:2].tolist() == [0.5, 0.0], "of the two best, one is right"
    assert np.isnan(found[2]), "no score, no choice"


def test_votes_are_distributions_and_silence_says_nothing():
    table, winners = votes(ANSWERS, ["up", "down"], SAMPLES)
    assert table.tolist() == [pytest.approx([2 / 3, 1 / 3]), [0.5, 0.5], [0.5, 0.5]]
    assert winners == ["up", None, "up"]
    assert votes(["down", None], ["up", "down"], Samples.of(["q", "q"]))[0].tolist() == [[0.25, 0.75]]
