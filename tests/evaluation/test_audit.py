"""The audit finds every kind of overlap, says what it is worth, and exits 1 on a leak."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from rlvr.cli import app
from rlvr.evaluation.audit import audit, recipe_of
from rlvr.evaluation.report import terminal_summary
from rlvr.evaluation.report.scores import headlines
from rlvr.evaluation.shortcuts import shortcuts
from rlvr.knowledge import KnowledgeBase
from rlvr.loading import gather
from rlvr.plugins import load
from rlvr.questions.splits import Kin, overlaps, refuse_leak
from rlvr.recipe import load as load_recipe
from rlvr.source import Source
from rlvr.types import Error, Question
from tests.kin import by_hand

LABELS = {"effect": ("no", "yes"), "direction": ("down", "up")}


def asked(
    perturbation: str, readout: str, answer: str, split: str, context: str = "k562", task: str = "direction"
) -> Question:
    return Question(
        id=f"hand:{task}:{context}:{perturbation}:{readout}:{split}",
        task=f"perturbation/{task}",
        fields={"perturbation": perturbation, "readout": readout},
        truth={"answer": answer, "context": context},
        source="hand",
        split=split,
    )


@pytest.fixture
def names_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Kin, "of", classmethod(lambda cls, names, whole=False: by_hand()))


CLEAN = [
    asked("LCK", "x", "up", "train"),
    asked("LCK", "y", "down", "train"),
    asked("CCND1", "x", "down", "train"),
    asked("ZAP70", "x", "up", "test"),  # LCK's partner
    asked("ZAP70", "y", "down", "test"),
    asked("CCND2", "x", "down", "validation"),  # CCND1's paralog
    asked("GAPDH", "q", "up", "test"),
]


def row(found: dict[str, Any], kind: str, task: str = "perturbation/direction") -> dict[str, Any]:
    return next(row for row in found["tasks"][task]["overlaps"] if row["kind"] == kind)


@pytest.mark.usefixtures("names_by_hand")
def test_a_clean_split_passes_and_its_strata_are_told() -> None:
    found = audit(CLEAN)
    assert not found["leak"]
    counts = {r["kind"]: (r["count"], r["leak"]) for r in found["tasks"]["perturbation/direction"]["overlaps"]}
    assert counts == {
        "perturbation": (0, True),
        "pair": (0, True),
        "readout": (3, False),
        "context": (0, False),
        "complex partner": (3, False),  # GAPDH sits in LCK's large complex
        "paralog": (1, False),
    }
    partner = row(found, "complex partner")
    assert (partner["n"], partner["share"], partner["clusters"], partner["of_clusters"]) == (4, 0.75, 2, 3)
    assert partner["contexts"] == {"k562": {"count": 3, "n": 4, "share": 0.75, "clusters": 2, "of_clusters": 3}}
    assert found["unknown_names"]["n"] == 0
    assert {"majority", "readout_frequency", "leaked_pairs"} <= found["tasks"]["perturbation/direction"][
        "shortcuts"
    ].keys()


@pytest.mark.usefixtures("names_by_hand")
def test_one_split_may_be_asked_for() -> None:
    assert row(audit(CLEAN, "test"), "paralog")["count"] == 0
    assert row(audit(CLEAN, "validation"), "paralog")["count"] == 1
    assert audit(CLEAN, "validation")["held_out"] == 1
    extra = asked("LCK", "x", "yes", "train", task="effect")
    assert audit([*CLEAN, extra])["never_held_out"] == ["perturbation/effect"]


PLANTED = {
    "perturbation": (asked("ZAP70", "z", "up", "train"), {"perturbation"}),
    "context": (asked("ZAP70", "z", "up", "train", "rpe1"), {"perturbation", "context"}),
    "pair": (asked("ZAP70", "x", "up", "train", "rpe1"), {"perturbation", "pair", "context"}),
    "pair, by another task": (asked("ZAP70", "x", "yes", "train", task="effect"), {"perturbation", "pair"}),
    "a mouse gene that nothing asks for": (asked("Ccnd1", "x", "down", "train"), set()),
}


@pytest.mark.usefixtures("names_by_hand")
@pytest.mark.parametrize("name", PLANTED)
def test_planted_leaks_are_caught(name: str) -> None:
    planted, kinds = PLANTED[name]
    found = audit([*CLEAN, planted])
    counts = {r["kind"]: r["count"] for r in found["tasks"]["perturbation/direction"]["overlaps"]}
    assert {kind for kind in ("perturbation", "pair", "context") if counts[kind]} == kinds
    assert found["leak"] == bool(kinds)


@pytest.mark.usefixtures("names_by_hand")
@pytest.mark.parametrize(
    ("trained", "tested"), [("AARS", "AARS1"), ("AARS1", "AARS"), ("Lck", "LCK"), ("LCK", "Lck"), ("Aars", "AARS")]
)
def test_leaks_by_another_name_are_caught(trained: str, tested: str) -> None:
    found = audit([asked(trained, "x", "up", "train"), asked(tested, "x", "up", "test")])
    assert row(found, "perturbation")["count"] == row(found, "pair")["count"] == 1
    assert found["leak"]


@pytest.mark.usefixtures("names_by_hand")
def test_a_group_that_is_torn_apart_is_caught() -> None:
    def cell(split: str, donor: str) -> Question:
        truth = {"answer": "beta cell", "group": donor, "context": "baron"}
        return Question(f"cell:{split}:{donor}", "cell/type", {"genes": ["INS"]}, truth, "hand", split)

    torn = audit([cell("train", "one"), cell("test", "one"), cell("test", "two")])
    assert torn["leak"] and row(torn, "group", "cell/type")["count"] == 1
    assert torn["tasks"]["cell/type"]["shortcuts"] == {}  # one label ranks nothing
    assert not audit([cell("train", "one"), cell("test", "two")])["leak"]


@pytest.mark.usefixtures("names_by_hand")
def test_homologous_sequences_are_a_stratum() -> None:
    def gene(split: str, record: str) -> Question:
        truth = {"answer": "MK", "group": record, "family": "globin", "context": "human"}
        return Question(record, "sequence/translation", {"sequence": "ATGAAA"}, truth, "hand", split)

    found = audit([gene("train", "HBA"), gene("test", "HBB")])
    assert (row(found, "paralog", "sequence/translation")["count"], found["leak"]) == (1, False)


@pytest.mark.usefixtures("names_by_hand")
def test_what_a_look_up_of_the_leak_scores() -> None:
    """Four held-out rows of one readout; the two that leak are answered from the other cells, the others tie."""
    test = [asked(p, "x", a, "test") for p, a in zip("abcd", ("up", "down", "up", "down"), strict=True)]
    train = [asked("a", "x", "up", "train", "rpe1"), asked("b", "x", "down", "train", "rpe1")]
    pair = row(audit([*train, *test]), "pair")
    # c and d have the overall rate, .5: of the four pairs of an up and a down, a-b, a-d and c-b are won, c-d ties.
    assert pair["lookup"]["auroc"] == pair["lookup"]["auroc_macro_gene"] | {"n": 4}
    assert pair["lookup"]["auroc"] == {"value": 3.5 / 4, "n": 4}
    assert pair["among_them"]["auroc"] == {"value": 1.0, "n": 2}
    assert pair["among_them"]["accuracy"] == {"value": 1.0, "n": 2}


@pytest.mark.usefixtures("names_by_hand")
def test_who_was_told_the_direction_knows_of_the_effect() -> None:
    told = [asked("a", "x", "down", "train", task="direction"), asked("b", "y", "up", "train", task="direction")]
    own = [asked("c", "x", "no", "train", task="effect"), asked("d", "x", "yes", "train", task="effect")]
    test = [asked("a", "x", "yes", "test", task="effect"), asked("e", "x", "no", "test", task="effect")]
    found = audit([*told, *own, *test])
    pair = row(found, "pair", "perturbation/effect")
    assert (pair["count"], pair["lookup"]["auroc"]["value"]) == (1, 1.0)
    # How often the direction was told is no rate of effects: the look-up of the perturbation says nothing.
    assert row(found, "perturbation", "perturbation/effect")["lookup"]["auroc"]["value"] == 0.5


@pytest.mark.parametrize(
    ("questions", "split", "said"),
    [
        ([], None, "there are no training questions"),
        ([asked("LCK", "x", "up", "test")], None, "there are no training questions"),
        ([asked("LCK", "x", "up", "train")], None, "held out in validation or test; there is only train"),
        (CLEAN[:4], "validation", "held out in validation; there is only test, train"),
    ],
)
def test_empty_splits_are_refused(questions: Sequence[Question], split: str | None, said: str) -> None:
    with pytest.raises(Error, match=said):
        audit(questions, split)


def test_recipes_and_sources_are_told_apart() -> None:
    assert recipe_of(["quickstart", "evaluation.panel=null"]).evaluation.panel is None
    both = recipe_of(["perturbqa:context=k562,evidence=0", "perturbqa:context=rpe1"])
    assert both.sources == (
        {"name": "perturbqa", "context": "k562", "evidence": 0},
        {"name": "perturbqa", "context": "rpe1"},
    )
    for wrong, said in {
        "quickstrat": "'quickstrat' is neither a recipe nor a source, did you mean 'quickstart'",
        "perturbqa:k562": "'perturbqa:k562': write NAME:key=value",
        "nowhere.yaml": "recipe nowhere.yaml: no such file",
    }.items():
        with pytest.raises(Error, match=said):
            recipe_of([wrong])


# -- the command ----------------------------------------------------------------------------------------------


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["data", "audit", *arguments])
    if isinstance(result.exception, Error):
        raise result.exception
    return result.exit_code, result.stdout


def test_the_embedded_default_is_clean_and_fits_80_columns() -> None:
    code, text = run("quickstart")
    assert code == 0
    # Two of its names are loci of NCBI's that HGNC has named since: nobody can say whose they are.
    assert " ".join(text.splitlines()[-2:]).startswith("no leak found among names that could be judged; 2 of 629")
    assert max(map(len, text.splitlines())) <= 80
    for word in ("perturbation", "complex partner", "readout_frequency", "evidence_vote"):
        assert word in text


def test_json_is_json() -> None:
    code, text = run("tcell_cytokines", "--split", "test", "--json")
    found = json.loads(text)
    assert (code, found["leak"], found["split"], found["sources"]) == (0, False, "test", ["tcell_cytokines"])


def test_a_leak_exits_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def leaking(recipe: Any) -> tuple[list[Source], list[Question]]:
        sources, questions = gather(recipe)
        first = next(q for q in questions if q.split == "validation")
        return sources, [*questions, replace(first, id="planted", split="train")]

    monkeypatch.setattr("rlvr.loading.gather", leaking)
    code, text = run("quickstart")
    assert code == 1
    assert "LEAK" in text and "share their pair" in text
    code, text = run("quickstart", "allow_leak=a reason")
    assert code == 1 and "allow_leak: a reason" in text


# -- training and the report ----------------------------------------------------------------------------------


def test_the_reason_stands_on_the_report() -> None:
    assert load_recipe("quickstart").allow_leak == ""
    recipe = load_recipe("quickstart", ["allow_leak=unseen <cells>"])
    report = {"allow_leak": recipe.allow_leak, "headline": "Beats nothing."}
    warning, rest = headlines(report)
    assert (warning.answer, rest.text) == ("Warning", "Beats nothing.")
    assert "unseen <cells>" in warning.text
    summary = " ".join(terminal_summary(report).split())
    assert summary.startswith("Warning. Training was allowed to know what is held out (allow_leak): unseen <cells>")
    assert [line.answer for line in headlines({**report, "allow_leak": ""})] == [""]


# -- the published figures, on the lines that are here --------------------------------------------------------

PerturbQA = load("data", "perturbqa", Source)
Bare = Callable[[str, str], list[Question]]


@pytest.fixture(scope="module")
def bare() -> Bare:
    """bare(context, task): the questions without evidence; the official split, so validation counts as training."""
    held: dict[tuple[str, str], list[Question]] = {}

    def read(context: str, task: str) -> list[Question]:
        if (context, task) not in held:
            table: pd.DataFrame = PerturbQA(context=context, task=task).table()
            held[context, task] = [
                asked(p, r, a, "test" if split == "test" else "train", context, task)
                for p, r, a, split in zip(
                    table["perturbation"], table["readout"], table["label"], table["split"], strict=True
                )
            ]
        return held[context, task]

    return read


@pytest.mark.perturbqa
@pytest.mark.slow  # the knowledge base with CORUM is built, once
@pytest.mark.parametrize(("context", "partners", "n"), [("k562", 146, 242), ("rpe1", 181, 381)])
@pytest.mark.timeout(600)
def test_the_partner_vote_is_the_published_one(bare: Bare, context: str, partners: int, n: int) -> None:
    found = audit(bare(context, "direction"), "test", noncommercial=True)
    assert not found["leak"]
    row_ = row(found, "complex partner")
    assert row_["of_clusters"] == n
    # Old symbols are resolved here, and with them 147 and 184 have a partner.
    assert row_["clusters"] == pytest.approx(partners, abs=3)
    everything, among = {"k562": (0.68, 0.78), "rpe1": (0.64, 0.79)}[context]
    assert row_["lookup"]["auroc_macro_gene"]["value"] == pytest.approx(everything, abs=0.02)
    assert row_["among_them"]["auroc_macro_gene"]["value"] == pytest.approx(among, abs=0.02)


@pytest.mark.perturbqa
@pytest.mark.parametrize(
    ("context", "task", "pooled"),
    [
        ("k562", "effect", 0.957),
        ("rpe1", "effect", 0.978),
        ("k562", "direction", 0.851),
        ("rpe1", "direction", 0.940),
    ],
)
def test_gene_frequency_is_the_published_one(bare: Bare, context: str, task: str, pooled: float) -> None:
    from rlvr.evaluation import metrics

    questions = bare(context, task)
    train, test = ([q for q in questions if q.split == split] for split in ("train", "test"))
    table = shortcuts(train, test, LABELS[task])["readout_frequency"]
    found = metrics.summarise(
        f"perturbation/{task}",
        [str(q.truth["answer"]) for q in test],
        table,
        [LABELS[task][i] for i in table.argmax(axis=1)],
        LABELS[task],
        [q.readout for q in test],
        [q.cluster for q in test],
        resamples=0,
    )
    assert found["auroc"]["value"] == pytest.approx(pooled, abs=0.002)
    assert found["auroc_macro_gene"]["value"] == 0.5


@pytest.mark.perturbqa
@pytest.mark.parametrize(
    ("k562", "rpe1", "expected"),
    [
        ("direction", "direction", {"perturbation": 2452 + 2864, "pair": 176 + 295}),
        ("effect", "effect", {"perturbation": 18054 + 20082, "pair": 325 + 462}),
        ("effect", "direction", {"perturbation": 17514 + 2992, "pair": 193 + 314}),  # across tasks
    ],
)
def test_pooled_lines_are_caught(bare: Bare, k562: str, rpe1: str, expected: dict[str, int]) -> None:
    pooled = [*bare("k562", k562), *bare("rpe1", rpe1)]
    train, test = ([q for q in pooled if q.split == split] for split in ("train", "test"))
    assert overlaps(train, test) == expected


@pytest.mark.perturbqa
def test_pooled_lines_are_refused_and_audited_line_by_line(bare: Bare) -> None:
    pooled = [*bare("k562", "direction"), *bare("rpe1", "direction")]
    train, test = ([q for q in pooled if q.split == split] for split in ("train", "test"))
    with pytest.raises(Error, match="of 8484 held-out questions 5316 share their perturbation, 471 share their pair"):
        refuse_leak(train, test)
    found = audit(pooled)
    assert found["leak"]
    lines = row(found, "perturbation")["contexts"]
    shared = {line: (counts["clusters"], counts["of_clusters"]) for line, counts in lines.items()}
    assert shared == {"k562": (189, 242), "rpe1": (200, 381)}
    assert row(found, "pair")["among_them"]["accuracy"]["value"] > 0.95  # published: the lines agree in 98 %


@pytest.mark.perturbqa
def test_names_that_differ_between_releases_and_species_are_one_gene() -> None:
    kin = Kin(KnowledgeBase.open("upstream"))
    assert kin.id("AARS") == kin.id("AARS1") == "human:AARS1"
    assert kin.id("Lck") == "mouse:Lck" and kin.id("Lck") in kin.same("LCK") and "human:LCK" in kin.same("Lck")
    assert kin.ties("CCND1", "family") & kin.ties("CCND2", "family")
    assert not kin.ties("CCND1", "family") & kin.ties("LCK", "family")
