"""The fitted oracle: it finds planted relations, keeps held-out labels out, abstains, and says what it means."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from rlvr.cli import app
from rlvr.knowledge import KnowledgeBase
from rlvr.oracle import Predictions, calibration, kinds
from rlvr.oracle.crossfit import FOLDS, prepare
from rlvr.oracle.fitted import fit
from rlvr.oracle.similarity import Annotated, kernels
from rlvr.oracle.stacking import stacked, within
from rlvr.oracle.votes import Measured, Votes
from rlvr.plugins import load
from rlvr.types import Error
from rlvr.verifier import Verifier

BASE = KnowledgeBase.open("sample")
SPLITS = ("train", "train", "train", "validation")


def planted(seed=0, readouts=12):
    """Effect and direction of 80 genes of the sample on made-up readouts: those that carry the first of two common
    terms raise the even readouts, and leave the others alone; others lower the odd ones now and then."""
    rng = np.random.default_rng(seed)
    genes = [gene for gene in BASE.symbols() if len(BASE.terms(gene)) > 5]
    counts = pd.Series([term for gene in genes for term in BASE.terms(gene)]).value_counts()
    term = next(t for t in counts.index if 0.2 * len(genes) < counts[t] < 0.5 * len(genes))
    chosen = rng.permutation(genes)[:80]
    effect, direction = [], []
    for place, gene in enumerate(chosen):
        carries = term in BASE.terms(gene)
        for readout in range(readouts):
            changes = rng.random() < (0.85 if carries == (readout % 2 == 0) else 0.15)
            key = (gene, f"READOUT{readout}", "made", SPLITS[place % 4])
            effect.append((*key, "yes" if changes else "no"))
            if changes:
                direction.append((*key, "up" if rng.random() < (0.9 if carries else 0.1) else "down"))
    columns = ["perturbation", "readout", "context", "split", "label"]
    return {"effect": pd.DataFrame(effect, columns=columns), "direction": pd.DataFrame(direction, columns=columns)}


@pytest.fixture(scope="module")
def fitted():
    tables = planted()
    return tables, fit(tables, BASE)


def ranked(frame, label, split):
    """Share of pairs of one readout, one of each label, that p orders rightly."""
    frame = frame.assign(label=label.to_numpy())[frame["split"] == split]
    won = []
    for _, rows in frame.groupby("readout"):
        yes, no = (rows.loc[rows["label"].isin(names), "p"].to_numpy() for names in (("yes", "up"), ("no", "down")))
        won += (yes[:, None] > no[None, :]).ravel().tolist()
    return float(np.mean(won))


@pytest.mark.parametrize("task", ["effect", "direction"])
def test_a_planted_relation_is_found_on_held_out_perturbations(fitted, task):
    tables, found = fitted
    assert ranked(found[task].predictions, tables[task]["label"], "validation") > 0.65


def test_held_out_labels_change_nothing(fitted):
    tables, found = fitted
    flipped = {}
    for task, table in tables.items():
        names = {"yes": "no", "no": "yes", "up": "down", "down": "up"}
        flipped[task] = table.assign(label=table["label"].where(table["split"] == "train", table["label"].map(names)))
    for task, other in fit(flipped, BASE).items():
        pd.testing.assert_frame_equal(other.predictions, found[task].predictions)


def test_votes_do_not_see_what_is_asked_about():
    """What is said of a perturbation is the same to the last bit whatever its own labels are."""
    effect = planted()["effect"]
    symbols = [tuple(sorted(set(effect[name]))) for name in ("perturbation", "readout")]
    places = [pd.Series(range(len(held)), index=list(held)) for held in symbols]
    p, g = (place[effect[c]].to_numpy() for place, c in zip(places, ("perturbation", "readout"), strict=True))
    value = (effect["label"] == "yes").to_numpy(dtype=np.float32)
    known = np.arange(len(symbols[0])) % 5 != 0
    asked = ~known[p]
    votes = Votes(*(Annotated(BASE, held) for held in symbols), np.ones(len(symbols[0]), dtype=np.bool_))
    first, second = (
        votes.features({"effect": Measured(p, g, table)}, known, p[asked], g[asked], {})
        for table in (value, np.where(asked, 1 - value, value).astype(np.float32))
    )
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)


def noise(seed, readouts=100):
    """Labels that depend on nothing but the readout's rate, of 80 genes."""
    rng = np.random.default_rng(seed)
    genes = rng.permutation([gene for gene in BASE.symbols() if len(BASE.terms(gene)) > 5])[:80]
    rates = rng.uniform(0.1, 0.9, readouts)
    rows = [
        (gene, f"READOUT{i}", "made", "train", "yes" if rng.random() < rates[i] else "no")
        for gene in genes
        for i in np.flatnonzero(rng.random(readouts) < 0.6)
    ]
    return pd.DataFrame(rows, columns=["perturbation", "readout", "context", "split", "label"])


