"""The unified benchmark: its definition, its carved questions, and a whole run with a policy that is known."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from rlvr.completions import reference
from rlvr.evaluation import suite
from rlvr.evaluation.subject import Subject
from rlvr.evaluation.suite import Entry, Suite
from rlvr.evaluation.suite.table import markdown, radar
from rlvr.loading import gather
from rlvr.policy import Answered
from rlvr.prompts import Messages
from rlvr.recipe import load
from rlvr.types import Error

OWN = Suite.load()
SHARED = load(str(suite.FILE.with_name("recipe.yaml")), ["evaluation.resamples=50"])
OFFLINE = Entry("response", "perturbation", "perturbation", {"name": "tcell_cytokines"})
SEEN = dataclasses.replace(OFFLINE, name="response-seen", shift="none", carved=True)
NOWHERE = {"name": "cell_type", "dataset": "/nowhere.h5ad", "tissue": "blood", "knowledge": "sample"}
ABSENT = Entry("mine", "cell", "species", NOWHERE)


class Always:
    """Gives the first of the task's words, and is sure of it."""

    opened = 0

    def answer(
        self,
        prompts: Sequence[Messages],
        answers: Mapping[str, str],
        max_tokens: int,
        progress: Any,
        *,
        temperature: float = 0.0,
        samples: int = 1,
        seed: int = 0,
    ) -> list[Answered]:
        progress(len(prompts))
        word, *others = answers
        shares = {answers[word]: 0.8, **{answers[other]: 0.2 / len(others) for other in others}}
        return [Answered(reference("So it is.", word), True, shares, 7) for _ in prompts]


def always() -> Subject:
    def opened() -> Always:
        Always.opened += 1
        return Always()

    return Subject({"backend": "planted", "model": "always | the <first>"}, opened, 32, 1)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("suite")
    small = dataclasses.replace(OWN, entries=(OFFLINE, SEEN, ABSENT))
    Always.opened = 0
    return suite.run(small, "small", SHARED, always(), folder), folder


def test_it_covers_the_areas_like_training_and_shifted() -> None:
    by_area = {area: {e.shift for e in OWN.entries if e.area == area} for area in {e.area for e in OWN.entries}}
    assert by_area.keys() == {"cell", "perturbation", "regulation", "knowledge", "sequence"}
    assert all("none" in shifts and len(shifts) > 1 for shifts in by_area.values())
    assert {"perturbation", "gene", "cell type", "cell line", "species"} <= set.union(*by_area.values())
    assert set(OWN.sizes) == {"small", "standard", "full"} and OWN.version
    assert len({entry.name for entry in OWN.entries}) == len(OWN.entries)


def test_what_is_carved_is_held_out_of_training_alone_and_always_the_same() -> None:
    _, questions = gather(dataclasses.replace(SHARED, source=OFFLINE.source))
    carved = suite.carve(questions)
    train = {q.id for q in questions if q.split == "train"}
    held = {q.id for q in carved if q.split == "validation"}
    assert {q.id for q in carved} == train and held == {
        q.id for q in suite.carve(questions[::-1]) if q.split == "validation"
    }
    assert 0.1 < len(held) / len(train) < 0.2
    assert {q.cluster for q in carved if q.id in held} & {q.cluster for q in carved if q.id not in held}


def test_one_model_answers_every_entry_and_what_is_missing_is_listed(ran: tuple[dict[str, Any], Path]) -> None:
    document, folder = ran
    assert Always.opened == 1
    rows = {row["entry"]: row for row in document["entries"]}
    assert "nowhere.h5ad" in rows["mine"]["missing"] and "value" not in rows["mine"]
    for name in ("response", "response-seen"):
        assert rows[name]["questions"] == OWN.sizes["small"] and rows[name]["parse_rate"] == 1.0
        report = json.loads((folder / "entries" / name / "report.json").read_text())
        metric = rows[name]["metric"]
        assert rows[name]["value"] == report["before"]["perturbation/response"][metric]["value"]
        assert rows[name]["gain"]["value"] <= 0 and rows[name]["shortcut"]  # who never looks beats no shortcut
    assert document["areas"]["cell"] == {"in_distribution": None, "shifted": None, "shortcut": None}
    assert document["areas"]["perturbation"]["shifted"] == rows["response"]["value"]
    assert json.loads((folder / "suite.json").read_text()) == document
    assert {"suite", "size", "model", "versions", "command"} <= document.keys()


def test_an_entry_that_was_answered_is_not_asked_again(ran: tuple[dict[str, Any], Path]) -> None:
    document, folder = ran
    small = dataclasses.replace(OWN, entries=(OFFLINE, SEEN, ABSENT))
    again = suite.run(small, "small", SHARED, always(), folder)
    assert Always.opened == 1
    assert again["entries"] == document["entries"]


def test_the_table_and_the_radar_hold_every_entry_and_no_markup_of_others(ran: tuple[dict[str, Any], Path]) -> None:
    document, folder = ran
    table = (folder / "suite.md").read_text()
    assert table.count("\n| perturbation |") == 2 and "Not measured:" in table and "- mine:" in table
    assert "always \\| the \\<first\\>" in table
    drawn = ElementTree.fromstring((folder / "suite.svg").read_text())
    assert drawn.tag.endswith("svg")
    assert radar(document) == radar(document) and markdown(document) == table


def test_what_the_suite_sets_cannot_be_set() -> None:
    for override in ("source.evidence=2", "verifiers.label.weight=2", "evaluation.questions=5", "evaluation={}"):
        with pytest.raises(Error, match="suite sets that itself"):
            suite.refuse([override])
    suite.refuse(["model=x", "evaluation.batch_size=4", "grpo.max_completion_length=512"])


def test_an_unknown_size_and_a_suite_without_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Error, match="small, standard, full"):
        suite.run(OWN, "tiny", SHARED, always(), tmp_path)
    with pytest.raises(Error, match="no entry"):
        suite.run(dataclasses.replace(OWN, entries=(ABSENT,)), "small", SHARED, always(), tmp_path)


def test_every_entry_names_a_source_that_takes_its_options() -> None:
    for entry in OWN.entries:
        ((opened, most),) = dataclasses.replace(SHARED, source=entry.source).open_sources()
        assert (opened.name, most) == (entry.source["name"], None)
    wrong = {**OWN.entries[0].source, "split_bye": "cell"}
    with pytest.raises(Error, match="split_bye"):
        dataclasses.replace(SHARED, source=wrong).open_sources()
