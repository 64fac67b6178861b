"""What the kit needs no network for: real questions (`data/sample/questions.jsonl`, about ten for every task), and
verifiers that read the sample's knowledge base."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache
from typing import TypeVar

from rlvr.plugins import folders
from rlvr.types import Error, Question
from rlvr.verifier import KnowledgeVerifier, Verifier

V = TypeVar("V", bound=Verifier)
FILE = "sample/questions.jsonl"


def sample_questions(*patterns: str) -> list[Question]:
    """The questions of every task that one of the patterns names (`perturbation/*`), in the file's order."""
    found = [q for q in _all() if any(fnmatchcase(q.task, pattern) for pattern in patterns)]
    if not found:
        tasks = sorted({q.task for q in _all()})
        raise Error(f"no sample questions for {', '.join(patterns)}; there are some for {', '.join(tasks)}")
    return [Question.from_json(q.to_json()) for q in found]  # copies: a verifier may spoil what it is given


def embedded(verifier: V) -> V:
    """The verifier on the sample's knowledge base, where its option `knowledge` asks for the full one, and on the vote
    that sample questions carry in the place of a table of `predictions`."""
    changed: dict[str, str | None] = {"predictions": None} if hasattr(verifier, "predictions") else {}
    if isinstance(verifier, KnowledgeVerifier) and verifier.knowledge == "upstream":
        changed["knowledge"] = "sample"
    return replace(verifier, **changed)


def by_task(questions: Iterable[Question]) -> dict[str, list[Question]]:
    """task -> its questions."""
    grouped: dict[str, list[Question]] = {}
    for question in questions:
        grouped.setdefault(question.task, []).append(question)
    return grouped


@cache
def _all() -> tuple[Question, ...]:
    path = folders("data")[0] / FILE
    if not path.is_file():
        raise Error(f"{path} is missing; restore it with data/sample/make_questions.py")
    return tuple(map(Question.from_json, path.read_text(encoding="utf-8").splitlines()))
