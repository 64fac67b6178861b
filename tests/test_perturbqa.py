"""PerturbQA: its options, its terms, its splits, and the published shape of its files."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

import rlvr.source
from rlvr.plugins import load
from rlvr.source import File, Source
from rlvr.splits import refuse_leak
from rlvr.types import Error, Question

PerturbQA = load("data", "perturbqa", Source)


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small file of the same form in place of K562 direction."""
    module = __import__(PerturbQA.__module__, fromlist=["FOUND"])
    rows = [f"G{i},R{i % 3},{i % 2},{'test' if i >= 90 else 'train'}" for i in range(100)]
    text = "\n".join(["pert,gene,label,split", *rows, "R1,R1,0,train", "NA,R1,1,train"]) + "\n"
    path = tmp_path / "data" / "perturbqa" / "k562-dir.csv"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    monkeypatch.setitem(module.FOUND, "k562-dir.csv", File("perturbqa/k562-dir.csv", digest))
    monkeypatch.setenv("RLVR_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("RLVR_CACHE", str(tmp_path / "cache"))
    return path


def test_rows_become_a_canonical_table(written: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    table = PerturbQA(context="k562", task="direction").table()
    assert len(table) == 101
    assert not (table["perturbation"] == table["readout"]).any()
    assert "1 rows dropped whose readout is the knocked-down gene itself" in caplog.text
    assert "NA" in set(table["perturbation"])  # a name, not a missing value
    assert table.iloc[0].drop("split").to_dict() == {
        "perturbation": "G0",
        "readout": "R0",
        "context": "k562",
        "label": "down",
    }
    assert table.loc[table["perturbation"] == "G1", "label"].item() == "up"


def test_validation_is_carved_from_train_alone(written: Path) -> None:
    table = PerturbQA(context="k562", task="direction").table()
    official = table["perturbation"].isin([f"G{i}" for i in range(90, 100)])
    assert (table.loc[official, "split"] == "test").all()
    assert set(table.loc[~official, "split"]) == {"train", "validation"}


def test_a_changed_file_is_refused(written: Path) -> None:
    written.write_text(written.read_text().replace("G1,", "G2,"))
    with pytest.raises(Error, match=r"k562-dir\.csv: sha256 is "):
        PerturbQA(context="k562", task="direction").table()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"context": "hela"}, "context 'hela' is unknown; choose one of k562, rpe1, hepg2, jurkat"),
        ({"task": "set"}, "task 'set' is unknown; choose one of effect, direction"),
        ({"evidence": -1}, "evidence is -1"),
    ],
)
def test_options_are_checked_before_anything_is_fetched(options: dict[str, object], said: str) -> None:
    with pytest.raises(Error, match=said):
        PerturbQA(**options)


def test_the_licence_is_announced_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(rlvr.source, "_announced", set())
    source = PerturbQA()
    source.announce()
    source.announce()
    assert len(caplog.records) == 1
    assert "no commercial use" in caplog.text
    assert PerturbQA.commercial is False


def test_all_eight_files_have_an_address_and_a_checksum() -> None:
    own = [f for f in PerturbQA.files() if f.name.startswith("perturbqa/")]
    assert len(own) == len({f.sha256 for f in own}) == 8
    assert all(f.url and f.url.endswith(f.name.removeprefix("perturbqa/")) and len(f.sha256) == 64 for f in own)


def real(context: str, task: str) -> list[Question]:
    try:
        return list(PerturbQA(context=context, task=task).questions())
    except Error as error:
        pytest.skip(f"PerturbQA is not here: {error}")


@pytest.fixture(scope="module")
def k562() -> list[Question]:
    return real("k562", "direction")


@pytest.mark.perturbqa
def test_the_test_split_is_the_published_one(k562: list[Question]) -> None:
    splits = Counter(q.split for q in k562)
    assert splits["test"] == 3119
    assert 0.06 < splits["validation"] / (splits["train"] + splits["validation"]) < 0.18
    by_split = {s: [q for q in k562 if q.split == s] for s in splits}
    refuse_leak(by_split["train"], by_split["validation"] + by_split["test"])
    refuse_leak(by_split["validation"], by_split["test"])


@pytest.mark.perturbqa
def test_the_vote_ranks_validation_perturbations_within_a_gene(k562: list[Question]) -> None:
    """The official average over readouts with both labels; chance is .5, the test split gives about .79."""
    rows = pd.DataFrame(
        [
            (q.fields["readout"], q.truth["answer"] == "up", (q.truth["neighbours"] or {"up": 0.5})["up"])
            for q in k562
            if q.split == "validation"
        ],
        columns=["readout", "up", "score"],
    )
    genes = [g for _, g in rows.groupby("readout") if g["up"].nunique() == 2]
    assert len(genes) > 100
    assert np.mean([roc_auc_score(g["up"], g["score"]) for g in genes]) > 0.72


@pytest.mark.perturbqa
def test_evidence_is_training_measurement_of_another_gene(k562: list[Question]) -> None:
    measured = {(q.fields["perturbation"], q.fields["readout"]): q for q in k562}
    shown = [(q, e) for q in k562 for e in q.fields["evidence"]]
    assert len(shown) > 3 * len(k562)
    for q, item in shown:
        other = measured[(item["perturbation"], q.fields["readout"])]
        assert item["perturbation"] != q.fields["perturbation"]
        assert (other.split, other.truth["answer"]) == ("train", item["answer"])


@pytest.mark.perturbqa
def test_old_symbols_have_their_annotation_and_keep_their_name(k562: list[Question]) -> None:
    old = [q for q in k562 if q.fields["perturbation"] == "AARS"]
    assert old and all(q.truth["annotations"] > 100 for q in old)
