"""Types of answer: what is written reads back, what is not of the type is no answer, and nothing is evaluated."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr.answers import MOST_ITEMS, Choice, Items, Letters, Number, Numbers, Options, Probability, build
from rlvr.types import Error

NAMES = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=8)
FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)
FIELDS = {"options": ["B cell", "CD4-positive, alpha-beta T cell"]}
EVERY = [Choice({"up": "up"}), Options(), Items(), Items("|"), Number(), Probability(), Numbers(), Letters()]


@given(st.lists(NAMES, min_size=1, max_size=20), st.sampled_from([",", "|"]))
def test_items_read_back(names, separator):
    kind = Items(separator)
    assert json.loads(kind.read(kind.write(names), {})) == names


@given(st.dictionaries(NAMES, FINITE, min_size=1, max_size=20))
def test_numbers_read_back(amounts):
    assert json.loads(Numbers().read(Numbers().write(amounts), {})) == amounts


@given(FINITE)
def test_a_number_reads_back(value):
    assert float(Number().read(Number().write(value), {})) == value


@given(st.text(alphabet="acgtnACGTN* \n", min_size=1))
def test_letters_are_upper_case_without_white_space(text):
    wanted = "".join(text.split()).upper()
    assert Letters().read(text, {}) == (wanted or None)


@given(st.text(), st.sampled_from(EVERY))
def test_any_text_is_read_or_is_no_answer(text, kind):
    """Nothing raises, and a canonical answer is stable: for numbers and lists it is JSON."""
    found = kind.read(text, FIELDS)
    assert found is None or isinstance(found, str)
    if found is not None and isinstance(kind, Number | Items | Numbers):
        json.loads(found)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Items(), "A,,B"),
        (Items(), "," * MOST_ITEMS + "A"),
        (Number(), "1_000"),
        (Number(), "nan"),
        (Number(), "1e999"),
        (Number(), "١"),  # an Arabic-Indic digit, which float() would take
        (Number(), "__import__('os')"),
        (Number(), "1" * 50),
        (Probability(), "1.01"),
        (Probability(), "80%"),
        (Probability(), "-0.1"),
        (Numbers(), "A: 1, A: 2"),
        (Numbers(), "A: x"),
        (Numbers(), ": 1"),
        (Numbers(), ""),
        (Letters(), "ACGT1"),
        (Letters(), "АСGT"),  # Cyrillic A and C
        (Options(), "T cell"),
        (Choice({"up": "up"}), "up or down"),
    ],
)
def test_what_is_not_of_the_type_is_no_answer(kind, text):
    assert kind.read(text, FIELDS) is None


def test_options_are_the_questions_own():
    assert Options().read(" b CELL\n", FIELDS) == "B cell"
    assert Options().read("b cell", {"options": ["T cell"]}) is None
    assert Options().words({}) == {}


def test_a_probability_writes_a_label_as_certainty():
    kind = build({"type": "probability", "of": "up"}, "here")
    assert [float(kind.write(label)) for label in ("up", "down")] == [1.0, 0.0]
    assert math.isclose(float(kind.read(kind.write(0.25), {})), 0.25)


@pytest.mark.parametrize(
    ("head", "told"),
    [
        ({}, "must map each allowed word"),
        (["up"], "must map each allowed word"),
        ("colour", "no type of answer 'colour'"),
        ({"type": "items", "colour": "x"}, "of type items: .*colour"),
        ({"type": "items", "separator": ""}, "separator is ''"),
        ({"type": "probability", "of": True}, "of is True"),
        ({"type": "number", "low": 2, "high": 1}, "two numbers that rise"),
        ({True: True}, "reads a word or a label of its answers as True; put it in quotes"),
        ({"up": None}, "as None; put it in quotes"),
        ({"Up": "up", "up": "down"}, "differ by more than case"),
        ({"<up>": "up"}, "hold no <"),
    ],
)
def test_a_wrong_head_is_one_clear_error(head, told):
    with pytest.raises(Error, match=told):
        build(head, "prompt x.md")
