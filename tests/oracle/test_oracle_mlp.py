"""The network, and what is kept of it: it learns, its files answer, and every fault of a table is one line."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from rlvr.knowledge import KnowledgeBase
from rlvr.oracle import card, kinds, mlp
from rlvr.oracle.crossfit import prepare
from rlvr.oracle.network import Saved
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
def learnt(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlp")
    tables, embeddings = made()
    found, keep = kinds.fit("mlp", prepare(tables, BASE), embeddings)
    keep(folder)
    files = Saved(str(folder / "mlp_made.safetensors"), str(folder / "embeddings_made.parquet"))
    return tables["direction"], found["direction"], files


def test_it_learns_and_abstains_without_a_vector(learnt):
    table, found, _ = learnt
    held = found.predictions.assign(label=table["label"])
    assert held.loc[held["perturbation"] == "GENE119", "p"].isna().all()
    assert dict(found.abstained) == {"no embedding": 15, "readout unseen": 0}
    for split in ("train", "validation"):
        rows = held[(held["split"] == split) & held["p"].notna()]
        up, down = (rows.loc[rows["label"] == label, "lift"].to_numpy() for label in ("up", "down"))
        assert (up[:, None] > down[None, :]).mean() > 0.75


def test_the_files_say_what_was_predicted_and_nothing_of_training(learnt, make_question):
    _, found, saved = learnt

    def ask(perturbation, readout="READOUT1", context="made", task="perturbation/direction"):
        return make_question({"perturbation": perturbation, "readout": readout}, {"context": context}, task=task)

    held = found.predictions.set_index(["perturbation", "readout"])
    first, other = (saved.probabilities([ask("GENE4", r)])[0]["up"] for r in ("READOUT1", "READOUT2"))
    logit = np.log(np.array([first, other]) / (1 - np.array([first, other])))
    p = held.loc[[("GENE4", "READOUT1"), ("GENE4", "READOUT2")], "p"].to_numpy()
    # The table is corrected for the base rate of what was asked together, which moves every logit alike.
    assert np.diff(logit)[0] == pytest.approx(np.diff(np.log(p / (1 - p)))[0], abs=1e-4)
    asked = [
        ask("GENE4"),
        ask("GENE0"),
        ask("GENE4", readout="READOUT99"),
        ask("GENE4", context="other"),
        ask("GENE4", task="perturbation/effect"),
        ask("NOSUCHGENE"),
    ]
    assert [belief is None for belief in saved.probabilities(asked)] == [False, True, True, True, True, True]
    assert saved.coverage(asked) == {
        "covered": 1,
        "perturbation seen in training": 1,
        "readout unseen": 1,
        "context unseen": 1,
        "task not learnt": 1,
        "no embedding": 1,
    }


def test_embeddings_of_another_width_are_refused(learnt, tmp_path, make_question):
    *_, saved = learnt
    narrow = mlp.Embeddings(("GENE4",), np.ones((1, 3), dtype=np.float32)).table()
    narrow.to_parquet(tmp_path / "narrow.parquet")
    with pytest.raises(Error, match=r"narrow.parquet: width 3, but .* was trained on width 6; give the table"):
        Saved(saved.weights, str(tmp_path / "narrow.parquet")).probabilities([make_question()])


def test_broken_weights_are_one_line(learnt, tmp_path, make_question):
    *_, saved = learnt
    (tmp_path / "text.safetensors").write_text("no tensors")
    save_file(load_file(saved.weights), tmp_path / "bare.safetensors")
    torch.save({"a": 1}, tmp_path / "pickle.safetensors")
    for name in ("text", "bare", "pickle", "absent"):
        with pytest.raises(Error, match=f"{name}.safetensors: cannot be read"):
            Saved(str(tmp_path / f"{name}.safetensors"), saved.embeddings).probabilities([make_question()])


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
    table, found, _ = learnt
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
