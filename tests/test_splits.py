"""Splits do not move, and a leak stops the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr.splits import assign, fraction, overlaps, refuse_leak
from rlvr.types import Error, Question

SHARES = {"train": 0.6, "validation": 0.3, "test": 0.1}


def test_the_hash_is_fixed() -> None:
    # printf salt:CD3E | sha256sum: the first sixteen digits, over 2**64.
    assert fraction("CD3E", "salt") == 0x09F2AC33FDCACFC6 / 2**64
    assert fraction("CD3E", "other") != fraction("CD3E", "salt")


@given(st.lists(st.text(min_size=1), unique=True, min_size=1), st.data())
def test_a_name_keeps_its_split_whatever_else_is_there(names: list[str], data: st.DataObject) -> None:
    whole = assign(names, SHARES, "s")
    part = data.draw(st.lists(st.sampled_from(names), unique=True))
    assert assign(part, SHARES, "s") == {name: whole[name] for name in part}


def test_shares_are_kept() -> None:
    counts = Counter(assign((f"G{i}" for i in range(10_000)), SHARES, "s").values())
    assert {split: round(n / 10_000, 1) for split, n in counts.items()} == SHARES


@pytest.mark.parametrize("shares", [{"train": 0.5, "test": 0.4}, {"train": 1.2, "test": -0.2}])
def test_shares_must_sum_to_one(shares: dict[str, float]) -> None:
    with pytest.raises(Error, match="sum to 1"):
        assign(["A"], shares, "s")


def test_overlaps_count_perturbations_and_pairs(make_question: Callable[..., Question]) -> None:
    def ask(perturbation: str, readout: str) -> Question:
        return make_question({"perturbation": perturbation, "readout": readout})

    train = [ask("A", "x"), ask("B", "y")]
    assert overlaps(train, [ask("A", "x"), ask("A", "y"), ask("C", "x")]) == {"perturbation": 2, "pair": 1}
    refuse_leak(train, [ask("C", "x")])
    with pytest.raises(Error, match="of 2 held-out questions 1 share their perturbation with training"):
        refuse_leak(train, (q for q in [ask("A", "y"), ask("C", "x")]))
