"""What the checks look at: every completion that was tried on every question, and what the verifier said of it.

A verifier judges the answer, not the thought alone, if it names `majority` in `catches`, or if any wrong answer
earned less than the right one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from random import Random

from rlvr.completions import SLOT, parse, reference
from rlvr.prompts import Template
from rlvr.rewards.asking import verdict_of
from rlvr.testing.redteam import CHEATS, honest_thought, wrong_answers
from rlvr.types import Completion, Question, Verdict
from rlvr.verifier import Honest, Pair, Verifier

LARGE = 100_000  # characters; above that a text is tried on one question only, and never timed
# What is a verifier's own fault, if it raises it. (One that ends the process would end the check with success.)
FAULTS = (Exception, SystemExit, asyncio.CancelledError)
CHEATED = 4  # questions of a task that the cheats are tried on


@dataclass(frozen=True)
class Attempt:
    """One completion. what: "reference", "wrong", "malformed", "unfinished", or the name of a cheat.
    said: for a cheat, whether it gives the right answer plainly."""

    question: int
    what: str
    completion: Completion
    said: bool = False


@dataclass(frozen=True)
class Fault:
    """In the place of a verdict that could not be had, or is none."""

    text: str


@dataclass
class Trial:
    """A verifier's verdicts on all attempts at some questions of one task."""

    verifier: Verifier
    template: Template
    questions: Sequence[Question]
    attempts: list[Attempt] = field(default_factory=list)
    verdicts: list[Verdict | Fault] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)  # a cheat's name for each question on which it was honest play
    faults: list[str] = field(default_factory=list)  # of applies() and honest()
    changed: dict[str, None] = field(default_factory=dict)  # what the verifier wrote into
    seconds: float = 0.0  # for the attempts that are timed

    def run(self) -> Trial:
        """Build the attempts and ask for every verdict, one by one."""
        for index, question in enumerate(self.questions):
            given = deepcopy(question)
            try:
                if self.verifier.applies(given):
                    honest = self.verifier.honest(given)
                    self.attempts += attempts(index, question, self.template, honest, self.skipped)
            except FAULTS as error:
                self.faults.append(f"{question.id}: applies() or honest() failed: {error!r}")
            self._compare(given, question)
        for attempt in self.attempts:
            pair = self.pair(attempt)
            started = time.perf_counter()
            self.verdicts.append(ask(self.verifier, pair))
            self.seconds += time.perf_counter() - started if self.small(attempt) else 0.0
            self.compare([pair], [attempt])
        return self

    def pair(self, attempt: Attempt) -> Pair:
        """What verify() takes: a copy, which is the verifier's to spoil."""
        return deepcopy(self.questions[attempt.question]), replace(attempt.completion)

    def compare(self, pairs: Sequence[Pair], attempts: Sequence[Attempt]) -> None:
        """Enter in `changed` what a verifier has written into, of what it was given for these attempts."""
        for (question, completion), attempt in zip(pairs, attempts, strict=True):
            self._compare(question, self.questions[attempt.question])
            if completion != attempt.completion:
                self.changed[f"a completion to question {self.questions[attempt.question].id}"] = None

    def _compare(self, question: Question, before: Question) -> None:
        if question != before:
            self.changed[f"question {before.id}"] = None

    def small(self, attempt: Attempt) -> bool:
        return len(attempt.completion.text) < LARGE

    @cached_property
    def plain(self) -> list[Attempt]:
        """The small attempts that got a verdict; `pairs` and `judged` are for them, in the same order."""
        both = zip(self.attempts, self.verdicts, strict=True)
        return [attempt for attempt, verdict in both if self.small(attempt) and isinstance(verdict, Verdict)]

    @property
    def pairs(self) -> list[Pair]:
        return [self.pair(attempt) for attempt in self.plain]

    @cached_property
    def judged(self) -> list[Verdict]:
        both = zip(self.attempts, self.verdicts, strict=True)
        return [verdict for attempt, verdict in both if self.small(attempt) and isinstance(verdict, Verdict)]

    @cached_property
    def again(self) -> list[Verdict | Fault]:
        """The same pairs, asked a second time."""
        return [ask(self.verifier, pair) for pair in self.pairs]

    def scored(self, *kinds: str) -> Iterator[tuple[Attempt, float, float]]:
        """(attempt, its score, the reference's score) where the question is covered and both are scores."""
        for attempt, verdict in zip(self.attempts, self.verdicts, strict=True):
            best = self.references.get(attempt.question)
            if (
                attempt.what in kinds
                and best is not None
                and isinstance(verdict, Verdict)
                and verdict.score is not None
            ):
                yield attempt, verdict.score, best

    @cached_property
    def references(self) -> dict[int, float]:
        """question -> the score of its reference completion, where it has one."""
        return {
            attempt.question: verdict.score
            for attempt, verdict in zip(self.attempts, self.verdicts, strict=True)
            if attempt.what == "reference" and isinstance(verdict, Verdict) and verdict.score is not None
        }

    @cached_property
    def judges_answers(self) -> bool:
        """See the head of this file."""
        return "majority" in self.verifier.catches or any(score < best for _, score, best in self.scored("wrong"))

    def say(self, attempt: Attempt) -> str:
        """Which completion: for messages."""
        text = attempt.completion.text
        shown = text if len(text) <= 120 else f"{text[:60]} ... {text[-50:]}"
        return f"{attempt.what} on {self.questions[attempt.question].id}: {shown!r}"


