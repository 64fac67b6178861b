"""The network: it learns, and every fault of a table is one line."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from rlvr.knowledge import KnowledgeBase
from rlvr.oracle import card, kinds, mlp
from rlvr.oracle.crossfit import prepare
from rlvr.types import Error

BASE = KnowledgeBase.open("sample")
WIDTH = 6


def made(genes=120, readouts=15, seed=0):
    """Genes with random vectors, whose first coordinate raises even readouts and lowers odd ones; one in five is held
    out, and the last gene of all has no vector."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(genes, WIDTH)).astype(np.float32)
    rows = [
        (
            f"GENE{i}",
            f"READOUT{r}",
            "made",
            "validation" if i % 5 == 4 else "train",
            "up" if rng.random() < 1 / (1 + np.exp(-3 * vectors[i, 0] * (1 - 2 * (r % 2)))) else "down",
        )
        for i in range(genes)
        for r in range(readouts)
    ]
    table = pd.DataFrame(rows, columns=["perturbation", "readout", "context", "split", "label"])
    return {"direction": table}, mlp.Embeddings(tuple(f"GENE{i}" for i in range(genes - 1)), vectors[:-1])


@pytest.fixture(scope="module")
def learnt():
    tables, embeddings = made()
    return tables["direction"], kinds.fit("mlp", prepare(tables, BASE), embeddings)["direction"]


def test_it_learns_and_abstains_without_a_vector(learnt):
    table, found = learnt
    held = found.predictions.assign(label=table["label"])
    assert held.loc[held["perturbation"] == "GENE119", "p"].isna().all()
    assert dict(found.abstained) == {"no embedding": 15, "readout unseen": 0}
    for split in ("train", "validation"):
        rows = held[(held["split"] == split) & held["p"].notna()]
        up, down = (rows.loc[rows["label"] == label, "lift"].to_numpy() for label in ("up", "down"))
        assert (up[:, None] > down[None, :]).mean() > 0.75


TABLE = pd.DataFrame({"gene": ["A", "B"], "d0": [0.1, 0.2], "d1": [1.0, 2.0]})


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (TABLE.drop(columns="gene"), "'gene' is missing"),
        (TABLE.rename(columns={"d1": "x"}), "column 'x'; name the 2 columns of numbers d0 to d1"),
        (TABLE[["gene"]], "width 0"),
        (TABLE.iloc[:0], "0 genes"),
        (TABLE.assign(gene="A"), "gene 'A' comes twice"),
        (TABLE.assign(d1=[1.0, np.inf]), "gene 'B': not all numbers; 1 such"),
        (TABLE.assign(d1=["1", "x"]), "gene 'B': not all numbers; 1 such"),
    ],
)
def test_faults_of_a_table_of_embeddings(tmp_path, table, said):
    table.to_parquet(tmp_path / "e.parquet")
    with pytest.raises(Error, match=said):
        mlp.read(tmp_path / "e.parquet")


def test_a_table_of_embeddings_comes_back_and_must_hold_the_genes(tmp_path):
    tables, embeddings = made(genes=60)
    embeddings.table().to_parquet(tmp_path / "e.parquet")
    back = mlp.read(tmp_path / "e.parquet")
    assert back.genes == embeddings.genes and np.array_equal(back.vectors, embeddings.vectors)
    with pytest.raises(Error, match="none of the training perturbations is in the table"):
        mlp.of(prepare(tables, BASE), mlp.Embeddings(("OTHER",), np.ones((1, 3), dtype=np.float32)))
    (tmp_path / "e.parquet").write_text("no table")
    with pytest.raises(Error, match="cannot be read"):
        mlp.read(tmp_path / "e.parquet")


def test_a_card_names_data_terms_and_errors(learnt, tmp_path):
    table, found = learnt
    rows = found.predictions[(table["split"] == "validation").to_numpy()]
    fit = {"context": "made", "task": "direction", "rows": len(table), "abstained": dict(found.abstained)}
    fit |= {"training": card.training(table)} | card.quality(rows, table.loc[rows.index, "label"], "direction")
    source = {"name": "made", "version": "1", "licence": "not for sale", "commercial": False}
    found.covered().to_parquet(tmp_path / "direction.parquet")
    card.write(tmp_path, {"what": "a test", "folds": 5, "data": [source], "fits": [fit]})
    held = json.loads((tmp_path / "card.json").read_text())["fits"][0]
    assert held["n"] == 24 * 15 - 15 and 0 <= held["ece"] < 0.3
    assert held["training"] == card.training(table.sample(frac=1, random_state=0))
    page = (tmp_path / "CARD.md").read_text()
    assert "| made | direction | 1800 | 15 no embedding |" in page
    assert "not for sale" in page and "forbid commercial use" in page
