"""The checks: each looks at a Trial and yields what is wrong, one line each.

findings = check(Label(), sample_questions("perturbation/direction"), load("perturbation/direction"))
"""

from __future__ import annotations

import asyncio
import pickle
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

from rlvr.completions import parse, reference
from rlvr.prompts import Template
from rlvr.testing.redteam import CHEATS, honest_thought, names
from rlvr.testing.trial import FAULTS, Attempt, Fault, Trial, ask, checked
from rlvr.types import Question, Verdict
from rlvr.verifier import Pair, Verifier

Check = Callable[[Trial], Iterator[str]]
Call = Callable[[Sequence[Pair]], Sequence[object]]
CHECKS: dict[str, Check] = {}

SLOWEST = 20  # completions per second that a verifier without a network must manage
SIZES = (2_000, 8_000, 32_000, 128_000)  # characters of a thought, each four times the one before
STEEPEST = 9  # times longer for four times the text: linear is 4, quadratic 16
NOTICEABLE = 0.05  # seconds; below that a ratio is noise


@dataclass(frozen=True)
class Finding:
    """What one check found; `detail` is for a reader: what is wrong, or what was tried."""

    check: str
    ok: bool
    detail: str


def check(verifier: Verifier, questions: Sequence[Question], template: Template) -> list[Finding]:
    """Every check of one verifier on questions of one task, in the order of CHECKS."""
    trial = Trial(verifier, template, questions).run()
    findings = []
    for name, function in CHECKS.items():
        problems = list(function(trial))
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        findings.append(Finding(name, not problems, problems[0] + more if problems else _passed(name, trial)))
    return findings


def _passed(name: str, trial: Trial) -> str:
    if name == "speed":
        return f"{_speed(trial):,.0f} completions per second"
    if name == "cheats" and trial.skipped:
        counts = Counter(trial.skipped)
        return ", ".join(f"{name} skipped on {count}, being honest play there" for name, count in counts.items())
    return ""


def entered(function: Check) -> Check:
    """Enter a function into CHECKS under its own name."""
    CHECKS[function.__name__] = function
    return function


@entered
def verdicts(trial: Trial) -> Iterator[str]:
    """Every completion gets a Verdict with a score in [0, 1] or an abstention; nothing raises."""
    yield from trial.faults
    for attempt, verdict in zip(trial.attempts, trial.verdicts, strict=True):
        if isinstance(verdict, Fault):
            yield f"{verdict.text}; {trial.say(attempt)}"


@entered
def abstention(trial: Trial) -> Iterator[str]:
    """Whether it abstains depends on the question alone."""
    kinds: dict[int, set[bool]] = {}
    for attempt, verdict in zip(trial.attempts, trial.verdicts, strict=True):
        if isinstance(verdict, Verdict):
            seen = kinds.setdefault(attempt.question, set())
            seen.add(verdict.score is None)
            if len(seen) > 1:
                yield f"abstains on some completions of a question and not on others; {trial.say(attempt)}"
                return


@entered
def coverage(trial: Trial) -> Iterator[str]:
    """It says something of some question. (Over several tasks, one of them is enough.)"""
    if not trial.attempts and not trial.faults:
        yield f"applies to none of the {len(trial.questions)} questions"
    elif trial.judged and all(verdict.score is None for verdict in trial.judged):
        yield f"abstains on all {len(trial.questions)} questions; give it some that it covers"


@entered
def honest_play(trial: Trial) -> Iterator[str]:
    """The reference completion earns 1.0 of a hard verifier, and of a soft one the most of all answers."""
    for attempt, score, _ in trial.scored("reference"):
        if attempt.completion.answer is None:
            yield f"the prompt does not read the answer that it writes; {trial.say(attempt)}"
        elif trial.verifier.kind == "hard" and score != 1.0:
            yield f"earns {score:.3g}, a hard verifier must give 1; {trial.say(attempt)}"
    if trial.verifier.kind == "soft":
        for attempt, score, best in trial.scored("wrong"):
            if score > best:
                yield f"earns {score:.3g}, above the honest answer's {best:.3g}; {trial.say(attempt)}"


