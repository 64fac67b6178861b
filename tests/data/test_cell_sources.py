"""Cells as sentences: values that may be ranked, types of the Cell Ontology, splits by donor, bad files."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.sparse import csc_matrix, csr_matrix

from rlvr import prompts
from rlvr.knowledge import KnowledgeBase
from rlvr.plugins import load
from rlvr.questions.biology import h5ad
from rlvr.questions.biology.cells import divide, unrelated
from rlvr.questions.biology.h5ad import read
from rlvr.source import Source
from rlvr.types import Error, Question
from tests.session import need

CellType = load("data", "cell_type", Source)
CellBatch = load("data", "cell_batch", Source)
TYPES = ["type B pancreatic cell", "pancreatic alpha cell", "T cell", "macrophage", "B cell", "natural killer cell"]
GENES = ["INS", "GCG", "CD3E", "LYZ", "MS4A1", "NKG7", "ACTB", "B2M", "MALAT1", "TMSB4X", "RPLP0", "EEF1A1", "FTL"]


def counts(cells: int = 120, seed: int = 0) -> np.ndarray:
    """Each type's own gene stands far above the rest."""
    rng = np.random.default_rng(seed)
    held = rng.poisson(3.0, (cells, len(GENES))) + 1
    held[np.arange(cells), np.arange(cells) % len(TYPES)] += 100
    return held.astype(np.float32)


def write(folder: Path, x: object = None, *, genes: list[str] = GENES, **obs: object) -> str:
    matrix = counts() if x is None else x
    cells = matrix.shape[0]  # type: ignore[attr-defined]
    table = {
        "cell_type": [TYPES[i % len(TYPES)] for i in range(cells)],
        "donor": [f"d{i // 6 % 5}" for i in range(cells)],
    }
    table |= obs
    frame = pd.DataFrame(table, index=[f"cell{i}" for i in range(cells)])
    path = folder / "mine.h5ad"
    anndata.AnnData(matrix, obs=frame, var=pd.DataFrame(index=genes)).write_h5ad(path)
    return str(path)


def own(path: str, source: type = CellType, **options: object) -> list[Question]:
    defaults = {"donor": "donor", "tissue": "pancreas", "knowledge": "sample", "genes": 10}
    return list(source(dataset=path, **{**defaults, **options}).questions())


@pytest.mark.parametrize("form", [np.asarray, csr_matrix, csc_matrix])
def test_the_most_expressed_gene_comes_first_however_the_file_is_stored(tmp_path, monkeypatch, form):
    monkeypatch.setattr(h5ad, "CHUNK", 7)
    asked = own(write(tmp_path, form(counts())))
    assert len(asked) == 120
    for question in asked:
        marker = question.fields["genes"][0]
        assert GENES.index(marker) == [TYPES[0], "pancreatic A cell", *TYPES[2:]].index(question.truth["answer"])
        assert len(question.fields["genes"]) == 10


def test_names_that_r_has_mangled_get_their_hyphen_back(tmp_path):
    path = write(tmp_path, genes=["NKX6.1", "NOPE.1", *GENES[2:]])
    source = CellType(dataset=path, donor="donor", tissue="pancreas", knowledge="sample", genes=len(GENES))
    shown = {gene for q in source.questions() for gene in q.fields["genes"]}
    assert {"NKX6-1", "NOPE.1"} <= shown and not {"NKX6.1", "NOPE-1"} & shown
    assert source.unresolved()["NOPE.1"] == "unknown" and "NKX6-1" not in source.unresolved()


def test_labels_become_ontology_types_and_ids(tmp_path):
    asked = own(write(tmp_path))
    alpha = next(q for q in asked if q.truth["answer"] == "pancreatic A cell")  # the file says alpha cell, a synonym
    assert alpha.truth["ids"]["pancreatic A cell"] == "CL:0000171"
    assert (alpha.fields["species"], alpha.fields["tissue"]) == ("human", "pancreas")
    for question in asked:
        assert set(question.truth["ids"]) == set(question.fields["options"])
        assert question.truth["group"] == question.truth["group"] and question.truth["group"].startswith("d")
    assert Question.from_json(asked[0].to_json()) == asked[0]


def test_a_column_of_ids_goes_before_names(tmp_path):
    ids = ["CL:0000169", "CL:0000171", "CL:0000084", "CL:0000235", "CL:0000236", "CL:0000623"]
    path = write(tmp_path, cell_type=["whatever"] * 120, ids=[ids[i % 6] for i in range(120)])
    assert {q.truth["answer"] for q in own(path, identifier="ids")} >= {"T cell", "pancreatic A cell"}


