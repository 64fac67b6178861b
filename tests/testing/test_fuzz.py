"""Hostile text: the parser and every verifier survive it, and it never pays more than honest play.

pytest tests/testing/test_fuzz.py -m slow      the long run: 200,000 cases
"""

from __future__ import annotations

import ast
import importlib
import random
import re
import string
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rlvr
from rlvr import prompts
from rlvr.completions import TAGS, completion_text, parse, reference
from rlvr.plugins import load as load_plugin
from rlvr.plugins import names as plugin_names
from rlvr.prompts import Template
from rlvr.testing import sample_questions
from rlvr.testing.questions import embedded
from rlvr.testing.redteam import CHEATS, honest_thought, wrong_answers
from rlvr.types import Completion, Question, Verdict
from rlvr.verifier import Honest, Verifier

ROOT = Path(rlvr.__file__).parent.parent
BUILT_INS = sorted(name for name, origin in plugin_names("verifiers").items() if origin == "built in")
CASES = 200_000
TASKS_EACH, QUESTIONS_EACH = 4, 3  # that a verifier is fuzzed on
# What a mutation puts into a text: structure, words that mean something here, and characters that are trouble.
FRAGMENTS = [
    *TAGS, "<think><think>", "</answer></answer>", "<ANSWER>", "<answer", "</", "yes", "no", "up or down", " | ", ",",
    "0.5", "1e309", "-1e-400", "nan", "inf", "٣", "½", "1_000", "0x1F", ":", "null", "[]", "{}", '"', "\\", "ATG", "*",
    "GO:0006915", "GO:9999999", "GO:", "R-HSA-109581", "P01308", "CL:0000236", "ZAP70", "IL-2",
    "TP53 activates", "represses", "is involved in", "does not", "not",
    "\x00", "\u200b", "\u202e", "\u0301" * 40, "\ufeff", "\U000e0041", "\ud800", "İ", "ß", "ﬁ", "K", "\r\n", "\u2028",
    "\t" * 9, " " * 60, "A" * 300, "(" * 100, "{{ 7 * 7 }}", "%s%n", "__import__('os')", "<|im_end|>",
]  # fmt: skip


@cache
def verifier(name: str) -> Verifier:
    return embedded(load_plugin("verifiers", name, Verifier)())


@cache
def asked(name: str) -> list[tuple[Question, Template, float, list[str]]]:
    """Some questions that a verifier covers, each with its template, what honest play earns, and seeds to mutate."""
    found, per_task = [], {}
    for question in sample_questions(*verifier(name).tasks):
        if per_task.get(question.task, 0) == QUESTIONS_EACH or not verifier(name).applies(question):
            continue
        if question.task not in per_task and len(per_task) == TASKS_EACH:
            continue
        template, honest = prompts.load(question.task), verifier(name).honest(question)
        texts = list(seeds(question, template, honest))
        # The sentence alone as well: a graded verifier of texts pays a word less for each word that stands before it.
        alone = reference(honest.thought or "So.", template.word(honest.answer))
        scores = [verdict(name, question, template, text).score for text in (texts[0], alone)]
        earned = [score for score in scores if score is not None]
        if len(earned) == len(scores):
            best = max(earned)
            per_task[question.task] = per_task.get(question.task, 0) + 1
            found.append((question, template, best, texts))
    assert found, f"{name} covers no sample question"
    return found


def seeds(question: Question, template: Template, honest: Honest) -> Iterator[str]:
    """Honest play first; then wrong answers, and every cheat but the megabyte."""
    thought = honest_thought(question, honest.thought)
    yield reference(thought, template.word(honest.answer))
    yield from (reference(thought, template.word(w)) for w in wrong_answers(question, template, honest.answer))
    for name, cheat in CHEATS.items():
        text = None if name == "megabyte" else cheat(question, template, honest, random.Random(name))
        if text is not None:
            yield text


def verdict(name: str, question: Question, template: Template, text: str, finished: bool = True) -> Verdict:
    read = parse(completion_text(text), template.answers, question.fields, finished=finished)
    return verifier(name).verify(question, read)


def mutate(text: str, rng: random.Random) -> str:
    """A text with one to five faults."""
    for _ in range(rng.randint(1, 5)):
        at, length = rng.randrange(len(text) + 1), rng.choice((1, 1, 2, 5, 20, 100))
        part = text[at : at + length]
        kind = rng.randrange(7)
        if kind == 0:
            text = text[:at] + text[at + length :]
        elif kind == 1:
            text = text[:at] + part * rng.choice((2, 3, 50)) + text[at + length :]
        elif kind == 2:
            text = text[:at] + rng.choice(FRAGMENTS) + text[at:]
        elif kind == 3:
            text = text[:at] + rng.choice(FRAGMENTS) + text[at + length :]
        elif kind == 4:
            text = text[:at] + part.swapcase()[::-1] + text[at + length :]
        elif kind == 5:
            text = text[:at]
        else:
            text = text[:at] + chr(rng.choice((rng.randrange(0x80), rng.randrange(0xD800), 0x10FFFF))) + text[at + 1 :]
    return text[:20_000]


