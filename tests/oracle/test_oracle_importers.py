"""Exports of virtual-cell models: each form says the same, and every fault is one line."""

from __future__ import annotations

import gzip

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from rlvr.oracle import importers, questions
from rlvr.types import Error

VALUES = pd.DataFrame([[0.1, 0.9], [0.5, 0.25]], index=["LAT", "NA"], columns=["IL2", "CD69"])


def test_a_matrix_a_long_table_and_h5ad_say_the_same(tmp_path):
    matrix = VALUES.rename_axis("perturbation").reset_index()
    matrix.to_csv(tmp_path / "matrix.csv", index=False)
    matrix.to_parquet(tmp_path / "matrix.parquet")
    long = matrix.melt("perturbation", var_name="readout", value_name="score").assign(context="k562")
    long.to_csv(tmp_path / "long.csv", index=False)
    obs = pd.DataFrame({"perturbation": VALUES.index}, index=["0", "1"])
    data = anndata.AnnData(np.zeros((2, 2)), obs=obs, var=pd.DataFrame(index=VALUES.columns))
    data.layers["predicted"] = VALUES.to_numpy()
    data.write_h5ad(tmp_path / "cells.h5ad")
    found = {
        name: importers.read(tmp_path / name, "probability", "k562", "predicted" if name.endswith("h5ad") else None)
        for name in ("matrix.csv", "matrix.parquet", "long.csv", "cells.h5ad")
    }
    for frame in found.values():
        held = frame.set_index(["context", "perturbation", "readout"])["p"]
        assert {key: held["k562", *key] for key in (("LAT", "IL2"), ("NA", "CD69"))} == {
            ("LAT", "IL2"): 0.1,
            ("NA", "CD69"): 0.25,
        }
        assert len(held) == 4


def test_expression_becomes_change_from_its_own_contexts_control(tmp_path):
    matrix = pd.DataFrame(
        {
            "context": ["k562"] * 3 + ["rpe1"] * 2,
            "condition": ["LAT+ctrl", "ctrl+CD3E", "ctrl", "LAT+ctrl", "ctrl"],
            "IL2": [1.0, 4.0, 3.0, 1.0, 0.0],
            "CD69": [2.0, 2.0, 2.0, 2.0, 2.0],
        }
    )
    matrix.to_csv(tmp_path / "gears.csv", index=False)
    found = importers.read(tmp_path / "gears.csv", "direction").set_index(["context", "perturbation", "readout"])["p"]
    assert len(found) == 6
    assert (found.xs("CD69", level="readout") == 0.5).all()
    assert found["k562", "LAT", "IL2"] < 0.5 < found["rpe1", "LAT", "IL2"] < found["k562", "CD3E", "IL2"] + 1e-12
    long = matrix.melt(["context", "condition"], var_name="readout")
    long.to_parquet(tmp_path / "long.parquet")
    again = importers.read(tmp_path / "long.parquet", "direction").set_index(["context", "perturbation", "readout"])
    pd.testing.assert_series_equal(again["p"].sort_index(), found.sort_index())