def test_unknown_and_missing_labels_are_counted_and_named(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    labels = [TYPES[i % 6] for i in range(120)]
    labels[:3], labels[3] = ["mystery cell"] * 3, None
    path = write(tmp_path, cell_type=labels)
    source = CellType(dataset=path, donor="donor", tissue="pancreas", knowledge="sample", genes=10)
    assert source.found.drops == {"label 'mystery cell' is no current Cell Ontology type": 3, "no label": 1}
    assert "3 cells left out: label 'mystery cell'" in caplog.text


def test_no_option_is_a_kind_of_another_right_one(tmp_path):
    labels = [["leukocyte", "macrophage", "T cell", "type B pancreatic cell"][i % 4] for i in range(120)]
    asked = own(write(tmp_path, cell_type=labels))
    knowledge = KnowledgeBase.open("sample")
    for question in asked:
        ids = question.truth["ids"]
        others = [i for name, i in ids.items() if name != question.truth["answer"]]
        assert unrelated(ids[question.truth["answer"]], others, knowledge) == others
    assert all("T cell" not in q.fields["options"] for q in asked if q.truth["answer"] == "leukocyte")


def test_donors_are_whole_and_all_splits_are_there(tmp_path):
    asked = own(write(tmp_path))
    where = {q.truth["group"]: {r.split for r in asked if r.truth["group"] == q.truth["group"]} for q in asked}
    assert all(len(found) == 1 for found in where.values())
    assert {q.split for q in asked} == {"train", "validation", "test"}


def test_of_two_donors_one_trains(tmp_path):
    asked = own(write(tmp_path, donor=[f"d{i // 6 % 2}" for i in range(120)]))
    by = {d: {q.split for q in asked if q.truth["group"] == d} for d in ("d0", "d1")}
    assert sorted(by.values(), key=len) == [{"train"}, {"validation", "test"}]


def test_split_by_cell_type_holds_types_and_options_apart(tmp_path):
    asked = own(write(tmp_path), split_by="cell_type")
    types = {s: {q.truth["answer"] for q in asked if q.split == s} for s in ("train", "validation", "test")}
    assert [len(found) for found in types.values()] == [2, 2, 2]
    assert not types["train"] & types["test"] and not types["validation"] & types["test"]
    assert all(set(q.fields["options"]) <= types[q.split] for q in asked)


def test_per_type_bounds_each_type_in_each_split(tmp_path):
    asked = own(write(tmp_path), per_type=2)
    assert max(Counter((q.split, q.truth["answer"]) for q in asked).values()) == 2


def test_batches_hold_distinct_types_and_every_cell_once(tmp_path):
    source = CellBatch(dataset=write(tmp_path), donor="donor", tissue="pancreas", knowledge="sample", genes=10)
    asked = list(source.questions())
    left = len(source.found.cells) - 4 * len(asked)
    assert source.drops == {**source.found.drops, **({"no unrelated types left for a batch": left} if left else {})}
    sentences = [tuple(genes) for q in asked for genes in q.fields["cells"]]
    assert len(sentences) == 4 * len(asked) <= 120
    for question in asked:
        answer = question.truth["answer"]
        assert len(set(answer)) == 4 and sorted(answer) == sorted(question.fields["options"])
        tops = [genes[0] for genes in question.fields["cells"]]
        assert [GENES.index(t) for t in tops] == [
            [TYPES[0], "pancreatic A cell", *TYPES[2:]].index(name) for name in answer
        ]
    assert any(q.truth["answer"] != q.fields["options"] for q in asked)
    assert len({q.id for q in asked}) == len(asked)


@pytest.mark.parametrize("source", [CellType, CellBatch])
def test_prompts_show_the_cells_and_take_the_answer_back(tmp_path, source):
    for question in own(write(tmp_path), source)[:5]:
        template = prompts.load(question.task)
        shown = template.render(question)[1]["content"]
        assert all(name in shown for name in question.fields["options"])
        sentence = question.fields["genes"] if source is CellType else question.fields["cells"][1]
        assert " ".join(sentence) in shown
        given = template.answers.read(template.word(question.truth["answer"]), question.fields)
        answer = question.truth["answer"]
        assert given == (answer if isinstance(answer, str) else json.dumps(answer))
        blind = Question(question.id, question.task, question.fields, {}, question.source, question.split)
        assert template.render(blind) == template.render(question)


def test_ranks_come_from_raw_where_x_is_scaled(tmp_path):
    plain = own(write(tmp_path))
    held = anndata.read_h5ad(tmp_path / "mine.h5ad")
    held.raw = held.copy()
    held.X = (held.X - held.X.mean(axis=0)) / held.X.std(axis=0)
    held.write_h5ad(tmp_path / "scaled.h5ad")
    assert read(tmp_path / "scaled.h5ad").slot == "raw/X"
    assert [q.fields["genes"] for q in own(str(tmp_path / "scaled.h5ad"))] == [q.fields["genes"] for q in plain]


def test_a_layer_of_counts_goes_before_log_values(tmp_path):
    write(tmp_path)
    held = anndata.read_h5ad(tmp_path / "mine.h5ad")
    held.layers["counts"] = held.X.copy()
    held.X = np.log1p(held.X)
    held.write_h5ad(tmp_path / "both.h5ad")
    found = read(tmp_path / "both.h5ad")
    assert (found.slot, found.kind) == ("layers/counts", "counts")


def faulty(value: float) -> np.ndarray:
    held = counts()
    held[100, 3] = value
    return held


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        (faulty(-1.0), "negative counts"),
        (faulty(-0.5), "scaled values"),
        (faulty(np.nan), "missing or infinite"),
        (faulty(np.inf), "missing or infinite"),
    ],
)
def test_values_that_cannot_be_ranked_are_refused(tmp_path, matrix, said):
    with pytest.raises(Error, match=said):
        own(write(tmp_path, matrix))


