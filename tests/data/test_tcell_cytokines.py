"""The embedded source: the biology of its signs, its counts, and what its questions may and may not hold."""

from __future__ import annotations

import importlib
import json
import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlvr.knowledge import FILES, KnowledgeBase
from rlvr.plugins import load
from rlvr.prompts import load as load_prompt
from rlvr.questions.splits import overlaps, refuse_leak
from rlvr.source import Source
from rlvr.types import Error, Question
from tests.session import need

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
make_sample = importlib.import_module("rlvr.data.sample.make_sample")


@pytest.fixture(scope="module")
def asked() -> list[Question]:
    return list(load("data", "tcell_cytokines", Source)().questions())


@pytest.fixture(scope="module")
def screens() -> pd.DataFrame:
    return pd.read_csv(SAMPLE / "screens.tsv", sep="\t", keep_default_na=False)


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RLVR_CACHE", str(tmp_path))
    monkeypatch.delenv("RLVR_DATA", raising=False)
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("it used the network"))
    source = load("data", "tcell_cytokines", Source)()
    assert source.files() == ()
    assert next(source.questions()).source == "tcell_cytokines"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("gene", "answer"), [("CD3E", "down"), ("ZAP70", "down"), ("VAV1", "down")])
def test_losing_the_receptor_or_its_kinase_lowers_both_cytokines(asked: list[Question], gene: str, answer: str) -> None:
    found = {q.fields["readout"]: q.truth["answer"] for q in asked if q.fields["perturbation"] == gene}
    assert found == {"IL-2": answer, "IFN-gamma": answer}


@pytest.mark.parametrize("gene", ["CBLB", "CD5"])
def test_losing_a_brake_raises_both_cytokines(asked: list[Question], gene: str) -> None:
    found = {q.fields["readout"]: q.truth["answer"] for q in asked if q.fields["perturbation"] == gene}
    assert found == {"IL-2": "up", "IFN-gamma": "up"}


def test_counts(asked: list[Question]) -> None:
    assert Counter((q.truth["context"], q.truth["answer"]) for q in asked) == {
        ("cd4_il2", "down"): 53,
        ("cd4_il2", "up"): 140,
        ("cd4_il2", "none"): 193,
        ("cd8_ifng", "down"): 105,
        ("cd8_ifng", "up"): 67,
        ("cd8_ifng", "none"): 172,
    }
    assert len({q.id for q in asked}) == len(asked) == 730
    splits = Counter(q.split for q in asked)
    assert splits["validation"] >= 200 and splits["train"] > splits["validation"] > splits["test"] > 0


def test_labels_follow_from_the_statistics_beside_them(screens: pd.DataFrame) -> None:
    down, up = (screens[screens["label"] == way] for way in ("down", "up"))
    for way, hits, sign in (("down", down, -1), ("up", up, 1)):
        assert (hits[f"q_{way}"] <= 0.1).all()
        assert (hits[[f"p_{way}_1", f"p_{way}_2"]] <= 0.05).all(axis=None)
        assert (np.sign(hits[["lfc_1", "lfc_2"]]) == sign).all(axis=None)
    none = screens[screens["label"] == "none"]
    assert (none[["p_down_1", "p_up_1", "p_down_2", "p_up_2"]] > 0.2).all(axis=None)
    assert (none[["guides_1", "guides_2"]] >= 3).all(axis=None)
    assert (screens[["guides_1", "guides_2"]] <= 4).all(axis=None)


def test_controls_doubled_genes_and_the_cytokines_themselves_are_absent(asked: list[Question]) -> None:
    shown = {e["perturbation"] for q in asked for e in q.fields["evidence"]}
    named = {q.fields["perturbation"] for q in asked} | shown
    assert not named & {"NO-TARGET", "MIA2", "RFLNA", "IL2", "IFNG"}


def test_non_hits_are_matched_to_the_hits(asked: list[Question]) -> None:
    for context in ("cd4_il2", "cd8_ifng"):
        rows = [q.truth for q in asked if q.truth["context"] == context]
        hits = [t for t in rows if t["answer"] != "none"]
        quiet = [t for t in rows if t["answer"] == "none"]
        assert sum(t["core"] for t in hits) == sum(t["core"] for t in quiet) > 0
        sizes = [sorted(np.log1p(t["annotations"]) for t in group) for group in (hits, quiet)]
        assert np.abs(np.subtract(*sizes)).max() < 0.2


def test_evidence_is_training_measurement_of_another_gene(asked: list[Question]) -> None:
    measured = {(q.fields["perturbation"], q.fields["readout"]): q for q in asked}
    known = KnowledgeBase.open("sample")
    for q in asked:
        assert len(q.fields["evidence"]) <= 4
        for item, term in zip(q.fields["evidence"], q.truth["shared"], strict=True):
            other = measured[(item["perturbation"], q.fields["readout"])]
            assert item["perturbation"] != q.fields["perturbation"]
            assert (other.split, other.truth["answer"]) == ("train", item["answer"])
            assert item["shared"]
            for gene in (q.fields["perturbation"], item["perturbation"]):  # where it is written that they share it
                assert all(fact.source and fact.release and fact.licence for fact in known.facts(gene, term))
                assert known.facts(gene, term)