@entered
def wrong_answers(trial: Trial) -> Iterator[str]:
    """A hard verifier that judges answers pays every wrong one less than the right one."""
    if trial.verifier.kind == "hard" and trial.judges_answers:
        yield from _not_below(trial, trial.scored("wrong"))


@entered
def malformed(trial: Trial) -> Iterator[str]:
    """Text without the structure earns less than the honest completion; one cut off never more, and less of a
    verifier that judges answers."""
    yield from _not_below(trial, trial.scored("malformed"))
    for attempt, score, best in trial.scored("unfinished"):
        if score > best or (trial.judges_answers and score == best > 0):
            yield f"earns {score:.3g}, finished {best:.3g}; {trial.say(attempt)}"


@entered
def cheats(trial: Trial) -> Iterator[str]:
    """No cheat earns more than honest play."""
    for attempt, score, best in trial.scored(*CHEATS):
        if score > best:
            yield f"earns {score:.3g}, above honest play's {best:.3g}; {trial.say(attempt)}"


@entered
def catches(trial: Trial) -> Iterator[str]:
    """The cheats that the verifier says it catches earn less than honest play. A cheat that gives the right
    answer plainly is no cheat at the answer, and may earn as much."""
    for name in sorted(trial.verifier.catches - CHEATS.keys()):
        yield f"catches names no cheat {name!r}; known: {', '.join(CHEATS)}"
    declared = trial.scored(*trial.verifier.catches & CHEATS.keys())
    yield from _not_below(trial, ((a, score, best) for a, score, best in declared if not a.said))


def _not_below(trial: Trial, scored: Iterator[tuple[Attempt, float, float]]) -> Iterator[str]:
    """Those that earn as much as the reference, where that earns anything."""
    for attempt, score, best in scored:
        if score >= best > 0:
            yield f"earns {score:.3g}, honest play {best:.3g}; {trial.say(attempt)}"


@entered
def repeatable(trial: Trial) -> Iterator[str]:
    """The same completion gets the same verdict again."""
    yield from _differences(trial, trial.plain, trial.judged, lambda pairs: trial.again, "two times")


@entered
def batch(trial: Trial) -> Iterator[str]:
    """verify_batch and averify_batch give what verify gives. (This, and the two checks after it, have nothing to
    compare where the same completion gets one verdict and then another.)"""
    verifier = trial.verifier
    if trial.again == trial.judged:
        yield from _differences(trial, trial.plain, trial.judged, verifier.verify_batch, "verify_batch and verify")
        awaited: Call = lambda pairs: asyncio.run(_awaited(verifier, pairs))  # noqa: E731
        yield from _differences(trial, trial.plain, trial.judged, awaited, "averify_batch and verify")


async def _awaited(verifier: Verifier, pairs: Sequence[Pair]) -> Sequence[Verdict]:
    return await verifier.averify_batch(pairs)


@entered
def order(trial: Trial) -> Iterator[str]:
    """A verdict does not depend on what stands before it, in a loop or in a batch."""
    if trial.again != trial.judged:
        return
    places = random.Random(0).sample(range(len(trial.plain)), len(trial.plain))
    shuffled = [trial.plain[i] for i in places]
    alone = [trial.judged[i] for i in places]
    yield from _differences(trial, shuffled, alone, _loop(trial.verifier), "two orders")
    try:
        together = list(trial.verifier.verify_batch(trial.pairs))
    except FAULTS:
        return  # for `batch` to say
    if len(together) == len(places):
        expected = [together[i] for i in places]
        yield from _differences(trial, shuffled, expected, trial.verifier.verify_batch, "two orders")