def test_bad_files_and_options_are_one_clear_line(tmp_path):
    path = write(tmp_path)
    (tmp_path / "text.h5ad").write_text("no")
    with pytest.raises(Error, match=r"no \.h5ad file"):
        own(str(tmp_path / "text.h5ad"))
    with pytest.raises(Error, match="is not there"):
        own(str(tmp_path / "absent.h5ad"))
    with pytest.raises(Error, match="no column 'cel_type', did you mean 'cell_type'"):
        own(path, label="cel_type")
    with pytest.raises(Error, match="which tissue"):
        own(path, tissue="")
    with pytest.raises(Error, match="names no donor"):
        own(path, donor="", split_by="donor")
    with pytest.raises(Error, match="choose one of pbmc68k"):
        CellType(dataset="pbmc")
    with pytest.raises(Error, match="one donor"):
        own(write(tmp_path, donor=["d"] * 120))
    with pytest.raises(Error, match="1 cell types"):
        own(write(tmp_path, cell_type=["T cell"] * 120))
    with pytest.raises(Error, match="unrelated types; set fewer"):
        own(write(tmp_path), CellBatch, cells=9)
    with pytest.warns(UserWarning), pytest.raises(Error, match="gene name 'INS' is there twice"):
        own(write(tmp_path, genes=["INS", "INS", *GENES[2:]]))
    half = [g.capitalize() if i % 2 else g for i, g in enumerate(GENES)]
    with pytest.raises(Error, match="mixed species"):
        own(write(tmp_path, genes=half))
    with pytest.raises(Error, match=r"mixed species \(GRCh38 and mm10\)"):
        own(write(tmp_path, genes=[f"{'mm10' if i % 2 else 'GRCh38'}_{g}" for i, g in enumerate(GENES)]))
    with pytest.raises(Error, match="no human or mouse symbols"):
        own(write(tmp_path, genes=[f"7{i}" for i in range(len(GENES))]))


@given(st.lists(st.text(min_size=1), min_size=6, max_size=40, unique=True), st.integers(1, 2))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_divided_groups_fill_every_split_in_any_order(groups, least):
    found = divide(groups, least)
    sizes = Counter(found.values())
    assert min(sizes["test"], sizes["validation"], sizes["train"]) >= least and sum(sizes.values()) == len(groups)
    assert divide(groups[::-1], least) == found


# The files of the papers.


@pytest.fixture(scope="module", params=["pbmc68k", "baron_human", "baron_mouse"])
def shipped(request) -> tuple[str, list[Question], list[Question]]:
    need(CellType.files())
    return (
        request.param,
        *(list(s(dataset=request.param, knowledge="upstream").questions()) for s in (CellType, CellBatch)),
    )


def test_shipped_data_have_their_published_shape(shipped):
    name, types, batches = shipped
    source = CellType(dataset=name, per_type=10_000)
    held = source.found
    labels = Counter(cell.type for cell in held.cells)
    expected = {
        "pbmc68k": (700, "human", "dendritic cell", 240),
        "baron_human": (2142, "human", "type B pancreatic cell", 623),
        "baron_mouse": (1886, "mouse", "type B pancreatic cell", 894),
    }[name]
    assert (len(held.cells), held.species, *labels.most_common(1)[0]) == expected
    assert not held.drops
    assert {q.split for q in types} == {q.split for q in batches} == {"train", "validation", "test"}
    by_split = {s: {q.truth["group"] for q in types if q.split == s} for s in ("train", "validation", "test")}
    if name != "pbmc68k":
        assert not by_split["train"] & (by_split["validation"] | by_split["test"])


def test_known_markers_lead_the_sentences(shipped):
    name, types, _ = shipped
    marker, cell = {
        "pbmc68k": ("CD74", "B cell"),
        "baron_human": ("INS", "type B pancreatic cell"),
        "baron_mouse": ("Ins2", "type B pancreatic cell"),
    }[name]
    mine = [marker in q.fields["genes"][:10] for q in types if q.truth["answer"] == cell]
    assert np.mean(mine) > 0.8
