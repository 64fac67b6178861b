"""A screen of one's own: tables of the programs of the field, with the right sign, and questions about them."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlvr.knowledge import KnowledgeBase
from rlvr.plugins import load
from rlvr.questions.biology.screen_tables import Columns, read
from rlvr.source import Source
from rlvr.types import Error

CrisprScreens = load("data", "crispr_screens", Source)
GENES = list(KnowledgeBase.open("sample").symbols()[:120])
RANDOM = np.random.default_rng(0)
# Ten genes are enriched, ten depleted, the others do nothing.
Z = np.where(np.arange(120) < 10, 6.0, np.where(np.arange(120) < 20, -6.0, RANDOM.uniform(-0.5, 0.5, 120)))
FORMS = {
    "MAGeCK RRA": lambda p_up, p_down: {"id": GENES, "num": 4, "neg|score": p_down, "neg|p-value": p_down,
                                        "neg|lfc": Z, "pos|score": p_up, "pos|p-value": p_up, "pos|lfc": Z},
    "MAGeCK MLE": lambda p_up, p_down: {"Gene": GENES, "sgRNA": 4, "drug|beta": Z / 3, "drug|z": Z,
                                        "drug|p-value": np.minimum(p_up, p_down)},
    "drugZ": lambda p_up, p_down: {"GENE": GENES, "sumZ": Z, "numObs": 4, "normZ": Z, "pval_synth": p_down,
                                   "rank_synth": 1, "fdr_synth": p_down, "pval_supp": p_up, "fdr_supp": p_up},
    "DESeq2-like": lambda p_up, p_down: {"gene_symbol": GENES, "log2FoldChange": Z / 2,
                                         "pvalue": 2 * np.minimum(p_up, p_down)},
}  # fmt: skip


def one_sided() -> tuple[np.ndarray, np.ndarray]:
    from scipy.stats import norm

    return norm.sf(Z), norm.sf(-Z)


def written(path: Path, form: str, sep: str = "\t", end: str = "\n", mark: str = "") -> Path:
    text = pd.DataFrame(FORMS[form](*one_sided())).to_csv(sep=sep, index=False, decimal="," if sep == ";" else ".")
    data = (mark + text.replace("\n", end)).encode("utf-8")
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_one_sided_p(form: str, tmp_path: Path) -> None:
    table = read(written(tmp_path / "mine.txt", form))
    p_up, p_down = one_sided()
    np.testing.assert_allclose(table["p_up"], p_up, rtol=1e-6)
    np.testing.assert_allclose(table["p_down"], p_down, rtol=1e-6)
    assert table.index.tolist() == GENES


@pytest.mark.parametrize(
    ("name", "sep", "end", "mark"),
    [
        ("a.csv", ",", "\n", ""),
        ("a.csv", ";", "\r\n", "\ufeff"),  # as spreadsheets of half of Europe write it, with decimal commas
        ("a.tsv", "\t", "\r\n", "\ufeff"),
        ("a.txt.gz", "\t", "\n", ""),
    ],
)
def test_any_separator_mark_and_compression(name: str, sep: str, end: str, mark: str, tmp_path: Path) -> None:
    table = read(written(tmp_path / name, "MAGeCK RRA", sep, end, mark))
    np.testing.assert_allclose(table["p_up"], one_sided()[0], rtol=1e-6)


def test_bayes_factors_are_of_depletion_alone(tmp_path: Path) -> None:
    (tmp_path / "bagel.bf").write_text("GENE\tBF\tSTD\tNumObs\nA\t6.0\t1\t4\nB\t0.0\t1\t4\nC\t-30.0\t1\t4\n")
    table = read(tmp_path / "bagel.bf")
    assert list(table.columns) == ["p_down"]
    assert table["p_down"].tolist() == pytest.approx([1 / 65, 0.5, 1.0], abs=1e-6)


@pytest.mark.parametrize(
    ("text", "columns", "said"),
    [
        ("genes,locfdr,FDR\nA,0.1,0.1\n", Columns(), r"local false discovery rate \(CRISPhieRmix\)"),
        ("gene,a\nA,1\n", Columns(), "its columns are those of no known program"),
        ("x,pvalue,lfc\n1,0.1,2\n", Columns(), "no column of genes"),
        ("gene,pvalue,lfc\nA,0.1,2\n", Columns(p="pval", effect="lfc"), "no column 'pval' .*did you mean 'pvalue'"),
        ("gene,pvalue,lfc\nA,0.1,2\n", Columns(p="pvalue"), "`p` and `effect` go together"),
        ("gene,pvalue,lfc\nA,1.7,2\n", Columns(), "column 'pvalue' has 1 values outside"),
        ("id,neg|p-value,pos|p-value\nA,0.1,-2\n", Columns(), r"column 'pos\|p-value' has 1 values outside"),
        ("GENE,pval_synth,pval_supp\nA,7,0.1\n", Columns(), "column 'pval_synth' has 1 values outside"),
        ("gene,up\nA,high\n", Columns(up="up"), "column 'up' holds no numbers, such as 'high'"),
        ("Gene,a|z,b|z\nA,1,2\n", Columns(), "several conditions, a, b; name one in `condition`"),
        ("Gene,a|z,b|z\nA,1,2\n", Columns(condition="c"), "no condition 'c'"),
        ("gene\nA\n", Columns(), "its first line has one column"),
        ("gene,pvalue,lfc\n", Columns(), "no rows below the header"),
    ],
)
def test_what_cannot_be_read_is_one_line(text: str, columns: Columns, said: str, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(Error, match=said) as caught:
        read(tmp_path / "mine.csv", columns)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)))
    for path, said in (
        (tmp_path, "is a folder"),
        (tmp_path / "no.csv", "no such file"),
        (tmp_path / "binary.csv", "no text"),
    ):
        with pytest.raises(Error, match=said):
            read(path)


def source(path: Path, **options: object) -> Source:
    defaults = {"readout": "CD25", "cells": "primary human T cells", "knowledge": "sample", "evidence": 2}
    return CrisprScreens(path=str(path), **{**defaults, **options})


@pytest.mark.parametrize("form", FORMS)
def test_questions_have_the_right_answer_whatever_the_form(form: str, tmp_path: Path) -> None:
    asked = list(source(written(tmp_path / "mine.txt", form)).questions())
    answers = {q.fields["perturbation"]: q.truth["answer"] for q in asked}
    assert Counter(answers.values()) == {"none": 20, "up": 10, "down": 10}
    assert {g for g, a in answers.items() if a == "up"} == set(GENES[:10])
    assert {q.task for q in asked} == {"perturbation/response"}
    assert asked[0].fields["asked"] == "is the CD25-high fraction lower, higher or unchanged"
    assert asked[0].truth["context"] == "mine"


def test_enrichment_in_the_low_cells_turns_the_answers(tmp_path: Path) -> None:
    asked = source(written(tmp_path / "mine.txt", "drugZ"), enriched="low").questions()
    assert {q.fields["perturbation"] for q in asked if q.truth["answer"] == "down"} == set(GENES[:10])


def test_one_arm_asks_whether(tmp_path: Path) -> None:
    p = np.where(np.arange(120) < 10, 30.0, -20.0)
    pd.DataFrame({"GENE": GENES, "BF": p}).to_csv(tmp_path / "bagel.csv", index=False)
    asked = list(source(tmp_path / "bagel.csv", readout="growth").questions())
    assert {q.task for q in asked} == {"perturbation/effect"}
    assert {q.fields["perturbation"] for q in asked if q.truth["answer"] == "yes"} == set(GENES[:10])
    assert asked[0].fields["words"] == {"yes": "depleted", "no": "is not"}


def test_controls_and_lost_names_are_counted(tmp_path: Path) -> None:
    path = written(tmp_path / "mine.txt", "drugZ")
    text = path.read_text().replace(GENES[100], "NTC_1").replace(GENES[101], "2-Mar").replace(GENES[102], "NOPE1")
    path.write_text(text)
    held = source(path)
    assert held.drops["controls and microRNAs"] == 1
    assert held.drops["rows whose gene a spreadsheet turned into a date"] == 1
    assert held.unresolved() == {"2-Mar": "date", "NOPE1": "unknown"}


def test_what_a_screen_needs_is_said(tmp_path: Path) -> None:
    with pytest.raises(Error, match="your own screen needs `readout`"):
        CrisprScreens(path="x.csv")
    with pytest.raises(Error, match="readout is about your own screen"):
        CrisprScreens(readout="CD25")