def check_one(name: str, question: Question, template: Template, best: float, text: str, finished: bool) -> None:
    found = verdict(name, question, template, text, finished)
    assert isinstance(found, Verdict), (question.id, text)
    assert found.score is not None, ("abstains on a question that it covers", question.id, text)
    assert 0.0 <= found.score <= best, ("earns more than honest play", question.id, text)


mutated = st.builds(
    lambda text, seed: mutate(text, random.Random(seed)), st.sampled_from(["", *FRAGMENTS]), st.integers()
)
anything = (
    st.text(max_size=60)
    | mutated
    | st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=5), max_size=12).map("".join)
)


@pytest.mark.parametrize("task", sorted({q.task for q in sample_questions("*")}))
@settings(max_examples=60, deadline=None)
@given(text=anything, finished=st.booleans())
def test_the_parser_reads_anything(task: str, text: str, finished: bool) -> None:
    question, template = sample_questions(task)[0], prompts.load(task)
    read = parse(completion_text(text), template.answers, question.fields, finished=finished)
    assert isinstance(read, Completion)
    if read.thought is None or not finished:
        assert read.answer is None
    if read.thought is not None:
        assert all(read.text.count(tag) == 1 for tag in TAGS)
    if read.answer is not None:
        closed = set(template.answers.words(question.fields).values())
        assert not closed or read.answer in closed


