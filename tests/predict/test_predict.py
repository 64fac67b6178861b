"""`rlvr predict`: measured pairs by their measurement, others calibrated or not at all; hostile and broken lists."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from rlvr.cli import app
from rlvr.knowledge import KnowledgeBase
from rlvr.knowledge.facts import Gene
from rlvr.oracle import bilinear, calibration
from rlvr.oracle.crossfit import LABELS
from rlvr.plugins import load
from rlvr.predict import calls, measured, oracle, predict
from rlvr.predict.measured import Neighbour
from rlvr.predict.predicted import NEAR, WAY, WAY_NEAR
from rlvr.source import Source
from rlvr.types import Error
from tests import tiny

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
BASE = KnowledgeBase.open("sample")
TABLE = load("data", "tcell_cytokines", Source)().table()
OURS = TABLE[(TABLE["context"] == "cd4_il2") & TABLE["perturbation"].map(lambda gene: bool(BASE.terms(gene)))]
GENES = {split: rows["perturbation"].tolist() for split, rows in OURS.groupby("split")}
LABEL = dict(zip(OURS["perturbation"], OURS["label"], strict=True))


def listed(folder: Path, text: str) -> Path:
    path = folder / "genes.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """Some of each split, and what cannot be answered."""
    folder = tmp_path_factory.mktemp("predict")
    asked = [*GENES["train"][:6], *GENES["validation"][:3], *GENES["test"][:12]]
    hostile = ["=HYPERLINK(1)", "<script>alert(1)</script>", "@SUM(A1)", "IL2"]
    genes = listed(folder, "\n".join(["gene", *asked, *hostile, asked[0]]))
    found = predict(genes, "cd4_il2", folder / "out", base=BASE)
    return found, folder / "out"


def test_a_measured_pair_is_its_measurement_and_a_test_pair_is_the_oracles(answered):
    rows = answered[0].rows.set_index("perturbation")
    for gene in [*GENES["train"][:6], *GENES["validation"][:3]]:
        call = "no effect" if LABEL[gene] == "none" else LABEL[gene]
        assert rows.loc[gene, "why"] == "measured" and rows.loc[gene, "call"] == call
        assert rows.loc[gene, "p_effect"] == float(call != "no effect") and np.isnan(rows.loc[gene, "confidence"])
    for gene in GENES["test"][:12]:
        assert rows.loc[gene, "why"].startswith(("oracle", "abstains: "))
        assert gene not in rows.loc[gene, "evidence"].split() and not np.isclose(rows.loc[gene, "p_effect"], 0.5)
    assert rows["why"].str.startswith("oracle").sum() >= 5


def test_what_cannot_be_known_has_no_probability_and_is_counted(answered):
    found = answered[0]
    rows = found.rows.set_index("perturbation")
    unsure = rows["why"].str.contains(NEAR) | rows["why"].str.contains(WAY_NEAR)
    silent = rows[(rows["call"] == "unknown") & ~unsure]
    assert rows.loc[unsure, "p_effect"].notna().all() and rows.loc[unsure, "confidence"].isna().all()
    assert silent[["p_effect", "p_up", "confidence", "rank"]].isna().all(axis=None)
    assert rows.loc["IL2", "why"] == "abstains: the readout is the perturbed gene itself"
    assert found.abstained()["symbol unknown"] == 3
    assert sum(found.abstained().values()) == len(silent) + unsure.sum() == (rows["call"] == "unknown").sum()
    assert found.rows["call"].iloc[-len(silent) :].eq("unknown").all()


def test_the_ranking_is_by_the_probability_of_an_effect(answered):
    rows = answered[0].rows
    known = rows[rows["p_effect"].notna()]
    assert known["rank"].tolist() == list(range(1, len(known) + 1)) and known["p_effect"].is_monotonic_decreasing
    by = known[known["why"].str.startswith("oracle") & (known["call"] != "unknown")]
    sure = np.where(
        by["call"] == "no effect", 1 - by["p_effect"], by["p_effect"] * np.maximum(by["p_up"], 1 - by["p_up"])
    )
    np.testing.assert_allclose(by["confidence"].astype(float), sure.astype(float))


def test_the_labels_of_the_test_split_change_nothing(answered, tmp_path, monkeypatch):
    source = load("data", "tcell_cytokines", Source)
    flip = {"up": "down", "down": "none", "none": "up"}
    other = TABLE.assign(label=TABLE["label"].where(TABLE["split"] != "test", TABLE["label"].map(flip)))
    monkeypatch.setattr(source, "table", lambda self: other)
    again = predict(answered[1].parent / "genes.csv", "cd4_il2", tmp_path, base=BASE)
    pd.testing.assert_frame_equal(again.rows, answered[0].rows)


def test_quality_is_of_validation_perturbations_alone(answered):
    known = {q.task: q for q in answered[0].quality}
    assert known["effect"].perturbations == known["effect"].n <= (OURS["split"] == "validation").sum() + 5
    assert 0 <= known["effect"].ece < 0.3 and known["effect"].auroc["low"] < known["effect"].auroc["value"] < 1


@pytest.mark.parametrize(
    ("effect", "up", "rates", "called", "why"),
    [
        (0.75, 0.9, (0.5, 0.77), "up", ""),
        (0.75, 0.1, (0.5, 0.77), "down", ""),
        (0.52, 0.9, (0.5, 0.77), "unknown", NEAR),  # as often as whatever is perturbed
        (0.20, 0.9, (0.05, 0.77), "unknown", NEAR),  # more often than most, and yet not likely
        (0.05, 0.9, (0.05, 0.77), "unknown", NEAR),
        (0.02, 0.9, (0.05, 0.77), "no effect", ""),
        (0.75, 0.65, (0.5, 0.77), "unknown", WAY_NEAR),  # the rate says up, the gene rather less so
        (0.75, 0.42, (0.5, 0.42), "unknown", WAY_NEAR),  # 28 of 48 are lower: no news of this gene
        (1.0, 0.0, (0.99, 0.01), "down", ""),  # measured
        (0.75, np.nan, (0.5, np.nan), "unknown", WAY),
        (np.nan, 0.9, (np.nan, 0.5), "up", ""),
        (0.6, 0.6, (np.nan, np.nan), "up", ""),
        (np.nan, np.nan, (0.5, 0.5), "unknown", ""),
    ],
)
def test_what_is_no_more_than_the_readouts_own_rate_is_not_called(effect, up, rates, called, why):
    said, sure, reason = calls.call(effect, up, *rates)
    assert (said, reason) == (called, why) and np.isnan(sure) == (called == "unknown")


@pytest.mark.parametrize(
    ("called", "near", "most"),
    [
        ("up", [("A", 0.4, "up"), ("B", 0.3, "no effect")], ""),
        ("up", [("A", 0.4, "down"), ("B", 0.3, "up")], "down"),
        ("up", [("A", 0.4, "no effect"), ("B", 0.3, "up")], "no effect"),
        ("down", [("A", 0.4, "changes"), ("B", 0.3, "no effect")], ""),
        ("no effect", [("A", 0.3, "no effect"), ("B", 0.2, "up"), ("C", 0.2, "down")], "up"),
        ("no effect", [("A", 0.5, "no effect"), ("B", 0.2, "up"), ("C", 0.2, "down")], ""),
        ("unknown", [("A", 0.4, "down")], ""),
        ("up", [], ""),
    ],
)
def test_a_call_that_its_evidence_contradicts_is_known(called, near, most):
    assert calls.against(called, [Neighbour(*one) for one in near]) == most


def test_the_readouts_own_rate_is_shown_and_contradicted_calls_say_so(answered):
    found, folder = answered
    rows = found.rows.set_index("perturbation")
    held = found.context.tables["effect"]
    assert rows.loc[GENES["test"][0], "base_effect"] == f"{(held['label'] == 'yes').sum()} of {len(held)}"
    assert f"IL-2 changed in {rows['base_effect'].iloc[0]}" in (folder / "predictions.html").read_text()
    assert "against the evidence" not in "".join(rows.loc[GENES["train"][:6], "why"])  # a measurement stands
    page = (folder / "predictions.html").read_text()
    assert ">nan" not in page and "nan," not in (folder / "predictions.csv").read_text().lower()


def test_a_prior_moves_the_odds_and_is_the_rate_to_leave(answered, tmp_path):
    listed(tmp_path, "gene\n" + "\n".join(GENES["test"][:12]))
    few = predict(tmp_path / "genes.csv", "cd4_il2", tmp_path, base=BASE, prior={"effect": 0.02, "direction": 0.5})
    rows, before = few.rows.set_index("perturbation"), answered[0].rows.set_index("perturbation")
    rate = few.context.rates("effect").loc["IL-2", "rate"]

    def logit(p):
        return np.log(p / (1 - p))

    for gene in GENES["test"][:12]:
        moved = logit(rows.loc[gene, "p_effect"]) - logit(before.loc[gene, "p_effect"])
        assert moved == pytest.approx(logit(0.02) - logit(rate), abs=1e-3)
        assert rows.loc[gene, "base_effect"] == "given: 0.02" and rows.loc[gene, "call"] in ("unknown", "no effect")
    for prior, said in (({"effect": 1.0}, "effect_rate 1: is no share"), ({"direction": -1}, "up_rate -1")):
        with pytest.raises(Error, match=said):
            predict(tmp_path / "genes.csv", "cd4_il2", tmp_path, base=BASE, prior=prior)


def test_cells_that_a_spreadsheet_would_run_are_quoted(answered):
    written = pd.read_csv(answered[1] / "predictions.csv", dtype=str, keep_default_na=False)
    cells = {cell for column in written for cell in written[column]}
    assert {"'=HYPERLINK(1)", "'@SUM(A1)"} <= cells and not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)
    assert written["rank"].iloc[0] == "1" and written["rank"].iloc[-1] == ""


def test_the_page_is_inert_and_says_how_good_the_oracle_is(answered):
    page = (answered[1] / "predictions.html").read_text()
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page and "default-src 'none'" in page
    assert "http" not in page.replace("http-equiv", "") and 'name="viewport"' in page
    quality = {q.task: q for q in answered[0].quality}
    assert f"{quality['effect'].ece:.3f}".lstrip("0") in page and "10.1126/science.abj4008" in page


def test_a_list_without_a_header_is_genes_and_that_is_said(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    genes = GENES["train"][:3]
    found = predict(listed(tmp_path, "\ufeff" + "\r\n".join([*genes, genes[0]])), "cd4_il2", tmp_path, base=BASE)
    assert sorted(found.rows["perturbation"]) == sorted(genes) and not found.quality
    assert "no header" in caplog.text and "1 pairs come again" in caplog.text
    assert f"left out: {genes[0]} (IL-2)" in caplog.text


def test_a_previous_symbol_is_resolved_and_is_the_same_gene(tmp_path):
    known = {gene: BASE.gene(gene) for gene in GENES["train"]}
    held = pd.read_csv(SAMPLE / "genes.tsv", sep="\t", dtype=str, keep_default_na=False)
    old, new = next(
        (name, gene.symbol)
        for names in held.itertuples(index=False)
        for cell in names
        for name in cell.split("|")
        if (gene := BASE.gene(name)).symbol in known and gene.status in ("previous", "alias")
    )
    found = predict(listed(tmp_path, f"gene\n{old}\n{new}\n"), "cd4_il2", tmp_path, base=BASE).rows
    assert len(found) == 1 and found["gene"][0] == new and found["perturbation"][0] == old
    assert found["why"][0] == "measured"


class Shared(KnowledgeBase):
    """One symbol of it stands for two genes."""

    def gene(self, symbol, species="human"):
        return Gene(None, "ambiguous", ("AAA1", "BBB1")) if symbol == "SHARED" else super().gene(symbol, species)


def test_an_ambiguous_symbol_abstains_with_its_candidates(tmp_path):
    found = predict(listed(tmp_path, "gene\nSHARED\n"), "cd4_il2", tmp_path, base=Shared(BASE.path)).rows
    assert found["why"].tolist() == ["abstains: symbol of several genes, AAA1 or BBB1"]
    assert found["p_effect"].isna().all() and found["evidence"].tolist() == [""]


def test_an_unknown_readout_abstains(tmp_path):
    text = f"perturbation,readout\n{GENES['train'][0]},TNF\n{GENES['train'][0]},IL2\n"
    found = predict(listed(tmp_path, text), "cd4_il2", tmp_path, base=BASE).rows.set_index("readout")
    assert found.loc["TNF", "why"] == "abstains: readout not measured in cd4_il2"
    assert found.loc["IL2", "why"] == "measured"  # IL-2 by its gene's symbol


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("gene\n", "no genes below the header"),
        ("symbol\nZAP70\n", "no column 'perturbation' or 'gene'"),
        ("pert,score\nZAP70,1\n", "no column 'perturbation' or 'gene'"),
        ("perturbation,gene\nZAP70,IL2\n", "keep one"),
        ("gene,gene\nZAP70,LAT\n", "comes twice"),
        ("gene,readout\nZAP70\n", "line 2 has 1 cells"),
        ("gene\nZAP70,1\n", "line 2 has 2 cells"),
        ("gene,note\n,first\n", "line 2: no gene"),
        ("gene\n" + "A" * 500, "too long for a name"),
        ('gene\n"ZAP70', "cannot be read as CSV"),
    ],
)
def test_a_broken_list_is_one_clear_error_and_nothing_is_written(tmp_path, text, said):
    with pytest.raises(Error, match=said):
        predict(listed(tmp_path, text), "cd4_il2", tmp_path / "out", base=BASE)
    assert not (tmp_path / "out").exists()


def test_an_unknown_context_names_those_that_the_sources_ask_about(tmp_path):
    with pytest.raises(Error, match=r"no context 'k526', did you mean 'k562'\?; known: .*cd4_il2.*schmidt_il2"):
        predict(listed(tmp_path, "gene\nLAT\n"), "k526", tmp_path, base=BASE)


def test_files_that_are_not_utf8_or_not_there(tmp_path):
    (tmp_path / "latin.csv").write_bytes(b"gene\n\xff\xfe\n")
    for name, said in (("latin.csv", "save it as UTF-8"), ("none.csv", "no such file")):
        with pytest.raises(Error, match=said):
            predict(tmp_path / name, "cd4_il2", tmp_path, base=BASE)


def test_training_perturbations_are_asked_in_parts_that_leave_most_of_the_training():
    trained = {f"T{i}" for i in range(50)}
    asked = pd.DataFrame({"perturbation": [*sorted(trained), *(f"N{i}" for i in range(4100))]})
    context = measured.find("cd4_il2", BASE)
    dealt = oracle._dealt({"effect": asked}, trained, context)
    lacking = {part: {name for name in trained if oracle._part(name, context) == part} for part, _ in dealt}
    assert dealt[0][0] is None and max(len(genes) for _, genes in dealt) <= oracle.CHUNK
    for part, genes in dealt:
        assert genes & trained == lacking[part] if part is not None else not genes & trained
    assert sorted(name for _, genes in dealt for name in genes) == sorted(asked["perturbation"])
    assert all(len(held) < 25 for held in lacking.values())


def test_a_second_list_is_answered_by_the_fit_that_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(oracle, "cache_dir", lambda: tmp_path)
    context, fits = measured.find("cd4_il2", BASE), []
    solve = bilinear.fit

    def counted(*given):
        fits.append(1)
        return solve(*given)

    monkeypatch.setattr(bilinear, "fit", counted)

    def said(genes, context=context):
        rows = pd.DataFrame({"perturbation": genes, "readout": "IL-2"})
        return oracle.fitted(context, dict.fromkeys(context.tables, rows))

    first = said(GENES["test"][:5])
    solved = len(fits)
    again = said(GENES["test"][3:9])
    assert solved and len(fits) == solved and again.quality == first.quality
    for task, p in first.p.items():
        np.testing.assert_allclose(again.p[task][:2], p[3:], rtol=1e-4)
    effect = context.tables["effect"]
    place = effect.index[effect["split"] == "train"][0]
    other = effect.copy()
    other.loc[place, "label"] = "no" if effect.loc[place, "label"] == "yes" else "yes"
    said(GENES["test"][:2], replace(context, tables={**context.tables, "effect": other}))
    assert len(fits) > solved  # one label else: another fit
    for path in (tmp_path / "oracle").iterdir():
        path.write_bytes(path.read_bytes()[:1000])
    broken = said(GENES["test"][:5])
    np.testing.assert_allclose(broken.p["effect"], first.p["effect"], rtol=1e-6)


def test_names_of_one_gene_are_left_out_together(monkeypatch):
    context = measured.find("cd4_il2", BASE)
    monkeypatch.setattr(type(BASE), "current", lambda self, name, species="human": name.removeprefix("OLD"))
    assert all(oracle._part(f"OLDG{i}", context) == oracle._part(f"G{i}", context) for i in range(20))


def test_what_is_said_of_a_gene_does_not_depend_on_the_list():
    context = measured.find("cd4_il2", BASE)

    def said(genes):
        rows = pd.DataFrame({"perturbation": genes, "readout": "IL-2"})
        found = oracle.fitted(context, dict.fromkeys(context.tables, rows))
        return {task: dict(zip(genes, p, strict=True)) for task, p in found.p.items()}, found.quality

    new, own = GENES["test"][:2], GENES["train"][:1]
    alone = [said([gene]) for gene in (*new, *own)]
    together, quality = said([*own, *reversed(GENES["test"][:40]), *GENES["train"][3:30]])
    for gene, (one, measure) in zip((*new, *own), alone, strict=True):
        for task, p in together.items():
            assert one[task][gene] == pytest.approx(p[gene], abs=1e-4) and 0 < p[gene] < 1
        assert [q.ece for q in measure] == pytest.approx([q.ece for q in quality], abs=1e-4)


def test_an_oracle_that_orders_validation_backwards_says_nothing():
    truth = pd.DataFrame({"label": ["yes", "no"] * 50})
    right = np.where(truth["label"] == "yes", 0.7, 0.4) + np.linspace(0, 0.2, 100)
    for found, known in ((right, True), (1 - right, False)):
        p, told = oracle._calibrated(found, truth, np.array([0.3, np.nan, 0.9]), "effect")
        assert told is known and np.isnan(p[1]) and np.isnan(p[0]) != known
    assert calibration.ece(right, (truth["label"] == "yes").to_numpy(float)) > 0.05


@pytest.fixture
def kept(tmp_path):
    """The tables of an oracle that knows two test genes of the T cells, and the validation split well."""
    rng, folder = np.random.default_rng(0), tmp_path / "oracle"
    folder.mkdir()
    context = measured.find("cd4_il2", BASE)
    for task, (first, _) in LABELS.items():
        held = context.tables[task][lambda table: table["split"] == "validation"]
        p = np.clip(np.where(held["label"] == first, 0.8, 0.3) + rng.normal(0, 0.15, len(held)), 0.01, 0.99)
        new = pd.DataFrame(
            {"perturbation": GENES["test"][:2], "readout": "IL-2", "context": "cd4_il2", "p": [0.9, 0.2]}
        )
        table = pd.concat([held[["context", "perturbation", "readout"]].assign(p=p), new])
        table.to_parquet(folder / f"{task}.parquet")
    return folder


def test_a_kept_oracle_answers_what_it_holds_and_no_more(tmp_path, kept):
    genes = GENES["test"][:3]
    found = predict(listed(tmp_path, "gene\n" + "\n".join(genes)), "cd4_il2", tmp_path, base=BASE, kept=kept)
    rows = found.rows.set_index("perturbation")
    assert rows.loc[genes[0], "p_effect"] > 0.5 > rows.loc[genes[1], "p_effect"]
    assert rows.loc[genes[2], "why"] == "abstains: perturbation unseen"
    assert {q.task: q.auroc["value"] > 0.9 for q in found.quality} == {"effect": True, "direction": True}
    with pytest.raises(Error, match="name what `rlvr oracle fit` wrote"):
        predict(tmp_path / "genes.csv", "cd4_il2", tmp_path, base=BASE, kept=tmp_path / "elsewhere")
    with pytest.raises(Error, match="one of them answers"):
        predict(tmp_path / "genes.csv", "cd4_il2", tmp_path, base=BASE, kept=kept, adapter=tmp_path)


def test_an_effect_without_its_way_is_unknown_and_too_few_validation_rows_are_said(tmp_path, kept):
    (kept / "direction.parquet").unlink()
    table = pd.read_parquet(kept / "effect.parquet")
    table.tail(2).to_parquet(kept / "effect.parquet")  # the two genes alone: nothing to calibrate on
    genes = GENES["test"][:2]
    found = predict(listed(tmp_path, "gene\n" + "\n".join(genes)), "cd4_il2", tmp_path, base=BASE, kept=kept)
    rows = found.rows.set_index("perturbation")
    assert rows.loc[genes[0], "why"] == "oracle, the way unknown" and rows.loc[genes[0], "call"] == "unknown"
    assert rows["p_effect"].tolist() == [0.9, 0.2] and rows["call"].tolist() == ["unknown", "no effect"]
    assert found.abstained() == {"oracle, the way unknown": 1}
    assert [(q.n, q.ece, q.auroc["value"]) for q in found.quality] == [(0, None, None)]
    assert "too few pairs to calibrate" in (tmp_path / "predictions.html").read_text()


def test_a_policy_answers_from_the_prompts_of_its_run(tmp_path):
    import torch

    from rlvr import policy
    from rlvr.recipe import load as recipe_of

    model = tiny.make(tmp_path / "tiny", tiny.planted(), steps=2)
    lora = {"r": 2, "target_modules": ["q_proj"]}
    recipe = recipe_of("quickstart", [f"model={model}", "grpo.max_completion_length=4", f"lora={json.dumps(lora)}"])
    run = tmp_path / "run"
    run.mkdir()
    values = {"model": str(model), "source": dict(recipe.source), "verifiers": {"label": {}}}
    (run / "recipe.yaml").write_text(json.dumps({**values, "grpo": {"max_completion_length": 4}}))
    torch.manual_seed(0)
    policy.save_adapter(
        policy.add_lora(policy.load_base(str(model))[0], lora),
        run / "adapter",
        str(model),
        policy.fingerprint_of(str(model)),
    )
    genes = [GENES["train"][0], *GENES["test"][:3], "NOGENE"]
    asked = listed(tmp_path, "gene\n" + "\n".join(genes))
    rows = predict(asked, "cd4_il2", tmp_path, base=BASE, adapter=run / "adapter").rows.set_index("perturbation")
    assert rows.loc[genes[0], "why"] == "measured" and rows.loc["NOGENE", "why"] == "abstains: symbol unknown"
    for gene in genes[1:4]:
        assert 0 < rows.loc[gene, "p_effect"] < 1 and 0 < rows.loc[gene, "p_up"] < 1
        assert rows.loc[gene, "why"].startswith(("policy", "abstains: near"))
    assert "not calibrated" in (tmp_path / "predictions.html").read_text()
    with pytest.raises(Error, match=r"no recipe\.yaml beside it"):
        predict(asked, "cd4_il2", tmp_path, base=BASE, adapter=tmp_path / "tiny")


def test_the_command_counts_what_it_does_not_know(tmp_path):
    asked = listed(tmp_path, f"gene\n{GENES['train'][0]}\nNOGENE\n")
    told = CliRunner().invoke(
        app, ["predict", str(asked), "--context", "CD4_IL2", "--out", str(tmp_path / "o"), "--knowledge", "sample"]
    )
    assert told.exit_code == 0, told.output
    assert "unknown, symbol unknown: 1" in told.output and (tmp_path / "o" / "predictions.html").is_file()


@pytest.mark.perturbqa
def test_k562_answers_measured_pairs_and_asks_for_a_readout(tmp_path):
    table = pd.concat(measured.find("k562", BASE).tables.values())
    row = table[(table["label"] == "up") & (table["split"] == "train")].iloc[0]
    text = f"perturbation,readout\n{row['perturbation']},{row['readout']}\n"
    found = predict(listed(tmp_path, text), "k562", tmp_path, base=BASE).rows.iloc[0]
    assert found["call"] == "up" and found["why"] == "measured" and "no commercial use" in found["licence"]
    with pytest.raises(Error, match="no readout; add a column"):
        predict(listed(tmp_path, "gene\n" + row["perturbation"]), "k562", tmp_path, base=BASE)