def ask(verifier: Verifier, pair: Pair) -> Verdict | Fault:
    """The verdict, or why there is none."""
    try:
        return checked(verifier.verify(*pair))
    except FAULTS as error:
        return Fault(f"verify raised {error!r:.200}")


def checked(verdict: object) -> Verdict | Fault:
    """The verdict if it is one, as the reward layer would have it."""
    try:
        verdict_of(verdict)
    except Exception as error:
        return Fault(str(error))
    assert isinstance(verdict, Verdict)
    return verdict


def attempts(
    index: int, question: Question, template: Template, honest: Honest, skipped: list[str]
) -> Iterator[Attempt]:
    """Every completion to try on one question; cheats that are honest play are entered in `skipped`."""
    thought = honest_thought(question, honest.thought)
    text = reference(thought, template.word(honest.answer))
    right = parse(text, template.answers, question.fields)
    yield Attempt(index, "reference", right)
    wrong = wrong_answers(question, template, honest.answer)
    for value in wrong:
        completion = parse(reference(thought, template.word(value)), template.answers, question.fields)
        yield Attempt(index, "wrong", completion)
    for broken in malformed(text):
        yield Attempt(index, "malformed", parse(broken, template.answers, question.fields))
    yield Attempt(index, "unfinished", parse(text, template.answers, question.fields, finished=False))
    if index < CHEATED:
        yield from cheats(index, question, template, (honest, Honest("", wrong[0])), skipped, right)


def malformed(text: str) -> list[str]:
    """What becomes of a good completion that breaks the grammar."""
    thought, _, answer = text.partition(SLOT)
    return [
        "",
        text[: len(text) // 2],
        text.replace("</think>", ""),
        text.replace("</answer>", ""),
        text + text,
        text + " Surely.",
        text[::-1],
        f"<answer>{answer}{thought}</think>",
        answer.removesuffix("</answer>"),
    ]


def cheats(
    index: int,
    question: Question,
    template: Template,
    plays: Sequence[Honest],
    skipped: list[str],
    right: Completion,
) -> Iterator[Attempt]:
    """Each cheat with each play (an answer and a sentence): the honest one, and one that knows nothing."""
    for name, cheat in CHEATS.items():
        if index and name == "megabyte":
            continue
        for play in plays:
            text = cheat(question, template, play, Random(f"{name}:{question.id}"))
            completion = None if text is None else parse(text, template.answers, question.fields)
            if completion is None:
                skipped.append(name)
            else:
                said = completion.answer is not None and completion.answer == right.answer
                yield Attempt(index, name, completion, said)
            if name == "majority":  # it has no use for what the play knows
                break
