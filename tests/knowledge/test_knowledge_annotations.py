"""The annotation matrix on small ontologies made by hand, on the shipped sample, and on the upstream files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr.knowledge import FILES, Annotations, KnowledgeBase
from rlvr.knowledge.annotations import COMPLEX_ROOT, Node, closure
from rlvr.types import Error
from tests.session import need

SAMPLE = Path(__file__).parents[2] / "data" / "sample"


@pytest.fixture(scope="module")
def sample() -> Annotations:
    return Annotations.from_sample(SAMPLE)


def hand_made(annotation: Mapping[str, list[str]]) -> Annotations:
    terms = {"root": Node("all"), "a": Node("a", ("root",)), "b": Node("b", ("root",)), "c": Node("c", ("a",))}
    return Annotations.build(annotation, terms, {"OLD": "P"})


def test_similarity_is_the_tfidf_cosine_computed_by_hand() -> None:
    base = hand_made({"P": ["c"], "Q": ["a"], "R": ["b"], "S": ["root"]})
    # Genes: root 4, a 2 (P, Q), b 1, c 1; weights log 4/n: 0, log 2, log 4, log 4 = 1, 2, 2 times log 2.
    expected = 1 / np.sqrt(1 + 4)  # P = (a 1, c 2), Q = (a 1)
    found = base.similarity(["P", "R", "S", "NOPE"], ["Q", "P", "R"])
    assert found == pytest.approx(np.array([[expected, 1, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]]))
    assert base.similarity(["OLD"], ["P"]) == pytest.approx(1.0)
    shared = base.shared(["P", "P", "P", "P"], ["Q", "P", "R", "NOPE"])
    assert shared == [("a", "a"), ("c", "c"), ("root", "all"), ("", "")]
    assert base.annotations(["P", "OLD", "S", "NOPE"]).tolist() == [3, 3, 1, 0]
    assert (base.resolve("P"), base.resolve("OLD"), base.resolve("NOPE")) == ("P", "P", None)


@given(st.dictionaries(st.sampled_from("PQRSTU"), st.lists(st.sampled_from(["a", "b", "c"])), min_size=1))
def test_similarity_is_symmetric_bounded_and_one_with_itself(annotation: dict[str, list[str]]) -> None:
    base = hand_made(annotation)
    names = sorted(annotation)
    found = base.similarity(names, names)
    assert found == pytest.approx(found.T)
    assert ((found >= 0) & (found <= 1)).all()
    own = np.diag(found)
    assert (np.isclose(own, 1) | (own == 0)).all()


def test_a_complex_is_small_and_below_the_root() -> None:
    terms = {
        COMPLEX_ROOT: Node("protein-containing complex"),
        "machine": Node("machine", (COMPLEX_ROOT,)),
        "class": Node("class of machines", (COMPLEX_ROOT,)),
        "other": Node("pathway"),
    }
    annotation = {"A": ["machine"], "B": ["machine", "class"], "C": ["class", "other"], "D": ["other"]}
    sizes = {COMPLEX_ROOT: 5000, "machine": 100, "class": 101, "other": 2}
    base = Annotations.build(annotation, terms, {}, sizes)
    partners = base.partners(["A", "C"], ["A", "B", "C", "D", "NOPE"])
    assert partners.tolist() == [[True, True, False, False, False], [False] * 5]


def test_a_broken_ontology_is_one_clear_error() -> None:
    with pytest.raises(Error, match="cycle"):
        closure({"a": Node("a", ("b",)), "b": Node("b", ("a",))})
    with pytest.raises(Error, match="names b as a parent but does not define it"):
        closure({"a": Node("a", ("b",))})


def test_a_missing_sample_says_which_file(tmp_path: Path) -> None:
    with pytest.raises(Error, match=r"go_annotation\.tsv is missing; restore it"):
        Annotations.from_sample(tmp_path)


def test_the_sample_knows_its_biology(sample: Annotations) -> None:
    assert sample.similarity(["CD3E"], ["CD3G"])[0, 0] > sample.similarity(["CD3E"], ["ATP5L2"])[0, 0]
    assert sample.partners(["CD3E"], ["CD3G", "VAV1"]).tolist() == [[True, False]]
    assert sample.core(["CD3E", "ZAP70", "NOPE"]).tolist() == [False, False, False]
    assert sample.core([g for g in sample.genes if str(g).startswith("RPL")]).all()
    assert sample.shared(["CD3E"], ["CD3G"]) == [("GO:0042105", "alpha-beta T cell receptor complex")]


def test_every_term_that_can_be_shown_has_a_name(sample: Annotations) -> None:
    carriers = np.asarray(sample.members.sum(axis=0))
    assert (sample.names[carriers > 1] != "").all()


@pytest.fixture(scope="module")
def upstream() -> Annotations:
    need(FILES)
    return KnowledgeBase.open("upstream").annotations()


def test_the_sample_agrees_with_the_full_files(upstream: Annotations, sample: Annotations) -> None:
    genes = [str(g) for g in sample.genes]
    assert np.array_equal(upstream.annotations(genes), sample.annotations(genes))
    assert np.array_equal(upstream.core(genes), sample.core(genes))
    assert np.array_equal(upstream.partners(genes, genes), sample.partners(genes, genes))
    assert upstream.similarity(genes[:40], genes) == pytest.approx(sample.similarity(genes[:40], genes), abs=1e-12)


def test_old_symbols_find_their_gene(upstream: Annotations) -> None:
    assert [upstream.resolve(s) for s in ("AARS", "ADSS", "CD3E", "NOT A GENE")] == ["AARS1", "ADSS2", "CD3E", None]
    assert upstream.similarity(["AARS"], ["AARS1"])[0, 0] == pytest.approx(1.0)
    assert upstream.core(["RPL3", "EIF4E", "SF3B1", "PSMA1", "CD3E"]).tolist() == [True, True, True, True, False]


def test_rarest_runs_from_the_most_specific_name(sample: Annotations) -> None:
    base = hand_made({"P": ["c"], "Q": ["a"]})
    assert base.rarest(["P", "OLD", "NOPE"]) == [["c", "a", "all"], ["c", "a", "all"], []]
    assert "" not in sample.rarest(["CD3E"])[0]


def test_the_knowledge_base_of_the_sample_has_the_same_matrix(sample: Annotations) -> None:
    """Its genes bear their current symbols, and the old ones still find them."""
    held = KnowledgeBase.open("sample").annotations()
    genes = [str(g) for g in sample.genes if len(sample.rarest([str(g)])[0])]
    assert np.array_equal(held.annotations(genes), sample.annotations(genes))
    assert np.array_equal(held.partners(genes, genes), sample.partners(genes, genes))
    assert held.similarity(genes, genes[:50]) == pytest.approx(sample.similarity(genes, genes[:50]), abs=1e-12)
    assert held.shared(genes[:-1], genes[1:]) == sample.shared(genes[:-1], genes[1:])