def macro(values, label, readout):
    """Mean over readouts of the share of their pairs that are ordered rightly."""
    found = []
    for name in set(readout):
        yes, no = (values[(readout == name) & (label == said)] for said in ("yes", "no"))
        if len(yes) and len(no):
            gap = yes[:, None] - no[None, :]
            found.append(float((gap > 0).mean() + (gap == 0).mean() / 2))
    return float(np.mean(found))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fitted", "mlp"])
def test_what_rewards_training_rows_holds_nothing_of_their_own_labels(kind):
    """On noise the rate of the other folds ranks the rows of a readout backwards, which p and lift must not. All
    readouts of a table share its perturbations, so one table's figure has a deviation of .03; the mean of six, .013."""
    made = []
    for seed in range(1, 7):
        table = noise(seed)
        cross = prepare({"effect": table}, BASE)
        found = kinds.fit(kind, cross)["effect"].predictions
        columns = {"rate": cross.rate("effect"), "p": found["p"].to_numpy(), "lift": found["lift"].to_numpy()}
        assert np.isfinite(columns["lift"]).all()
        label, readout = table["label"].to_numpy(), table["readout"].to_numpy()
        made.append({name: macro(values, label, readout) for name, values in columns.items()})
    mean = pd.DataFrame(made).mean()
    assert mean["rate"] < 0.45
    assert abs(mean["p"] - 0.5) < 0.03 and abs(mean["lift"] - 0.5) < 0.03


def test_a_readouts_rate_is_one_number_for_all_its_training_rows(fitted):
    for task in fitted[0]:
        held = fitted[1][task].predictions
        known = held[held["split"] == "train"]
        assert (known.groupby("readout")["prior"].nunique() == 1).all()
        above = (held["p"] > held["prior"]).to_numpy()
        assert (above == (held["lift"] > 0.5)).all()


def test_nothing_votes_for_itself_under_another_name():
    genes = Annotated(BASE, ("ZAP70", "LCK", "ZAP70"))
    assert all(kernel[0, 2] == 0 == kernel[0, 0] for kernel in kernels(genes).values())
    assert kernels(genes)["mix"][0, 1] > 0


def test_unknown_genes_and_readouts_are_abstained_on_and_counted(tmp_path, make_question):
    tables = planted()
    effect = tables["effect"]
    strange = effect[effect["split"] == "validation"].iloc[:3].copy()
    strange["perturbation"] = ["NOSUCHGENE", "NOSUCHGENE", strange["perturbation"].iloc[2]]
    strange["readout"] = ["READOUT0", "READOUT1", "NEVERSEEN"]
    found = fit({"effect": pd.concat([effect, strange], ignore_index=True)}, BASE)["effect"]
    assert found.predictions["p"].tail(3).isna().all()
    assert dict(found.abstained) == {"no annotated relative in training": 2, "readout unseen": 1}
    found.covered().to_parquet(tmp_path / "effect.parquet")
    told = Predictions(str(tmp_path / "effect.parquet"))
    asked = [
        make_question(
            {"perturbation": row.perturbation, "readout": row.readout}, {"context": "made"}, task="perturbation/effect"
        )
        for row in (effect.iloc[0], strange.iloc[0], strange.iloc[2])
    ]
    known, *unknown = told.probabilities(asked)
    assert known["yes"] == found.predictions["p"].iloc[0]
    assert unknown == [None, None]
    lifted = Predictions(str(tmp_path / "effect.parquet"), "lift")
    assert lifted.probabilities(asked[:1])[0]["yes"] == found.predictions["lift"].iloc[0]
    assert lifted.version != told.version
    assert told.coverage(asked) == {"covered": 1, "perturbation unseen": 1, "readout unseen": 1}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: {}, "no table"),
        (lambda t: {"profile": t["effect"]}, "'profile' cannot be fitted; give effect or direction"),
        (lambda t: {"effect": t["effect"].assign(label="up")}, "label is none of yes, no"),
        (lambda t: {"effect": t["effect"].assign(split="test")}, "0 perturbations in train"),
        (lambda t: {"effect": t["effect"].assign(context=["a"] + ["b"] * (len(t["effect"]) - 1))}, "one context"),
        (
            lambda t: {"effect": t["effect"], "direction": t["direction"].assign(split="train")},
            "is in training and held out",
        ),
    ],
)
def test_faults_say_what_is_wrong(change, said):
    with pytest.raises(Error, match=said):
        fit(change(planted()), BASE)


