"""What several verifiers share: how answers are decoded and compared, and which cheats that catches.

No verifier itself, as the underscore says; siblings import it relatively. The command that uses it is
whatever names one of them, as in `rlvr score ROLLOUTS --verifier label`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import TypeVar

from rlvr.answers import fold
from rlvr.invisible import is_invisible
from rlvr.types import Completion, Error, Evidence, Question, Reason, Verdict

T = TypeVar("T", list[str], dict[str, float])

# Cheats of rlvr.testing.redteam: those that break the structure, those whose answer cannot be read or names nothing,
# and besides those that put a wrong answer.
MALFORMED = frozenset({"several_blocks", "answer_first", "nested_tags"})
UNREADABLE = MALFORMED | {"both_answers", "hedging", "zero_width", "look_alikes", "right_to_left"}
BAD_ANSWER = UNREADABLE | {"majority", "injection"}


def thinks(completion: Completion) -> bool:
    """Whether the thought holds a letter or a digit that can be seen: Unicode has letters that are blank."""
    return any(letter.isalnum() and not is_invisible(letter) for letter in completion.thought or "")


def exact(question: Question, completion: Completion) -> Verdict:
    """1.0 if the answer is `truth["answer"]`, else 0.0. KeyError for a question without that key."""
    measured = question.truth["answer"]
    if completion.answer is None:
        return Verdict(0.0, Reason.UNPARSED)
    right = completion.answer == measured
    evidence = Evidence(question.source, question.id, f"measured: {measured}", right)
    return Verdict(float(right), Reason.CORRECT if right else Reason.WRONG, (evidence,))


def graded(question: Question, score: float, statement: str) -> Verdict:
    """A score between wrong and correct, with the one fact that it rests on."""
    reason = Reason.CORRECT if score == 1.0 else Reason.PARTIAL if score > 0.0 else Reason.WRONG
    return Verdict(score, reason, (Evidence(question.source, question.id, statement, score > 0.0),))


def decode(question: Question, answer: str, kind: type[T]) -> T:
    """A canonical answer in JSON as a list or a mapping. Error where the prompt asked for another type."""
    try:
        value = json.loads(answer)
    except ValueError:
        value = None
    if not isinstance(value, kind):
        wanted = "items" if kind is list else "numbers"
        raise Error(f"question {question.id}: its prompt's answers are not of type {wanted}; mend the prompt's head")
    return value


def as_asked(given: Collection[str], asked: Iterable[str]) -> list[str] | None:
    """The given names in the spelling of the question, or None where one is unknown or repeated."""
    spelling = {fold(name): name for name in asked}
    found = [spelling[key] for name in given if (key := fold(name)) in spelling]
    return found if len(set(found)) == len(given) else None


def happened(question: Question) -> bool:
    """Whether what a stated probability is about came true."""
    answer = question.truth["answer"]
    for positive, negative in (("yes", "no"), ("up", "down")):
        if answer in (positive, negative):
            return bool(answer == positive)
    raise Error(f"question {question.id}: truth {answer!r} is none of yes, no, up, down; a probability needs one")
