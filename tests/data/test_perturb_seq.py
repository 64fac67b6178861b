"""A user's own experiment: planted effects are found, controls against controls are quiet, bad files are refused."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from rlvr.knowledge import Gene, KnowledgeBase, assemble
from rlvr.plugins import load
from rlvr.questions.biology import effects, h5ad, pseudobulk
from rlvr.questions.biology.effects import EXPLORATORY, REPLICATED, Design, measure
from rlvr.source import Source
from rlvr.types import Error, Question
from tests.session import need

PerturbSeq = load("data", "perturb_seq", Source)
SYMBOLS = KnowledgeBase.open("sample").symbols()
GENES = list(SYMBOLS[:120])
PERTURBED = list(SYMBOLS[200:209])
HITS = 12  # planted in each perturbation, half up and half down, fourfold


def planted(i: int) -> np.ndarray:
    """log2 fold changes of perturbation i."""
    fold = np.zeros(len(GENES))
    fold[(i * 7 + np.arange(HITS)) % 100] = np.where(np.arange(HITS) % 2, 2.0, -2.0)
    return fold


def simulate(replicates: int = 3, cells: int = 30, perturbed: list[str] = PERTURBED) -> anndata.AnnData:
    """Negative-binomial counts; every replicate has a bias of its own on each gene. The first perturbed gene is
    itself measured, and lowered, in the last column."""
    rng = np.random.default_rng(1)
    base = rng.lognormal(0.5, 0.6, len(GENES))
    bias = np.exp(rng.normal(0, 0.25, (replicates, len(GENES))))
    blocks, rows = [], []
    for name in ["control", *perturbed]:
        fold = planted(perturbed.index(name)) if name in perturbed else np.zeros(len(GENES))
        if name == PERTURBED[0]:
            fold[-1] = -4.0
        for r in range(replicates):
            number = cells * (3 if name == "control" else 1)
            sample = np.exp(rng.normal(0, 0.08, len(GENES)))  # between cultures
            mean = base * bias[r] * 2**fold * sample
            blocks.append(rng.poisson(rng.gamma(5.0, mean / 5.0, (number, len(GENES)))))
            rows += [(name, f"donor{r}")] * number
    obs = pd.DataFrame(rows, columns=["gene", "donor"], index=[f"c{i}" for i in range(len(rows))])
    genes = [*GENES[:-1], PERTURBED[0]]
    return anndata.AnnData(csr_matrix(np.vstack(blocks).astype(np.float32)), obs=obs, var=pd.DataFrame(index=genes))


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("experiment") / "mine.h5ad"
    simulate().write_h5ad(path)
    return str(path)


def own(path: str, **options: object):
    defaults = {"perturbation": "gene", "replicate": "donor", "cells": "T cells", "knowledge": "sample"}
    return PerturbSeq(path=path, **{**defaults, **options})


@pytest.fixture(scope="module")
def tested(simulated):
    return measure(Path(simulated), Design("gene", ("control",), "donor", "knockdown", ""))


def changed(held: anndata.AnnData, tmp_path: Path) -> str:
    held.write_h5ad(tmp_path / "changed.h5ad")
    return str(tmp_path / "changed.h5ad")


def test_planted_effects_are_found_with_their_sign_and_size(tested):
    (effects,) = tested.effects
    assert effects.quality == REPLICATED and effects.modality == "CRISPRi knockdown"
    table = effects.table.assign(
        planted=[planted(PERTURBED.index(p))[GENES.index(g)] if g in GENES else np.nan
                 for p, g in zip(effects.table["perturbation"], effects.table["gene"], strict=True)]
    )  # fmt: skip
    truth = table["planted"].fillna(0).ne(0)
    called = table["q"].le(0.05) & table["planted"].notna()
    assert called[truth].mean() > 0.9
    assert called[~truth].sum() / called.sum() < 0.1
    assert (np.sign(table["fold"]) == np.sign(table["planted"]))[called & truth].all()
    assert np.abs(table["fold"] - table["planted"])[truth].median() < 0.3


def test_controls_against_controls_are_quiet_and_it_is_printed(simulated, caplog):
    design = Design("gene", ("control",), "donor", "knockdown", "", test="t")
    (effects,) = measure(Path(simulated), design).effects
    assert effects.null is not None and effects.null[0] <= 0.01 and effects.null[1] <= 0.1
    assert "control against control: 0.0" in caplog.text and "replicated, t" in caplog.text


def test_the_null_of_deseq2_is_quiet_too(tested):
    assert tested.effects[0].null is not None
    assert tested.effects[0].null[0] <= 0.02 and tested.effects[0].null[1] <= 0.1


def test_guides_as_replicates_are_compared_without_pairs(tmp_path):
    held = simulate(replicates=4, cells=25, perturbed=PERTURBED[:2])
    held.obs["donor"] = held.obs["gene"].astype(str) + held.obs["donor"].astype(str)
    design = Design("gene", ("control",), "donor", "knockout", "", test="t")
    (effects,) = measure(Path(changed(held, tmp_path)), design).effects
    assert effects.null is not None  # whole guides are halved
    truth = [planted(PERTURBED.index(p))[GENES.index(g)] != 0 if g in GENES else True
             for p, g in zip(effects.table["perturbation"], effects.table["gene"], strict=True)]  # fmt: skip
    assert np.median(effects.table["p"][truth]) < 0.1 < np.median(effects.table["p"][~np.array(truth)])


def test_reading_in_small_chunks_changes_nothing(simulated, monkeypatch):
    design = Design("gene", ("control",), "donor", "knockdown", "", test="t")
    once = measure(Path(simulated), design).effects[0].table
    monkeypatch.setattr(h5ad, "CHUNK", 13)
    pd.testing.assert_frame_equal(measure(Path(simulated), design).effects[0].table, once)


@pytest.mark.parametrize("task", ["effect", "direction", "profile"])
def test_questions(simulated, tested, monkeypatch, task):
    monkeypatch.setattr(effects, "measure", lambda path, design, known: replace(tested, drops=Counter(tested.drops)))
    source = own(simulated, task=task, readouts=10, evidence=2)
    asked = list(source.questions())
    assert {q.task for q in asked} == {f"perturbation/{task}"} and len({q.id for q in asked}) == len(asked)
    splits = {
        q.fields["perturbation"]: {r.split for r in asked if r.truth["group"] == q.fields["perturbation"]}
        for q in asked
    }
    assert all(len(found) == 1 for found in splits.values())
    assert source.drops["effects of a perturbation on its own gene"] == 1
    assert source.unresolved() == {}
    for question in asked:
        assert question.truth["quality"] == question.fields["quality"] == REPLICATED
        assert question.fields["context"] == "T cells" and question.truth["context"] == "cells"
        fold = dict(zip(GENES, planted(PERTURBED.index(question.fields["perturbation"])), strict=True))
        if task == "profile":
            assert question.fields["perturbation"] not in question.fields["genes"]
            assert list(question.truth["answer"]) == question.fields["genes"] == list(question.truth["baseline"])
            assert all(abs(question.truth["answer"][g] - fold[g]) < 1.2 for g in question.fields["genes"])
        else:
            assert question.fields["readout"] != question.fields["perturbation"]
        assert Question.from_json(question.to_json()) == question
    if task == "effect":
        answers = Counter((q.fields["perturbation"], q.truth["answer"]) for q in asked)
        assert max(answers.values()) <= 5
        right = [(planted(PERTURBED.index(q.fields["perturbation"]))[GENES.index(q.fields["readout"])] != 0)
                 == (q.truth["answer"] == "yes") for q in asked]  # fmt: skip
        assert np.mean(right) > 0.9
    again = list(own(simulated, task=task, readouts=10, evidence=2).questions())
    assert again == asked


def test_the_baseline_of_a_profile_is_the_mean_over_training(simulated):
    asked = list(own(simulated, task="profile", test="t").questions())
    gene = asked[0].fields["genes"][0]
    training = [q.truth["answer"][gene] for q in asked if q.split == "train" and gene in q.truth["answer"]]
    assert asked[0].truth["baseline"][gene] == pytest.approx(np.mean(training), abs=1e-3)


def test_without_replicates_every_question_says_exploratory(simulated, caplog):
    asked = list(own(simulated, replicate="").questions())
    assert asked and all(q.fields["quality"] == q.truth["quality"] == EXPLORATORY for q in asked)
    assert "no replicates" in caplog.text and EXPLORATORY in caplog.text


def test_log_values_are_exploratory_whatever_the_replicates(tmp_path, caplog):
    held = simulate(perturbed=PERTURBED[:3])
    held.X = held.X.log1p()
    (effects,) = measure(Path(changed(held, tmp_path)), Design("gene", ("control",), "donor", "knockdown", "")).effects
    assert effects.quality == EXPLORATORY and "no counts" in caplog.text


def test_doubles_are_left_out_and_counted_but_one_gene_beside_a_control_is_not(tmp_path):
    held = simulate(perturbed=PERTURBED[:3])
    held.obs["gene"] = held.obs["gene"].astype(str)
    a, b, c = PERTURBED[:3]
    held.obs["gene"] = held.obs["gene"].replace({a: f"{a}+control", b: f"{b}+{c}"})
    design = Design("gene", ("control",), "donor", "knockdown", "", test="t")
    found = measure(Path(changed(held, tmp_path)), design)
    assert set(found.effects[0].table["perturbation"]) == {a, c}
    assert found.drops["cells with several perturbed genes"] == 90


def test_small_groups_are_left_out_and_counted(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    held = simulate(perturbed=PERTURBED[:3])
    names = held.obs["gene"].astype(str)
    first = names[names == PERTURBED[1]].index
    held = held[~held.obs_names.isin(first[1:])].copy()  # one cell
    source = own(changed(held, tmp_path), test="t", task="profile")
    groups = {q.fields["perturbation"] for q in source.questions()}
    assert groups == {PERTURBED[0], PERTURBED[2]}
    assert source.drops["perturbation x replicate samples with too few cells"] == 1
    assert source.drops["perturbations without two replicates"] == 1
    assert "left out: 1 perturbations without two replicates" in caplog.text


def test_contexts_are_compared_apart_and_one_without_controls_is_left_out(tmp_path):
    held = simulate(perturbed=PERTURBED[:3])
    held.obs["line"] = np.where(held.obs["donor"] == "donor2", "B", "A")
    held = held[~((held.obs["line"] == "B") & (held.obs["gene"] == "control"))].copy()
    design = Design("gene", ("control",), "donor", "knockdown", "line", test="t")
    found = measure(Path(changed(held, tmp_path)), design)
    assert [effects.context for effects in found.effects] == ["A"]
    assert found.drops["cells of B, which has no controls"] == 90


def broken(change) -> anndata.AnnData:
    held = simulate(replicates=2, perturbed=PERTURBED[:2])
    dense = held.X.toarray()
    change(held, dense)
    held.X = dense
    return held


def half_mouse(names) -> list[str]:
    return [name.capitalize() if i % 2 else name for i, name in enumerate(names)]


def put(value: float):
    def change(held, dense):
        dense[500 % len(dense), 5] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put(-1), "negative counts"),
        (put(-0.5), "scaled values"),
        (put(np.nan), "missing or infinite values"),
        (lambda held, dense: held.obs.__setitem__("gene", "KLF1"), "no control cells.*name your controls"),
        (lambda held, dense: setattr(held, "var_names", ["CD3E"] * len(held.var)), "gene name 'CD3E' is there twice"),
        (lambda held, dense: setattr(held, "var_names", half_mouse(held.var_names)), "mixed species"),
        (lambda held, dense: held.obs.__setitem__("donor", "one"), "the controls have 1 replicates"),
        (lambda held, dense: held.obs.__setitem__("donor", held.obs_names), "the controls have 0 replicates"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_files_that_cannot_be_used_are_one_clear_line(tmp_path, change, said):
    with pytest.raises(Error, match=said) as caught:
        list(own(changed(broken(change), tmp_path)).questions())
    assert "\n" not in str(caught.value)


def test_bad_options(simulated, tmp_path):
    with pytest.raises(Error, match="no column 'genes', did you mean 'gene'"):
        list(own(simulated, perturbation="genes").questions())
    with pytest.raises(Error, match="set either `cells`"):
        own(simulated, context="donor")
    with pytest.raises(Error, match="task 'up' is unknown"):
        own(simulated, task="up")
    with pytest.raises(Error, match="test 'wilcoxon' is unknown; choose one of deseq2, t"):
        own(simulated, test="wilcoxon")
    held = simulate(replicates=2, perturbed=PERTURBED[:2])
    held.obs["how"] = np.where(held.obs["gene"] == PERTURBED[0], "CRISPRi", "CRISPRa")
    with pytest.raises(Error, match="activation and knockdown are mixed"):
        list(own(changed(held, tmp_path), modality="how").questions())
    held.obs["how"] = "magic"
    with pytest.raises(Error, match="modality 'magic' is unknown"):
        list(own(changed(held, tmp_path), modality="how").questions())


def test_a_paired_test_needs_each_replicate_s_own_controls():
    samples = pd.DataFrame({"perturbation": ["", "", "A", "A"], "replicate": ["1", "2", "1", "2"]})
    assert pseudobulk.is_paired(samples)
    assert not pseudobulk.is_paired(samples.assign(replicate=["1", "2", "1", "3"]))


def test_a_gene_that_does_not_vary_has_no_p_and_does_not_spoil_the_others():
    samples = pd.DataFrame({"perturbation": ["", "", "", "A", "A", "A"], "replicate": list("123123")})
    counts = np.random.default_rng(0).poisson(50, (6, 30)).astype(float)
    counts[:, 3] = 0
    found = pseudobulk.compare(counts, samples, [f"g{i}" for i in range(30)], "t")["A"]
    assert np.isnan(found.loc["g3", ["p", "q"]]).all() and found.drop("g3")["q"].notna().all()


# The shared sample.


def test_the_shared_sample_is_exploratory_with_doubles_left_out():
    source = PerturbSeq(task="profile")
    need(source.files())
    asked = list(source.questions())
    assert {q.fields["quality"] for q in asked} == {EXPLORATORY}
    assert source.drops["cells with several perturbed genes"] == 1480
    modality = {(q.truth["context"], q.fields["modality"]) for q in asked}
    knockdown = effects.MODALITIES["knockdown"]
    assert modality == {("k562", "CRISPR activation"), *((c, knockdown) for c in ("A172", "T98G", "U87MG"))}
    assert Counter(q.truth["context"] for q in asked) == {"k562": 18, "A172": 9, "T98G": 9, "U87MG": 9}


def test_ensembl_ids_are_asked_by_symbol_and_never_of_the_gene_itself(tmp_path, monkeypatch):
    """var_names are ids with versions, and no column holds symbols: the knowledge base names them."""
    data = simulate()
    ids = {gene: f"ENSG{place:011d}.{place % 9}" for place, gene in enumerate(data.var_names)}
    data.var_names = [ids[gene] for gene in data.var_names]
    data.write_h5ad(tmp_path / "mine.h5ad")
    symbols = {id.partition(".")[0]: gene for gene, id in ids.items()}
    plain = KnowledgeBase._read_gene

    def read(self, symbol, species):
        gene = symbols.get(symbol.partition(".")[0])
        return Gene(gene, "ensembl", (gene,)) if gene else plain(self, symbol, species)

    monkeypatch.setattr(KnowledgeBase, "_read_gene", read)
    monkeypatch.setattr(KnowledgeBase, "open", classmethod(lambda cls, name: cls(Path(assemble.sample()))))
    asked = list(own(str(tmp_path / "mine.h5ad")).questions())
    assert asked and not any(q.fields["readout"].startswith("ENSG") for q in asked)
    assert all(q.fields["readout"] != q.fields["perturbation"] for q in asked)


@pytest.mark.parametrize("spelling", ["non-targeting", "NTC_{}", "NegCtrl{}", "safe-targeting", " ctrl ", "DMSO"])
def test_controls_in_any_spelling_are_found_and_never_asked_about(spelling, tmp_path):
    data = simulate()
    number = iter(range(10**6))
    control = data.obs["gene"] == "control"
    pairs = zip(data.obs["gene"], control, strict=True)
    names = [spelling.format(next(number) % 7) if untouched else gene for gene, untouched in pairs]
    data.obs["gene"] = names
    data.write_h5ad(tmp_path / "mine.h5ad")
    found = measure(Path(tmp_path / "mine.h5ad"), Design("gene", (), "donor", "knockdown", ""))
    assert set(found.effects[0].table["perturbation"]) == set(PERTURBED)


def test_other_controls_than_those_named_are_left_out_and_counted(tmp_path):
    data = simulate()
    names = data.obs["gene"].tolist()
    first = [i for i, name in enumerate(names) if name == PERTURBED[1]]
    for i in first:
        names[i] = "safe-targeting"
    data.obs["gene"] = names
    data.write_h5ad(tmp_path / "mine.h5ad")
    found = measure(tmp_path / "mine.h5ad", Design("gene", ("control",), "donor", "knockdown", ""))
    assert found.drops["cells of controls that `controls` does not name"] == len(first)
    assert set(found.effects[0].table["perturbation"]) == set(PERTURBED) - {PERTURBED[1]}
    with pytest.raises(Error, match=r"never one of none .*; likely ones are control, safe-targeting; name your"):
        measure(tmp_path / "mine.h5ad", Design("gene", ("none",), "donor", "knockdown", ""))


def test_guides_of_a_gene_are_the_gene_and_doubles_are_left_out(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    data = simulate()
    one, two, three = PERTURBED[:3]
    names = data.obs["gene"].tolist()
    for turn, i in enumerate([i for i, name in enumerate(names) if name == one]):
        names[i] = f"{one}_{turn % 2 + 1}"
    for i in [i for i, name in enumerate(names) if name == two]:
        names[i] = f"{two}_{three}"
    data.obs["gene"] = names
    data.write_h5ad(tmp_path / "mine.h5ad")
    found = measure(tmp_path / "mine.h5ad", Design("gene", (), "donor", "knockdown", ""), set(PERTURBED).__contains__)
    assert set(found.effects[0].table["perturbation"]) == set(PERTURBED) - {two}
    assert found.drops["cells with several perturbed genes"] == 90
    assert f"2 labels are read as their gene, as {one}_1, {one}_2" in caplog.text
