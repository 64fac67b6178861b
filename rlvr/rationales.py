"""Writes the warm start's rationales for training questions.

Where a question shows evidence, the thought names its genes and reads the measured neighbours in order; else it
is the source's own `truth["rationale"]`, or names what the question gives. No conclusion is drawn in words, so how
far to trust each neighbour is left for the policy to learn. Held-out questions are refused.
"""

from __future__ import annotations

from rlvr.completions import reference
from rlvr.prompts import Messages, Template
from rlvr.types import Error, Question

NAMED = 60  # characters of a field that a thought may repeat


def rationale(question: Question, template: Template) -> str:
    """A completion in the trained format. Raises for a question outside the training split."""
    if question.split != "train":
        raise Error(f"question {question.id} is in the {question.split} split; rationales are for training questions")
    return reference(thought(question, template), template.word(question.truth["answer"]))


def thought(question: Question, template: Template) -> str:
    """What there is to say of a question before its answer."""
    fields = question.fields
    if "evidence" in fields:
        read = ", ".join(f"{e['perturbation']} {template.word(e['answer'])}" for e in fields["evidence"])
        subject = f"{fields['perturbation']} on {fields['readout']}"
        return f"{subject}: like {read}." if read else f"{subject}: nothing related was measured."
    if "rationale" in question.truth:
        return str(question.truth["rationale"])
    return "; ".join(f"{key} {value}" for key, value in fields.items() if len(str(value)) <= NAMED) + "."


def rows(question: Question, template: Template) -> dict[str, Messages]:
    """One row for trl.SFTTrainer: a prompt and the completion whose tokens are learned."""
    completion = [{"role": "assistant", "content": rationale(question, template)}]
    return {"prompt": template.render(question), "completion": completion}
