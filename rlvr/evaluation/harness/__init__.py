"""The same tasks inside other people's harnesses: what both of them need, a recipe's questions and its verdicts.

    asked = Asked.open("quickstart", ["source.evidence=4"], split="validation")
    asked.messages(question); asked.verdicts(question, text, finished=True)

`rlvr.evaluation.harness.inspect` is a task of inspect_ai, `rlvr.evaluation.harness.prime` an environment of
PrimeIntellect's verifiers. Prompts, parser and verifiers are the recipe's own, so a verdict there is the verdict here.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from rlvr.evaluation.lengths import max_tokens
from rlvr.loading import Templates, gather, reward_layer, select, templates
from rlvr.prompts import Messages
from rlvr.recipe import load
from rlvr.rewards.layer import RewardLayer, Row
from rlvr.types import Error, Question


@dataclass(frozen=True)
class Asked:
    """A recipe's questions of one split, with its prompts and verifiers."""

    name: str
    questions: tuple[Question, ...]
    by_task: Templates
    layer: RewardLayer
    max_tokens: int
    _one: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def open(cls, recipe: str, overrides: Sequence[str] = (), split: str = "validation") -> Asked:
        """Errors: what a recipe may err in, and the test split, whose uses only `rlvr evaluate --final` counts."""
        if split not in ("train", "validation"):
            raise Error(f"split {split!r}: take train or validation; the test split is for `rlvr evaluate --final`")
        read = load(recipe, overrides)
        _, questions = gather(read)
        by_task = templates(read, {question.task for question in questions})
        held_out = select(questions, read.evaluation, split)
        layer = reward_layer(read, by_task)
        return cls(recipe, tuple(held_out), by_task, layer, max_tokens(read))

    def messages(self, question: Question) -> Messages:
        """The prompt, as a system and a user turn."""
        return self.by_task[question.task].render(question)

    def target(self, question: Question) -> str:
        """The right answer as a completion would write it."""
        return self.by_task[question.task].word(question.truth["answer"])

    def right(self, question: Question) -> str | None:
        """The right answer as a row has it once it is parsed."""
        return self.by_task[question.task].answers.read(self.target(question), question.fields)

    def verdicts(self, question: Question, text: str, finished: bool) -> Row:
        """The row of one completion (see `rlvr.rewards.layer`). Harnesses ask from many threads; the layer takes
        one."""
        with self._one:
            return self.layer.score([question], [text], [finished])[0]
