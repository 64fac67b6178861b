"""The knowledge base of the shipped sample, and of the full upstream files: known biology, counts, provenance."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from rlvr.knowledge import FILES, KnowledgeBase
from rlvr.knowledge.assemble import sample_of
from rlvr.knowledge.releases import UPSTREAM
from rlvr.knowledge.rows import PANGLAO
from rlvr.types import Error
from tests.session import need

SAMPLE = Path(__file__).parents[2] / "data" / "sample"


@pytest.fixture(scope="module")
def sample() -> KnowledgeBase:
    return KnowledgeBase.open("sample")


@pytest.fixture(scope="module")
def upstream() -> KnowledgeBase:
    need(FILES)
    return KnowledgeBase.open("upstream")


def test_the_sample_needs_nothing_but_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLVR_CACHE", str(tmp_path))
    monkeypatch.setenv("RLVR_DATA", str(tmp_path / "nothing"))
    base = KnowledgeBase.open("sample")
    assert base.path.is_relative_to(tmp_path) and base.path.stat().st_size < 20e6
    assert {release.source for release in base.releases()} == {"HGNC", "Gene Ontology", "GOA human", "Cell Ontology"}
    assert base.dropped() == ()
    with pytest.raises(Error, match=r"genes\.tsv is missing; restore it"):
        sample_of(tmp_path)


def test_the_sample_knows_its_biology(sample: KnowledgeBase) -> None:
    assert (sample.resolve("ATP5L2"), sample.resolve("CD3E")) == ("ATP5MGL", "CD3E")
    term = sample.term(sample.shares("CD3E", "CD3G")[0])
    assert term is not None and (term.name, term.namespace) == (
        "alpha-beta T cell receptor complex",
        "cellular_component",
    )
    assert {f.object for f in sample.facts("CD3E", "GO:0050852")} >= {"GO:0050852"}
    assert sample.distance("CL:0000624", "CL:0000625") == sample.distance("CL:0000625", "CL:0000624")
    assert [t.id for t in sample.find("t lymphocyte")] == ["CL:0000084"]
    assert {f.date for f in sample.facts("CD3E", "GO:0050852")} == {""}  # the sample gives none
    assert sample.edge("CD3E", "CD3G") is None and sample.markers("CL:0000084") == ()


def test_the_sample_agrees_with_the_full_files(sample: KnowledgeBase, upstream: KnowledgeBase) -> None:
    for gene in (gene for gene in sample.symbols() if gene not in ("IL2", "IFNG")):  # the readouts: symbols only
        assert sample.terms(gene) == tuple(t for t in upstream.terms(gene) if not t.startswith("HALLMARK_"))
    for cell in ("CL:0000084", "CL:0000169", "CL:0000236"):
        assert sample.ancestors(cell) == upstream.ancestors(cell)
    for a, b in itertools.combinations(("CL:0000084", "CL:0000169", "CL:0000236", "CL:0000576"), 2):
        assert sample.distance(a, b) == upstream.distance(a, b)


def test_symbols_of_the_benchmarks(upstream: KnowledgeBase) -> None:
    assert [upstream.resolve(s) for s in ("AARS", "ADSS", "CD3E", "NOT A GENE")] == ["AARS1", "ADSS2", "CD3E", None]
    assert upstream.gene("AP-1").candidates == ("FOS", "FOSB", "JUN", "JUND")
    assert upstream.gene("2-Sep").candidates == ("SEPTIN2", "SEPTIN6", "SEPTIN8")
    assert len(upstream.symbols()) == 44997


def test_accessions_of_the_sample_and_of_the_full_files(sample: KnowledgeBase, upstream: KnowledgeBase) -> None:
    assert (upstream.accession("P43403"), upstream.accessions("ZAP70")) == ("ZAP70", ("P43403",))
    assert upstream.accession("P49588") == "AARS1"  # AARS in the annotation of 2019
    assert upstream.accession("P0C0S8") is None and len(upstream.encoded_by("P0C0S8")) == 5  # one histone, five genes
    assert upstream.encoded_by("P43404") == ()  # of the mouse
    held = [id for (id,) in upstream._store.rows("SELECT DISTINCT id FROM accession")]
    assert len(held) > 20251 and sum(len(upstream.encoded_by(id)) > 1 for id in held) < 100  # HGNC alone has 20251
    for gene in sample.symbols():
        assert sample.accessions(gene) == tuple(id for id in upstream.accessions(gene) if upstream.accession(id))
    assert sum(bool(sample.accessions(gene)) for gene in sample.symbols()) > 600


def test_known_biology_with_its_provenance(upstream: KnowledgeBase) -> None:
    facts = upstream.facts("ZAP70", "GO:0050852")  # T cell receptor signaling pathway
    assert {f.source for f in facts} == {"GOA human"} and {f.code for f in facts} & {"IDA", "IMP", "TAS"}
    assert all(f.reference and f.licence == "CC BY 4.0" and not f.negated for f in facts)
    edge = upstream.edge("GATA1", "HBB")
    assert edge is not None and {f.source for f in edge.facts} == {"TRRUST", "CollecTRI"}
    assert upstream.find("T-cell receptor signaling pathway", "biological_process")[0].id == "GO:0050852"
    assert set(upstream.markers("CL:0000084")[:8]) >= {"CD3D", "CD3E"}
    assert upstream.markers("pancreatic beta cell")[0] == "INS"
    assert upstream.ortholog("TP53") == ("Trp53",) and upstream.ortholog("Trp53", "mouse") == ("TP53",)
    assert [m.split(".")[0] for m in upstream.motifs("GATA1")] == ["MA0035"]
    assert "GATA" in str(upstream.matrix("MA0035.3").counts.reverse_complement().consensus)


def test_counts_are_those_of_the_files(upstream: KnowledgeBase) -> None:
    terms = upstream._store.rows("SELECT namespace, COUNT(*), SUM(obsolete) FROM term GROUP BY 1")
    count = {space: (n, gone) for space, n, gone in terms}
    assert sum(count[s][0] for s in count if "_" in s) == 47347 and sum(count[s][1] for s in count if "_" in s) == 2334
    assert count["cell"][0] == 3596 and count["pathway"] == (2444, 0) and count["hallmark"] == (50, 0)
    assert "complex" not in count  # CORUM is not asked for
    signs = upstream._store.rows(
        """SELECT source, relation, COUNT(*) FROM fact JOIN kind ON kind.id = fact.kind
        JOIN release ON release.id = kind.release WHERE source IN ('TRRUST', 'CollecTRI') GROUP BY 1, 2"""
    )
    dropped = sum(rows for source, _, _, rows in upstream.dropped() if source == "CollecTRI")
    assert sum(n for source, _, n in signs if source == "CollecTRI") + dropped == 43178
    assert {relation for _, relation, _ in signs} == {"activates", "represses", "regulates"}


def test_the_annotation_has_dates_and_nothing_else_has(upstream: KnowledgeBase) -> None:
    query = """SELECT source, COUNT(*), COUNT(day) FROM fact JOIN kind ON kind.id = fact.kind
        JOIN release ON release.id = kind.release GROUP BY 1"""
    count = {source: (n, held) for source, n, held in upstream._store.rows(query)}
    facts, held = count.pop("GOA human")
    assert facts == held > 400_000 and {n for _, n in count.values()} == {0}
    days = [f.date for f in upstream.facts("ZAP70", "GO:0050852")]
    assert all("2000-01-01" < day < "2020-01-01" for day in days) and len(set(days)) > 1


def test_releases_name_every_file_and_unclear_licences(upstream: KnowledgeBase) -> None:
    held = {release.source: release for release in upstream.releases()}
    assert {r.sha256 for r in held.values()} == {file.sha256 for file in FILES}
    assert {name for name, r in held.items() if not r.commercial} == {"CollecTRI", "PanglaoDB", "CellMarker"}
    assert all(origin.commercial is False for origin in UPSTREAM.values() if origin.opt_in)


def test_closure_and_distance_on_the_real_ontologies(upstream: KnowledgeBase) -> None:
    draw = random.Random(0)
    ids = [id for (id,) in upstream._store.rows("SELECT id FROM term WHERE NOT obsolete ORDER BY id")]
    for a, b in ((draw.choice(ids), draw.choice(ids)) for _ in range(300)):
        above = upstream.ancestors(a)
        assert all(upstream.ancestors(t) <= above for t in above)
        assert upstream.distance(a, b) == upstream.distance(b, a)
        assert (upstream.distance(a, b) is None) == upstream.ancestors(a).isdisjoint(upstream.ancestors(b))
        for t in above:  # no way through an ancestor is shorter
            ways = upstream.distance(a, t), upstream.distance(t, b), upstream.distance(a, b)
            if t in upstream.ancestors(b):
                assert ways[2] <= ways[0] + ways[1]  # type: ignore[operator]


def test_every_name_given_by_hand_stands_for_a_current_cell_type(upstream: KnowledgeBase) -> None:
    for name, id in PANGLAO.items():
        term = upstream.term(id)
        assert term is not None and not term.obsolete and term.namespace == "cell", name
    listed = upstream._store.rows(
        "SELECT DISTINCT object FROM fact JOIN kind ON kind.id = kind WHERE relation = 'marks'"
    )
    named = [cell for (cell,) in listed if cell.startswith("CL:")]
    assert all((term := upstream.term(cell)) is not None and not term.obsolete for cell in named)


def test_denied_functions_are_not_carried_by_that_row(upstream: KnowledgeBase) -> None:
    denied = upstream._store.rows("SELECT subject, object FROM fact JOIN kind ON kind.id = fact.kind WHERE negated")
    assert len(denied) > 1000
    for gene, term in denied[:200]:
        facts = upstream.facts(gene, term)
        assert any(f.negated for f in facts)
        assert (term in upstream.terms(gene)) == any(not f.negated for f in facts)
