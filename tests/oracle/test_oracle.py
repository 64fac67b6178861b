"""Oracles: what a table of predictions says of a question, and every fault of a table."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr.oracle import LABELS, Neighbours, Predictions, questions
from rlvr.types import Error

HEAD = "context,perturbation,readout"
ROW = "cd4_il2,ZAP70,IL-2"


def written(tmp_path, text, name="model.csv"):
    path = tmp_path / name
    path.write_text(text)
    return Predictions(str(path))


@pytest.mark.parametrize(
    ("task", "columns", "values", "belief"),
    [
        ("perturbation/effect", "p", "0.25", {"yes": 0.25, "no": 0.75}),
        ("perturbation/direction", "p", "0.25", {"up": 0.25, "down": 0.75}),
        ("perturbation/direction", "down,up", "0.25,0.75", {"up": 0.75, "down": 0.25}),
        ("perturbation/effect", "yes,no", "1,0", {"yes": 1.0, "no": 0.0}),
        ("perturbation/response", "up,down,none", "0.2,0.3,0.5", {"none": 0.5, "up": 0.2, "down": 0.3}),
        ("perturbation/response", "up,down,none", "0.333,0.333,0.333", {"none": 0.333, "up": 0.333, "down": 0.333}),
    ],
)
def test_a_row_is_a_belief(make_question, tmp_path, task, columns, values, belief):
    oracle = written(tmp_path, f"{HEAD},{columns}\n{ROW},{values}\n")
    asked = [make_question(task=task), make_question({"readout": "CD69"}, task=task), make_question(task=task)]
    assert oracle.probabilities(asked) == [belief, None, belief]
    assert oracle.probabilities([]) == []


def test_parquet_and_csv_say_the_same(make_question, tmp_path):
    frame = pd.DataFrame(
        [["cd4_il2", "ZAP70", "IL-2", 0.125], ["cd4_il2", "NA", "IL-2", 0.5]], columns=[*HEAD.split(","), "p"]
    )
    frame.to_parquet(tmp_path / "model.parquet")
    frame.to_csv(tmp_path / "model.csv", index=False)
    asked = [make_question({"perturbation": gene}) for gene in ("ZAP70", "NA", "nan", "zap70")]
    for name in ("model.parquet", "model.csv"):
        found = Predictions(str(tmp_path / name)).probabilities(asked)
        assert found == [{"up": 0.125, "down": 0.875}, {"up": 0.5, "down": 0.5}, None, None]


@settings(deadline=None, max_examples=25)
@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_every_probability_comes_back(make_question, tmp_path_factory, values):
    rows = "".join(f"cd4_il2,G{i},IL-2,{value!r}\n" for i, value in enumerate(values))
    oracle = written(tmp_path_factory.mktemp("t"), f"{HEAD},p\n{rows}")
    asked = [make_question({"perturbation": f"G{i}"}) for i in range(len(values) + 1)]
    found = oracle.probabilities(asked)
    assert [belief["up"] for belief in found[:-1]] == pytest.approx(values, abs=1e-12)
    assert found[-1] is None


GOOD = f"{HEAD},p\n{ROW},0.5\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot be read"),
        ("context,perturbation,p\na,b,0.5\n", "column 'readout' is missing"),
        (f"{HEAD}\n{ROW}\n", "it has nothing; give p or the labels"),
        (f"{HEAD},p,up\n{ROW},0.5,0.5\n", "it has p, up; give p or the labels"),
        (f"{HEAD},p\n", "no rows"),
        (f"{GOOD}{ROW},0.6\n", "row 2: cd4_il2, ZAP70, IL-2 stands in row 1 too"),
        (f"{GOOD}cd4_il2,LAT,IL-2,1.01\n", "column 'p', row 2: '1.01' is no probability"),
        (f"{GOOD}cd4_il2,LAT,IL-2,-3.2\n", "column 'p', row 2: '-3.2' is no probability .* logits"),
        (f"{GOOD}cd4_il2,LAT,IL-2,nan\n", "column 'p', row 2: 'nan'"),
        (f"{GOOD}cd4_il2,LAT,IL-2,\n", "column 'p', row 2: ''"),
        (f"{GOOD}cd4_il2,LAT,IL-2\n", "column 'p', row 2: ''"),
        (f"{GOOD}cd4_il2,,IL-2,0.5\n", "column 'perturbation', row 2: empty"),
        (f"{HEAD},p\n{ROW},0.5,9\n", "more cells than the header has names"),
        (f"{HEAD},up,down\n{ROW},0.9,0.9\n", "row 1: up, down sum to 1.8, not 1"),
        (f"{HEAD},up,down,fold\n{ROW},0.5,0.5,a\n", "column 'fold', row 1: 'a' .* drop other columns"),
    ],
)
def test_a_faulty_table_is_named_with_its_column_and_row(make_question, tmp_path, text, said):
    with pytest.raises(Error, match=f"model.csv: .*{said}") as raised:
        written(tmp_path, text).probabilities([make_question()])
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_table(make_question, tmp_path):
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x01")
    for name, said in [
        ("absent.csv", "no such file"),
        ("broken.parquet", "cannot be read"),
        ("binary.csv", "cannot be read"),
    ]:
        with pytest.raises(Error, match=f"{name}: {said}"):
            Predictions(str(tmp_path / name)).probabilities([make_question()])
    with pytest.raises(Error, match=r"\.npz suffix; it must be"):
        written(tmp_path, "", "a.npz").probabilities([make_question()])


@pytest.mark.parametrize(
    ("task", "columns", "values"),
    [
        ("perturbation/response", "p", "0.5"),  # of which of three classes?
        ("perturbation/response", "up,down", "0.5,0.5"),
        ("perturbation/effect", "up,down", "0.5,0.5"),
        ("cell/type", "p", "0.5"),
    ],
)
def test_a_table_of_another_task_is_refused(make_question, tmp_path, task, columns, values):
    oracle = written(tmp_path, f"{HEAD},{columns}\n{ROW},{values}\n")
    with pytest.raises(Error, match=f"does not fit {task}"):
        oracle.probabilities([make_question(task=task)])


def test_a_table_is_read_once_and_known_by_its_content(make_question, tmp_path):
    oracle = written(tmp_path, GOOD)
    version = oracle.version
    assert version == hashlib.sha256(GOOD.encode()).hexdigest()[:12]
    Path(oracle.path).unlink()
    assert pickle.loads(pickle.dumps(oracle)).probabilities([make_question()]) == [{"up": 0.5, "down": 0.5}]
    assert oracle.source(make_question()) == f"model.csv {version}"


def test_neighbours_say_what_the_source_found(make_question):
    asked = [make_question(), make_question(truth={"neighbours": None})]
    assert Neighbours().probabilities(asked) == [{"up": 0.25, "down": 0.75}, None]
    assert Neighbours().source(asked[0]) == "hand"


def test_the_labels_are_those_of_the_prompts():
    from rlvr import prompts

    for task, labels in LABELS.items():
        assert set(prompts.load(task).answers.words({}).values()) == set(labels)


def test_a_table_of_one_task_abstains_on_the_other(tmp_path, make_question):
    """The probability that something changes is not the probability that it goes up."""
    up = make_question({"perturbation": "A", "readout": "B"}, {"context": "k562"}, task="perturbation/direction")
    yes = replace(up, task="perturbation/effect")
    for stem, told in (("effect", yes), ("direction", up), ("of_my_model", None)):
        (tmp_path / f"{stem}.csv").write_text("context,perturbation,readout,p\nk562,A,B,0.9\n")
        oracle = Predictions(str(tmp_path / f"{stem}.csv"))
        found = [oracle.probabilities([question])[0] is not None for question in (yes, up)]
        assert found == [told in (yes, None), told in (up, None)]
        if told is not None:
            assert oracle.coverage([yes, up]) == {"covered": 1, f"predictions of {stem} alone": 1}


def test_predictions_are_found_under_any_name_of_a_gene():
    truth = pd.DataFrame({"context": "k562", "perturbation": ["GRK2", "CD3E"], "readout": ["LCK", "LCK"]})
    given = truth.assign(perturbation=["ADRBK1", "cd3e"], readout=["LCK", "lck"], p=[0.2, 0.8])
    found = questions.renamed(given, truth, "mine.csv")
    assert found[["perturbation", "readout", "p"]].to_numpy().tolist() == [["GRK2", "LCK", 0.2], ["CD3E", "LCK", 0.8]]
    assert questions.renamed(given.assign(readout="OTHER"), truth, "x")["readout"].tolist() == ["OTHER", "OTHER"]
    with pytest.raises(
        Error, match=r"mine.csv: two names of one gene: ADRBK1, LCK, k562 and GRK2, LCK, k562; keep one"
    ):
        questions.renamed(pd.concat([given, truth.assign(p=0.5)], ignore_index=True).iloc[[0, 2]], truth, "mine.csv")
