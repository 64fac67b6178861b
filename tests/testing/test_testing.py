"""The conformance kit: good verifiers pass, every planted flaw is found by its own check, and by no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar

import pytest

from rlvr import prompts
from rlvr.plugins import load as load_plugin
from rlvr.plugins import load_file as load_plugin_file
from rlvr.plugins import names as plugin_names
from rlvr.prompts import Messages, Template
from rlvr.recipe import BUILT_IN
from rlvr.recipe import load as load_recipe
from rlvr.testing import CHECKS, VerifierConformance, check, check_named, check_recipe, checks, sample_questions
from rlvr.testing.report import run
from rlvr.types import Completion, Error, Question, Reason, Verdict
from rlvr.verifier import Verifier

FLAWED = {path.stem: path for path in sorted((Path(__file__).parents[1] / "flawed").glob("*.py"))}
BUILT_INS = sorted(name for name, origin in plugin_names("verifiers").items() if origin == "built in")
TASK = "perturbation/response"


def failed(findings) -> set[str]:
    return {finding.check for finding in findings if not finding.ok}


def flaw(name: str) -> str:
    """The check that is to find a planted flaw, as the head of its file says."""
    found = re.search(r"for `(\w+)` to find", FLAWED[name].read_text())
    assert found, f"{FLAWED[name]} does not say which check is to find it"
    return found[1]


@pytest.mark.parametrize("name", BUILT_INS)
def test_every_built_in_verifier_passes(name: str) -> None:
    report = check_named(name)
    assert report.ok, report.render()


KNOWING = [
    name for name in BUILT_INS if getattr(load_plugin("verifiers", name, Verifier), "knowledge", "") == "upstream"
]


@pytest.mark.slow
@pytest.mark.upstream
@pytest.mark.parametrize("name", KNOWING)
def test_those_that_know_things_pass_on_the_full_knowledge_base(name: str) -> None:
    report = run(replace(load_plugin("verifiers", name, Verifier)(), knowledge="upstream"))
    assert report.ok, report.render()


@pytest.mark.parametrize("recipe", sorted(path.stem for path in BUILT_IN.glob("*.yaml")))
def test_every_shipped_recipe_ranks_honest_play_first(recipe: str) -> None:
    findings = check_recipe(load_recipe(recipe))
    assert not failed(findings), [finding for finding in findings if not finding.ok]


@pytest.mark.parametrize("name", FLAWED)
def test_a_planted_flaw_is_found_by_its_own_check_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "sleeper":
        monkeypatch.setattr(checks, "SLOWEST", 200)
        report = run(load_file(name), sample_questions(TASK)[:1])
    else:
        report = check_named(str(FLAWED[name]))
    assert failed(report.findings) == {flaw(name)}, report.render()


def load_file(name: str) -> Verifier:
    return load_plugin_file(FLAWED[name], Verifier)()


def test_every_check_can_fail() -> None:
    assert {flaw(name) for name in FLAWED} | {"blind_prompt"} == CHECKS.keys()


class Leaky(Template):
    """A template that lets the truth slip into the prompt."""

    def render(self, question: Question) -> Messages:
        hint = {"role": "system", "content": f"(expected: {question.truth.get('answer')})"}
        return [*super().render(question), hint]


def test_a_prompt_that_shows_the_truth_is_found() -> None:
    good = prompts.load(TASK)
    leaky = Leaky(**{field.name: getattr(good, field.name) for field in fields(good)})
    label = load_plugin("verifiers", "label", Verifier)()
    assert failed(check(label, sample_questions(TASK), good)) == set()
    assert failed(check(label, sample_questions(TASK), leaky)) == {"blind_prompt"}


@dataclass(frozen=True)
class Short(Verifier):
    """The README's verifier."""

    name: ClassVar[str] = "short"
    words: int = 50

    def verify(self, question: Question, completion: Completion) -> Verdict:
        ok = completion.thought is not None and len(completion.thought.split()) <= self.words
        return Verdict(1.0 if ok else 0.0, Reason.CORRECT if ok else Reason.WRONG)


class TestShort(VerifierConformance):
    verifier = Short()
    questions = sample_questions("perturbation/direction")


def test_the_mixin_has_a_test_for_each_check_and_fails_where_it_must() -> None:
    class TestCoarse(VerifierConformance):
        verifier = load_file("coarse")

    suite = TestCoarse()
    for name in CHECKS:
        if name == "wrong_answers":
            with pytest.raises(AssertionError, match=r"wrong_answers: .*honest play 1"):
                getattr(suite, f"test_{name}")()
        else:
            getattr(suite, f"test_{name}")()


@dataclass(frozen=True)
class Fussy(Verifier):
    """Raises where it should give a verdict: at `applies`, `honest` or `verify`."""

    name: ClassVar[str] = "fussy"
    at: str = "verify"
    fault: type[BaseException] = RuntimeError

    def applies(self, question: Question) -> bool:
        return self._work("applies")

    def honest(self, question: Question):
        self._work("honest")
        return super().honest(question)

    def verify(self, question: Question, completion: Completion) -> Verdict:
        self._work("verify")
        return Verdict(1.0, Reason.CORRECT)

    def _work(self, place: str) -> bool:
        if place == self.at:
            raise self.fault("the table is gone")
        return True


