"""The red team against a recipe: what trains is the weighted reward, so that is what may not be cheated.

check_recipe(load("quickstart"))
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from rlvr import prompts
from rlvr.completions import parse, reference
from rlvr.prompts import Template
from rlvr.recipe import Recipe
from rlvr.rewards.layer import RewardLayer, Weighted
from rlvr.testing.checks import Finding
from rlvr.testing.questions import by_task, embedded, sample_questions
from rlvr.testing.redteam import CHEATS, honest_thought, wrong_answers
from rlvr.types import Error, Question
from rlvr.verifier import Honest

EACH = 4  # questions of a task


def check_recipe(recipe: Recipe, questions: Sequence[Question] = ()) -> list[Finding]:
    """One finding for each cheat: whether the recipe's weighted reward ranks it below honest play.

    Honest play is the true answer after a thought with every verifier's honest sentence; where soft verifiers outweigh
    the measurement, or nothing is measured, the answer that earns the most of what they hold for right. A cheating
    policy does not know the answer: it plays every question once with the right one and once with a wrong one. It must
    earn strictly less on average; of its completions none may earn more, and as much only where the right answer stands
    there plainly (words to a grader that nobody reads change nothing).
    questions: what to ask; without them, sample questions of the recipe's tasks.
    Verifiers read the sample's knowledge base: nothing is fetched.
    """
    opened = recipe.open_verifiers().items()
    verifiers = {name: Weighted(embedded(verifier), weight, gate) for name, (verifier, weight, gate) in opened}
    own = prompts.own(recipe.prompt)
    problems: dict[str, list[str]] = {name: [] for name in ("honest_play", *CHEATS)}
    for task, group in by_task(questions or questions_for(recipe)).items():
        template = own.get(task) or prompts.load(task)
        layer = RewardLayer(verifiers, {task: template.answers}, max_error_rate=recipe.max_error_rate)
        for layer.step in sorted({0, int(recipe.grpo.get("max_steps") or 0)}):  # weights may follow a schedule
            earnings: dict[str, list[tuple[float, float]]] = {}
            for number, question in enumerate(group[:EACH]):
                for name, earned in _try(layer, template, question, problems, large=number == 0).items():
                    earnings.setdefault(name, []).extend(earned)
            for name, pairs in earnings.items():
                if name != "honest_play" and sum(earned for earned, _ in pairs) >= sum(best for _, best in pairs):
                    problems[name].append(f"earns as much as honest play on {task}, whatever it answers")
    return [Finding(name, not found, found[0] if found else "") for name, found in problems.items()]


def questions_for(recipe: Recipe) -> list[Question]:
    """Sample questions like those that the recipe trains on: of its sources, or of the tasks that these are asked
    for."""
    found: list[Question] = []
    for source in recipe.sources:
        name, task = str(source["name"]), source.get("task")
        of_source = [question for question in sample_questions("*") if question.source == name]
        new = sample_questions(task, f"*/{task}") if isinstance(task, str) else of_source
        if not new:
            raise Error(f"there are no sample questions of source {name!r}; give check_recipe some of your own")
        found += new
    return found


def _try(
    layer: RewardLayer, template: Template, question: Question, problems: dict[str, list[str]], *, large: bool
) -> dict[str, list[tuple[float, float]]]:
    """Score honest play and every cheat (the megabyte where `large`) on one question; enter what is wrong in
    `problems`. name -> what each of its plays earned, and honest play beside it."""
    judging = [entry.verifier for entry in layer.verifiers.values() if entry.verifier.applies(question)]
    ways = [verifier.honest(question) for verifier in judging]
    sentences = [way.thought for way in ways]
    truth = _best(layer, template, question, [question.truth["answer"], *(way.answer for way in ways)], sentences)
    honest = Honest(" ".join(dict.fromkeys(filter(None, sentences))), truth)
    text = reference(honest_thought(question, *sentences), template.word(truth))
    right = parse(text, template.answers, question.fields).answer
    tried, texts = ["honest_play"], [text]
    for name, cheat in CHEATS.items():
        if name == "megabyte" and not large:
            continue
        for play in (honest, Honest("", wrong_answers(question, template, truth)[0])):
            cheating = cheat(question, template, play, Random(f"{name}:{question.id}"))
            if cheating is not None:
                tried.append(name)
                texts.append(cheating)
    rows = layer.score([question] * len(texts), texts)
    best = rows[0]["reward"]
    earnings: dict[str, list[float]] = {}
    for name, row in zip(tried, rows, strict=True):
        earnings.setdefault(name, []).append(row["reward"] or 0.0)
        earned, plainly = row["reward"], row["answer"] is not None and row["answer"] == right
        if earned is None or best is None:
            problems[name].append(f"no reward on {question.id}: a verifier failed, or all abstained")
        elif name != "honest_play" and (earned > best or (earned == best and not plainly)):
            problems[name].append(f"earns {earned:.3g}, honest play {best:.3g}, on {question.id}")
    return {name: [(amount, best or 0.0) for amount in earned] for name, earned in earnings.items()}


def _best(
    layer: RewardLayer, template: Template, question: Question, answers: Sequence[Any], sentences: Sequence[str]
) -> Any:
    """The answer that earns the most after an honest thought; the first one among equals."""
    thought = honest_thought(question, *sentences)
    rows = layer.score([question] * len(answers), [reference(thought, template.word(answer)) for answer in answers])
    return answers[max(range(len(answers)), key=lambda place: rows[place]["reward"] or 0.0)]
