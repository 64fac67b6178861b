"""The built-in verifiers: what each pays, what none pays, and the contract that all keep."""

from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr.answers import Choice
from rlvr.completions import TAGS, parse, reference
from rlvr.plugins import load
from rlvr.types import Completion, Error, Question, Reason, Verdict
from rlvr.verifier import Verifier

ANSWERS = Choice({"up": "up", "down": "down"})
THOUGHT = "ZAP70 on IL-2: like LAT down, CBLB up."
REFERENCE = reference(THOUGHT, "down")
NAMES = ["format", "label", "mention", "neighbours"]


def verifier(name, **options):
    return load("verifiers", name, Verifier)(**options)


def verdict(name, question, text=REFERENCE, finished=True, **options):
    return verifier(name, **options).verify(question, parse(text, ANSWERS, question.fields, finished=finished))


# What each says of the same texts. The question's vote gives down .75, up .25.
TEXTS = {
    "reference": (REFERENCE, {"format": 1.0, "label": 1.0, "mention": 1.0, "neighbours": 0.75}),
    "wrong answer": (reference(THOUGHT, "up"), {"format": 1.0, "label": 0.0, "mention": 1.0, "neighbours": 0.25}),
    "both answers": (reference(THOUGHT, "up down"), {"format": 1.0, "label": 0.0, "mention": 1.0, "neighbours": 0.0}),
    "zero-width answer": (
        reference(THOUGHT, "do\u200bwn"),
        {"format": 1.0, "label": 0.0, "mention": 1.0, "neighbours": 0.0},
    ),
    "empty thought": (reference(" ", "down"), {"format": 0.0, "label": 1.0, "mention": 0.0, "neighbours": 0.75}),
    "invisible thought": (
        reference("\u200b\u2060 ...", "down"),
        {"format": 0.0, "label": 1.0, "mention": 0.0, "neighbours": 0.75},
    ),
    "half the genes": (reference("ZAP70.", "down"), {"format": 1.0, "label": 1.0, "mention": 0.5, "neighbours": 0.75}),
    **{
        name: (text, dict.fromkeys(NAMES, 0.0))
        for name, text in {
            "nothing": "",
            "two answers": REFERENCE + "<answer>up</answer>",
            "tags inside tags": f"<think>{REFERENCE}</think><answer>down</answer>",
            "words after": REFERENCE + " Surely.",
            "tag with a zero-width space": REFERENCE.replace("</answer>", "</ans\u200bwer>"),
            "bare": "down",
            "megabyte of tags": "<answer>down</answer>" * 50_000,
        }.items()
    },
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("text", "scores"), TEXTS.values(), ids=TEXTS)
def test_scores(make_question, name, text, scores):
    assert verdict(name, make_question(), text).score == scores[name]


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_answer_is_paid_and_each_corruption_less(make_question, name):
    question = make_question(truth={"neighbours": {"up": 0.0, "down": 1.0}})
    assert verdict(name, question).score == 1.0
    corrupted = [
        REFERENCE[: len(REFERENCE) // 2],
        REFERENCE.replace("</think>", ""),
        REFERENCE + REFERENCE,
        "".join(reversed(REFERENCE)),
    ]
    assert all(verdict(name, question, text).score == 0.0 for text in corrupted)


@pytest.mark.parametrize("name", ["format", "label", "neighbours"])
def test_a_completion_that_was_cut_off_earns_nothing(make_question, name):
    assert verdict(name, make_question(), finished=False).score == 0.0


completions = st.builds(
    lambda parts, finished: parse("".join(parts), ANSWERS, {}, finished=finished),
    st.lists(
        st.sampled_from([*TAGS, "up", "down", " ", "ZAP70", "IL-2", "LAT", REFERENCE, "\u200b"]) | st.text(max_size=4),
        max_size=10,
    ),
    st.booleans(),
) | st.builds(Completion, st.text(), st.none() | st.text(), st.none() | st.sampled_from(["up", "down", "x"]))


@pytest.mark.parametrize("name", NAMES)
@given(completion=completions)
def test_any_completion_gets_a_score(make_question, name, completion):
    """Silence never pays: where the question is covered, no completion makes a verifier abstain."""
    given_verdict = verifier(name).verify(make_question(), completion)
    assert isinstance(given_verdict, Verdict)
    assert given_verdict.score is not None
    if name != "mention" and (completion.thought is None and completion.answer is None):
        assert given_verdict.score == 0.0


@given(completion=completions)
def test_abstention_depends_on_the_question_alone(make_question, completion):
    uncovered = make_question(truth={"neighbours": None})
    assert verifier("neighbours").verify(uncovered, completion) == Verdict(None, Reason.UNCOVERED)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_a_loop_in_any_order(make_question, name):
    questions = [make_question(), make_question(truth={"neighbours": None}), make_question({"readout": "CD69"})]
    pairs = [(q, parse(text, ANSWERS, q.fields)) for q in questions for text, _ in TEXTS.values()]
    plugin = verifier(name)
    alone = [plugin.verify(*pair) for pair in pairs]
    assert list(plugin.verify_batch(pairs)) == alone
    order = random.Random(3).sample(range(len(pairs)), len(pairs))
    assert list(plugin.verify_batch([pairs[i] for i in order])) == [alone[i] for i in order]


def test_label_says_what_was_measured_and_where(make_question):
    question = make_question()
    right, wrong = verdict("label", question), verdict("label", question, reference(THOUGHT, "up"))
    assert (right.reason, wrong.reason) == (Reason.CORRECT, Reason.WRONG)
    assert right.evidence[0].record == question.id
    assert right.evidence[0].statement == wrong.evidence[0].statement == "measured: down"
    assert (right.evidence[0].supports, wrong.evidence[0].supports) == (True, False)
    assert verdict("label", question, "down").reason is Reason.UNPARSED


def test_label_does_not_pass_over_a_question_without_truth(make_question):
    question = make_question()
    blank = dataclasses.replace(question, truth={})
    with pytest.raises(KeyError):
        verdict("label", blank)


def test_neighbours_is_soft_and_ignores_the_measured_truth(make_question):
    assert verifier("neighbours").kind == "soft"
    found = [verdict("neighbours", make_question(truth={"answer": label})) for label in ("up", "down")]
    assert found[0] == found[1]
    assert found[0].evidence[0].statement == "related knockdowns say down 0.75, up 0.25"
    assert found[0].evidence[0].supports
    assert not verdict("neighbours", make_question(), reference("x", "up")).evidence[0].supports
    only_up = make_question(truth={"neighbours": {"up": 1.0}})
    assert verdict("neighbours", only_up).score == 0.0


def mention(make_question, thought, fields={}, **options):  # noqa: B006
    return verdict("mention", make_question(fields), reference(thought, "down"), **options)


@pytest.mark.parametrize(
    ("thought", "score"),
    [
        ("Knockdown of ZAP70 lowers IL-2.", 1.0),
        ("(ZAP70), “IL-2”", 1.0),
        ("`ZAP70`→IL-2-high", 1.0),
        ("ZAP70-deficient cells; anti-IL-2", 1.0),
        ("IL-2/ZAP70", 1.0),
        ("ZAP70's part in IL-2: 0.7", 1.0),
        ("ZAP70 only", 0.5),
        ("IL-2 only, IL-2 twice", 0.5),
        ("ZAP700 IL-21 XZAP70 ZAP70B", 0.0),
        ("ZAP70-AS1, ZAP70.1, NX-ZAP70", 0.0),
        ("ZAP70_x _ZAP70", 0.0),
        ("zap70 il-2", 0.0),
        ("Z\u0391P70 and IL\u20112", 0.0),
        ("ZA\u200bP70 \u200bZAP70 ZAP70\u200b ZAP70\u00ad", 0.0),
        ("ZAP70\u0336 \u202eZAP70", 0.0),
        ("\uff3a\uff21\uff30\uff17\uff10 ZAP\u06670", 0.0),
        ("éZAP70 ZAP70é ZAP70β", 0.0),
        ("the gene of the question", 0.0),
    ],
)
def test_mention_counts_whole_words(make_question, thought, score):
    found = mention(make_question, thought)
    assert found.score == score
    assert found.reason is {1.0: Reason.CORRECT, 0.5: Reason.PARTIAL, 0.0: Reason.MISSING}[score]


@pytest.mark.parametrize(
    ("readout", "asked_for"),
    [
        ("IL-2", True),
        ("IFN-gamma", True),
        ("C1orf112", True),
        ("viability", False),
        ("IL-2 high", False),
        (None, False),
    ],
)
def test_a_readout_is_asked_for_where_it_is_a_gene(make_question, readout, asked_for):
    assert mention(make_question, "ZAP70", {"readout": readout}).score == (0.5 if asked_for else 1.0)


def test_one_gene_in_both_places_counts_once(make_question):
    assert [item.record for item in mention(make_question, "ZAP70", {"readout": "ZAP70"}).evidence] == ["ZAP70"]


@pytest.mark.parametrize("fields", [{"perturbation": ""}, {"perturbation": None}])
def test_mention_has_nothing_to_say_without_a_perturbation(make_question, fields):
    assert not verifier("mention").applies(make_question(fields))
    assert verifier("mention").applies(make_question())


def test_repeating_a_name_earns_nothing_more_and_then_nothing(make_question):
    scores = [mention(make_question, " so ".join(["ZAP70"] * n)).score for n in range(1, 7)]
    assert scores == [0.5, 0.5, 0.5, 0.5, 0.0, 0.0]
    many = mention(make_question, "IL-2 and " + "ZAP70, then " * 5)
    assert (many.score, many.reason) == (0.0, Reason.STUFFED)
    assert mention(make_question, "IL-2 and " + "ZAP70, then " * 5, most=5).score == 1.0


GENES = [f"GENE{i}" for i in range(9)]


@pytest.mark.parametrize("separator", [" ", ", ", "\n- ", " 71% ", " a ", "/"])
def test_a_long_list_of_genes_is_stuffing(make_question, separator):
    allowed = separator.join(["ZAP70", *GENES[:8], "IL-2"])
    assert mention(make_question, allowed).score == 1.0
    stuffed = mention(make_question, separator.join(["ZAP70", *GENES, "IL-2"]))
    assert (stuffed.score, stuffed.reason) == (0.0, Reason.STUFFED)
    assert mention(make_question, separator.join(["ZAP70", *GENES, "IL-2"]), run=11).score == 1.0


def test_genes_with_what_they_did_are_no_list(make_question):
    told = ", ".join(f"{gene} down" for gene in GENES * 3)
    assert mention(make_question, f"ZAP70 on IL-2: like {told}.").score == 1.0


@pytest.mark.parametrize("piece", ["ZAP70", "ZAP70 ", "A", "-", "ZAP7", "\u200b", "GENE1 ", "ZAP70-", "IL-2."])
def test_a_megabyte_of_thought_earns_nothing(make_question, piece):
    found = mention(make_question, piece * (1_000_000 // len(piece)))
    assert found.score == 0.0


@given(st.text(alphabet="ZAP70IL-2.,_ \u200b\u0301\n", max_size=60))
def test_mention_never_pays_for_a_text_without_the_letters(make_question, thought):
    found = mention(make_question, thought)
    for item in found.evidence:
        assert not item.supports or item.record in thought


def test_every_verifier_reads_the_question_it_is_given():
    """Questions come from JSON: nothing but JSON values may be needed."""
    text = (
        '{"id": "a", "task": "perturbation/direction", "source": "s", "split": "train", '
        '"fields": {"perturbation": "ZAP70", "readout": "IL-2"}, '
        '"truth": {"answer": "down", "neighbours": {"down": 1, "up": 0}}}'
    )
    question = Question.from_json(text)
    assert [verdict(name, question).score for name in NAMES] == [1.0] * 4


def test_a_balanced_label_pays_a_right_answer_by_how_rare_it_is(make_question):
    shares = {"up": 0.6, "down": 0.25, "none": 0.15}
    earned = {}
    for answer in shares:
        question = make_question(truth={"answer": answer, "label_shares": shares})
        right, wrong = (Completion("", "t", given) for given in (answer, "odd"))
        verdict = verifier("label", balanced=True).verify(question, right)
        earned[answer] = verdict.score
        assert verdict.reason == Reason.CORRECT
        assert verifier("label", balanced=True).verify(question, wrong).score == 0.0
        assert verifier("label").verify(question, right).score == 1.0
    assert earned == {"up": pytest.approx(0.25), "down": pytest.approx(0.6), "none": 1.0}
    # Whatever word is always answered earns the same on average.
    assert {round(shares[answer] * score, 9) for answer, score in earned.items()} == {0.15}
    assert "up, 60% of training labels here; the rarest 15%" in str(
        verifier("label", balanced=True)
        .verify(make_question(truth={"answer": "up", "label_shares": shares}), Completion("", "t", "up"))
        .evidence
    )


def test_a_label_that_training_never_saw_earns_all_and_missing_shares_are_an_error(make_question):
    question = make_question(truth={"answer": "down", "label_shares": {"up": 0.9, "none": 0.1}})
    assert verifier("label", balanced=True).verify(question, Completion("", "t", "down")).score == 1.0
    with pytest.raises(Error, match="no label_shares in its truth"):
        verifier("label", balanced=True).verify(make_question(), Completion("", "t", "down"))
