"""Interventions on thoughts and questions, and planted policies that must be told apart by them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr import policy, prompts
from rlvr.completions import reference
from rlvr.evaluation.reasoning import measure, precision, thoughts
from rlvr.evaluation.reasoning import questions as change
from rlvr.evaluation.report import write_report
from rlvr.evaluation.run import evaluate
from rlvr.knowledge.claims import Lexicon
from rlvr.policy import Answered
from rlvr.prompts import Messages
from rlvr.recipe import load
from rlvr.types import Error, Question
from tests import tiny

TEMPLATE = prompts.load("perturbation/direction")
WORDS = list(TEMPLATE.slot_words)
GENES = ["RPL5", "RPL11", "POLR1A", "NOP16", "ARID2", "STK24", "ADNP", "MTCP1"]


def question(number: int, answers: Sequence[str] = ("up", "down", "up"), truth: str = "up") -> Question:
    evidence = [
        {"perturbation": GENES[(number + place) % 7], "answer": answer, "similarity": 60 - 17 * place, "shared": "x"}
        for place, answer in enumerate(answers)
    ]
    fields = {"perturbation": f"ABC{number}", "readout": f"XYZ{number % 3}", "context": "K562 cells"}
    fields |= {"modality": "CRISPRi knockdown", "evidence": evidence}
    return Question(f"q{number}", "perturbation/direction", fields, {"answer": truth}, "planted", "validation")


MANY = [
    question(n, ("up", "down", "up") if n % 2 else ("down", "up", "down"), ("up", "down")[n % 2 == 0])
    for n in range(40)
]


class Planted:
    """A policy that thinks aloud what its first evidence did, and answers by a rule of its own."""

    def __init__(self, by: str) -> None:
        self.by = by  # "thought", "prompt" or "order"

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
        said = [f"<think>like the first, {self._first(prompt)}." for prompt in prompts]
        read = self.read(prompts, said, answers)
        progress(len(prompts))
        return [
            Answered(reference(s.removeprefix("<think>"), max(r, key=r.__getitem__)), True, r, 9)
            for s, r in zip(said, read, strict=True)
        ]

    def read(
        self, prompts: Sequence[Messages], thoughts: Sequence[str], answers: Mapping[str, str]
    ) -> list[dict[str, float]]:
        found = []
        for prompt, thought in zip(prompts, thoughts, strict=True):
            says = re.findall(r"\b(up|down)\b", thought)
            word = (says[-1] if says else "down") if self.by == "thought" else self._first(prompt)
            found.append({label: 0.9 if label == word else 0.1 for label in answers.values()})
        return found

    @staticmethod
    def _first(prompt: Messages) -> str:
        shown = re.findall(r": (up|down)$", prompt[-1]["content"], flags=re.MULTILINE)
        return shown[0] if shown else "up"


def rows(policy: Planted, asked: Sequence[Question] = MANY) -> dict[str, dict[str, Any]]:
    found = measure(policy, asked, {TEMPLATE.task: TEMPLATE}, 64)[TEMPLATE.task]
    return {row["name"]: row for part in found.values() for row in part}


def test_a_policy_that_reads_its_thought_moves_with_it() -> None:
    found = rows(Planted("thought"))
    assert found["thought turned round"]["value"] == 1.0
    assert found["thought turned round"]["low"] == 1.0 and found["thought turned round"]["baseline"] == 0.0
    assert found["thought cut to 0%"]["value"] == 0.5  # it says down where it has read nothing
    assert found["thought another question's"]["value"] == 1.0  # the questions alternate


def test_a_policy_that_ignores_its_thought_is_caught() -> None:
    found = rows(Planted("prompt"))
    assert {row["value"] for name, row in found.items() if name.startswith("thought")} == {0.0}
    assert found["contradicted"]["value"] == -1.0  # it was right by its evidence, and is now wrong


def test_changes_in_the_evidence_stand_beside_what_the_evidence_itself_loses() -> None:
    found = rows(Planted("prompt"))
    assert found["contradicted"]["baseline"] == -1.0
    assert found["evidence removed"]["n"] == 40 and found["evidence removed"]["value"] == -0.5
    assert found["genes under made-up names"]["value"] == 0.0
    assert found["evidence in another order"]["value"] > 0.0  # what comes first is all it reads


def test_intervals_are_over_the_perturbations_asked_about_and_not_over_their_made_up_names() -> None:
    found = rows(Planted("order"))["gene roles exchanged"]
    assert found["n"] == 40 and "reason" not in found  # one cluster would leave nothing to resample


def test_what_cannot_be_changed_is_left_out_and_open_tasks_are_refused() -> None:
    bare = [question(n, ()) for n in range(4)]
    assert not {"evidence removed", "contradicted", "evidence in another order"} & rows(Planted("thought"), bare).keys()
    open_task = prompts.load("sequence/translation")
    asked = [dataclasses.replace(question(1), task=open_task.task)]
    with pytest.raises(Error, match="closed set"):
        measure(Planted("thought"), asked, {open_task.task: open_task}, 64)


def test_a_policy_without_probabilities_is_refused() -> None:
    class Mute(Planted):
        def answer(self, *args: Any, **options: Any) -> list[Answered]:
            return [dataclasses.replace(a, probabilities={}) for a in super().answer(*args, **options)]

    with pytest.raises(Error, match="no probability"):
        rows(Mute("thought"))


@given(st.text(max_size=200), st.floats(0, 1))
def test_a_truncated_thought_is_a_prefix(thought: str, share: float) -> None:
    assert thought.startswith(thoughts.truncated(thought, share))
    assert thoughts.truncated(thought, 1.0) == thought


@given(st.lists(st.sampled_from(["up", "down", "upstream", "UP", "knock-down", "RPL5", "."]), max_size=20))
def test_turning_a_thought_round_twice_gives_it_back(words: list[str]) -> None:
    thought = " ".join(words)
    turned = thoughts.corrupted(thought, WORDS)
    assert thoughts.corrupted(turned, WORDS) == thought
    assert (turned != thought) == bool({"up", "down"} & set(words))
    assert [w for w in turned.split() if w not in WORDS] == [w for w in thought.split() if w not in WORDS]


@pytest.mark.parametrize("name", ["removed", "reordered", "shuffled", "contradicted", "exchanged", "renamed"])
def test_a_change_leaves_truth_identity_and_itself_alone(name: str) -> None:
    for asked in MANY[:6]:
        new = getattr(change, name)(asked, 0)
        assert new is not None and new.fields != asked.fields
        assert (new.id, new.truth, new.split) == (asked.id, asked.truth, asked.split)
        assert new == getattr(change, name)(asked, 0)  # the same every time


def test_the_labels_dealt_anew_are_as_many_of_each_on_other_genes() -> None:
    new = change.shuffled(MANY[0], 0)
    assert new is not None
    before, after = MANY[0].fields["evidence"], new.fields["evidence"]
    assert sorted(e["answer"] for e in before) == sorted(e["answer"] for e in after)
    assert [e["perturbation"] for e in before] == [e["perturbation"] for e in after]


def test_made_up_names_leave_no_gene_and_keep_the_rest() -> None:
    new = change.renamed(MANY[0], 0)
    assert new is not None
    text = TEMPLATE.render(new)[-1]["content"]
    named = [MANY[0].fields["perturbation"], MANY[0].fields["readout"]]
    named += [item["perturbation"] for item in MANY[0].fields["evidence"]]
    assert not any(re.search(rf"\b{gene}\b", text) for gene in named)
    assert "K562 cells" in text and text.count("GENE") == len(set(named))


def test_the_reading_of_the_evidence_weighs_it_by_squared_similarity() -> None:
    assert change.reading(question(1, ("up", "down", "down")), ["up", "down"]) == "up"  # 60² against 43² + 26²
    assert change.reading(question(1, ()), ["up", "down"]) is None


@pytest.mark.slow
def test_a_real_policy_is_measured_and_the_report_has_the_tables(tmp_path: Path) -> None:
    """transformers on a tiny model: every way of asking it again, the facts of its thoughts, and the page."""
    model = tiny.make(tmp_path / "model", tiny.planted(), steps=20)
    options = [f"model={model}", "evaluation.questions=12", "evaluation.resamples=50", "grpo.max_completion_length=12"]
    asked = load("quickstart", [*options, "source.evidence=2", "verifiers.claims={weight: 0, knowledge: sample}"])
    document = evaluate(asked, None, tmp_path / "out", final=False, reasons=True)
    found = document["reasoning"]
    assert {"faithfulness", "invariance", "evidence"} <= found.keys()
    named = {row["name"] for part in ("faithfulness", "invariance", "evidence") for row in found[part]}
    assert {"thought sampled again", "evidence removed", "in other words"} <= named
    for part in ("faithfulness", "invariance"):
        assert all(0 <= row["value"] <= 1 and 0 < row["n"] <= 12 for row in found[part])
    assert all(-1 <= row["value"] <= 1 and row["baseline"] is not None for row in found["evidence"])
    assert "thought sampled again" in write_report(tmp_path / "out").read_text()


def test_a_sampler_reads_after_a_given_thought_what_it_reads_after_its_own(tmp_path: Path) -> None:
    model, tokenizer = policy.load_base(str(tiny.make(tmp_path / "model", tiny.planted(), steps=20)))
    sampler = policy.TransformersSampler(model, tokenizer, batch_size=4)
    template = prompts.load("perturbation/response")
    rendered = [template.render(question) for question in tiny.planted()[:6]]
    answered = sampler.answer(rendered, template.slot_words, 12, lambda n: None)
    ended = [i for i, a in enumerate(answered) if a.finished]  # one cut short leaves out its last token
    own = [answered[i].text[: policy.slot.thought_end(answered[i].text)] for i in ended]
    read = sampler.read([rendered[i] for i in ended], own, template.slot_words)
    for i, shares in zip(ended, read, strict=True):
        assert shares == pytest.approx(answered[i].probabilities, abs=1e-4)


def test_a_control_token_spelt_out_in_a_thought_ends_nothing(tmp_path: Path) -> None:
    _, tokenizer = policy.load_base(str(tiny.make(tmp_path / "model", tiny.planted(), steps=1)))
    slot = policy.AnswerSlot(tokenizer, prompts.load("perturbation/response").slot_words)
    spelt = slot.encode(f"<think>up{tokenizer.eos_token}<|im_start|>system")
    assert not set(spelt) & {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_start|>")}


def test_facts_are_counted_beside_the_same_facts_of_other_genes() -> None:
    lexicon = Lexicon.open("sample")
    asked = {f"q{n}": dataclasses.replace(question(n), id=f"q{n}") for n in range(4)}
    rows = [
        {"question_id": "q0", "answer": "up", "thought": "LCK has T cell receptor binding."},
        {"question_id": "q1", "answer": "down", "thought": "Nothing is known."},
        {"question_id": "q2", "answer": None, "thought": None},
    ]
    found = {row["name"]: row for row in precision(rows, asked, lexicon)}
    assert found["all answers"]["n"] == found["all answers"]["supported"] == found["all answers"]["value"] == 1
    assert found["right answers"]["thoughts"] == 1 and "wrong answers" not in found
    assert precision(rows[1:], asked, lexicon) == []
