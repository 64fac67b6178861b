"""How often each label is the answer among the training questions of a task and a readout.

    questions = with_label_shares(questions)      # adds truth["label_shares"], for `label: {balanced: true}`

A reward that pays every right answer alike is best served by the commonest label of each readout, which ranks nothing.
One that pays a right answer by how rare it is has no such optimum.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Sequence

from rlvr.types import Question

PRIOR = 10.0  # training questions for which the task's own shares count in those of a readout


def with_label_shares(questions: Sequence[Question]) -> list[Question]:
    """The questions with truth["label_shares"]: label -> its share from 0 to 1 among the training questions of the same
    task and readout, shrunk towards the task's shares. Only where the answer is one word; a label that no training
    question of the task has is not listed."""
    by_task: defaultdict[str, Counter[str]] = defaultdict(Counter)
    by_readout: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for question in questions:
        if question.split == "train" and isinstance(answer := question.truth.get("answer"), str):
            by_task[question.task][answer] += 1
            by_readout[question.task, question.readout][answer] += 1
    return [
        dataclasses.replace(
            question,
            truth={
                **question.truth,
                "label_shares": _shares(by_readout[question.task, question.readout], by_task[question.task]),
            },
        )
        if isinstance(question.truth.get("answer"), str)
        else question
        for question in questions
    ]


def _shares(own: Counter[str], task: Counter[str]) -> dict[str, float]:
    weight = PRIOR / task.total() if task else 0.0
    whole = own.total() + PRIOR
    return {label: round((own[label] + weight * count) / whole, 6) for label, count in sorted(task.items())}
