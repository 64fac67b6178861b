"""Names of genes as files write them: one reading for every door."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from rlvr.knowledge import KnowledgeBase, build
from rlvr.knowledge.symbols import cleaned, missing, undated
from rlvr.questions.biology import h5ad
from rlvr.questions.splits.kin import Kin
from rlvr.types import Error
from tests.knowledge.test_knowledge import HGNC, world

MORE = [
    "TP53\tP53\t\tENSG00000141510\t",
    "KLF1\t\tEKLF\tENSG00000105610\t",
    "XK\t\tNA\tENSG00000047597\t",
    "KRT8\t\tKO|K8\tENSG00000170421\t",
    "C9orf72\t\tALSFTD\tENSG00000147894\t",
    "FTH1\t\tFTH\tENSG00000167996\t",
    "TF\t\t\tENSG00000091513\t",
    "SEPTIN2\tSEPT2\t\tENSG00000168385\t",
]


@pytest.fixture(scope="module")
def kb(tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLVR_CACHE", str(tmp_path_factory.mktemp("cache")))
        return build(world(tmp_path_factory.mktemp("world"), genes="\n".join([*HGNC, *MORE])))


@pytest.mark.parametrize(
    ("name", "symbol", "status"),
    [
        ("TP53", "TP53", "approved"),
        (" TP53\t", "TP53", "approved"),
        ("ENSG00000105610", "KLF1", "ensembl"),
        ("ENSG00000105610.6", "KLF1", "ensembl"),
        ("ENSG00000999999.1", None, "unknown"),
        ("GRCh38_FTH1", "FTH1", "approved"),
        ("hg38___FTH", "FTH1", "alias"),
        ("tp53", "TP53", "case"),
        ("C9ORF72", "C9orf72", "case"),
        ("Klf1", "KLF1", "case"),
        ("TF", "TF", "approved"),  # transferrin, in a list of genes
        *((word, None, "missing") for word in ("NA", "nan", "NaN", "none", "None", "unknown", "Unassigned", "KO", "-")),
        ("2021-09-02", None, "date"),
        ("2021-09-02 00:00:00", None, "date"),
        ("2-Sep", None, "date"),
        ("2-Sep-2021", None, "date"),
        ("Sep-02", None, "date"),
        ("9/2/2021", None, "date"),
        ("44441", None, "date"),  # days since 1900: 2021-09-02
        ("44441.0", None, "date"),
    ],
)
def test_a_name_is_read_as_tables_write_it(kb: KnowledgeBase, name: str, symbol: str | None, status: str) -> None:
    gene = kb.read(name)
    assert (gene.symbol, gene.status) == (symbol, status)
    assert kb.current(name) == (symbol or name)
    if status == "date":
        assert gene.candidates == ("SEPTIN2",)


def test_case_counts_where_prose_is_read(kb: KnowledgeBase) -> None:
    assert kb.resolve("tp53") is None and kb.gene("tp53").status == "unknown"
    assert kb.resolve("NA") is None and kb.resolve("KO") is None  # aliases, and words of every experiment


def test_serial_days_are_dates_of_any_month() -> None:
    assert undated("44256") == ("MARCH1", "March1", "MARC1", "Marc1", "MAR1", "Mar1")
    assert undated("9606") == undated("7157") == undated("100130741") == ()  # identifiers of NCBI's
    assert cleaned("GRCh38______HLA-A") == "HLA-A" and cleaned("NKX2-1") == "NKX2-1"
    assert not missing("NAT1") and not missing("NT5E") and not missing("WT1")


def test_unresolved_names_say_why(kb: KnowledgeBase) -> None:
    found = kb.unresolved(["TP53", "tp53", "NA", "1-Mar", "NOPE", "ENSG00000105610.6"])
    assert found == {"NA": "missing", "1-Mar": "date", "NOPE": "unknown"}


def test_one_gene_is_the_same_under_all_its_names(kb: KnowledgeBase) -> None:
    kin = Kin(kb)
    ids = {kin.id(name) for name in ("KLF1", "EKLF", "ENSG00000105610", "ENSG00000105610.6", "klf1", "hg38_KLF1")}
    assert ids == {"human:KLF1"}
    assert kin.gene("NA") is None and "NA" in kin.unknown


def cells(path: Path, var: pd.DataFrame) -> Path:
    counts = np.random.default_rng(0).poisson(2.0, (4, len(var))).astype(np.float32)
    obs = pd.DataFrame(index=[f"c{i}" for i in range(4)])
    anndata.AnnData(counts, obs=obs, var=var).write_h5ad(path)
    return path


IDS = ["ENSG00000141510.17", "ENSG00000105610.6", "ENSG00000047597.10", "ENSG00000167996", "ENSG00000091513"]


@pytest.mark.parametrize("column", ["gene_name", "feature_name", "Gene_Symbols", "gene_short_name"])
def test_symbols_beside_ensembl_ids_are_taken(tmp_path: Path, column: str) -> None:
    var = pd.DataFrame({column: ["TP53", "KLF1", "NA", "FTH1", "FTH1"]}, index=IDS)
    read = h5ad.read(cells(tmp_path / "mine.h5ad", var))
    # No symbol, and a symbol of two genes: these keep their ids.
    assert read.genes.tolist() == ["TP53", "KLF1", IDS[2], IDS[3], IDS[4]]


def test_symbols_stay_and_ids_alone_are_ids(tmp_path: Path) -> None:
    named = pd.DataFrame({"gene_name": ["X1", "X2"]}, index=["TP53", "KLF1"])
    assert h5ad.read(cells(tmp_path / "a.h5ad", named)).genes.tolist() == ["TP53", "KLF1"]
    read = h5ad.read(cells(tmp_path / "b.h5ad", pd.DataFrame({"biotype": ["x"] * 5}, index=IDS)))
    assert read.genes.tolist() == IDS and read.species() == "human"


def test_two_genomes_are_refused_whatever_their_case(tmp_path: Path) -> None:
    var = pd.DataFrame(index=["GRCh38_TP53", "GRCh38_KLF1", "mm10___Klf1"])
    with pytest.raises(Error, match="mixed species"):
        h5ad.read(cells(tmp_path / "two.h5ad", var)).species()
