"""PerturbQA: its options, its terms, its splits, and the published shape of its files."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

import rlvr.source
from rlvr import prompts
from rlvr.plugins import load
from rlvr.questions.splits import refuse_leak
from rlvr.source import File, Source
from rlvr.types import Error, Question
from tests.session import need, perturbqa_files

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
        (
            {"task": "set"},
            "task 'set' is unknown; choose one of effect, direction, set_effect, set_direction, set_name",
        ),
        ({"context": "rpe1", "task": "set_effect"}, "task set_effect is of k562 alone, not of rpe1"),
        ({"evidence": -1}, "evidence is -1"),
        ({"snippets": -1}, "perturbqa: snippets is -1"),
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


def test_all_files_have_an_address_and_a_checksum() -> None:
    own = [f for f in PerturbQA.files() if f.name.startswith("perturbqa/")]
    assert len(own) == len({f.sha256 for f in own}) == 13
    assert all(f.url and f.url.endswith(f.name.removeprefix("perturbqa/")) and len(f.sha256) == 64 for f in own)


CLUSTERS = {"1-growth": ["A", "B"], "2-growth": [f"M{i}" for i in range(20)]}


@pytest.fixture
def clusters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """clusters(name=text): small files in place of those on clusters of K562."""
    module = __import__(PerturbQA.__module__, fromlist=["FOUND"])
    monkeypatch.setenv("RLVR_DATA", str(tmp_path))

    def write(**changed: str) -> None:
        text = {
            "k562_set-de.csv": "pert,gene,label,split\nA,1-growth,1,train\nC,1-growth,1,train\nC,2-growth,0,train\n"
            "D,1-growth,0,test\n",
            "k562_set-mapping.json": json.dumps(CLUSTERS),
            "k562_gene-gse.json": json.dumps([{"genes": ["A", "B"], "label": "growth"}]),
            "k562_pert-gse.json": json.dumps(
                [{"genes": ["C"], "label": None}, {"genes": ["D", "Sep-07"], "label": "growth"}]
            ),
        }
        for name, held in text.items():
            held = changed.get(name.partition(".")[0].replace("-", "_"), held)
            (tmp_path / name).write_text(held)
            monkeypatch.setitem(module.FOUND, name, File(name, hashlib.sha256(held.encode()).hexdigest()))

    write()
    return write


def test_a_cluster_that_holds_the_perturbed_gene_is_no_readout_of_it(clusters: Callable[..., None]) -> None:
    source = PerturbQA(task="set_effect")
    table = source.table()
    assert table[["perturbation", "readout", "label"]].to_numpy().tolist() == [
        ["C", "1-growth", "yes"],
        ["C", "2-growth", "no"],
        ["D", "1-growth", "no"],
    ]
    assert source.drops == {"rows whose cluster holds the knocked-down gene itself": 1}


def test_a_cluster_is_read_out_by_its_name_and_some_of_its_genes() -> None:
    in_words = __import__(PerturbQA.__module__, fromlist=["in_words"]).in_words
    assert in_words("1-growth", CLUSTERS["1-growth"]) == "the growth cluster 1 (A, B)"
    assert in_words("2-growth", CLUSTERS["2-growth"]).endswith("M10, M11 and 8 more)")


def test_clusters_with_a_label_are_asked_for_it_and_one_label_is_in_one_split(clusters: Callable[..., None]) -> None:
    source = PerturbQA(task="set_name")
    first, second = source.questions()
    assert (first.task, first.fields["genes"], first.truth["answer"]) == ("perturbation/set", ["A", "B"], ["growth"])
    assert second.fields["genes"] == ["D", "Sep-07"] and second.fields["context"] != first.fields["context"]
    assert first.split == second.split and first.cluster == second.cluster == "growth"
    assert source.drops == {"clusters without a label in k562_pert-gse.json": 1}
    for asked in (first, second):
        assert "growth" not in prompts.load(asked.task).render(asked)[1]["content"]


@pytest.mark.parametrize(
    ("task", "changed", "said"),
    [
        ("set_effect", {"k562_set_mapping": "{}"}, "cluster '1-growth' is not in k562_set-mapping.json"),
        ("set_effect", {"k562_set_mapping": '{"1-growth": []}'}, "must map each cluster to its genes"),
        ("set_effect", {"k562_set_mapping": "nothing"}, "is not JSON"),
        ("set_effect", {"k562_set_de": "pert,set,label,split\nA,1,1,train\n"}, "column 'gene' is missing"),
        ("set_name", {"k562_gene_gse": '[{"label": "x"}]'}, "must be a list of clusters with genes and label"),
    ],
)
def test_faulty_files_of_clusters_are_one_line(
    clusters: Callable[..., None], task: str, changed: dict[str, str], said: str
) -> None:
    clusters(**changed)
    source = PerturbQA(task=task)
    with pytest.raises(Error, match=said) as caught:
        list(source.questions()) if task == "set_name" else source.table()
    assert "\n" not in str(caught.value)


def real(context: str, task: str, **options: Any) -> list[Question]:
    need(perturbqa_files())
    return list(PerturbQA(context=context, task=task, **options).questions())


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


@pytest.mark.perturbqa
def test_clusters_of_k562_keep_their_own_official_split() -> None:
    questions = real("k562", "set_direction", evidence=2)
    assert {q.task for q in questions} == {"perturbation/direction"}
    splits = Counter(q.split for q in questions)
    assert splits["test"] == 2832 - 23 and splits.total() == 14_071 - 109  # without clusters of the gene itself
    by_split = {s: [q for q in questions if q.split == s] for s in splits}
    refuse_leak(by_split["train"], by_split["validation"] + by_split["test"])
    for q in questions[::50]:
        assert q.fields["perturbation"] not in q.fields["members"]
        assert q.fields["members"][0] in q.fields["readout"]


@pytest.mark.perturbqa
def test_every_labelled_cluster_has_a_question() -> None:
    questions = real("k562", "set_name")
    assert len(questions) == 25 + 52
    assert len({q.split for q in questions}) == 3


@pytest.mark.perturbqa
def test_symbols_resolve_except_the_few_that_are_listed(k562: list[Question]) -> None:
    assert dict(PerturbQA(context="k562", task="effect").unresolved()) == {
        "AC118549.1": "unknown",
        "C18orf21": "ambiguous",
        "QARS": "ambiguous",
    }


@pytest.mark.perturbqa
def test_another_knowledge_base_can_be_read(k562: list[Question]) -> None:
    """One with a cutoff, say; here the sample's, which knows a few hundred genes."""
    few = real("k562", "direction", knowledge="sample")
    assert [(q.id, q.split, q.truth["answer"]) for q in few] == [(q.id, q.split, q.truth["answer"]) for q in k562]
    assert sum(q.truth["annotations"] > 0 for q in few) < sum(q.truth["annotations"] > 0 for q in k562)


@pytest.mark.perturbqa
def test_evidence_can_be_balanced_and_genes_told_of(k562: list[Question]) -> None:
    told = real("k562", "direction", evidence=4, contrastive=True, snippets=10)
    assert [q.id for q in told] == [q.id for q in k562]
    plain = [{**q.truth, "shared": [], "contrastive": True} for q in k562]
    assert [{**q.truth, "shared": []} for q in told] == plain
    both = [{e["answer"] for e in q.fields["evidence"]} for q in told]
    assert sum(len(answers) == 2 for answers in both) > sum(
        len({e["answer"] for e in q.fields["evidence"]}) == 2 for q in k562
    )
    assert all(sum(len(t.split()) for t in terms) <= 10 for q in told for terms in q.fields["known"].values())