@entered
def picklable(trial: Trial) -> Iterator[str]:
    """A copy in another process says the same: the reward layer sends verifiers to workers."""
    try:
        copy = pickle.loads(pickle.dumps(trial.verifier))
    except FAULTS as error:
        yield f"cannot be pickled: {error!r:.200}; keep resources out of the instance"
        return
    if trial.again == trial.judged:
        yield from _differences(trial, trial.plain, trial.judged, _loop(copy), "the copy and itself")


def _loop(verifier: Verifier) -> Call:
    return lambda pairs: [verifier.verify(*pair) for pair in pairs]


def _differences(
    trial: Trial, attempts: Sequence[Attempt], expected: Sequence[object], call: Call, what: str
) -> Iterator[str]:
    """Where a second asking said otherwise."""
    pairs = [trial.pair(attempt) for attempt in attempts]
    try:
        found = list(call(pairs))
    except FAULTS as error:
        yield f"{what}: raised {error!r:.200}"
        return
    trial.compare(pairs, attempts)
    if len(found) != len(expected):
        yield f"{what}: {len(found)} verdicts for {len(expected)} completions"
        return
    for attempt, old, new in zip(attempts, expected, found, strict=True):
        if checked(new) != old:
            yield f"{what} differ: {old} and {new}; {trial.say(attempt)}"


@entered
def mutation(trial: Trial) -> Iterator[str]:
    """What it is given, a question and a completion, is as it was."""
    for what in trial.changed:
        yield f"{what} was changed; make a copy, as in list(...) or dict(...), and change that"


@entered
def blind_prompt(trial: Trial) -> Iterator[str]:
    """The prompt is the same, byte for byte, with another question's truth in the place of its own, or none."""
    truths = [question.truth for question in trial.questions]
    for question, other in zip(trial.questions, truths[1:] + truths[:1], strict=True):
        prompt = trial.template.render(question)
        flipped = {**question.truth, "answer": None}
        for truth in (other, flipped, {}):
            if trial.template.render(replace(question, truth=truth)) != prompt:
                yield f"the prompt of question {question.id} changes with the truth"
                break


@entered
def linear_time(trial: Trial) -> Iterator[str]:
    """A long thought takes no more than its length's share of time, whatever it is made of."""
    for index in sorted(trial.references)[:1]:
        question = trial.questions[index]
        subject = next(iter(names(question)), "ZAP70")
        for unit in ("a", " ", "-", "0", "(", "[", f"{subject} ", "GO:0006915 ", "is in the "):
            shorter, before = "", float("inf")
            for size in SIZES:
                thought = unit * (size // len(unit))
                took = _seconds(trial, index, thought, STEEPEST * before)
                if took > max(NOTICEABLE, STEEPEST * before):  # unless the machine was busy for one and not the other
                    before = max(before, _seconds(trial, index, shorter, 0.0))
                if took > max(NOTICEABLE, STEEPEST * before):
                    yield f"{size} characters of {unit!r} take {took:.2f} s, a quarter of them {before:.3f} s"
                    return
                shorter, before = thought, took


def _seconds(trial: Trial, index: int, thought: str, limit: float) -> float:
    """How long one verdict takes; the least of three tries where it looks too long, for the machine may be busy."""
    question = deepcopy(trial.questions[index])
    answer = trial.template.word(trial.verifier.honest(question).answer)
    text = reference(honest_thought(question, thought), answer)
    pair = (question, parse(text, trial.template.answers, question.fields))
    least = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        ask(trial.verifier, pair)
        least = min(least, time.perf_counter() - started)
        if least <= max(NOTICEABLE, limit):
            break
    return least


@entered
def speed(trial: Trial) -> Iterator[str]:
    """Completions per second, counted over all attempts but the megabyte."""
    if trial.attempts and not trial.verifier.network and _speed(trial) < SLOWEST:
        yield f"{_speed(trial):.1f} completions per second; at least {SLOWEST} are needed"


def _speed(trial: Trial) -> float:
    return sum(map(trial.small, trial.attempts)) / max(trial.seconds, 1e-9)
