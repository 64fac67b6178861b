"""Finds in a completion what its verifiers checked, so that the page can mark it with what was found.

    mark("ZAP70 is a kinase.", facts("claims", '[{"statement": "ZAP70 has kinase activity: supported", ...}]'))

A verdict's evidence says what was checked, not where it stood. It stands where the gene and the term of a checked
statement meet in one sentence, or where the record (an identifier, a gene) is written. What is found nowhere is not
marked; the page lists every fact beside the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rlvr.invisible import printable

MOST, LONGEST = 24, 300  # facts of one verdict; characters of each part of a fact
STATED = re.compile(
    r"(?P<gene>[^\s]+) (?:not )?\w+ (?P<name>.+): (?P<status>supported|contradicted|unknown|vague)", re.DOTALL
)
SENTENCE = re.compile(r"(?:[^.!?\n]|\.(?=[^\s]))+")  # a full stop within a word (v1.2) ends nothing
Segment = str | tuple[str, str, str]  # plain text, or (text, status, what was found and where it is written)


@dataclass(frozen=True)
class Fact:
    """One piece of a verdict's evidence. status: supported, contradicted, unknown, vague; against, where it speaks
    against the answer or the citation; named or not named, where only the text was searched."""

    verifier: str
    statement: str
    status: str
    source: str
    record: str

    @property
    def told(self) -> str:
        return f"{self.statement} ({', '.join(part for part in (self.source, self.record) if part)}; {self.verifier})"


def facts(verifier: str, kept: Any) -> list[Fact]:
    """The facts of a `<verifier>/evidence` cell, JSON; none where it cannot be read."""
    try:
        items = json.loads(kept) if isinstance(kept, str) else []
    except (ValueError, RecursionError):
        items = []
    found = [item for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []
    return [_fact(verifier, item) for item in found[:MOST]]


def _fact(verifier: str, item: Mapping[str, Any]) -> Fact:
    statement, source, record = (
        printable("" if item.get(key) is None else str(item[key]), LONGEST) for key in ("statement", "source", "record")
    )
    stated = STATED.fullmatch(statement)
    if stated:
        status = stated["status"]
    elif source == "thought":  # the text itself was searched: nothing was checked against anything
        status = "named" if item.get("supports") else "not named"
    else:
        status = "supported" if item.get("supports") else "against"
    return Fact(verifier, statement, status, source, record)


def mark(text: str, found: Iterable[Fact]) -> list[Segment]:
    """The text in order, cut into plain and marked pieces that together are the text. Statements come before
    identifiers, and pieces never overlap."""
    spans: list[tuple[int, int, Fact]] = []
    for fact in sorted(found, key=lambda fact: (STATED.fullmatch(fact.statement) is None, fact.status == "named")):
        span = _span(text, fact)
        if span and not any(span[0] < end and start < span[1] for start, end, _ in spans):
            spans.append((*span, fact))
    pieces: list[Segment] = []
    at = 0
    for start, end, fact in sorted(spans, key=lambda span: span[0]):
        pieces += [text[at:start]] if start > at else []
        pieces.append((text[start:end], fact.status, fact.told))
        at = end
    return pieces + ([text[at:]] if at < len(text) else [])


def _span(text: str, fact: Fact) -> tuple[int, int] | None:
    stated = STATED.fullmatch(fact.statement)
    if not stated:
        return _word(text, fact.record, 0, len(text)) if len(fact.record) > 1 else None
    for sentence in SENTENCE.finditer(text):
        gene = _word(text, stated["gene"], *sentence.span())
        name = _word(text, stated["name"], *sentence.span())
        if gene and name:
            return min(gene[0], name[0]), max(gene[1], name[1])
    return None


def _word(text: str, word: str, start: int, end: int) -> tuple[int, int] | None:
    """Where the word stands, as a word of its own, in any case."""
    found = _whole(word).search(text, start, end)
    return found.span() if found else None


def _whole(word: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-]){re.escape(word)}(?![\w-])", re.IGNORECASE)