@pytest.mark.parametrize("kept", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_cells_are_averaged_and_their_controls_taken_off(tmp_path, kept):
    names = ["LAT", "non-targeting", "LAT", "CD3E", "non-targeting"]
    cells = np.array([[1.0, 0.0], [2.0, 1.0], [5.0, 0.0], [2.0, 3.0], [0.0, 1.0]])
    obs = pd.DataFrame({"target_gene": pd.Categorical(names)}, index=list("abcde"))
    data = anndata.AnnData(kept(cells), obs=obs, var=pd.DataFrame(index=["IL2", "CD69"]))
    data.write_h5ad(tmp_path / "state.h5ad")
    found = importers.read(tmp_path / "state.h5ad", "direction", "k562").set_index(["perturbation", "readout"])["p"]
    change = {("LAT", "IL2"): 2.0, ("LAT", "CD69"): -1.0, ("CD3E", "IL2"): 1.0, ("CD3E", "CD69"): 2.0}
    spread = np.sqrt(np.mean(np.square(list(change.values()))))
    assert found.to_dict() == pytest.approx({key: 1 / (1 + np.exp(-value / spread)) for key, value in change.items()})


@pytest.mark.parametrize("name", ["NT", "Non-Targeting", "CTRL", "unperturbed", "NTC"])
def test_controls_are_known_in_any_case(tmp_path, name):
    (tmp_path / "m.csv").write_text(f",perturbation,IL2\n0,{name},5.0\n1,LAT,5.0\n2,CD3E,4.0\n")
    found = importers.read(tmp_path / "m.csv", "direction", "k562").set_index(["perturbation", "readout"])["p"]
    assert found["LAT", "IL2"] == 0.5 > found["CD3E", "IL2"] and len(found) == 2


def state(path, obs=None, **held):
    """What State's tx infer leaves: the cells it was given in X, what it predicts in obsm."""
    names = pd.DataFrame({"target_gene": ["LAT+ctrl", "ctrl+LAT", "ctrl"], **(obs or {})}, index=list("abc"))
    data = anndata.AnnData(np.full((3, 2), 9.0), obs=names, var=pd.DataFrame(index=["IL2", "CD69"]), **held)
    data.write_h5ad(path)
    return path


def test_state_predictions_in_obsm_are_not_taken_for_its_input(tmp_path):
    told = {"X_hvg": np.array([[1.0, 5.0], [3.0, 5.0], [1.0, 6.0]])}
    file = state(tmp_path / "s.h5ad", obsm=told, uns={"X_hvg_var_names": np.array(["CD3E", "IL7R"])})
    with pytest.raises(Error, match="obsm X_hvg may be the predictions, and X what was given; name one of X, X_hvg"):
        importers.read(file, "direction", "k562")
    found = importers.read(file, "direction", "k562", "X_hvg").set_index(["perturbation", "readout"])["p"]
    assert set(found.index) == {("LAT", "CD3E"), ("LAT", "IL7R")} and found["LAT", "IL7R"] < 0.5 < found["LAT", "CD3E"]
    assert (importers.read(file, "direction", "k562", "X")["p"] == 0.5).all()
    wide = state(tmp_path / "w.h5ad", obsm={"X_state_pred": np.ones((3, 5))})
    with pytest.raises(Error, match=r"has 5 columns; name their genes in uns\['X_state_var_names'\]"):
        importers.read(wide, "direction", "k562", "X_state_pred")


def test_cells_of_two_lines_are_not_averaged(tmp_path):
    file = state(tmp_path / "s.h5ad", obs={"cell_type": ["k562", "rpe1", "k562"]})
    with pytest.raises(Error, match=r"obs\['cell_type'\] has 2 kinds of cells"):
        importers.read(file, "direction", "k562")
    with pytest.raises(Error, match="1 cells lack one of perturbation"):
        importers.read(state(tmp_path / "n.h5ad", obs={"target_gene": ["LAT", None, "ctrl"]}), "direction", "k562")


def test_evo2_and_enformer_name_the_perturbed_gene_beside_the_readout(tmp_path):
    (tmp_path / "m.csv").write_text("gene,readout,change\nLAT,IL2,-0.5\nCD3E,value,0.5\n")
    found = importers.read(tmp_path / "m.csv", "direction", "k562").set_index(["perturbation", "readout"])["p"]
    assert found["LAT", "IL2"] < 0.5 < found["CD3E", "value"]
    (tmp_path / "w.csv").write_text("perturbation,value,IL2\nLAT,-0.5,0.5\n")  # a gene of that name
    assert set(importers.read(tmp_path / "w.csv", "direction", "k562")["readout"]) == {"value", "IL2"}


def test_gene_shifts_of_geneformer(tmp_path):
    (tmp_path / "shifts.csv").write_text(
        ",Perturbed,Gene_name,Ensembl_ID,Affected,Affected_gene_name,Affected_Ensembl_ID,Cosine_sim_mean,"
        "Cosine_sim_stdev,N_Detections\n"
        "0,8060,LAT,ENSG00000213658,cell_emb,,,0.99,0.001,214\n"
        "1,8060,LAT,ENSG00000213658,13960,IL2,ENSG00000109471,0.75,0.1,262\n"
        "2,8060,LAT,ENSG00000213658,7937,CD69,ENSG00000110848,1.0,0.1,164\n"
    )
    found = importers.read(tmp_path / "shifts.csv", "effect", "k562").set_index("readout")["p"]
    assert list(found.index) == ["IL2", "CD69"] and found["CD69"] == 0.0 < found["IL2"]
    with pytest.raises(Error, match="how far a readout moves and not which way"):
        importers.read(tmp_path / "shifts.csv", "direction", "k562")


def test_controls_beside_probabilities_or_missing_from_a_context(tmp_path):
    (tmp_path / "m.csv").write_text("context,condition,IL2\nk562,ctrl,0.5\nk562,LAT+ctrl,0.6\nrpe1,LAT+ctrl,0.7\n")
    with pytest.raises(Error, match="'ctrl' is a control, which no probability is of"):
        importers.read(tmp_path / "m.csv", "probability")
    with pytest.raises(Error, match="IL2 has no control in rpe1"):
        importers.read(tmp_path / "m.csv", "effect")
    (tmp_path / "c.csv").write_text("perturbation,IL2\ncontrol,0.5\n")
    with pytest.raises(Error, match="no values"):
        importers.read(tmp_path / "c.csv", "effect", "k562")


def test_logits_and_fold_changes_keep_their_order(tmp_path):
    raw = pd.DataFrame({"perturbation": list("ABCD"), "IL2": [-800.0, -1.0, 0.5, 3.0]})
    raw.to_csv(tmp_path / "m.csv", index=False)
    read = {v: importers.read(tmp_path / "m.csv", v, "k562")["p"] for v in ("logit", "effect", "direction")}
    assert (np.diff(read["logit"]) > 0).all() and (np.diff(read["direction"]) > 0).all()
    assert list(read["effect"].rank()) == [4, 2, 1, 3]
    assert all(((p >= 0) & (p <= 1)).all() for p in read.values())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gene,IL2\nA,0.5\n", r"names no perturbations; .* \(it has gene, IL2\)"),
        ("perturbation,IL2\nA,1.5\n", r"1 values outside \[0, 1\], such as 1.5; are they logits"),
        ("perturbation,IL2\nA,inf\n", "1 infinite values"),
        ("perturbation,IL2\nA,0.5\nA,0.6\n", "k562, A, IL2 comes twice"),
        ("perturbation,IL2\nA,\n", "no values"),
        ("perturbation,readout,p,q\nA,B,0.5,0.5\n", "it has p, q; keep one"),
        ("", "cannot be read"),
        ("perturbation,IL2,IL2\nA,0.5,0.6\n", "column 'IL2' comes twice"),
        ("context,perturbation,readout,p\nk562,,IL2,0.5\n", "1 rows lack one of context, perturbation, readout"),
        ('perturbation,readout,p\nA,B,"0,7"\nA,C,n.s.\nA,D,0.5\n', r"'0,7' \(B\) is no number, 2 such"),
        ("cells_total\tgene\nA\tB\n", "names no perturbations"),
    ],
)
def test_faults_are_one_line(tmp_path, text, said):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(Error, match=said):
        importers.read(tmp_path / "m.csv", "probability", "k562")


