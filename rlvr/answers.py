"""What may stand between <answer> and </answer>: the types of answer that a prompt's head can name.

    answers: {up: up, down: down}                 a closed set: word -> label            Choice
    answers: options                              one of the question's own `options`    Options
    answers: {type: items, separator: "|"}        a list                                 Items
    answers: {type: probability, of: "yes"}       a number in [0, 1]                     Probability
    answers: number | numbers | sequence          one number; NAME: number, ...; letters Number, Numbers, Letters

`read` turns a word into the canonical answer that verifiers see, a string: the label, or JSON for lists and
mappings. Anything else is None. All reading is linear in the text, and nothing is evaluated.
"""

from __future__ import annotations

import json
import math
import string
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlvr.types import Error

Fields = Mapping[str, Any]
MOST_ITEMS = 1000
MOST_LETTERS = 100_000
# Only ASCII letters lose their case: str.lower would also turn look-alikes (the Kelvin sign) into letters.
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_UPPER = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)


def fold(word: str) -> str:
    """A word without surrounding white space, its ASCII letters in lower case."""
    return word.strip().translate(_LOWER)


class Answers(ABC):
    """A type of answer."""

    @abstractmethod
    def read(self, text: str, fields: Fields) -> str | None:
        """The canonical answer, or None where `text` is no well-formed answer to a question with these fields."""

    @abstractmethod
    def write(self, value: Any) -> str:
        """What a reader of `truth["answer"]` would put between the tags; `read` takes it back."""

    def words(self, fields: Fields) -> Mapping[str, str]:
        """word -> label, where the set is closed; empty where it is open."""
        return {}


@dataclass(frozen=True)
class Choice(Answers):
    """One word of a closed set; `table` maps each word, in lower case, to its label."""

    table: Mapping[str, str]

    def read(self, text: str, fields: Fields) -> str | None:
        return self.table.get(fold(text))

    def write(self, value: Any) -> str:
        for word, label in self.table.items():
            if label == value:
                return word
        raise Error(f"no allowed answer has the label {value!r}; the prompt's head gives {dict(self.table)}")

    def words(self, fields: Fields) -> Mapping[str, str]:
        return self.table


@dataclass(frozen=True)
class Options(Answers):
    """One of the question's own options, `fields["options"]`: names, which differ from question to question."""

    def read(self, text: str, fields: Fields) -> str | None:
        return self.words(fields).get(fold(text))

    def write(self, value: Any) -> str:
        return str(value)

    def words(self, fields: Fields) -> Mapping[str, str]:
        return {fold(str(name)): str(name) for name in fields.get("options", ())}


@dataclass(frozen=True)
class Items(Answers):
    """A list of names in order; canonical form: a JSON array of strings. Empty items are no answer."""

    separator: str = ","

    def __post_init__(self) -> None:
        if not isinstance(self.separator, str) or not self.separator.strip():
            raise TypeError(f"separator is {self.separator!r}; give a character")

    def read(self, text: str, fields: Fields) -> str | None:
        if text.count(self.separator) >= MOST_ITEMS:
            return None
        items = [item.strip() for item in text.split(self.separator)]
        return json.dumps(items, ensure_ascii=False) if all(items) else None

    def write(self, value: Any) -> str:
        return f"{self.separator} ".join(map(str, value))


@dataclass(frozen=True)
class Number(Answers):
    """One finite number, in ASCII digits; canonical form: Python's repr of the float."""

    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise TypeError(f"low is {self.low!r}, high is {self.high!r}; give two numbers that rise")

    def read(self, text: str, fields: Fields) -> str | None:
        value = number(text)
        return repr(value) if value is not None and self.low <= value <= self.high else None

    def write(self, value: Any) -> str:
        return repr(float(value))


@dataclass(frozen=True)
class Probability(Number):
    """The stated probability that the label is `of`, in [0, 1]. A truth is written as 1 or 0."""

    low: float = 0.0
    high: float = 1.0
    of: str = "yes"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.of, str):
            raise TypeError(f"of is {self.of!r}; give a label, in quotes where YAML reads it as something else")

    def write(self, value: Any) -> str:
        return repr(float(value == self.of)) if isinstance(value, str) else super().write(value)


@dataclass(frozen=True)
class Numbers(Answers):
    """Numbers by name, `NAME: 1.5, NAME: -0.2`; canonical form: a JSON object. A name given twice is no answer."""

    def read(self, text: str, fields: Fields) -> str | None:
        if text.count(":") > MOST_ITEMS:
            return None
        found: dict[str, float] = {}
        for entry in text.replace("\n", ",").split(","):
            if not entry.strip():
                continue
            name, _, digits = entry.rpartition(":")
            value = number(digits)
            if not name.strip() or value is None or name.strip() in found:
                return None
            found[name.strip()] = value
        return json.dumps(found, ensure_ascii=False) if found else None

    def write(self, value: Any) -> str:
        return ", ".join(f"{name}: {float(amount)!r}" for name, amount in value.items())


@dataclass(frozen=True)
class Letters(Answers):
    """A sequence of residues: ASCII letters and `*`, white space left out, in upper case."""

    def read(self, text: str, fields: Fields) -> str | None:
        if len(text) > MOST_LETTERS:
            return None
        letters = "".join(text.split()).translate(_UPPER)
        return letters if letters and not letters.strip(string.ascii_uppercase + "*") else None

    def write(self, value: Any) -> str:
        return str(value)


def number(text: str) -> float | None:
    """A finite decimal number in ASCII, as in `-1.5e-3`; None for anything else float() would take."""
    text = text.strip()
    if not text or len(text) > 40 or text.strip("0123456789+-.eE"):
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


NAMED: dict[str, type[Answers]] = {
    "options": Options,
    "items": Items,
    "number": Number,
    "probability": Probability,
    "numbers": Numbers,
    "sequence": Letters,
}


def build(head: Any, where: str) -> Answers:
    """The type of answer that a prompt's head names; see the head of this file."""
    if isinstance(head, str):
        head = {"type": head}
    if not isinstance(head, dict) or not head:
        raise Error(f"{where}: answers must map each allowed word to its label, or name one of {', '.join(NAMED)}")
    if "type" not in head:
        return _choice(head, where)
    options = {key: value for key, value in head.items() if key != "type"}
    if head["type"] not in NAMED:
        raise Error(f"{where}: no type of answer {head['type']!r}; known: {', '.join(NAMED)}")
    try:
        return NAMED[head["type"]](**options)
    except TypeError as error:
        raise Error(f"{where}: answers of type {head['type']}: {error}") from error


def _choice(head: Mapping[Any, Any], where: str) -> Choice:
    """A closed set. YAML makes truth values of a bare yes and no, and nothing of a bare null: neither is a word."""
    unread = next((item for pair in head.items() for item in pair if item is None or isinstance(item, bool)), "")
    if unread != "":
        raise Error(f"{where}: YAML reads a word or a label of its answers as {unread!r}; put it in quotes")
    table = {fold(str(word)): str(label) for word, label in head.items()}
    if len(table) < len(head) or "" in table or any("<" in word for word in table):
        raise Error(
            f"{where}: its allowed answers {', '.join(map(str, head))} must differ by more than case, and hold no <"
        )
    return Choice(table)
