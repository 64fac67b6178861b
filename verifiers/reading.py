"""`reading`: the thought reads the evidence that the prompt shows, and compares it rightly.

`rlvr score ROLLOUTS --verifier reading` applies it to saved completions.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from rlvr.questions.rationales import beside, compared, leading, told
from rlvr.types import Completion, Error, Evidence, Question, Reason, Verdict
from rlvr.verifier import Honest, Verifier

from ._common import UNREADABLE

LONGEST = 20_000  # characters: no thought
NUMBER = 3  # digits of a similarity or a lead
_WORD = re.compile(r"[\w-]+")  # one character class: linear in the text


@dataclass(frozen=True)
class Reading(Verifier):
    """The share of the related measurements shown that the thought repeats: the knockdown, named once, and beside it
    the word that the prompt has for its outcome. Where the evidence is contrastive, its similarity has to stand
    there too, and half of the score is for the comparison: "up leads by 65", said once, loses in proportion to how
    far it is off, and all of it from `leeway` percent on.

    A reward of the process, not of the outcome (arXiv:2305.20050): it does not look at the measured answer, so a
    thought can earn it and be wrong. It has nothing to say of a question without evidence.
    """

    name: ClassVar[str] = "reading"
    tasks: ClassVar[tuple[str, ...]] = ("perturbation/effect", "perturbation/direction")
    catches: ClassVar[frozenset[str]] = UNREADABLE | {"empty_thought"}

    leeway: int = 20

    def applies(self, question: Question) -> bool:
        return super().applies(question) and bool(question.fields.get("evidence"))

    def __post_init__(self) -> None:
        if self.leeway < 1:
            raise Error(f"reading: leeway is {self.leeway}; it must be at least 1")

    def verify(self, question: Question, completion: Completion) -> Verdict:
        thought = completion.thought
        if thought is None or completion.answer is None:
            return Verdict(0.0, Reason.UNPARSED)
        if len(thought) > LONGEST:
            return Verdict(0.0, Reason.TOO_LONG)
        said, word, contrastive = _WORD.findall(thought), _words(question), bool(question.truth.get("contrastive"))
        facts = []
        for item in question.fields["evidence"]:
            due = beside(item, word, contrastive)
            facts.append(Evidence("prompt", str(item["perturbation"]), due, _stands(said, item["perturbation"], due)))
        score = sum(fact.supports for fact in facts) / len(facts)
        if contrastive:
            close = self._compared(said, question, word)
            facts.append(Evidence("prompt", question.id, compared(question.fields["evidence"], word), close == 1.0))
            score = (score + close) / 2
        reason = Reason.CORRECT if score == 1.0 else Reason.PARTIAL if score > 0.0 else Reason.WRONG
        return Verdict(score, reason, tuple(facts))

    def honest(self, question: Question) -> Honest:
        contrastive = bool(question.truth.get("contrastive"))
        return Honest(f"{told(question.fields['evidence'], _words(question), contrastive)}.", question.truth["answer"])

    def _compared(self, said: list[str], question: Question, word: Callable[[str], str]) -> float:
        """How right the comparison is, in [0, 1]."""
        evidence = question.fields["evidence"]
        label, lead = leading(evidence)
        ends = [at for at, each in enumerate(said) if each in ("leads", "even", "only")]
        if len(ends) != 1:
            return 0.0
        at = ends[0]
        if lead is None or said[at] == "only":
            due = _WORD.findall(compared(evidence, word))
            return float(said[at : at + len(due)] == due)
        if said[at] == "even":
            return max(0.0, 1 - lead / self.leeway)
        ahead = [each for each in {item["answer"] for item in evidence} if _ends(said[:at], word(each))]
        number = _number(said[at + 2]) if said[at + 1 : at + 2] == ["by"] and len(said) > at + 2 else None
        if number is None or len(ahead) != 1:
            return 0.0
        far = abs(lead - number) if ahead == [label] else lead + number
        return max(0.0, 1 - far / self.leeway)


def _words(question: Question) -> Callable[[str], str]:
    """A label -> the prompt's word for it."""
    words = question.fields.get("words", {})
    return lambda label: str(words.get(label, label))


def _stands(said: list[str], name: str, due: str) -> bool:
    """Whether the name stands once, and what is due right after it, in any order."""
    names, after = _WORD.findall(name), _WORD.findall(due)
    places = [at for at in range(len(said)) if said[at : at + len(names)] == names]
    if len(places) != 1:
        return False
    start = places[0] + len(names)
    return sorted(map(_plain, said[start : start + len(after)])) == sorted(map(_plain, after))


def _ends(said: list[str], word: str) -> bool:
    tokens = _WORD.findall(word)
    return said[-len(tokens) :] == tokens


def _plain(word: str) -> str:
    """Numbers without the zeros before them."""
    number = _number(word)
    return word if number is None else str(number)


def _number(word: str) -> int | None:
    return int(word) if word.isascii() and word.isdigit() and len(word) <= NUMBER else None