def test_a_file_without_context_needs_one(tmp_path):
    (tmp_path / "m.csv").write_text("perturbation,IL2\nA,0.5\n")
    with pytest.raises(Error, match="names no context"):
        importers.read(tmp_path / "m.csv", "probability")
    with pytest.raises(Error, match="no such file"):
        importers.read(tmp_path / "n.csv", "probability")


def test_questions_become_tables(make_question):
    made = [
        make_question({"perturbation": "A"}, {"answer": "none"}, task="perturbation/response"),
        make_question({"perturbation": "B"}, {"answer": "up"}, task="perturbation/response"),
        make_question({"perturbation": "C"}, task="perturbation/direction"),
        make_question({"perturbation": "D"}, task="perturbation/set"),
    ]
    held = questions.tables_of(made)["cd4_il2"]
    assert held["effect"][["perturbation", "label"]].to_numpy().tolist() == [["A", "no"], ["B", "yes"]]
    assert held["direction"][["perturbation", "label"]].to_numpy().tolist() == [["B", "up"], ["C", "down"]]
    with pytest.raises(Error, match="no question of"):
        questions.tables_of(made[-1:])


LONG = {("LAT", "IL2"): 0.9, ("CD3E", "IL2"): 0.2}


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("m.csv", "pert,gene,p"),
        ("m.csv", "target,feature,fold_change"),
        ("m.csv", "Perturbation,Readout,Probability"),
        ("m.tsv", "perturbed_gene\tresponse_gene\tp"),
        ("m.csv.gz", "condition,readout,p"),
        ("m.tsv.gz", "pert\tfeature\tp"),
        ("m.csv", ",pert,gene,p"),  # an index without a name
    ],
)
def test_tables_of_other_names_and_endings_are_read(tmp_path, name, head):
    joint = "\t" if ".tsv" in name else ","
    first = "0" + joint if head.startswith(",") else ""
    text = head + "\n" + "".join(f"{first}{joint.join([*key, str(p)])}\n" for key, p in LONG.items())
    opened = gzip.open if name.endswith("gz") else open
    with opened(tmp_path / name, "wt") as file:
        file.write(text)
    found = importers.read(tmp_path / name, "probability", "k562").set_index(["perturbation", "readout"])["p"]
    assert found.to_dict() == LONG