def test_centring_hides_a_rows_own_label():
    """A feature that is the rate of the other folds gives a label away, and nothing is left of it within one."""
    rng = np.random.default_rng(0)
    readout, fold = np.repeat(np.arange(30), 50), np.tile(np.arange(50) % FOLDS, 30)
    label = (rng.random(1500) < 0.3).astype(float)
    rest = np.array([label[(readout == g) & (fold != f)].mean() for g, f in zip(readout, fold, strict=True)])
    means = [np.array([values[readout == g].mean() for g in readout]) for values in (rest, label)]
    assert np.corrcoef(rest - means[0], label - means[1])[0, 1] < -0.05
    centred, _, weight = within(rest[:, None], label, readout, fold)
    assert np.abs(centred).max() < 1e-12
    for g in range(30):  # every readout and fold counts as one, and only pairs count
        for f in range(FOLDS):
            rows = (readout == g) & (fold == f)
            positive = label[rows].sum()
            pairs = positive * (rows.sum() - positive)
            assert weight[rows] == pytest.approx(rows.sum() / pairs if pairs else 0.0)


def test_weights_start_from_a_plain_mean_and_leave_it_for_what_ranks_better():
    rng = np.random.default_rng(1)
    readout, fold = np.repeat(np.arange(40), 100), np.tile(np.arange(100) % FOLDS, 40)
    label = (rng.random(4000) < 0.5).astype(float)
    features = np.column_stack([rng.normal(size=4000), 2 * label + rng.normal(size=4000)])
    score, weights = stacked(features, np.array([1.0, 0.0]), label, readout, fold)
    assert weights[1] > 5 * abs(weights[0])
    assert np.corrcoef(score, label)[0, 1] > 0.5
    one = np.zeros(4000)  # a single label: there is nothing to learn
    assert stacked(features, np.array([1.0, 0.0]), one, readout, fold)[1].tolist() == [1.0, 0.0]


