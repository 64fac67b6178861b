"""Words of a text, and which of them name genes and terms: a lexicon of one knowledge base.

    lexicon = Lexicon.open("upstream")        built once per process
    tokens = tokenise("ZAP70 is involved in T cell activation.")
    lexicon.term(tokens, 4, 7)                what T cell activation is

A term is found by the longest match over names and exact synonyms, case folded; a gene by its symbol, an
unambiguous former symbol or alias, spelt exactly. A word with an invisible or foreign character in it is another
word. Time is linear in the text: one regular expression of disjoint classes, then look-ups in hash tables.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rlvr.knowledge import KnowledgeBase
from rlvr.knowledge.readers import COMPLEXES
from rlvr.types import Question

GENE_FIELDS = ("perturbation", "readout", "gene", "tf", "target")
LONGEST_SYMBOL = 24  # letters; a longer word is no gene
SHORTEST_NAME = 4  # letters; shorter synonyms (`AP1`) are symbols rather than terms

# Any character beyond ASCII is part of its word, so that look-alikes and zero-width characters make another word.
_TOKEN = re.compile(r"[0-9A-Za-z_\x80-\U0010ffff]+|[.!?](?=\s|$)|[?,;:()\n-]")
_POINT = re.compile(r"\.(?=[0-9A-Za-z_\x80-\U0010ffff])")  # within a word: ZNF.1 is not ZNF
# Complexes that act as one transcription factor, and how they are written.
_FACTORS = {name: name for name in COMPLEXES} | dict.fromkeys(("NF-kappaB", "NF-kB", "NFkB"), "NFKB") | {"AP-1": "AP1"}
_PLAIN = str.maketrans(
    {
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-"),
        **dict.fromkeys("\u00a0\u2002\u2003\u2009\u202f\u3000", " "),
        **dict.fromkeys("“”„«»‘’•→←≥≤×", " "),
        **dict.fromkeys("—…", " ; "),
        **{"α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "κ": "kappa"},
        **dict.fromkeys("\u2028\u2029\x85", "\n"),
    }
)
ENDS = frozenset(".!?\n")


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text's words and marks: as written, in lower case, and whether a hyphen ties each to the next."""

    words: list[str]
    low: list[str]
    tied: frozenset[int]

    def sentences(self) -> Iterable[tuple[int, int]]:
        """(first token, the closing mark's) of each sentence; one without a mark ends where the text does."""
        start = 0
        for i, word in enumerate(self.words):
            if word in ENDS:
                if i > start:
                    yield start, i
                start = i + 1
        if start < len(self.words):
            yield start, len(self.words)


def tokenise(text: str) -> Tokens:
    """The words and marks of a text. A hyphen is no word: it ties a symbol (IL-2), and names are read without it."""
    if not text.isascii():
        text = text.translate(_PLAIN)
    raw = _TOKEN.findall(_POINT.sub("_", text.replace("ignalling", "ignaling")))
    tied: set[int] = set()
    if "-" in raw:
        words: list[str] = []
        for word in raw:
            if word != "-":
                words.append(word)
            elif words:
                tied.add(len(words) - 1)
        raw = words
    return Tokens(raw, [word.lower() for word in raw], frozenset(tied))


@dataclass(frozen=True, slots=True)
class Named:
    """What a run of words names: terms that share the name. `kind`: a class noun, as `kinase` for
    `kinase activity`, which names a function only where something is said to be one."""

    length: int
    name: str
    terms: tuple[str, ...]
    kind: bool = False


class Lexicon:
    """The names of one knowledge base."""

    def __init__(self, knowledge: KnowledgeBase, names: Iterable[tuple[str, str]]) -> None:
        """`names`: (name, exact synonym or id, term id). Cell types are left out: no gene carries one."""
        self.knowledge = knowledge
        full: dict[str, list[str]] = {}
        kinds: dict[str, list[str]] = {}
        for name, term in names:
            if term.startswith("CL:") or name.casefold() == term.casefold():
                continue
            low = tokenise(name).low
            self._add(full, low, term)
            if len(low) > 1 and low[-1] == "activity":
                self._add(kinds, low[:-1], term)
            elif len(low) > 1 and low[-1] in ("pathway", "complex") and "regulation" not in low:
                self._add(full, low[:-1], term)  # `T cell receptor signaling`, `the Mediator`
        self._names = {key: (tuple(dict.fromkeys(terms)), False) for key, terms in full.items()}
        for key, terms in kinds.items():
            self._names.setdefault(key, (tuple(dict.fromkeys(terms)), True))
        lengths: dict[str, set[int]] = {}
        for key in self._names:
            words = key.split(" ")
            lengths.setdefault(" ".join(words[:2]), set()).add(len(words))
        self._lengths = {key: tuple(sorted(found, reverse=True)) for key, found in lengths.items()}
        self.first = frozenset(key.split(" ", 1)[0] for key in self._names)
        self.symbol = functools.lru_cache(1 << 16)(self._symbol)

    @staticmethod
    @functools.cache
    def open(name: str) -> Lexicon:
        """The lexicon of the knowledge base of that name, built once per process."""
        knowledge = KnowledgeBase.open(name)
        return Lexicon(knowledge, knowledge.labels())

    @staticmethod
    def _add(names: dict[str, list[str]], words: Sequence[str], term: str) -> None:
        key = " ".join(words)
        if len(key) >= SHORTEST_NAME:
            names.setdefault(key, []).append(term)

    def term(self, tokens: Tokens, at: int, end: int) -> Named | None:
        """The longest name that begins at token `at` and stops before `end`."""
        low = tokens.low
        first = low[at]
        if at + 1 < end:
            for length in self._lengths.get(f"{first} {low[at + 1]}", ()):
                name = " ".join(low[at : at + length])
                if at + length <= end and name in self._names:
                    return Named(length, name, *self._names[name])
        return Named(1, first, *self._names[first]) if first in self._names else None

    def gene(self, tokens: Tokens, at: int, end: int) -> tuple[int, str] | None:
        """(tokens, approved symbol) of the gene that begins at token `at`; `IL-2-high` begins with IL2."""
        word = tokens.words[at]
        if at not in tokens.tied:
            symbol = self.symbol(word)
            return (1, symbol) if symbol else None
        last = at
        while last in tokens.tied and last - at < 3 and last + 1 < end:
            last += 1
        for stop in range(last + 1, at, -1):
            symbol = self.symbol("-".join(tokens.words[at:stop]))
            if symbol:
                return stop - at, symbol
        return None

    def _symbol(self, word: str) -> str | None:
        """The gene that `word` names. Two capitals or digits at the least: `Was` and `set` are no genes."""
        if not 2 <= len(word) <= LONGEST_SYMBOL or not word.isascii() or word.isdigit():
            return None
        if sum(letter.isupper() or letter.isdigit() for letter in word) < 2:
            return None
        return _FACTORS.get(word) or self.knowledge.resolve(word)

    def genes_of(self, question: Question) -> dict[str, str]:
        """The question's own genes, as far as the knowledge base knows them: approved symbol -> as it is written."""
        found: dict[str, str] = {}
        for field in GENE_FIELDS:
            name = str(question.fields.get(field) or "")
            symbol = self.symbol(name)
            if symbol:
                found.setdefault(symbol, name)
        return found
