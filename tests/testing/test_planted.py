"""Planted cases: a policy, a split or a verifier that would fool a reader is told in the report."""

from __future__ import annotations

import dataclasses
import random
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

from rlvr import plugins
from rlvr.completions import reference
from rlvr.evaluation.monitors import monitor
from rlvr.plugins import load as load_plugin
from rlvr.questions.splits import refuse_leak
from rlvr.types import Completion, Error, Question, Reason, Verdict
from rlvr.verifier import Verifier
from tests.kept_run import DIRECTION, keep, knows, questions, recipe, report, rows_of


def held_out(asked):
    return [q for q in asked if q.split == "validation"]


def flags(found):
    return {flag["flag"]: flag for flag in found["flags"]}


def measured(tmp_path, policy, asked=None, made=None):
    asked, made = asked or questions(), made or recipe()
    return report(keep(tmp_path / "run", "after", rows_of(held_out(asked), policy, made)), asked, made)


def test_a_policy_that_knows_something_raises_no_flag(tmp_path):
    found = measured(tmp_path, knows(0.85))
    assert flags(found) == {}
    assert found["inconsistencies"] == []
    assert found["headline"].startswith("Beats the best shortcut (")
    assert "): yes, by +" in found["headline"]


def test_one_that_copies_the_majority_is_no_better_than_that_row_and_flagged(tmp_path):
    found = measured(tmp_path, lambda question, draw: reference("It is upstream.", "up"))
    assert "): no, by " in found["headline"]
    own, row = found["after"][DIRECTION], found["baselines"]["majority"][DIRECTION]
    assert own["accuracy"] == row["accuracy"]
    assert found["comparisons"]["after - majority"][DIRECTION]["accuracy"]["p"] == 1.0
    assert flags(found).keys() == {"copies_majority", "format_without_knowledge"}
    assert "100.0% of the answers are 'up', which is true of" in flags(found)["copies_majority"]["text"]


def test_a_label_that_nearly_always_holds_may_be_given_nearly_always(tmp_path):
    asked = [
        dataclasses.replace(q, truth={**q.truth, "answer": "up" if i % 50 else "down"})
        for i, q in enumerate(questions())
    ]
    assert "copies_majority" not in flags(measured(tmp_path, knows(1.0), asked))


def test_one_that_games_format_has_the_reward_and_not_the_answers(tmp_path):
    def games(question: Question, draw: random.Random) -> str:
        return reference("Well formed, and no thought at all.", draw.choice(["up", "down"]))

    found = measured(tmp_path, games)
    own = found["after"][DIRECTION]
    assert own["score/format"]["value"] == own["parse_rate"]["value"] == 1.0
    assert own["mcc"]["low"] < 0 < own["mcc"]["high"]
    assert flags(found).keys() == {"format_without_knowledge"}
    assert "100.0% of the answers are well formed, but mcc is" in flags(found)["format_without_knowledge"]["text"]


def test_a_reward_that_rises_by_format_alone_trips_a_monitor(tmp_path):
    """In training: format is learned, answers are not; format then has nearly all of the reward's variance."""
    draw = np.random.default_rng(0)
    for step in range(1, 21):
        right = (draw.random(32) < 0.5).astype(float)
        form = (draw.random(32) < 0.3 + step / 40).astype(float)
        table = pd.DataFrame({"label": 0.1 * right, "format": form, "reward": 0.1 * right + 0.2 * form})
        table = table.assign(step=step, phase="grpo", group=np.arange(32) // 8, question_id="q", task=DIRECTION)
        table.assign(answer="up", completion="x" * 90).to_parquet(tmp_path / f"{step:03}.parquet")
    readings = {(r.monitor, r.subject): r for r in monitor(tmp_path, {"label": 1.0, "format": 0.2})}
    assert not readings["dominance", "format"].ok


def test_a_leaked_split_is_refused_in_training_and_told_first_in_a_report(tmp_path):
    asked = questions(leaked=10)
    train = [q for q in asked if q.split == "train"]
    with pytest.raises(Error, match="of 160 held-out questions 40 share their perturbation"):
        refuse_leak(train, held_out(asked))
    found = measured(tmp_path, knows(0.85), asked)
    assert found["headline"].startswith(
        "training leaks: of 160 held-out questions 40 share their perturbation, 40 share"
    )
    assert "leaked_split" in flags(found)
    allowed = measured(tmp_path / "allowed", knows(0.85), asked, recipe(allow_leak="to see what it is worth"))
    assert flags(allowed)["leaked_split"]["text"].endswith("; allowed: to see what it is worth")


@dataclasses.dataclass(frozen=True)
class Lenient(load_plugin("verifiers", "label", Verifier)):  # type: ignore[misc]
    """The bug: what does not parse counts as right."""

    name: ClassVar[str] = "label"

    def verify(self, question: Question, completion: Completion) -> Verdict:
        if completion.answer is None:
            return Verdict(1.0, Reason.CORRECT)
        verdict: Verdict = super().verify(question, completion)
        return verdict


def half_silent(question: Question, draw: random.Random) -> str:
    return "I cannot say." if draw.random() < 0.5 else knows(0.8)(question, draw)


def test_a_verifier_that_counts_unparsed_as_right_disagrees_with_the_accuracy(tmp_path, monkeypatch):
    plain = plugins.load

    def load(kind: str, name: str, cls: type) -> Any:
        return Lenient if (kind, name) == ("verifiers", "label") else plain(kind, name, cls)

    honest = measured(tmp_path / "honest", half_silent)
    assert honest["inconsistencies"] == []
    monkeypatch.setattr("rlvr.recipe.load_plugin", load)
    found = measured(tmp_path / "bug", half_silent)
    first, second = found["inconsistencies"]
    assert "after, perturbation/direction: verifier label pays for" in first
    assert "verifier label calls 0.850 right, counted without it are 0.388" in second
    assert "rows differ" in second
    assert found["after"][DIRECTION]["accuracy"] == honest["after"][DIRECTION]["accuracy"], "the figure does not move"
    assert found["after"][DIRECTION]["score/label"]["value"] == 0.85


def test_answers_that_the_parser_does_not_read_are_told(tmp_path):
    """The same bug one step earlier: lenient readings kept as answers."""
    asked, made = questions(), recipe()
    table = rows_of(held_out(asked), half_silent, made)
    silent = table["answer"].isna()
    table.loc[silent, "answer"] = table.loc[silent, "truth"]
    table["label"] = (table["answer"] == table["truth"]).astype(float)
    table["label/reason"] = np.where(table["label"] > 0, "correct", "wrong")
    found = report(keep(tmp_path / "run", "after", table), asked, made)
    assert found["inconsistencies"][0].startswith(f"after: {silent.sum()} of 160 answers are not what the parser reads")