@settings(deadline=None, max_examples=20)
@given(rate=st.floats(0.2, 0.8), seed=st.integers(0, 100))
def test_another_base_rate_is_found_without_labels(rate, seed):
    """Rows drawn at another rate than the probabilities were learnt at, half."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(6000) < rate).astype(float)
    odds = rng.normal(2 * truth - 1, 1.0) * 2  # the log odds of a normal variable of either class, at even rates
    p, group = 1 / (1 + np.exp(-odds)), np.arange(6000) // 10
    moved = calibration.shift(p, group, 0.5)
    assert moved == pytest.approx(np.log(rate / (1 - rate)), abs=0.25)
    after = 1 / (1 + np.exp(-(odds + moved)))
    assert calibration.ece(after, truth) < 0.03
    assert abs(calibration.shift(p[:10], group[:10], 0.5)) < 0.4  # one perturbation says little of a base rate


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), slope=st.floats(0.3, 4.0))
def test_calibration_mends_overconfidence_and_keeps_the_order(seed, slope):
    rng = np.random.default_rng(seed)
    true = rng.uniform(-2, 2, 4000)
    truth = (rng.random(4000) < 1 / (1 + np.exp(-true))).astype(float)
    said = 1 / (1 + np.exp(-slope * true - 0.5))
    learn, asked = slice(0, 3000), slice(3000, None)
    for method in ("isotonic", "temperature"):
        made = calibration.calibrate(said[learn], truth[learn], said[asked], method)
        assert ((made > 0) & (made < 1)).all()
        assert calibration.ece(made, truth[asked]) < 0.08
        assert (np.diff(made[np.argsort(said[asked])]) >= 0).all()


def test_calibration_by_hand():
    p, truth = np.array([0.1, 0.1, 0.9, 0.9]), np.array([0.0, 1.0, 1.0, 1.0])
    assert calibration.ece(p, truth) == pytest.approx(0.5 * 0.4 + 0.5 * 0.1)
    assert [b["n"] for b in calibration.reliability(p, truth)] == [2, 2]
    assert calibration.coverage(p, truth, 4)[-1] == {"share": 1.0, "n": 4, "accuracy": 0.75}
    for method in ("isotonic", "temperature"):
        with pytest.raises(Error, match="4 rows with 2 labels; give 20 rows"):
            calibration.calibrate(p, truth, p, method)
    with pytest.raises(Error, match="no rows"):
        calibration.ece(p[:0], truth[:0])


@pytest.mark.slow
@pytest.mark.perturbqa
def test_on_perturbqa_it_beats_the_vote_of_its_neighbours_on_validation(monkeypatch):
    """K562 direction: .782 where the vote has .74 on validation; the bound leaves room for other releases."""
    from rlvr.plugins import load
    from rlvr.source import Source

    table = load("data", "perturbqa", Source)(context="k562", task="direction").table()
    table = table[table["split"] != "test"].reset_index(drop=True)
    found = fit({"direction": table}, KnowledgeBase.open("upstream"))["direction"]
    assert ranked(found.predictions.fillna({"p": 0.5}), table["label"], "validation") > 0.7
    held = found.predictions[found.predictions["split"] == "validation"]
    truth = (table.loc[held.index, "label"] == "up").to_numpy(dtype=float)
    known = held["p"].notna().to_numpy()
    assert calibration.ece(held["p"].to_numpy()[known], truth[known]) < 0.06


@pytest.mark.perturbqa
def test_the_command_predicts_and_leaves_cells_empty_where_it_abstains(tmp_path, monkeypatch):
    from rlvr.cli import main

    pairs = tmp_path / "pairs.csv"
    rows = ["AATF,NOSUCHREADOUT", "NOSUCHGENE,HSPA8", "PSMB5,HSPA8"]
    pairs.write_text("context,perturbation,readout\n" + "".join(f"k562,{row}\n" for row in rows))
    out, source = tmp_path / "p.csv", "perturbqa:context=k562,task=direction,evidence=0"
    asked = ["rlvr", "oracle", "predict", str(pairs), source, "--task", "direction", "--out", str(out)]
    monkeypatch.setattr("sys.argv", asked)
    with pytest.raises(SystemExit) as done:
        main()
    assert not done.value.code
    found = pd.read_csv(out)
    assert found["p"].isna().tolist() == [True, True, False]
    assert 0 < found["p"].iloc[2] < 1


@pytest.mark.perturbqa
def test_the_command_writes_a_network_its_tables_and_a_card(tmp_path, monkeypatch, capsys):
    from rlvr.cli import main

    def run(*asked):
        monkeypatch.setattr("sys.argv", ["rlvr", "oracle", *map(str, asked)])
        with pytest.raises(SystemExit) as done:
            main()
        return done.value.code

    source = "perturbqa:context=k562,task=direction,evidence=0"
    assert run("fit", source, "--embeddings", tmp_path / "e.parquet", "--out", tmp_path) == 1
    monkeypatch.setattr("rlvr.oracle.mlp.EPOCHS", 2)
    assert not run("fit", source, "--kind", "mlp", "--out", tmp_path / "o")
    names = {path.name for path in (tmp_path / "o").iterdir()}
    files = {"direction.parquet", "direction_k562.png"}
    assert names == files | {"card.json", "CARD.md"}
    table = pd.read_parquet(tmp_path / "o" / "direction.parquet")
    assert list(table.columns) == ["context", "perturbation", "readout", "p", "lift"]
    assert "Genentech Non-Commercial" in (tmp_path / "o" / "CARD.md").read_text()
    # What it wrote can be calibrated as any other model's table.
    again = ("calibrate", tmp_path / "o" / "direction.parquet", source, "--task", "direction", "--out", tmp_path / "c")
    assert not run(*again)
    # Other identifiers are named beside those asked for; a size says nothing of a sign.
    foreign = tmp_path / "ensembl.csv"
    foreign.write_text("context,perturbation,ENSG00000109471\nk562,ENSG00000213658,0.5\n")
    capsys.readouterr()
    assert run("calibrate", foreign, source, "--task", "direction", "--out", tmp_path / "c") == 1
    assert "it has ENSG00000213658, ENSG00000109471, k562, and" in " ".join(capsys.readouterr().err.split())
    sized = ("calibrate", foreign, source, "--task", "direction", "--values", "effect", "--out", tmp_path / "c")
    assert run(*sized) == 1
    assert "--values effect says nothing of --task direction" in " ".join(capsys.readouterr().err.split())


@pytest.fixture(scope="module")
def screens():
    """task -> the questions of the embedded screens, as tables."""
    from rlvr.evaluation import audit
    from rlvr.loading import gather
    from rlvr.oracle import questions

    held = questions.tables_of(gather(audit.recipe_of(["tcell_cytokines"]))[1]).values()
    return {task: pd.concat([of[task] for of in held], ignore_index=True) for task in ("effect", "direction")}


def foretold(truth, path, seed=0, sign=1.0):
    """A model's export that knows something: the label, and noise."""
    yes = truth["label"].isin(("yes", "up")).to_numpy()
    value = sign * (yes - 0.5) * 2 + np.random.default_rng(seed).normal(0, 1.5, len(truth))
    truth[["context", "perturbation", "readout"]].assign(value=value).to_csv(path, index=False)
    return path


