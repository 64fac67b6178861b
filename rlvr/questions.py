"""Source -> Questions: opens a recipe's sources and puts their questions together.

sources, questions = gather(recipe)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import sha256

from rlvr.recipe import Recipe
from rlvr.source import Source
from rlvr.types import Error, Question


def gather(recipe: Recipe) -> tuple[list[Source], list[Question]]:
    """The recipe's sources, and all their questions in a fixed order.

    A source's `questions` caps its training questions, taken by hash, so that one large source does not drown the
    others. Errors: two questions of one id, a source without training questions.
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
    return sources, gathered


def first(questions: Sequence[Question], most: int | None) -> list[Question]:
    """At most so many questions, by a hash of their ids: the same ones whatever their order."""
    if most is None or most >= len(questions):
        return list(questions)
    return sorted(questions, key=lambda question: sha256(question.id.encode()).hexdigest())[:most]
