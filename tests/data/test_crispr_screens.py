"""Screens: what each file's columns mean, what is left out of it, and the labels that follow."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr.knowledge import KnowledgeBase
from rlvr.plugins import load
from rlvr.source import File, Source
from rlvr.types import Error
from tests.session import need

CrisprScreens = load("data", "crispr_screens", Source)
module = __import__(CrisprScreens.__module__, fromlist=["SCREENS"])
GENES = KnowledgeBase.open("sample").symbols()[:300]


def table(rows: int = 200) -> pd.DataFrame:
    """Half of the first genes depleted, half enriched, the rest quiet."""
    rng = np.random.default_rng(0)
    up, down = rng.uniform(0.3, 0.9, (2, rows))
    up[:10], down[10:20] = 1e-6, 1e-6
    return pd.DataFrame({"id": GENES[:rows], "num": 3, "pos|p-value": up, "neg|p-value": down})


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """written(table): read it in place of the IL-2 screen."""

    def write(raw: pd.DataFrame, **changes: object):
        path = tmp_path / "mine.tsv"
        raw.to_csv(path, sep="\t", index=False)
        file = File("mine.tsv", hashlib.sha256(path.read_bytes()).hexdigest())
        screen = module.SCREENS["schmidt_il2"]
        one = (replace(screen.replicates[0], file=file),)
        monkeypatch.setitem(module.SCREENS, "schmidt_il2", replace(screen, replicates=one, **changes))
        monkeypatch.setenv("RLVR_DATA", str(tmp_path))
        return CrisprScreens(screen="schmidt_il2", knowledge="sample")

    return write


def test_enriched_is_up_depleted_is_down_and_quiet_is_none(written):
    labels = dict(written(table()).table()[["perturbation", "label"]].itertuples(index=False))
    assert {labels[g] for g in GENES[:10]} == {"up"}
    assert {labels[g] for g in GENES[10:20]} == {"down"}
    assert Counter(labels.values()) == {"up": 10, "down": 10, "none": 20}


def test_one_arm_is_asked_whether_and_never_which_way(written):
    source = written(table())
    screen = module.SCREENS["schmidt_il2"]
    one = tuple(replace(r, down="") for r in screen.replicates)
    module.SCREENS["schmidt_il2"] = replace(screen, replicates=one, words={"yes": "protects", "no": "does not"})
    asked = list(source.questions())
    assert {q.task for q in asked} == {"perturbation/effect"}
    assert Counter(q.truth["answer"] for q in asked) == {"yes": 10, "no": 10}
    assert {q.fields["perturbation"] for q in asked if q.truth["answer"] == "yes"} == set(GENES[:10])


def test_everything_left_out_is_counted_and_named(written, caplog):
    caplog.set_level(logging.INFO)
    raw = table()
    raw.loc[100, "id"], raw.loc[101, "id"], raw.loc[102, "id"] = "1-Mar", "02.Mar", "10-Sep"
    raw.loc[103, "id"], raw.loc[104, "id"], raw.loc[105, "id"] = "NO-TARGET", "hsa-mir-16", "LOC999999"
    raw.loc[106, "pos|p-value"] = np.nan
    raw["pos|p-value"] = raw["pos|p-value"].astype(object)
    raw.loc[107, "pos|p-value"] = "n/a"
    raw.loc[108, "num"], raw.loc[109, "num"] = 1, 9
    raw.loc[110, "id"] = raw.loc[111, "id"]
    raw.loc[112, "id"] = "IL2"
    source = written(raw)
    source.table()
    assert source.drops == {
        "rows whose gene a spreadsheet turned into a date": 3,
        "controls and microRNAs": 2,
        "rows without a number": 2,
        "rows with too few or too many guides": 2,
        "rows of a symbol that is there twice": 2,
        "symbols that are no single current gene": 1,
        "rows of the gene that is read out": 1,
    }
    assert "1-Mar, 02.Mar, 10-Sep" in caplog.text and "LOC999999" in caplog.text
    assert source.unresolved() == {"02.Mar": "date", "1-Mar": "date", "10-Sep": "date", "LOC999999": "unknown"}


def test_old_symbols_get_their_current_name_but_never_twice(written):
    raw = table()
    raw.loc[0, "id"] = "ADSS"  # ADSS2 today
    raw = raw[raw["id"] != "ADSS2"]
    assert "ADSS2" in set(written(raw).table()["perturbation"])
    raw.loc[150, "id"] = "ADSS2"  # and its own row goes before the old name's
    source = written(raw)
    assert "ADSS2" not in set(source.table()["perturbation"][source.table()["label"] == "up"])
    assert source.drops["rows of a gene under another name too"] == 1


def test_questions_carry_group_context_and_the_screen_s_words(written):
    asked = list(written(table()).questions())
    for question in asked:
        assert question.truth["group"] == question.fields["perturbation"]
        assert question.truth["context"] == "schmidt_il2"
        assert set(question.fields["words"]) == {"up", "down", "none"}
        assert "IL-2-high" in question.fields["asked"]
        assert all(item["perturbation"] != question.fields["perturbation"] for item in question.fields["evidence"])


def test_bad_tables_and_options(written):
    with pytest.raises(Error, match=r"column 'neg\|p-value' is missing"):
        written(table().drop(columns="neg|p-value")).table()
    with pytest.raises(Error, match="is no p-value"):
        written(table().assign(**{"pos|p-value": -3.0})).table()
    with pytest.raises(Error, match="0 hits"):
        written(table().assign(**{"pos|p-value": 0.5, "neg|p-value": 0.5})).table()
    with pytest.raises(Error, match="choose one of schmidt_il2"):
        CrisprScreens(screen="schmidt")


@given(st.lists(st.floats(-8, 8), min_size=1, max_size=20))
def test_z_gives_two_arms_that_add_up_and_mirror(z):
    screen = module.SCREENS["zhuang_nk"]
    up, down = (module._one_sided(pd.Series(z), screen, way) for way in ("up", "down"))
    assert np.allclose(up + down, 1.0)
    assert np.allclose(module._one_sided(-pd.Series(z), screen, "up"), down)


@pytest.fixture(scope="module", params=list(module.SCREENS))
def screen(request):
    source = CrisprScreens(screen=request.param)
    need(source.files())
    measured = source._read[0]
    return request.param, source, measured


def test_declared_signs_agree_with_known_genes(screen):
    """ZAP70 is needed for both cytokines; JAK1 protects from NK cells, TSC2 keeps tau low, ACE2 lets the virus in."""
    name, _, measured = screen
    gene, way = {
        "schmidt_il2": ("VAV1", "down"),
        "schmidt_ifng": ("ZAP70", "down"),
        "zhuang_nk": ("IFNGR2", "down"),
        "sanchez_tau": ("TSC2", "up"),
        "zhu_sarscov2": ("ACE2", "up"),
    }[name]
    p = measured.filter(like=f"p_{way}_").max(axis=1)
    assert p[gene] < 2e-3
    assert module.label(measured, 0.1).loc[gene, "label"] == way


def test_shared_screens_have_as_many_hits_as_matched_quiet_genes(screen):
    name, source, _ = screen
    asked = list(source.questions())
    counts = Counter(q.truth["answer"] for q in asked)
    expected = {
        "schmidt_il2": {"none": 201, "up": 143, "down": 58},
        "schmidt_ifng": {"none": 176, "up": 69, "down": 107},
        "zhuang_nk": {"none": 5, "down": 5},
        "sanchez_tau": {"none": 54, "up": 21, "down": 33},
        "zhu_sarscov2": {"yes": 32, "no": 32},
    }[name]
    assert counts == expected
    assert source.drops.get("rows whose gene a spreadsheet turned into a date", 0) == {
        "zhuang_nk": 24,
        "zhu_sarscov2": 28,
    }.get(name, 0)
    assert module.SCREENS[name].own not in {q.fields["perturbation"] for q in asked}


@pytest.mark.parametrize("name", ["schmidt_il2", "schmidt_ifng"])
def test_a_gene_is_in_the_split_that_tcell_cytokines_gives_it(name):
    need(CrisprScreens.files())
    mine = dict(CrisprScreens(screen=name).table()[["perturbation", "split"]].itertuples(index=False))
    theirs = {q.fields["perturbation"]: q.split for q in load("data", "tcell_cytokines", Source)().questions()}
    shared = mine.keys() & theirs.keys()
    assert len(shared) > 100 and all(mine[g] == theirs[g] for g in shared)
