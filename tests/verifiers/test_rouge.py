"""Overlap with the annotation's text: what it is, what bounds it, and what it cannot see."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from rlvr import prompts
from rlvr.answers import build
from rlvr.completions import parse, reference
from rlvr.plugins import load
from rlvr.testing.redteam import CHEATS, honest_thought
from rlvr.types import Completion, Reason
from rlvr.verifier import Verifier

ANSWERS = build({"up": "up", "down": "down"}, "test")
VARIANTS = ["rouge1", "rouge2", "rougeL"]


def verifier(**options):
    return load("verifiers", "rouge", Verifier)(knowledge="sample", **options)


def verdict(question, thought, **options):
    return verifier(**options).verify(question, parse(reference(thought, "down"), ANSWERS, question.fields))


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_is_the_published_measure(make_question, variant):
    question = make_question()
    annotation = verifier().honest(question).thought
    assert len(annotation.split()) > 5
    thought = "ZAP70 signals: " + " ".join(annotation.split()[1:4])
    expected = RougeScorer([variant]).score(annotation, thought)[variant].fmeasure
    assert verdict(question, thought, variant=variant).score == pytest.approx(expected)
    assert 0.0 < expected < 1.0


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_annotation_itself_earns_the_most_whatever_is_denied(make_question, variant):
    question = make_question()
    annotation = verifier().honest(question).thought
    assert verdict(question, annotation, variant=variant).score == 1.0
    assert verdict(question, f"Not {annotation}", variant=variant).score > 0.8
    assert verdict(question, "Nothing alike.", variant=variant).reason is Reason.MISSING


def test_only_the_first_words_count(make_question):
    question = make_question()
    annotation = verifier().honest(question).thought
    late = "hmm " * 400 + annotation
    assert verdict(question, late).score == 0.0
    assert verdict(question, late, words=500).score > 0.0
    assert len(verifier(words=5).honest(question).thought.split()) == 5


def test_look_alikes_do_not_make_a_thought_shorter(make_question):
    question = make_question()
    annotation = verifier().honest(question).thought
    plain = verdict(question, f"ZAP70 {annotation}").score
    assert verdict(question, f"ΖΑΡ {annotation}").score == plain < 1.0


def test_a_gene_without_annotation_abstains(make_question):
    question = make_question({"perturbation": "NOGENE1", "readout": "NOGENE2"})
    assert verdict(question, "anything").reason is Reason.UNCOVERED


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_cheat_earns_more_than_honest_play(make_question, variant):
    question = make_question()
    template = prompts.load(question.task)
    honest = verifier(variant=variant).honest(question)
    best = verdict(question, honest_thought(question, honest.thought), variant=variant).score
    for name, cheat in CHEATS.items():
        text = cheat(question, template, honest, Random(1))
        if text is None:
            continue
        completion = parse(text, template.answers, question.fields)
        score = verifier(variant=variant).verify(question, completion).score
        assert score <= best, name
        assert score < best or name not in verifier().catches, name


@settings(deadline=None)
@given(st.text(), st.sampled_from(VARIANTS))
def test_any_thought_gets_a_score(make_question, thought, variant):
    found = verifier(variant=variant).verify(make_question(), Completion(thought, thought, "down"))
    assert found.score is not None and 0.0 <= found.score <= 1.0


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("piece", ["a", "a ", "T cell ", "é", "-"])
def test_a_megabyte_is_bounded(make_question, piece, variant):
    assert verdict(make_question(), piece * (1_000_000 // len(piece)), variant=variant).score < 0.2
