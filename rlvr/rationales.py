"""Writes the warm start's rationales from a training question's evidence.

The thought names the question's genes and reads the measured neighbours in order; the answer is the
training question's own measurement. No conclusion is drawn in words, so how far to trust each
neighbour is left for the policy to learn. Held-out questions are refused.
"""

from __future__ import annotations

from rlvr.completions import reference
from rlvr.prompts import Messages, Template
from rlvr.types import Error, Question


def rationale(question: Question, template: Template) -> str:
    """A completion in the trained format. Raises for a question outside the training split."""
    if question.split != "train":
        raise Error(f"question {question.id} is in the {question.split} split; rationales are for training questions")
    read = ", ".join(f"{e['perturbation']} {template.word(e['answer'])}" for e in question.fields["evidence"])
    subject = f"{question.fields['perturbation']} on {question.fields['readout']}"
    thought = f"{subject}: like {read}." if read else f"{subject}: nothing related was measured."
    return reference(thought, template.word(str(question.truth["answer"])))


def rows(question: Question, template: Template) -> dict[str, Messages]:
    """One row for trl.SFTTrainer: a prompt and the completion whose tokens are learned."""
    completion = [{"role": "assistant", "content": rationale(question, template)}]
    return {"prompt": template.render(question), "completion": completion}
