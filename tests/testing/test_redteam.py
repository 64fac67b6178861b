"""The red team: every cheat is what it says it is, on a real question of every task."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pytest

from rlvr import prompts
from rlvr.completions import parse, reference
from rlvr.testing import sample_questions
from rlvr.testing.redteam import CHEATS, honest_thought, names, usual_answer, wrong_answers
from rlvr.types import Error
from rlvr.verifier import Honest

SAMPLE = Path(prompts.load("perturbation/response").path).parents[2] / "data" / "sample"
SECRET = "A sentence that only honest play holds."
MALFORMED = {"several_blocks", "answer_first", "nested_tags"}  # no thought, no answer
BAD_ANSWER = {"both_answers", "hedging", "zero_width", "look_alikes", "right_to_left"}
PADDED = {"copied_prompt", "stuffed_genes", "stuffed_identifiers", "quoted_annotation", "invented_identifiers"}
PLAIN = PADDED | {"empty_thought", "injection", "repeated", "megabyte"}  # the answer stands there plainly


def ready() -> list:
    """Two questions of every task that has a prompt."""
    found, seen = [], {}
    for question in sample_questions("*"):
        seen[question.task] = seen.get(question.task, 0) + 1
        try:
            template = prompts.load(question.task)
        except Error:
            continue
        if seen[question.task] <= 2:
            found.append(pytest.param(question, template, id=f"{question.task}-{seen[question.task]}"))
    return found


QUESTIONS = ready()


def cheat(name, question, template, answer=None):
    honest = Honest(SECRET, question.truth["answer"] if answer is None else answer)
    return CHEATS[name](question, template, honest, random.Random(f"{name}:{question.id}"))


def right_answer(question, template):
    return template.answers.read(template.word(question.truth["answer"]), question.fields)


def test_all_kinds_are_covered() -> None:
    assert CHEATS.keys() == MALFORMED | BAD_ANSWER | PLAIN | {"majority"}


@pytest.mark.parametrize(("question", "template"), QUESTIONS)
def test_cheats_do_what_their_names_say(question, template) -> None:
    right = right_answer(question, template)
    assert right is not None
    honest = reference(honest_thought(question, SECRET), template.word(question.truth["answer"]))
    for name in CHEATS:
        text = cheat(name, question, template)
        assert text == cheat(name, question, template)  # chance comes from the generator alone
        assert text != honest
        if text is None:
            assert name == "majority"
            continue
        read = parse(text, template.answers, question.fields)
        if name in MALFORMED:
            assert (read.thought, read.answer) == (None, None)
        elif name in PLAIN:
            assert read.answer == right
        else:
            assert read.thought is not None
            assert read.answer != right


CLOSED = [param for param in QUESTIONS if param.values[1].answers.words(param.values[0].fields)]


@pytest.mark.parametrize(("question", "template"), CLOSED)
def test_a_closed_answer_that_is_hedged_or_disguised_is_no_answer(question, template) -> None:
    for name in BAD_ANSWER:
        assert parse(cheat(name, question, template), template.answers, question.fields).answer is None


@pytest.mark.parametrize(("question", "template"), QUESTIONS)
def test_wrong_answers_are_of_the_type_and_wrong(question, template) -> None:
    wrong = wrong_answers(question, template, question.truth["answer"])
    read = [template.answers.read(template.word(value), question.fields) for value in wrong]
    assert read
    assert None not in read
    assert right_answer(question, template) not in read
    json.dumps(wrong)


@pytest.mark.parametrize(("question", "template"), QUESTIONS)
def test_a_wrong_answer_can_be_cheated_with_too(question, template) -> None:
    """What knows nothing gives no right answer, whichever cheat it tries."""
    blind = wrong_answers(question, template, question.truth["answer"])[0]
    for name in CHEATS.keys() - {"both_answers", "hedging", "majority"}:
        read = parse(cheat(name, question, template, blind), template.answers, question.fields)
        assert read.answer != right_answer(question, template)


@pytest.mark.parametrize(("question", "template"), QUESTIONS)
def test_padding_takes_the_place_of_reasoning(question, template) -> None:
    for name in PADDED:
        text = cheat(name, question, template)
        assert SECRET not in text
        assert len(text) > len(honest_thought(question))
    assert cheat("repeated", question, template).count(SECRET) >= 50
    assert 1_000_000 <= len(cheat("megabyte", question, template)) <= 1_100_000


def test_majority_is_skipped_where_it_is_true() -> None:
    template = prompts.load("perturbation/response")
    for question in sample_questions("perturbation/response"):
        skipped = cheat("majority", question, template) is None
        assert skipped == (question.truth["answer"] == "none")
        assert usual_answer(question, template, question.truth["answer"]) == "none"


def question_on(gene: str):
    return next(q for q in sample_questions("perturbation/*") if q.fields.get("perturbation") == gene)


def test_names_are_hidden_from_a_search_by_every_disguise() -> None:
    template = prompts.load("perturbation/response")
    for question in sample_questions("perturbation/response"):
        for name in ("zero_width", "look_alikes", "right_to_left"):
            text = cheat(name, question, template)
            assert not [gene for gene in names(question) if gene in text]
            assert not text.isascii()


def terms() -> dict[str, str]:
    with (SAMPLE / "go_terms.tsv").open(encoding="utf-8") as lines:
        return {row["term"]: row["name"] for row in csv.DictReader(lines, delimiter="\t")}


def test_identifiers_are_real_or_invented_as_promised() -> None:
    question, template = sample_questions("perturbation/response")[0], prompts.load("perturbation/response")
    known = terms()

    def cited(name: str) -> list[str]:
        text = cheat(name, question, template).replace(",", " ").replace(".", " ").replace("<", " ")
        return [word for word in text.split() if word.startswith(("GO:", "R-HSA-"))]

    assert len(cited("stuffed_identifiers")) >= 100
    assert all(term in known for term in cited("stuffed_identifiers"))
    assert len(cited("invented_identifiers")) >= 4
    assert not [term for term in cited("invented_identifiers") if term in known]


def test_quoted_annotation_is_that_of_the_gene() -> None:
    question, template = question_on("CD3D"), prompts.load("perturbation/response")
    text = cheat("quoted_annotation", question, template)
    assert "CD3D is annotated to alpha-beta T cell receptor complex (GO:0042105)." in text
    assert text.count("annotated to") > 5


def test_the_copied_prompt_parses() -> None:
    """The prompt names the tags; a copy that kept them would only break the format."""
    question, template = question_on("CD3D"), prompts.load("perturbation/response")
    read = parse(cheat("copied_prompt", question, template), template.answers, question.fields)
    assert read.answer == question.truth["answer"]
    assert template.render(question)[-1]["content"][:40] in read.thought
