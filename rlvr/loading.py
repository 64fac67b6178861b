"""Opens what a recipe names: its sources' questions, its prompts, its verifiers. Needs no model and no torch.

sources, questions = gather(recipe)
by_task = templates(recipe, {question.task for question in questions})
layer = reward_layer(recipe, by_task)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256

from rlvr import prompts
from rlvr.knowledge import KnowledgeBase
from rlvr.prompts import Template
from rlvr.questions.panels import pinned
from rlvr.questions.shares import with_label_shares
from rlvr.recipe import Evaluation, Recipe
from rlvr.rewards.layer import RewardLayer, Weighted
from rlvr.source import Source
from rlvr.types import Error, Question
from rlvr.verifier import KnowledgeVerifier

Templates = Mapping[str, Template]  # by task


def templates(recipe: Recipe, tasks: Iterable[str]) -> dict[str, Template]:
    """The template of each task: the recipe's own where it names one, else the task's."""
    own = prompts.own(recipe.prompt)
    asked = sorted(tasks)
    if strange := own.keys() - set(asked):
        raise Error(f"recipe: prompt is for task {', '.join(sorted(strange))}, the sources ask {', '.join(asked)}")
    return {task: own.get(task) or prompts.load(task) for task in asked}


def reward_layer(recipe: Recipe, by_task: Templates) -> RewardLayer:
    """The recipe's verifiers, ready to score.

    A knowledge base that one of them reads is opened here: if it must be built, then before the clock of the first
    batch runs, and a run records its version, which it could not do of one that only its worker process opens.
    """
    opened = {name: Weighted(*values) for name, values in recipe.open_verifiers().items()}
    verifiers = [entry.verifier for entry in opened.values()]
    for name in sorted({v.knowledge for v in verifiers if isinstance(v, KnowledgeVerifier) and v.knowledge}):
        KnowledgeBase.open(name)
    for verifier in verifiers:
        verifier.prepare()
    answers = {task: template.answers for task, template in by_task.items()}
    rate, deadline, memory = recipe.max_error_rate, recipe.deadline, recipe.memory
    return RewardLayer(opened, answers, max_error_rate=rate, deadline=deadline, memory=memory)


def gather(recipe: Recipe) -> tuple[list[Source], list[Question]]:
    """The recipe's sources, and all their questions in a fixed order.

    A source's `questions` caps its training questions, taken by hash, so that one large source does not drown the
    others. Errors: two questions of one id, a source without training questions, a true answer that the prompt of its
    task does not allow. Each question's truth says how often each label is the answer in training (`label_shares`).
    """
    sources, gathered = [], []
    for source, most in recipe.open_sources():
        source.announce()
        asked = list(source.questions())
        train = [question for question in asked if question.split == "train"]
        if not train:
            raise Error(f"source {source.name} has no training questions; check its options")
        kept = {question.id for question in first(train, most)}
        gathered += [question for question in asked if question.split != "train" or question.id in kept]
        sources.append(source)
    twice = next((name for name, count in Counter(q.id for q in gathered).items() if count > 1), None)
    if twice is not None:
        raise Error(f"question {twice} comes twice; name each source of the recipe once, or mend its ids")
    check_answers(gathered, prompts.own(recipe.prompt))
    return sources, with_label_shares(gathered)


def check_answers(questions: Iterable[Question], own: Templates) -> None:
    """Error at the first question whose true answer its prompt, of `own` or the task's, does not allow."""
    by_task: dict[str, Template | None] = dict(own)
    for question in questions:
        if question.task not in by_task:
            by_task[question.task] = prompts.find(question.task)
        if (template := by_task[question.task]) is not None:
            template.check(question)


def first(questions: Sequence[Question], most: int | None) -> list[Question]:
    """At most so many questions, by a hash of their ids: the same ones whatever their order."""
    if most is None or most >= len(questions):
        return list(questions)
    return sorted(questions, key=lambda question: sha256(question.id.encode()).hexdigest())[:most]


def select(questions: Sequence[Question], evaluation: Evaluation, split: str | None = None) -> list[Question]:
    """The held-out questions of a recipe: a committed panel, or the split, cut by hash order."""
    split = split or evaluation.split
    held_out = [q for q in questions if q.split == split]
    if evaluation.panel:
        held_out = pinned(held_out, evaluation.panel, split)
    if not held_out:
        raise Error(f"the source has no questions in the {split} split; evaluate on another")
    tasks = list(dict.fromkeys(q.task for q in held_out))
    return [q for task in tasks for q in first([q for q in held_out if q.task == task], evaluation.questions)]
