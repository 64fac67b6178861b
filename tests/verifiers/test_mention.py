"""`mention` looks for rows of genes by a short cut; it must find what a look at every word finds."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr.completions import reference
from rlvr.plugins import load
from rlvr.types import Completion, Reason
from rlvr.verifier import Verifier


def longest_run(text: str) -> int:
    """Word by word, as the verifier's docstring says it."""
    longest = current = 0
    for word in re.findall(r"[\w-]+", text):
        if sum(map(str.isalpha, word)) >= 2:
            current = current + 1 if word.isascii() and word.replace("orf", "ORF").isupper() else 0
            longest = max(longest, current)
    return longest


WORDS = ["ZAP7", "AB", "orf", "C1orf112", "XorfY", "orforf", "a", "p53", "7", "is", "Il", "ZAPβ", "éé", "x-Y", "B-2"]
SEPARATORS = [" ", ", ", "-", "\n", " a ", "", "_", " 5 ", "\ud800", "β", "\u200b"]
texts = st.lists(st.tuples(st.sampled_from(WORDS) | st.text("Aa1-", max_size=3), st.sampled_from(SEPARATORS))).map(
    lambda pairs: "".join(word + separator for word, separator in pairs)
)


@pytest.mark.slow
@settings(max_examples=500)
@given(text=texts | st.text(max_size=60), most=st.integers(0, 6))
def test_the_short_cut_finds_every_row(make_question, text, most):
    mention = load("verifiers", "mention", Verifier)(run=most)
    thought = "ZAP70. then " + text
    verdict = mention.verify(make_question({"readout": "viability"}), Completion("", thought, None))
    if thought.count("ZAP70") == 1:
        assert (verdict.reason is Reason.STUFFED) == (longest_run(thought) > most)


@pytest.mark.parametrize("gap", ["\n", ", ", " a ", " 7 "])
def test_a_row_is_found_wherever_it_stands(make_question, gap):
    mention = load("verifiers", "mention", Verifier)()
    prose, row = "the loss of it changes little here. " * 30, gap.join(["AB"] * 11)
    for at in range(0, 200, 7):
        text = reference(f"ZAP70 {prose[:at]} {row} {prose[at:]} IL-2", "down")
        thought = text.removeprefix("<think>").partition("</think>")[0]
        assert mention.verify(make_question(), Completion(text, thought, "down")).reason is Reason.STUFFED
