"""Writes the warm start's rationales for training questions.

Where a question shows evidence, the thought names its genes and reads the measured neighbours in order; where that
evidence is contrastive, it reads their similarities too and says which label's nearest is nearer, and by how much. Such
numbers have two digits, as a token is a digit here, and "5" begins as "50" does. Else it is the source's own
`truth["rationale"]`, or names what the question gives. No answer is drawn from it in words, so how far to trust the
neighbours is left for the policy to learn. Held-out questions are refused.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlvr.completions import reference
from rlvr.prompts import Messages, Template
from rlvr.types import Error, Question

NAMED = 60  # characters of a field that a thought may repeat


def rationale(question: Question, template: Template) -> str:
    """A completion in the trained format. Raises for a question outside the training split."""
    _refuse_held_out(question)
    return reference(thought(question, template), template.word(question.truth["answer"]))


def _refuse_held_out(question: Question) -> None:
    if question.split != "train":
        raise Error(f"question {question.id} is in the {question.split} split; rationales are for training questions")


def thought(question: Question, template: Template) -> str:
    """What there is to say of a question before its answer."""
    fields = question.fields
    if "evidence" in fields:
        subject, shown = f"{fields['perturbation']} on {fields['readout']}", fields["evidence"]
        if not shown:
            return f"{subject}: nothing related was measured."
        return f"{subject}: {told(shown, template.word, bool(question.truth.get('contrastive')))}."
    if "rationale" in question.truth:
        return str(question.truth["rationale"])
    return "; ".join(f"{key} {value}" for key, value in fields.items() if len(str(value)) <= NAMED) + "."


def told(evidence: Sequence[Mapping[str, Any]], word: Callable[[str], str], contrastive: bool) -> str:
    """At least one measurement, read in order, and compared where it is contrastive. word: of a label."""
    items = ", ".join(f"{item['perturbation']} {beside(item, word, contrastive)}" for item in evidence)
    return f"like {items}: {compared(evidence, word)}" if contrastive else f"like {items}"


def beside(item: Mapping[str, Any], word: Callable[[str], str], contrastive: bool) -> str:
    """What is said of one measurement: its outcome, and how similar it is where that is compared."""
    outcome = word(item["answer"])
    return f"{outcome} {item['similarity']:02d}" if contrastive else outcome


def compared(evidence: Sequence[Mapping[str, Any]], word: Callable[[str], str]) -> str:
    """Which label's most similar measurement is the more similar, and by how many percent."""
    label, lead = leading(evidence)
    return f"only {word(label)}" if lead is None else f"{word(label)} leads by {lead:02d}" if lead else "even"


def leading(evidence: Sequence[Mapping[str, Any]]) -> tuple[str, int | None]:
    """The label whose most similar measurement is the most similar, and by how many percent; None if it is alone.
    evidence: at least one."""
    nearest: dict[str, int] = {}
    for item in evidence:
        nearest[item["answer"]] = max(item["similarity"], nearest.get(item["answer"], 0))
    first, *others = sorted(nearest, key=nearest.__getitem__, reverse=True)
    return first, nearest[first] - nearest[others[0]] if others else None


def rows(question: Question, template: Template, text: str | None = None) -> dict[str, Messages]:
    """One row for trl.SFTTrainer: a prompt and the completion whose tokens are learned. text: another completion than
    the question's rationale."""
    completion = [{"role": "assistant", "content": rationale(question, template) if text is None else text}]
    return {"prompt": template.render(question), "completion": completion}


def form_alone(question: Question, template: Template, draw: random.Random) -> str:
    """A completion that shows the format and spends no label: its answer is drawn from the prompt's words, and its
    thought reads some of the evidence, in any order. So what to read, and what follows from it, is left for GRPO.
    Raises for a question outside the training split, and for a prompt whose answers are no closed set of words."""
    _refuse_held_out(question)
    words = sorted(template.slot_words)
    if not words:
        raise Error(
            f"prompt {template.task}: learning.format_only draws answers from a prompt's words, and it has none"
        )
    shown = list(question.fields.get("evidence", ()))
    read = draw.sample(shown, draw.randint(1, len(shown))) if shown else shown
    fields = {**question.fields, "evidence": read} if "evidence" in question.fields else question.fields
    asked = dataclasses.replace(question, fields=fields)
    return reference(thought(asked, template), draw.choice(words))