@pytest.mark.parametrize("fault", [RuntimeError, SystemExit])
@pytest.mark.parametrize("at", ["applies", "honest", "verify"])
def test_a_verifier_that_raises_is_a_finding_not_a_crash(at: str, fault: type[BaseException]) -> None:
    report = run(Fussy(at, fault), sample_questions(TASK)[:2])
    found = next(finding for finding in report.findings if finding.check == "verdicts")
    assert not found.ok
    assert "the table is gone" in found.detail


@dataclass(frozen=True)
class Elsewhere(Verifier):
    """Knows nothing of any question: by `applies`, or by abstaining."""

    name: ClassVar[str] = "elsewhere"
    abstains: bool = False

    def applies(self, question: Question) -> bool:
        return self.abstains

    def verify(self, question: Question, completion: Completion) -> Verdict:
        return Verdict(None, Reason.UNCOVERED)


@pytest.mark.parametrize(("abstains", "said"), [(False, "applies to none"), (True, "abstains on all")])
def test_a_verifier_that_was_never_tried_does_not_pass(abstains: bool, said: str) -> None:
    report = run(Elsewhere(abstains), sample_questions(TASK)[:2])
    assert failed(report.findings) == {"coverage"}
    assert said in report.render()


def test_a_cheat_that_does_not_exist_cannot_be_caught() -> None:
    @dataclass(frozen=True)
    class Typo(Short):
        catches: ClassVar[frozenset[str]] = frozenset({"both_anwsers"})

    found = check(Typo(), sample_questions(TASK)[:1], prompts.load(TASK))
    assert "no cheat 'both_anwsers'" in next(f.detail for f in found if f.check == "catches")


def test_a_report_says_what_was_tried_and_how_fast() -> None:
    report = check_named("format")
    text = report.render()
    assert text.splitlines()[0].startswith("format ")
    assert f"{report.questions} questions of" in text
    assert re.search(r"speed +ok +[\d,]+ completions per second", text)
    assert [row["check"] for row in report.rows()] == list(CHECKS)


PLAIN = """
from dataclasses import dataclass
from rlvr.types import Reason, Verdict
from rlvr.verifier import Verifier

class Plain(Verifier):
    name = "plain"
    url: str

    def verify(self, question, completion):
        return Verdict(1.0, Reason.CORRECT)
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "is no .py file"),
        ("x = 1\n", "defines 0 concrete subclasses"),
        ("import nowhere_to_be_found\n", "does not load"),
        ("def broken(:\n", "does not load"),
        ("raise SystemExit(0)\n", "does not load"),
        (PLAIN, "is no dataclass"),
        (PLAIN.replace("class P", "@dataclass(frozen=True)\nclass P"), "url.*; give each option a good one"),
        (PLAIN.replace("class P", "@dataclass(frozen=True)\nclass P").replace('"plain"', "None"), "calls itself None"),
    ],
)
def test_a_file_without_one_verifier_is_an_error(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "mine.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(Error, match=said):
        check_named(str(path))


def test_a_name_that_is_no_verifier_is_an_error() -> None:
    with pytest.raises(Error, match="did you mean 'label'"):
        check_named("lable")


def test_sample_questions_cover_every_task_that_has_a_prompt() -> None:
    folder = Path(prompts.load(TASK).path).parent.parent
    asked = [path.relative_to(folder).with_suffix("").as_posix() for path in sorted(folder.rglob("*.md"))]
    for task in asked:
        template = prompts.load(task)
        questions = sample_questions(template.task)
        assert 8 <= len(questions) <= 12
        assert len({question.id for question in questions}) == len(questions)
        for question in questions:
            template.render(question)
            word = template.word(question.truth["answer"])
            assert template.answers.read(word, question.fields) is not None
    with pytest.raises(Error, match="no sample questions for nothing/such"):
        sample_questions("nothing/such")


def test_sample_questions_are_copies() -> None:
    first = sample_questions(TASK)[0]
    first.fields["perturbation"] = "spoilt"  # type: ignore[index]
    assert sample_questions(TASK)[0].fields["perturbation"] != "spoilt"


def cheated(findings) -> Iterator[str]:
    return (finding.check for finding in findings if not finding.ok)


@pytest.mark.parametrize(
    ("verifiers", "expected"),
    [
        ({"format": {}}, {"majority", "injection", "copied_prompt"}),  # nothing asks whether the answer is right
        ({"format": {}, "label": {"weight": 0.0}}, {"majority", "injection", "copied_prompt"}),
        ({"label": {}}, set()),
        ({"label": {"gate": True}, "mention": {}}, set()),
    ],
)
def test_a_recipe_that_pays_for_form_alone_is_found(verifiers, expected: set[str]) -> None:
    recipe = replace(load_recipe("quickstart"), verifiers=verifiers)
    assert set(cheated(check_recipe(recipe))) >= expected
    assert bool(expected) == bool(set(cheated(check_recipe(recipe))))


def test_a_recipe_of_an_unknown_source_needs_questions() -> None:
    known = {"name": "tcell_cytokines"}
    for source in ({"name": "my_screen"}, (known, {"name": "my_screen"})):
        recipe = replace(load_recipe("quickstart"), source=source)
        with pytest.raises(Error, match="no sample questions of source 'my_screen'"):
            check_recipe(recipe)
    assert not failed(check_recipe(recipe, sample_questions("perturbation/direction")))