def test_no_truth_is_in_the_fields(asked: list[Question]) -> None:
    fields = {"perturbation", "readout", "context", "modality", "evidence"}
    assert all(set(q.fields) == fields for q in asked)
    items = {"perturbation", "answer", "similarity", "shared"}
    assert all(set(e) == items for q in asked for e in q.fields["evidence"])


def test_both_cytokines_of_a_gene_are_in_one_split_and_nothing_leaks(asked: list[Question]) -> None:
    by_split = {s: [q for q in asked if q.split == s] for s in ("train", "validation", "test")}
    held_out = by_split["validation"] + by_split["test"]
    refuse_leak(by_split["train"], held_out)
    assert overlaps(by_split["validation"], by_split["test"]) == {"perturbation": 0, "pair": 0}


def test_the_prompt_asks_in_words(asked: list[Question]) -> None:
    template = load_prompt("perturbation/response")
    zap = next(q for q in asked if q.id.endswith(":cd4_il2:ZAP70:IL-2"))
    text = template.render(zap)[-1]["content"]
    first, head, *evidence = text.splitlines()
    assert first == (
        "CRISPRi knockdown of ZAP70 in restimulated primary human CD4+ T cells: "
        "is the IL-2-high fraction lower, higher or unchanged?"
    )
    assert head == "Related knockdowns (similarity %), in IL-2-high against -low cells:"
    measured = {"down": "depleted", "up": "enriched", "none": "neither"}  # the screen's words, not the answer's
    assert evidence == [
        f"{item['perturbation']} {item['similarity']}: {measured[item['answer']]}" for item in zap.fields["evidence"]
    ]
    assert template.slot_words == {"lower": "down", "higher": "up", "unchanged": "none"}


def test_the_neighbour_vote_is_better_than_chance_on_validation(asked: list[Question]) -> None:
    from sklearn.metrics import roc_auc_score

    rows = [q.truth for q in asked if q.split == "validation" and q.truth["neighbours"]]
    effect = roc_auc_score([t["answer"] != "none" for t in rows], [1 - t["neighbours"]["none"] for t in rows])
    assert effect > 0.7


def test_a_negative_number_of_evidence_is_refused() -> None:
    with pytest.raises(Error, match="evidence is -1; it must be at least 0"):
        load("data", "tcell_cytokines", Source)(evidence=-1)


def test_the_sample_is_small() -> None:
    assert sum(p.stat().st_size for p in SAMPLE.iterdir() if p.is_file()) < 1_300_000


def test_matching_takes_the_nearest_of_the_same_kind() -> None:
    labels = pd.Series(["up", "down", "none", "none", "none", "none", pd.NA], dtype="string")
    table = pd.DataFrame({"label": labels.to_numpy()}, index=list("ABCDEFG"))
    annotations = np.array([100, 10, 100, 11, 90, 10, 100])
    core = np.array([True, False, False, False, True, True, True])
    kept = make_sample.match(table, annotations, core)
    assert list(kept.index) == ["A", "B", "D", "E"]  # E is core as A is; D is nearest to B


def test_donors_that_agree_have_a_high_ceiling_and_shuffled_ones_none() -> None:
    random = np.random.default_rng(0)
    z = random.normal(size=2000)
    p = pd.Series(z).rank(pct=True) - 0.0002
    screen = pd.DataFrame({"lfc_1": z, "lfc_2": z, "p_down_1": p, "p_up_1": 1 - p, "p_down_2": p, "p_up_2": 1 - p})
    same = make_sample.noise_ceiling(screen, 100)
    assert (same["effect_auroc"], same["direction_auroc"], same["sign_agreement"]) == (1.0, 1.0, 1.0)
    order = random.permutation(2000)
    shuffled = screen.assign(**{c: screen[c].to_numpy()[order] for c in ("lfc_1", "p_down_1", "p_up_1")})
    chance = make_sample.noise_ceiling(shuffled, 100)
    assert all(abs(float(chance[k]) - 0.5) < 0.15 for k in ("effect_auroc", "direction_auroc", "sign_agreement"))


def test_the_committed_tables_are_what_the_script_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    need([*FILES, *(file for screen in make_sample.SCREENS.values() for file in screen["files"])])
    monkeypatch.setattr(make_sample, "HERE", tmp_path)
    make_sample.main()
    made = sorted(p.name for p in tmp_path.iterdir())
    assert made == ["cells.tsv", "genes.tsv", "go_annotation.tsv", "go_terms.tsv", "noise_ceiling.json", "screens.tsv"]
    for name in made:
        assert (tmp_path / name).read_bytes() == (SAMPLE / name).read_bytes(), name
    ceiling = json.loads((SAMPLE / "noise_ceiling.json").read_text())
    assert all(0.75 < c["effect_auroc"] < c["direction_auroc"] < 1 for c in ceiling.values())
