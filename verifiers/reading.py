"""`reading`: the thought reads the evidence that the prompt shows, and compares it rightly.

`rlvr score ROLLOUTS --verifier reading` applies it to saved completions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rlvr.rationales import leading
from rlvr.types import Completion, Evidence, Question, Reason, Verdict
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

    def verify(self, question: Question, completion: Completion) -> Verdict:
        thought = completion.thought
        if thought is None or completion.answer is None:
            return Verdict(0.0, Reason.UNPARSED)
        if len(thought) > LONGEST:
            return Verdict(0.0, Reason.TOO_LONG)
        said, shown = _WORD.findall(thought), question.fields["evidence"]
        measured = bool(question.truth.get("contrastive"))
        read = [_beside(said, _WORD.findall(item["perturbation"]), _due(question, item, measured)) for item in shown]
        facts = [
            Evidence("prompt", str(item["perturbation"]), " ".join(_due(question, item, measured)), right)
            for item, right in zip(shown, read, strict=True)
        ]
        score = sum(read) / len(read)
        if measured:
            close, due = self._compared(said, question)
            facts.append(Evidence("prompt", question.id, due, close == 1.0))
            score = (score + close) / 2
        reason = Reason.CORRECT if score == 1.0 else Reason.PARTIAL if score > 0.0 else Reason.WRONG
        return Verdict(score, reason, tuple(facts))

    def honest(self, question: Question) -> Honest:
        measured = bool(question.truth.get("contrastive"))
        items = [
            f"{item['perturbation']} {' '.join(_due(question, item, measured))}" for item in question.fields["evidence"]
        ]
        end = f": {_comparison(question)}" if measured else ""
        return Honest(f"Like {', '.join(items)}{end}.", question.truth["answer"])

    def _compared(self, said: Sequence[str], question: Question) -> tuple[float, str]:
        """How right the comparison is, in [0, 1], and what it should be."""
        due = _comparison(question)
        label, lead = leading(question.fields["evidence"])
        ends = [at for at, word in enumerate(said) if word in ("leads", "even", "only")]
        if len(ends) != 1:
            return 0.0, due
        at = ends[0]
        if lead is None or said[at] == "only":
            return float(said[at : at + 2] == due.split()), due
        if said[at] == "even":
            return max(0.0, 1 - lead / self.leeway), due
        ahead, number = said[at - 1] if at else "", _number(said[at + 2 : at + 3])
        words = {_word(question, item["answer"]) for item in question.fields["evidence"]}
        if said[at + 1 : at + 2] != ["by"] or number is None or ahead not in words:
            return 0.0, due
        far = abs(lead - number) if ahead == _word(question, label) else lead + number
        return max(0.0, 1 - far / self.leeway), due


def _comparison(question: Question) -> str:
    label, lead = leading(question.fields["evidence"])
    word = _word(question, label)
    return f"only {word}" if lead is None else f"{word} leads by {lead:02d}" if lead else "even"


def _due(question: Question, item: Mapping[str, Any], measured: bool) -> list[str]:
    """What has to stand beside a knockdown."""
    word = _word(question, item["answer"])
    return [word, f"{item['similarity']:02d}"] if measured else [word]


def _word(question: Question, label: str) -> str:
    return str(question.fields.get("words", {}).get(label, label))


def _beside(said: Sequence[str], name: Sequence[str], due: Sequence[str]) -> bool:
    """Whether the name stands once, and what is due right after it, in any order."""
    size = len(name)
    places = [at for at in range(len(said) - size + 1) if said[at] == name[0] and list(said[at : at + size]) == name]
    if len(places) != 1:
        return False
    beside = said[places[0] + size : places[0] + size + len(due)]
    return sorted(map(_plain, beside)) == sorted(map(_plain, due))


def _plain(word: str) -> str:
    """Numbers without the zeros before them."""
    number = _number([word])
    return word if number is None else str(number)


def _number(words: Sequence[str]) -> int | None:
    for word in words:
        if word.isascii() and word.isdigit() and len(word) <= NUMBER:
            return int(word)
    return None
