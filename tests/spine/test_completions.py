"""The grammar of completions, accepted and refused texts side by side, and against a second reading."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rlvr.answers import Choice
from rlvr.completions import TAGS, completion_text, parse, reference, with_thought
from rlvr.lenient import lenient

ANSWERS = Choice({"up": "up", "down": "down", "unknown": "none"})
GOOD = "<think>LAT went down.</think>\n<answer>down</answer>"

ACCEPTED = {
    "as written by reference": (reference("LAT went down.", "down"), "down"),
    "space around every part": ("  <think> x </think> \n\t <answer>\n down \n</answer> \n", "down"),
    "no space at all": ("<think>x</think><answer>up</answer>", "up"),
    "capitals in the word": ("<think>x</think><answer>UP</answer>", "up"),
    "a word whose label differs": ("<think>x</think><answer>unknown</answer>", "none"),
    "an empty thought": ("<think></think><answer>up</answer>", "up"),
    "other markup in the thought": ("<think><b>x</b> a < b </ think ></think><answer>up</answer>", "up"),
    "the other word in the thought": ("<think>up or down, both?</think><answer>up</answer>", "up"),
    "a thought that the template has opened": ("\nLAT went down.</think>\n<answer>down</answer>", "down"),
    "the same, empty": ("</think><answer>down</answer>", "down"),
}
# The structure stands, so a thought is given, but no answer.
NO_ANSWER = {
    "both answers": "<think>x</think><answer>up down</answer>",
    "both answers, a comma": "<think>x</think><answer>up,down</answer>",
    "hedged": "<think>x</think><answer>up or down</answer>",
    "empty": "<think>x</think><answer></answer>",
    "a full stop": "<think>x</think><answer>up.</answer>",
    "a word not allowed": "<think>x</think><answer>higher</answer>",
    "markup around the word": "<think>x</think><answer><b>up</b></answer>",
    "zero-width space in the word": "<think>x</think><answer>u\u200bp</answer>",
    "zero-width space before the word": "<think>x</think><answer>\u200bup</answer>",
    "byte order mark after the word": "<think>x</think><answer>up\ufeff</answer>",
    "soft hyphen in the word": "<think>x</think><answer>do\u00adwn</answer>",
    "Cyrillic letter": "<think>x</think><answer>d\u043ewn</answer>",
    "full-width letters": "<think>x</think><answer>\uff55\uff50</answer>",
    "combining mark": "<think>x</think><answer>up\u0301</answer>",
    "Kelvin sign for k": "<think>x</think><answer>un\u212anown</answer>",
    "right-to-left override": "<think>x</think><answer>\u202epu</answer>",
    "NUL": "<think>x</think><answer>up\x00</answer>",
}
MALFORMED = {
    "nothing": "",
    "a bare word": "down",
    "no thought": "<answer>down</answer>",
    "no answer": "<think>x</think>",
    "cut off": "<think>x</think><answer>down",
    "words before": "Sure! " + GOOD,
    "words after": GOOD + " I hope this helps.",
    "words between": "<think>x</think> so <answer>down</answer>",
    "zero-width space after": GOOD + "\u200b",
    "answered twice": GOOD + "<answer>down</answer>",
    "answered both ways": "<think>x</think><answer>up</answer><answer>down</answer>",
    "thought twice": "<think>x</think><think>y</think><answer>down</answer>",
    "answer before thought": "<answer>down</answer><think>x</think>",
    "answer inside the thought": "<think>x<answer>down</answer></think>",
    "answer in the thought as well": "<think>x <answer>up</answer></think><answer>down</answer>",
    "an empty answer inside the thought": "<think><answer></answer></think>",
    "tag inside tag": "<think>x</think><answer><answer>down</answer></answer>",
    "tag spliced into a tag": "<think>x</think><ans<answer>wer>down</answer>",
    "tags crossed": "<think>x<answer></think>down</answer>",
    "thought inside the answer": "<answer><think>x</think>down</answer>",
    "thought opened twice": "<think><think>x</think><answer>down</answer>",
    "closing tags first": "</think>x<think></answer>down<answer>",
    "words between, the thought opened by the template": "x</think> so <answer>down</answer>",
    "closed twice, the thought opened by the template": "x</think></think><answer>down</answer>",
    "an answer before it, the thought opened by the template": "<answer>up</answer></think><answer>down</answer>",
    "neither tag of a thought": "x <answer>down</answer>",
    "capitals in a tag": "<THINK>x</THINK><answer>down</answer>",
    "a space in a tag": "<think>x</think><answer >down</answer>",
    "zero-width space in a tag": "<think>x</think><ans\u200bwer>down</answer>",
}


@pytest.mark.parametrize(("text", "label"), ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(text, label):
    read = parse(text, ANSWERS, {})
    assert read.answer == label
    assert read.thought is not None
    assert read.text == text


@pytest.mark.parametrize("text", NO_ANSWER.values(), ids=NO_ANSWER)
def test_structure_without_an_allowed_word(text):
    read = parse(text, ANSWERS, {})
    assert (read.thought, read.answer) == ("x", None)


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
def test_malformed(text):
    read = parse(text, ANSWERS, {})
    assert (read.thought, read.answer) == (None, None)


@pytest.mark.parametrize("text", [GOOD, GOOD + "\n"])
def test_an_unfinished_completion_has_no_answer(text):
    read = parse(text, ANSWERS, {}, finished=False)
    assert (read.thought, read.answer, read.finished) == ("LAT went down.", None, False)


fragments = st.sampled_from(
    [*TAGS, "up", "down", " ", "\n", "\u00a0", "\u200b", "x", "<", ">", "<THINK>", "</", "\x00", "\ud800"]
)
texts = st.lists(fragments | st.text(max_size=3), max_size=14).map("".join) | st.text()
NO_TAG = r"(?:(?!</?think>|</?answer>).)*"
GRAMMAR = re.compile(rf"\s*(?:<think>)?({NO_TAG})</think>\s*<answer>({NO_TAG})</answer>\s*", re.DOTALL)


@given(texts)
@example(GOOD)
@example("<think><answer></answer></think>")
def test_it_agrees_with_the_grammar_written_as_a_pattern(text):
    read, match = parse(text, ANSWERS, {}), GRAMMAR.fullmatch(text)
    if match is None:
        assert (read.thought, read.answer) == (None, None)
    else:
        word = match[2].strip()
        assert read.thought == match[1].strip()
        assert read.answer == (ANSWERS.table.get(word.lower()) if word.isascii() else None)


@given(st.text(), st.sampled_from(list(ANSWERS.table)))
def test_reading_what_was_read_changes_nothing(thought, word):
    first = parse(reference(thought, word), ANSWERS, {})
    if any(tag in thought for tag in TAGS):
        assert first.thought is None
        return
    assert (first.thought, first.answer) == (thought.strip(), ANSWERS.table[word])
    again = parse(reference(first.thought, word), ANSWERS, {})
    assert (again.thought, again.answer) == (first.thought, first.answer)
    assert lenient(first.text, ANSWERS, {}) == first.answer


@given(st.sampled_from(TAGS), st.integers(0, len(GOOD)))
def test_one_tag_more_anywhere_is_no_answer(tag, at):
    assert parse(GOOD[:at] + tag + GOOD[at:], ANSWERS, {}).answer is None


@pytest.mark.parametrize("piece", [*TAGS, "<", "a", " ", "<think", "\u200b", "<answer>up</answer>"])
def test_a_megabyte_of_anything_is_read(piece):
    bulk = piece * (1_000_000 // len(piece))
    assert parse(bulk, ANSWERS, {}).answer is None
    assert parse(f"<think>x</think><answer>{bulk}up</answer>", ANSWERS, {}).answer == ("up" if piece == " " else None)
    thought = parse(f"<think>{bulk}</think><answer>up</answer>", ANSWERS, {}).thought
    assert thought == (None if any(tag in piece for tag in TAGS) else bulk.strip())
    assert lenient(bulk, ANSWERS, {}) == ("up" if "up" in piece else None)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("I say <answer>**Up.**</answer> and that is all", "up"),
        ("<answer>up</answer><answer>down</answer>", "down"),
        ("<answer>down", "down"),
        (" Down. ", "down"),
        ("weighing it\n</think>\n\n**Down.**", "down"),  # the template opened the thought
        ("<think>up</think> Answer: DOWN.", "down"),
        ("**Answer:** up", "up"),
        ("**Answer**: _Up_", "up"),
        ("The final answer is \\boxed{up}.", "up"),
        ("So $\\boxed{\\text{down}}$", "down"),
        ('{"answer": "up"}', "up"),
        ('```json\n{"reason": "down is rare", "Answer": "Up"}\n```', "up"),
        ("LAT is needed.\n\nIL-2 goes down", "down"),
        ("Answer:\nup", "up"),
        ("Antwort \u2014 na\u00efve. Answer: up", "up"),
        ("Answer: up or down", None),
        ("It may go up, or down", None),
        ("not up but down", None),
        ('{"answer": "up", "Answer": "down"}', None),
        ('{"answer": ["up", "down"]}', None),
        ("up</think>", None),  # a thought is no answer
        ("Down the pathway, things are unclear", None),
        ("<answer>up or down</answer>", None),
        ("", None),
    ],
)
def test_lenient(text, label):
    assert lenient(text, ANSWERS, {}) == label


def test_text_of_messages_is_what_the_policy_wrote():
    messages = [
        {"role": "assistant", "content": "<think>x</think>"},
        {"role": "tool", "content": "<answer>up</answer>"},
        {"role": "assistant", "content": None},
        {"role": "assistant", "content": "<answer>down</answer>"},
    ]
    assert parse(completion_text(messages), ANSWERS, {}).answer == "down"
    assert completion_text("as it is é") == "as it is é"
    assert completion_text([]) == ""


@given(texts)
def test_text_can_always_be_written_to_a_file(text):
    written = completion_text([{"role": "assistant", "content": text}]).encode("utf-8")
    assert len(written) >= len(text)


@pytest.mark.parametrize(
    "turn",
    [
        {"content": "<think>LAT went down.</think>\n<answer>down</answer>"},
        {"content": "LAT went down.</think>\n<answer>down</answer>"},
        {"content": "<answer>down</answer>", "reasoning_content": "LAT went down."},
        {"content": "\n\n<answer>down</answer>", "reasoning": "LAT went down."},
        {"content": [{"type": "text", "text": "<think>LAT went down.</think>"}, {"text": "<answer>down</answer>"}]},
        {
            "content": [
                {"type": "thinking", "thinking": "LAT went down."},
                {"type": "text", "text": "<answer>down</answer>"},
            ]
        },
        {"content": [{"type": "reasoning", "reasoning": "LAT went down."}, "<answer>down</answer>"]},
        {"content": GOOD, "reasoning_content": "a draft that the model was not asked for"},
    ],
)
def test_a_thought_is_read_wherever_a_server_puts_it(turn):
    read = parse(completion_text([{"role": "assistant", **turn}]), ANSWERS, {})
    assert (read.thought, read.answer) == ("LAT went down.", "down")


def test_a_thought_that_was_split_off_cannot_hide_an_answer():
    both = with_thought("<answer>up</answer>", "<answer>down</answer>")
    assert parse(both, ANSWERS, {}).answer is None
    assert with_thought(None, "x") == with_thought("", "x") == "x"
