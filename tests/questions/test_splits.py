"""Splits do not move, are disjoint whatever they are made by, and a leak stops the run."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr.knowledge import KnowledgeBase
from rlvr.questions.splits import assign, both, chosen, dated, fraction, groups, overlaps, refuse_leak
from rlvr.questions.splits.kin import Kin, stem
from rlvr.types import Error, Question
from tests.kin import HUMAN, Base, by_hand

SHARES = {"train": 0.6, "validation": 0.3, "test": 0.1}
Ask = Callable[..., Question]
NAMES = [*sorted(HUMAN), "AARS", "MLL", "Aars", "Lck", "Ccnd1", "Mage1", "Mage2", "NOPE"]


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


# -- groups ---------------------------------------------------------------------------------------------------


@given(st.text(), st.sampled_from(["complex", "family"]), st.lists(st.sampled_from(NAMES), unique=True))
def test_relatives_never_part_whatever_the_seed(salt: str, by: str, names: list[str]) -> None:
    kin = by_hand()
    split = assign(names, SHARES, salt, groups(names, Base(), by=by))
    for a in names:
        for b in names:
            if kin.same(a) & kin.same(b) or kin.ties(a, by) & kin.ties(b, by):
                assert split[a] == split[b], (a, b)


@given(st.lists(st.sampled_from(NAMES), unique=True), st.randoms(use_true_random=False))
def test_groups_do_not_depend_on_the_order(names: list[str], random) -> None:
    shuffled = random.sample(names, len(names))
    assert groups(names, Base(), by="family") == groups(shuffled, Base(), by="family")


def test_groups_are_components_named_after_their_first_symbol() -> None:
    found = groups(NAMES, Base(), by="complex")
    assert {n for n, g in found.items() if g == "CD3E"} == {"CD3E", "CD3G", "GAPDH", "LCK", "Lck", "ZAP70"}
    assert (found["NOPE"], found["CCND2"], found["AARS"], found["Aars"]) == ("NOPE", "CCND2", "AARS1", "AARS1")
    small = groups(NAMES, Base(), by="complex", most=10)  # the complex of 90 ties nothing
    assert (small["LCK"], small["CD3G"], small["GAPDH"]) == ("LCK", "CD3E", "GAPDH")
    family = groups(NAMES, Base(), by="family")
    assert (family["CCND2"], family["Ccnd1"]) == ("CCND1", "CCND1")  # by their stem
    assert family["MAGEB1"] == family["MAGEA2"] == "MAGEA2"  # by the mouse gene that both have
    with pytest.raises(Error, match="by is 'pathway'; choose complex or family"):
        groups(NAMES, Base(), by="pathway")
    assert groups([], Base(), by="complex") == {}


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [
        ("CCND1", "CCND"),
        ("SLC25A3", "SLC25A"),
        ("TUBB4B", "TUBB"),
        ("HLA-A", "HLA"),
        ("MAPK14", "MAPK"),
        ("RPL3", "RPL"),  # known to be too wide: no homolog of RPL4
        ("KRAS", ""),
        ("CD3E", ""),  # too short a stem to mean anything
        ("TMEM14A", ""),
        ("C1orf112", ""),
        ("ZNF814", ""),
        ("", ""),
        ("A" * 100_000 + "!", ""),
    ],
)
def test_the_stem_of_a_symbol(symbol: str, expected: str) -> None:
    assert stem(symbol) == expected


# -- other ways to split --------------------------------------------------------------------------------------


@given(st.text(), st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("vwxyz")), unique=True))
def test_by_both_neither_side_is_shared(salt: str, pairs: list[tuple[str, str]]) -> None:
    left, right = assign("abcdefgh", SHARES, salt), assign("vwxyz", SHARES, salt)
    found = {pair: both(left[pair[0]], right[pair[1]]) for pair in pairs}
    for side in (0, 1):
        held = {split: {pair[side] for pair, at in found.items() if at == split} for split in SHARES}
        assert not held["train"] & held["test"] and not held["train"] & held["validation"]


def test_named_contexts_are_held_out() -> None:
    assert chosen(["k562", "rpe1", "k562"], {"rpe1": "test"}) == {"k562": "train", "rpe1": "test"}
    with pytest.raises(Error, match="held out is 'hepg2', which is not there; choose among k562, rpe1"):
        chosen(["k562", "rpe1"], {"hepg2": "test"})
    with pytest.raises(Error, match="split 'held' is not one of"):
        chosen(["k562", "rpe1"], {"rpe1": "held"})
    with pytest.raises(Error, match="leave one to train on"):
        chosen(["rpe1"], {"rpe1": "test"})


def test_facts_after_a_date_are_held_out() -> None:
    days = {"old": "20161231", "edge": "2017-01-01", "newer": "2017-12-31", "newest": "20190114"}
    found = dated(days, {"test": "2018-01-01", "validation": "2017-01-01"})
    assert found == {"old": "train", "edge": "validation", "newer": "validation", "newest": "test"}
    with pytest.raises(Error, match="'last year' is no date"):
        dated({"a": "last year"}, {"test": "2018-01-01"})


# -- leaks ----------------------------------------------------------------------------------------------------


@pytest.fixture
def ask(make_question: Ask) -> Ask:
    def made(perturbation: str, readout: str = "x", context: str = "k562", task: str = "direction", **more) -> Question:
        fields = {"perturbation": perturbation, "readout": readout, "evidence": [], **more}
        return make_question(fields, {"context": context}, task=f"perturbation/{task}")

    return made


def test_overlaps_count_perturbations_and_pairs(ask: Ask) -> None:
    train = [ask("A", "x"), ask("B", "y")]
    held_out = [ask("A", "x"), ask("A", "y"), ask("C", "x")]
    assert overlaps(train, held_out, by_hand()) == {"perturbation": 2, "pair": 1}
    refuse_leak(train, [ask("C", "x")], kin=by_hand())
    with pytest.raises(Error, match="of 2 held-out questions 1 share their perturbation with training"):
        refuse_leak(train, (q for q in [ask("A", "y"), ask("C", "x")]), kin=by_hand())


@pytest.mark.parametrize(
    ("trained", "tested", "kinds"),
    [
        (("LCK",), ("LCK", "y"), {"perturbation"}),
        (("LCK", "x", "rpe1"), ("LCK", "x"), {"perturbation", "pair"}),  # in other cells
        (("LCK", "x", "k562", "effect"), ("LCK", "x"), {"perturbation", "pair"}),  # by another task
        (("AARS",), ("AARS1",), {"perturbation", "pair"}),  # an old symbol
        (("AARS1",), ("AARS",), {"perturbation", "pair"}),
        (("Lck",), ("LCK", "y"), {"perturbation"}),  # a mouse ortholog
        (("LCK",), ("Lck", "y"), {"perturbation"}),
        (("Aars",), ("AARS", "y"), {"perturbation"}),  # both
        (("GAPDH", "AARS"), ("GAPDH", "AARS1"), {"perturbation", "pair"}),  # an old symbol of the readout
        (("LCK", "x"), ("ZAP70", "x"), set()),  # a complex partner is no leak
        (("Mage1",), ("Mage2",), set()),  # two mouse genes of one human gene are two genes
        (("CD3E",), ("cd3e",), set()),
    ],
)
def test_a_planted_leak_is_caught_under_any_name(
    ask: Ask, trained: tuple[str, ...], tested: tuple[str, ...], kinds: set[str]
) -> None:
    found = overlaps([ask("GAPDH", "z"), ask(*trained)], [ask("CCND1", "q"), ask(*tested)], by_hand())
    assert {kind for kind, count in found.items() if count == 1} == kinds
    assert sum(found.values()) == len(kinds)


def test_a_measurement_in_a_training_prompt_leaks_too(ask: Ask) -> None:
    shown = [{"perturbation": "AARS", "answer": "up", "similarity": 80, "shared": ""}]
    train = [ask("LCK", "x", evidence=shown)]
    assert overlaps(train, [ask("AARS1", "x"), ask("AARS1", "y")], by_hand()) == {"perturbation": 2, "pair": 1}


def test_what_a_source_keeps_together_must_stay_together(make_question: Ask) -> None:
    def cell(id: str, group: str, context: str = "baron", task: str = "cell/type") -> Question:
        whole = make_question(id=id, task=task)
        return replace(whole, fields={"genes": ["INS"]}, truth={"answer": "a", "group": group, "context": context})

    train = [cell("1", "donor 1"), cell("2", "donor 2")]
    assert overlaps(train, [cell("3", "donor 2"), cell("4", "donor 3")], by_hand()) == {"group": 1}
    assert overlaps(train, [cell("3", "donor 1", task="cell/batch")], by_hand()) == {"group": 1}
    assert overlaps(train, [cell("3", "donor 1", context="other study")], by_hand()) == {"group": 0}
    with pytest.raises(Error, match="1 share their group with training; split by group"):
        refuse_leak(train, [cell("3", "donor 2")], kin=by_hand())


def test_regulation_is_compared_by_pair_and_by_the_group_of_its_source(make_question: Ask) -> None:
    def edge(tf: str, target: str, task: str = "edge", group: str = "") -> Question:
        whole = make_question(task=f"regulation/{task}")
        truth = {"answer": "activation", **({"group": group} if group else {})}
        return replace(whole, fields={"tf": tf, "target": target}, truth=truth)

    train = [edge("MLL", "LCK")]
    assert overlaps(train, [edge("KMT2A", "LCK", "reported")], by_hand()) == {"pair": 1}
    assert overlaps(train, [edge("KMT2A", "GAPDH")], by_hand()) == {"pair": 0}  # a split by pair may share its factors
    grouped = [edge("MLL", "LCK", group="MLL")]  # a split by factor may not, under any name
    assert overlaps(grouped, [edge("KMT2A", "GAPDH", group="KMT2A")], by_hand()) == {"pair": 0, "group": 1}


ROWS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(["x", "AARS", "AARS1"]), st.sampled_from(["k562", "rpe1"])),
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(ROWS, ROWS)
def test_overlaps_are_those_of_a_slow_comparison(train: list[tuple], held_out: list[tuple]) -> None:
    def made(row: tuple[str, str, str]) -> Question:
        fields = {"perturbation": row[0], "readout": row[1]}
        return Question("id", "perturbation/effect", fields, {"answer": "yes", "context": row[2]}, "hand", "train")

    kin = by_hand()

    def same(a: str, b: str) -> bool:
        return kin.id(a) in kin.same(b)

    perturbed = sum(any(same(t[0], h[0]) for t in train) for h in held_out)
    paired = sum(any(same(t[0], h[0]) and same(t[1], h[1]) for t in train) for h in held_out)
    expected = {"perturbation": perturbed, "pair": paired} if held_out else {}
    assert overlaps(map(made, train), map(made, held_out), kin) == expected


@given(st.text())
def test_a_split_by_hash_never_leaks(salt: str) -> None:
    split = assign(NAMES, SHARES, salt, groups(NAMES, Base(), by="family"))
    asked = [
        Question(n, "perturbation/effect", {"perturbation": n, "readout": "x"}, {"answer": "yes"}, "hand", split[n])
        for n in NAMES
    ]
    train = [q for q in asked if q.split == "train"]
    refuse_leak(train, [q for q in asked if q.split != "train"], kin=by_hand())


def test_a_leak_may_be_allowed_with_a_reason(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    refuse_leak([ask("LCK")], [ask("LCK")], "held-out cell line", kin=by_hand())
    assert "1 share their perturbation, 1 share their pair with training; allowed: held-out cell line" in caplog.text
    with pytest.raises(Error, match="or say in allow_leak why it may be"):
        refuse_leak([ask("LCK")], [ask("LCK")], "  ", kin=by_hand())


def test_sample_tables_suffice_for_what_they_know(
    monkeypatch: pytest.MonkeyPatch, tmp_path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    sample = KnowledgeBase.open("sample")
    monkeypatch.delenv("RLVR_DATA", raising=False)
    monkeypatch.setattr("rlvr.source.cache_dir", lambda: tmp_path)  # where no upstream file lies
    monkeypatch.setattr("rlvr.source.File.path", lambda file: pytest.fail("training fetched something"))
    assert Kin.of(["ZAP70", "LCK"]).base.path == sample.path
    assert "looked up" not in caplog.text
    assert Kin.of(["ZAP70", "NOPE1"]).base.path == sample.path
    assert "aliases and orthologs of 1 names (NOPE1) were not looked up" in caplog.text
    old = next(name for name in ("C20orf4",) if sample.resolve(name))
    assert Kin.of([old]).id(old) == "human:AAR2"


def test_complexes_of_the_real_tables_tie() -> None:
    sample = KnowledgeBase.open("sample")
    kin, partners = Kin(sample), sample.annotations()
    genes = [str(gene) for gene in partners.genes[:60]]
    together = partners.partners(genes, genes)
    for i, a in enumerate(genes):
        for j, b in enumerate(genes):
            assert bool(kin.ties(a, "complex") & kin.ties(b, "complex")) == bool(together[i, j])