def calibrated(export, task, out):
    given = ["oracle", "calibrate", str(export), "tcell_cytokines", "--task", task, "--values", "logit"]
    return CliRunner().invoke(app, [*given, "--out", str(out)])


def gate(path):
    load("verifiers", "oracle", Verifier)(predictions=str(path), most_error=0.5).prepare()  # few rows here


def test_a_folder_keeps_the_calibration_of_both_tasks_and_no_other_table_passes_for_it(tmp_path, screens):
    out = tmp_path / "o"
    for task, truth in screens.items():
        asked = truth[truth["perturbation"] != truth.loc[truth["split"] == "train", "perturbation"].iloc[0]]
        assert calibrated(foretold(asked, tmp_path / f"{task}.csv"), task, out).exit_code == 0
        fits = json.loads((out / "card.json").read_text())["fits"]
        assert fits[-1]["abstained"] == {"not predicted": len(truth) - len(asked)} and len(truth) > len(asked)
    assert [fit["task"] for fit in fits] == ["effect", "direction"]
    assert f"{len(truth) - len(asked)} not predicted" in (out / "CARD.md").read_text()
    for task in screens:
        gate(out / f"{task}.parquet")
    taken = shutil.copytree(out, tmp_path / "taken") / "effect.parquet"
    pd.read_parquet(taken).assign(p=1.0).to_parquet(taken)
    with pytest.raises(Error, match="speaks of another table"):
        gate(taken)


def test_what_cannot_be_calibrated_leaves_the_folder_as_it_was(tmp_path, screens):
    out, truth = tmp_path / "o", screens["effect"]
    assert calibrated(foretold(truth, tmp_path / "good.csv"), "effect", out).exit_code == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    turned = calibrated(foretold(truth, tmp_path / "turned.csv", sign=-1.0), "effect", out)
    assert isinstance(turned.exception, Error) and "a higher value means less" in str(turned.exception)
    one = truth[truth["split"] == "validation"]
    for name in sorted(set(one["perturbation"]))[:4]:  # in either half
        few = calibrated(foretold(one[one["perturbation"] == name], tmp_path / "few.csv"), "effect", out)
        assert isinstance(few.exception, Error) and "give 20 rows, and both" in str(few.exception)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.perturbqa
def test_a_gene_is_predicted_without_its_own_measurements_whatever_it_is_called(tmp_path):
    told = []
    for name in ("POLR2A", "RPB1"):  # one gene, which K562's training split has measured
        pairs, out = tmp_path / f"{name}.csv", tmp_path / f"{name}_p.csv"
        pairs.write_text(f"context,perturbation,readout\nk562,{name},HSPA8\nk562,{name},MYC\n")
        source = "perturbqa:context=k562,task=direction,evidence=0"
        given = ["oracle", "predict", str(pairs), source, "--task", "direction", "--out", str(out)]
        assert CliRunner().invoke(app, given).exit_code == 0
        told.append(pd.read_csv(out)["lift"])
    assert told[0].notna().any()
    pd.testing.assert_series_equal(*told)
    (tmp_path / "none.csv").write_text("context,perturbation,readout\n")
    empty = CliRunner().invoke(app, ["oracle", "predict", str(tmp_path / "none.csv"), *given[3:]])
    assert isinstance(empty.exception, Error) and "no pairs" in str(empty.exception)
