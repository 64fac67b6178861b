"""`mention`: the thought names the genes that the question is about."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import ClassVar
from unicodedata import category

from rlvr.types import Completion, Evidence, Question, Reason, Verdict
from rlvr.verifier import Verifier

_WORD = re.compile(r"[\w-]+")  # one character class: linear in the text


@dataclass(frozen=True)
class Mention(Verifier):
    """The share of the question's genes (perturbation, and the readout where it is a gene) that stand as
    whole words, spelt exactly, in the thought.

    Saying a name twice earns no more than once. The score is 0 where the thought is stuffed: one of these
    names more than `most` times, or more than `run` gene-like words in a row with no other word between.
    """

    name: ClassVar[str] = "mention"
    most: int = 4
    run: int = 10

    def applies(self, question: Question) -> bool:
        return bool(question.fields.get("perturbation"))

    def verify(self, question: Question, completion: Completion) -> Verdict:
        thought = completion.thought
        if thought is None:
            return Verdict(0.0, Reason.UNPARSED)
        counts = {gene: count_word(thought, gene) for gene in _genes(question)}
        evidence = tuple(
            Evidence("thought", gene, f"{gene} is named {count} times", count > 0) for gene, count in counts.items()
        )
        if max(counts.values()) > self.most or _has_run(thought, self.run):
            return Verdict(0.0, Reason.STUFFED, evidence)
        found = sum(count > 0 for count in counts.values())
        if found == len(counts):
            return Verdict(1.0, Reason.CORRECT, evidence)
        return Verdict(found / len(counts), Reason.PARTIAL if found else Reason.MISSING, evidence)


def _genes(question: Question) -> list[str]:
    """The names to be found, each once. A readout of several words, or all lower case, is no gene."""
    perturbation = str(question.fields["perturbation"])
    readout = str(question.fields.get("readout") or "")
    is_gene = readout != readout.lower() and len(readout.split()) == 1
    return list(dict.fromkeys([perturbation, readout] if is_gene else [perturbation]))


def count_word(text: str, word: str) -> int:
    """How often `word` (not empty) stands in `text` as a whole word."""
    count, at = 0, text.find(word)
    while at >= 0:
        end = at + len(word)
        before = _is_edge(text[at - 1 : at], text[at - 2 : at - 1]) if at else True
        count += before and _is_edge(text[end : end + 1], text[end + 1 : end + 2])
        at = text.find(word, end)
    return count


def _is_edge(near: str, beyond: str) -> bool:
    """Whether a word stops before the character `near`, which `beyond` follows; '' is the text's end.

    Space, punctuation and symbols are edges. A hyphen inside a name (ZEB2-AS1) is none, nor a point
    before a digit; letters of any script, combining marks and invisible characters never are.
    """
    if (near == "-" and (beyond.isupper() or beyond.isdigit())) or (near == "." and beyond.isdigit()):
        return False
    return not near or near.isspace() or (near != "_" and category(near)[0] in "PS")


def _has_run(text: str, most: int) -> bool:
    """Whether more than `most` gene-like words stand in a row. Numbers and single letters neither count nor
    break a row."""
    text = text.replace("orf", "ORF")  # C1orf112 is a gene
    return _stretch(3 * most + 2).match(text) is not None and _longest_run(text) > most


@cache
def _stretch(length: int) -> re.Pattern[str]:
    """Matches a text that somewhere has `length` characters without two small letters side by side. No gene-like
    word has two, prose has them everywhere: this is ten times cheaper than a look at every word. Possessive, so
    that it looks at each character `length` times at most."""
    return re.compile(rf"(?s:.{{0,{length - 2}}}[a-z]{{2}})*+(?s:.{{{length}}})")


def _longest_run(text: str) -> int:
    longest = current = 0
    for word in _WORD.findall(text):
        if word.isupper() and word.isascii():
            current += _is_word(word)
            longest = max(longest, current)
        elif current and _is_word(word):
            current = 0
    return longest


def _is_word(word: str) -> bool:
    return sum(map(str.isalpha, word)) >= 2