@pytest.mark.parametrize("name", BUILT_INS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_verifier_judges_anything(name: str, data: st.DataObject) -> None:
    question, template, best, texts = data.draw(st.sampled_from(asked(name)))
    text = data.draw(
        anything | st.builds(lambda t, s: mutate(t, random.Random(s)), st.sampled_from(texts), st.integers())
    )
    check_one(name, question, template, best, text, data.draw(st.booleans()))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_mutated_completions_by_the_hundred_thousand() -> None:
    each = CASES // len(BUILT_INS) + 1
    count = 0
    for name in BUILT_INS:
        rng = random.Random(name)
        for _ in range(each):
            question, template, best, texts = rng.choice(asked(name))
            check_one(name, question, template, best, mutate(rng.choice(texts), rng), rng.random() < 0.9)
            count += 1
    assert count >= CASES


# Regular expressions. Each is run on long strings made of what it looks for, and must take about twice as long on
# twice the length; none repeats what is itself repeated without a bound.

METHODS = ("match", "fullmatch", "search", "findall")
CALLED_ELSEWHERE = {"rlvr/yaml_file.py": {"match"}}  # handed to PyYAML, which calls match
BUILT_BY = {  # what no constant shows
    "verifiers/mention.py": lambda module: [module._stretch(32).pattern],
    "rlvr/tables.py": lambda module: [module.DATE.pattern],
    "rlvr/knowledge/latest.py": lambda module: [site.version for site in module.SITES.values() if site.version],
    "rlvr/evaluation/report/marks.py": lambda module: [module._whole("CD3E").pattern],
    "rlvr/questions/renaming.py": lambda module: [module.alternatives(["up", "down", "GENE1"]).pattern],
}
STEEPEST = 9.0  # times longer for four times the length; linear is 4, quadratic 16
UNBOUNDED = 100  # repeats


def patterns() -> dict[str, tuple[str, set[str]]]:
    """ "file:line" -> (pattern, the methods that are called on it)."""
    found = {}
    for folder in ("rlvr", "verifiers", "data"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            where = path.relative_to(ROOT).as_posix()
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                    continue
                if not (isinstance(node.func.value, ast.Name) and node.func.value.id == "re" and node.args):
                    continue
                try:
                    pattern = ast.literal_eval(node.args[0])
                except ValueError:
                    if isinstance(node.args[0], ast.Name):
                        continue  # a pattern that was compiled under this name
                    assert where in BUILT_BY, f"{where}:{node.lineno}: say in BUILT_BY what this expression is"
                    continue
                called = {node.func.attr} & set(METHODS) or methods(tree, node)
                found[f"{where}:{node.lineno}"] = (pattern, called or CALLED_ELSEWHERE.get(where, set(METHODS)))
    for where, build in BUILT_BY.items():
        for pattern in build(importlib.import_module(f"rlvr.{where[:-3].removeprefix('rlvr/').replace('/', '.')}")):
            found[f"{where}:{pattern}"] = (pattern, {"match"})
    return found


def methods(tree: ast.AST, compiled: ast.Call) -> set[str]:
    """What is called on the name that a re.compile is bound to, or with it."""
    bound = {
        t.id
        for a in ast.walk(tree)
        if isinstance(a, ast.Assign) and a.value is compiled
        for t in a.targets
        if isinstance(t, ast.Name)
    }
    called = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            on = [node.func.value, *node.args]
            if any(isinstance(item, ast.Name) and item.id in bound for item in on):
                called.add(
                    {"finditer": "findall", "sub": "findall", "split": "findall"}.get(node.func.attr, node.func.attr)
                )
    return called & set(METHODS)


PATTERNS = patterns()


def nested(parsed, inside: bool = False) -> bool:
    """Whether an unbounded repeat stands within another: the shape that backtracks exponentially. What is possessive
    or atomic gives nothing back."""
    for kind, argument in parsed:
        name = str(kind)
        if name in ("MAX_REPEAT", "MIN_REPEAT"):
            _, most, body = argument
            unbounded = int(most) > UNBOUNDED
            if (unbounded and inside) or nested(body, inside or unbounded):
                return True
        elif name == "SUBPATTERN":
            if nested(argument[3], inside):
                return True
        elif name == "BRANCH":
            if any(nested(option, inside) for option in argument[1]):
                return True
        elif name in ("ASSERT", "ASSERT_NOT") and nested(argument[1], inside):
            return True
    return False


def example(parsed) -> str:
    """A string that an expression more or less matches."""
    text = ""
    for kind, argument in parsed:
        name = str(kind)
        if name == "LITERAL":
            text += chr(argument)
        elif name == "IN":
            text += member(argument)
        elif name == "ANY":
            text += "a"
        elif name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            text += example(argument[2]) * max(1, argument[0])
        elif name == "SUBPATTERN":
            text += example(argument[3])
        elif name == "BRANCH":
            text += example(argument[1][0])
    return text


def member(options) -> str:
    """A character of a class."""
    allowed = re.compile("".join(["["] + [spelt(option) for option in options] + ["]"]))
    return next((c for c in string.printable if allowed.fullmatch(c)), "é")


def spelt(option) -> str:
    kind, argument = option
    name = str(kind)
    if name == "NEGATE":
        return "^"
    if name == "LITERAL":
        return re.escape(chr(argument))
    if name == "RANGE":
        return f"{re.escape(chr(argument[0]))}-{re.escape(chr(argument[1]))}"
    letter = {"DIGIT": "d", "WORD": "w", "SPACE": "s"}[str(argument).split("_")[-1]]
    return "\\" + (letter.upper() if "_NOT_" in str(argument) else letter)


def attacks(pattern: str) -> list[str]:
    """What to repeat: parts of a match, and its single characters."""
    whole = example(re._parser.parse(pattern))
    parts = [whole, whole[:-1], whole[: len(whole) // 2], whole[1:], *whole]
    return list(dict.fromkeys(filter(None, [*parts, "a", "A", "0", " ", "-", "_", ".", "é", '"'])))


def seconds(run: Callable[[str], object], text: str) -> float:
    least = float("inf")
    for _ in range(3):
        started = time.thread_time()
        run(text)
        least = min(least, time.thread_time() - started)
    return least


def steep(run: Callable[[str], object], unit: str) -> bool:
    """Whether four times the text takes far more than four times as long; measured at the first length that takes
    long enough to tell, up to a quarter of a megabyte."""
    length = 1_000
    while length <= 250_000:
        short, long = unit * (length // 4 // len(unit)) + "!", unit * (length // len(unit)) + "!"
        took = seconds(run, long)
        if took > 0.005 and took > STEEPEST * seconds(run, short):
            return True
        if took > 0.1:
            return False
        length *= 4
    return False


def super_linear(pattern: str, called: set[str]) -> str | None:
    """Why an expression takes too long, or None."""
    if nested(re._parser.parse(pattern)):
        return "an unbounded repeat within another"
    compiled = re.compile(pattern)
    for method in sorted(called):
        for unit in attacks(pattern):
            run = getattr(compiled, method)
            # A busy machine may slow one measurement, though it is of processor time; not the same one three times.
            if all(steep(run, unit) for _ in range(3)):
                return f"{method} on {unit!r} repeated"
    return None


@pytest.mark.parametrize("where", PATTERNS)
def test_regular_expressions_are_linear(where: str) -> None:
    assert super_linear(*PATTERNS[where]) is None


@pytest.mark.parametrize(
    ("pattern", "method"),
    [
        (r"\w+#", "search"),
        (r"(a+)+$", "match"),
        (r"(?:[a-z]+\s*)*!", "search"),
        (r"\s+$", "search"),
        (r"[A-Z0-9]+-[0-9]+", "findall"),
        (r"<think>.*</think>", "findall"),
    ],
)
def test_a_super_linear_expression_is_found(pattern: str, method: str) -> None:
    assert super_linear(pattern, {method}) is not None


@pytest.mark.parametrize(
    ("pattern", "method"),
    [(r"\w+#", "match"), (r"[\w-]+", "findall"), (r"\w{1,40}", "findall"), (r"(?:ab|c)*", "fullmatch")],
)
def test_a_linear_expression_is_let_through(pattern: str, method: str) -> None:
    assert super_linear(pattern, {method}) is None


def test_the_expressions_of_verifiers_are_among_them() -> None:
    assert {where.split(":")[0] for where in PATTERNS} >= {"verifiers/mention.py", "rlvr/tables.py"}
