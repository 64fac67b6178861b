"""Single-cell files in the field's own forms: where values stand, what they are, and what is refused in one line."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csc_matrix, csr_matrix

from rlvr.knowledge import KnowledgeBase
from rlvr.questions.biology import h5ad
from rlvr.questions.biology.cell_labels import cell_type_of
from rlvr.types import Error

GENES = ["CD3E", "LCK", "ZAP70", "LAT"]
COUNTS = np.random.default_rng(0).poisson(3.0, (6, 4)).astype(np.float32)
LOGS = np.log1p(1e4 * COUNTS / COUNTS.sum(1, keepdims=True))


def written(path: Path, x: Any = None, **layers: Any) -> Path:
    obs, var = pd.DataFrame(index=[f"c{i}" for i in range(6)]), pd.DataFrame(index=GENES)
    anndata.AnnData(x, obs=obs, var=var, layers=layers).write_h5ad(path)
    return path


def values(read: h5ad.Expression) -> np.ndarray:
    return np.vstack([chunk.toarray() for _, chunk in read.chunks()])


@pytest.mark.parametrize("form", [np.asarray, csr_matrix, csc_matrix, lambda x: x.astype(np.float16)])
def test_counts_are_read_in_any_form(tmp_path: Path, form: Any) -> None:
    read = h5ad.read(written(tmp_path / "a.h5ad", form(COUNTS)))
    assert (read.kind, read.slot) == ("counts", "X")
    assert np.array_equal(values(read), COUNTS)


@pytest.mark.parametrize("name", ["counts", "raw_counts", "raw"])
def test_counts_in_a_layer_go_before_logarithms_in_x(tmp_path: Path, name: str) -> None:
    read = h5ad.read(written(tmp_path / "a.h5ad", LOGS, **{name: COUNTS}))
    assert (read.kind, read.slot) == ("counts", f"layers/{name}") and np.array_equal(values(read), COUNTS)


def test_a_file_without_x_is_read_from_its_layer(tmp_path: Path) -> None:
    read = h5ad.read(written(tmp_path / "a.h5ad", None, counts=COUNTS))
    assert read.slot == "layers/counts"
    with h5py.File(written(tmp_path / "b.h5ad", COUNTS, counts=COUNTS), "a") as file:
        del file["X"]
    assert h5ad.read(tmp_path / "b.h5ad").slot == "layers/counts"


def test_the_caller_may_name_the_layer(tmp_path: Path) -> None:
    path = written(tmp_path / "a.h5ad", COUNTS, logs=LOGS)
    assert h5ad.read(path, "logs").kind == "log" and h5ad.read(path, "X").kind == "counts"
    with pytest.raises(Error, match=r"has no layer 'log', did you mean 'logs'\?; it has X, logs"):
        h5ad.read(path, "log")


@pytest.mark.parametrize(
    "wrong",
    [1e4 * COUNTS / COUNTS.sum(1, keepdims=True) + 0.25, COUNTS * 10.5, COUNTS * 97.3],
    ids=["per 10,000 without a logarithm", "fractional counts", "soup-corrected"],
)
def test_values_that_are_neither_counts_nor_logarithms_are_refused(tmp_path: Path, wrong: np.ndarray) -> None:
    with pytest.raises(Error, match="which are neither whole counts nor logarithms"):
        h5ad.read(written(tmp_path / "a.h5ad", wrong))
    assert h5ad.read(written(tmp_path / "b.h5ad", wrong, counts=COUNTS)).slot == "layers/counts"


def test_a_compressed_file_is_one_line(tmp_path: Path) -> None:
    plain = written(tmp_path / "a.h5ad", COUNTS)
    (tmp_path / "a.h5ad.gz").write_bytes(gzip.compress(plain.read_bytes()))
    with pytest.raises(Error, match=r"a.h5ad.gz is compressed by gzip.*gunzip a.h5ad.gz"):
        h5ad.read(tmp_path / "a.h5ad.gz")
    (tmp_path / "text.h5ad").write_text("no matrix")
    with pytest.raises(Error, match=r"is no .h5ad file"):
        h5ad.read(tmp_path / "text.h5ad")


BASE = KnowledgeBase.open("sample")


@pytest.mark.parametrize(
    ("label", "types", "id"),
    [
        ("T cell", {}, "CL:0000084"),
        ("T cells", {}, "CL:0000084"),
        ("T_cell", {}, "CL:0000084"),
        ("T_cells", {}, "CL:0000084"),
        ("T", {}, "CL:0000084"),
        ("CL_0000084", {}, "CL:0000084"),
        ("cl:0000084", {}, "CL:0000084"),
        ("my cluster 3", {"my cluster 3": "CL:0000084"}, "CL:0000084"),
        ("cluster 4", {"cluster 4": "T cell"}, None),  # the mapping names ids
        ("cluster 5", {}, None),
        ("", {}, None),
    ],
)
def test_labels_of_authors_find_their_type(label: str, types: dict[str, str], id: str | None) -> None:
    found = cell_type_of(label, types, BASE)
    assert (found.id if found else None) == id


@pytest.mark.upstream
@pytest.mark.parametrize(
    ("label", "tissue", "id"),
    [
        ("alpha", "human pancreas", "CL:0000171"),
        ("alpha", "pancreatic islets", "CL:0000171"),
        ("alpha", "blood", None),  # "alpha cell" alone is a synonym of one in the retina
        ("beta cells", "human pancreas", "CL:0000169"),
        ("B cells", "human pancreas", "CL:0000236"),
        ("ductal", "human pancreas", "CL:0002079"),
        ("acinar", "human pancreas", "CL:0002064"),
        ("NK cells", "blood", "CL:0000623"),
    ],
)
def test_what_a_letter_means_depends_on_the_tissue(label: str, tissue: str, id: str | None) -> None:
    found = cell_type_of(label, {}, KnowledgeBase.open("upstream"), tissue)
    assert (found.id if found else None) == id
