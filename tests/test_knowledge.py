"""The knowledge base on small files made by hand, on the shipped sample, and on its upstream files."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr import knowledge
from rlvr.knowledge import COMPLEX_ROOT, FILES, KnowledgeBase, Term, closure, read_annotation, read_ontology
from rlvr.types import Error

SAMPLE = Path(__file__).parents[1] / "data" / "sample"

ONTOLOGY = """format-version: 1.2

[Term]
id: GO:1
name: cell

[Term]
id: GO:2
name: organelle
alt_id: GO:9
is_a: GO:1 ! cell

[Term]
id: GO:3
name: ribosome
relationship: part_of GO:2 ! organelle
relationship: regulates GO:4 ! nothing of ours

[Term]
id: GO:4
name: gone
is_obsolete: true

[Typedef]
id: part_of
name: part of
"""


@pytest.fixture(scope="module")
def sample() -> KnowledgeBase:
    return KnowledgeBase.from_sample(SAMPLE)


def hand_made(annotation: Mapping[str, list[str]]) -> KnowledgeBase:
    terms = {"root": Term("all"), "a": Term("a", ("root",)), "b": Term("b", ("root",)), "c": Term("c", ("a",))}
    return KnowledgeBase.build(annotation, terms, {"OLD": "P"})


def test_ontology_keeps_is_a_and_part_of_and_drops_the_obsolete(tmp_path: Path) -> None:
    (tmp_path / "go.obo").write_text(ONTOLOGY)
    terms, alternative = read_ontology(tmp_path / "go.obo")
    assert terms == {
        "GO:1": Term("cell"),
        "GO:2": Term("organelle", ("GO:1",)),
        "GO:3": Term("ribosome", ("GO:2",)),
    }
    assert alternative == {"GO:9": "GO:2"}
    assert closure(terms)["GO:3"] == {"GO:1", "GO:2", "GO:3"}


def test_annotation_leaves_out_not_and_no_data(tmp_path: Path) -> None:
    def row(symbol: str, qualifier: str, term: str, evidence: str) -> str:
        tail = "P\tname\t\tprotein\ttaxon:9606\t20190101\tUniProt\t\t"
        return f"UniProtKB\tP1\t{symbol}\t{qualifier}\t{term}\tPMID:1\t{evidence}\t\t{tail}\n"

    rows = [
        row("A", "", "GO:1", "IDA"),
        row("B", "NOT", "GO:1", "IDA"),
        row("C", "NOT|contributes_to", "GO:1", "IDA"),
        row("D", "contributes_to", "GO:2", "IEA"),
        row("E", "", "GO:1", "ND"),
    ]
    with gzip.open(tmp_path / "goa.gz", "wt") as out:
        out.writelines(["!gaf-version: 2.1\n", *rows])
    assert list(read_annotation(tmp_path / "goa.gz")) == [("A", "GO:1"), ("D", "GO:2")]


def test_symbols_go_through_previous_then_alias_and_shared_ones_stand_for_none(tmp_path: Path) -> None:
    lines = ["symbol\tprev_symbol\talias_symbol", "P\tOLD|TWICE|Q\tNICK", "Q\tTWICE\tOLD|BOTH", "R\t\tBOTH|TWICE|NICK2"]
    path = tmp_path / "hgnc.tsv"
    path.write_text("\n".join(lines))
    approved, synonyms = knowledge.read_symbols(path)
    assert approved == {"P", "Q", "R"}
    # Q is approved itself; TWICE was two genes' name, so that its being R's alias helps nobody.
    assert synonyms == {"OLD": "P", "NICK": "P", "NICK2": "R"}


def test_similarity_is_the_tfidf_cosine_computed_by_hand() -> None:
    base = hand_made({"P": ["c"], "Q": ["a"], "R": ["b"], "S": ["root"]})
    # Genes: root 4, a 2 (P, Q), b 1, c 1; weights log 4/n: 0, log 2, log 4, log 4 = 1, 2, 2 times log 2.
    expected = 1 / np.sqrt(1 + 4)  # P = (a 1, c 2), Q = (a 1)
    found = base.similarity(["P", "R", "S", "NOPE"], ["Q", "P", "R"])
    assert found == pytest.approx(np.array([[expected, 1, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]]))
    assert base.similarity(["OLD"], ["P"]) == pytest.approx(1.0)
    assert base.shared(["P", "P", "P", "P"], ["Q", "P", "R", "NOPE"]) == ["a", "c", "all", ""]
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
        COMPLEX_ROOT: Term("protein-containing complex"),
        "machine": Term("machine", (COMPLEX_ROOT,)),
        "class": Term("class of machines", (COMPLEX_ROOT,)),
        "other": Term("pathway"),
    }
    annotation = {"A": ["machine"], "B": ["machine", "class"], "C": ["class", "other"], "D": ["other"]}
    sizes = {COMPLEX_ROOT: 5000, "machine": 100, "class": 101, "other": 2}
    base = KnowledgeBase.build(annotation, terms, {}, sizes)
    partners = base.partners(["A", "C"], ["A", "B", "C", "D", "NOPE"])
    assert partners.tolist() == [[True, True, False, False, False], [False] * 5]


def test_a_broken_ontology_is_one_clear_error() -> None:
    with pytest.raises(Error, match="cycle"):
        closure({"a": Term("a", ("b",)), "b": Term("b", ("a",))})
    with pytest.raises(Error, match="names b as a parent but does not define it"):
        closure({"a": Term("a", ("b",))})


def test_a_missing_sample_says_which_file(tmp_path: Path) -> None:
    with pytest.raises(Error, match=r"go_annotation\.tsv is missing; restore it"):
        KnowledgeBase.from_sample(tmp_path)


def test_the_sample_knows_its_biology(sample: KnowledgeBase) -> None:
    assert sample.similarity(["CD3E"], ["CD3G"])[0, 0] > sample.similarity(["CD3E"], ["ATP5L2"])[0, 0]
    assert sample.partners(["CD3E"], ["CD3G", "VAV1"]).tolist() == [[True, False]]
    assert sample.core(["CD3E", "ZAP70", "NOPE"]).tolist() == [False, False, False]
    assert sample.core([g for g in sample.genes if str(g).startswith("RPL")]).all()
    assert sample.shared(["CD3E"], ["CD3G"]) == ["alpha-beta T cell receptor complex"]


def test_every_term_that_can_be_shown_has_a_name(sample: KnowledgeBase) -> None:
    carriers = np.asarray(sample.members.sum(axis=0))
    assert (sample.names[carriers > 1] != "").all()


@pytest.fixture(scope="module")
def upstream() -> KnowledgeBase:
    for file in FILES:
        try:
            file.path()
        except Error as error:
            pytest.skip(f"the upstream annotation is not here: {error}")
    return KnowledgeBase.from_upstream()


def test_the_sample_agrees_with_the_full_files(upstream: KnowledgeBase, sample: KnowledgeBase) -> None:
    genes = [str(g) for g in sample.genes]
    assert np.array_equal(upstream.annotations(genes), sample.annotations(genes))
    assert np.array_equal(upstream.core(genes), sample.core(genes))
    assert np.array_equal(upstream.partners(genes, genes), sample.partners(genes, genes))
    assert upstream.similarity(genes[:40], genes) == pytest.approx(sample.similarity(genes[:40], genes), abs=1e-12)


def test_old_symbols_find_their_gene(upstream: KnowledgeBase) -> None:
    assert [upstream.resolve(s) for s in ("AARS", "ADSS", "CD3E", "NOT A GENE")] == ["AARS1", "ADSS2", "CD3E", None]
    assert upstream.similarity(["AARS"], ["AARS1"])[0, 0] == pytest.approx(1.0)
    assert upstream.core(["RPL3", "EIF4E", "SF3B1", "PSMA1", "CD3E"]).tolist() == [True, True, True, True, False]


def test_the_cache_holds_the_same_and_a_broken_one_is_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLVR_CACHE", str(tmp_path))
    terms = {"root": Term("all"), "a": Term("a", ("root",))}
    monkeypatch.setattr(knowledge, "read_upstream", lambda: ({"P": {"a"}, "Q": {"root"}}, terms, {"OLD": "P"}))
    built = KnowledgeBase.from_upstream()
    monkeypatch.setattr(knowledge, "read_upstream", lambda: pytest.fail("the cache was not used"))
    read = KnowledgeBase.from_upstream()
    assert read.similarity(["OLD", "Q"], ["P"]).tolist() == built.similarity(["OLD", "Q"], ["P"]).tolist()
    assert (read.names.tolist(), read.synonyms) == (["a", "all"], {"OLD": "P"})

    (path,) = (tmp_path / "knowledge").iterdir()
    path.write_bytes(path.read_bytes()[:100])
    monkeypatch.setattr(knowledge, "read_upstream", lambda: ({"X": {"a"}}, terms, {}))
    assert KnowledgeBase.from_upstream().genes.tolist() == ["X"]