def test_context_may_be_written_in_any_case(tmp_path):
    (tmp_path / "m.csv").write_text("Context,pert,gene,p\nk562,LAT,IL2,0.5\n")
    assert importers.read(tmp_path / "m.csv", "probability")["context"].tolist() == ["k562"]


def test_columns_about_cells_are_no_readouts_and_it_is_said(tmp_path, caplog):
    (tmp_path / "m.csv").write_text("perturbation,IL2,total_umis,n_cells\nLAT,0.5,12000,30\nCD3E,-0.5,9000,20\n")
    found = importers.read(tmp_path / "m.csv", "direction", "k562")
    assert set(found["readout"]) == {"IL2"} and "total_umis, n_cells are no readouts" in caplog.text


@pytest.mark.parametrize(
    ("text", "values", "said"),
    [
        ("condition,IL2\nLAT+ctrl,4.0\nCD3E+ctrl,3.0\n", "effect", "is how GEARS names a perturbation"),
        ("condition,IL2\nLAT,4.0\nCD3E,3.0\n", "direction", "no value is below 0 and no row is a control"),
        ("Gene,Gene_name,Shift_to_goal_end\n1,LAT,0.1\n", "effect", "moves whole cells towards a state"),
    ],
)
def test_what_is_no_change_is_refused(tmp_path, text, values, said):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(Error, match=said):
        importers.read(tmp_path / "m.csv", values, "k562")


@pytest.mark.parametrize(
    "control", ["nontargeting_7", "NTC_12", "NT_1", "NegCtrl0", "safe-targeting", "DMSO", " ctrl "]
)
def test_a_control_in_any_spelling_is_taken_off(tmp_path, control):
    (tmp_path / "m.csv").write_text(f"perturbation,IL2\n{control},5.0\nLAT,5.0\nCD3E,4.0\n")
    found = importers.read(tmp_path / "m.csv", "direction", "k562").set_index("perturbation")["p"]
    assert found["LAT"] == 0.5 > found["CD3E"] and len(found) == 2


def test_other_files_are_one_line(tmp_path):
    (tmp_path / "m.xlsx").write_text("x")
    with pytest.raises(Error, match=r"m.xlsx: is none of .csv, .tsv"):
        importers.read(tmp_path / "m.xlsx", "effect", "k562")
