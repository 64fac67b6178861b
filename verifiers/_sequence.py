"""What the sequence verifiers share: reading a question's DNA, and grading letters against the right ones."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any

from Bio.Align import PairwiseAligner

from rlvr.types import Completion, Error, Evidence, Question, Reason, Verdict

MOST_BASES = 2000  # an alignment of two such sequences takes some hundredths of a second


def dna(question: Question) -> str:
    """The question's sequence, in upper case. Errors: it is empty or too long to grade in time."""
    sequence = str(question.fields["sequence"])
    if not 0 < len(sequence) <= MOST_BASES:
        raise Error(f"question {question.id}: its sequence has {len(sequence)} letters; give 1 to {MOST_BASES}")
    return sequence.upper()


def agree(question: Question, right: Collection[str]) -> None:
    """Stop where the question's own answer is not among those computed here: its source is broken."""
    stated = question.truth["answer"]
    if stated not in right:
        computed = " or ".join(sorted(right)) or "nothing"
        raise Error(f"question {question.id}: source {question.source} says {stated!r}, its fields give {computed}")


def grade(
    question: Question, completion: Completion, right: Collection[str], statement: str, *, partial: bool
) -> Verdict:
    """1.0 for any of the `right` sequences; else 0.0 or, if `partial`, `closeness` to the nearest."""
    agree(question, right)
    answer = completion.answer
    if answer is None:
        return Verdict(0.0, Reason.UNPARSED)
    evidence = (Evidence("Biopython", question.id, statement, answer in right),)
    if answer in right:
        return Verdict(1.0, Reason.CORRECT, evidence)
    score = max(closeness(answer, letters) for letters in right) if partial else 0.0
    return Verdict(score, Reason.PARTIAL if score else Reason.WRONG, evidence)


def closeness(answer: str, right: str) -> float:
    """How near a wrong answer is, in [0, 1): the score of a global alignment (match 1, mismatch -1, gap -2), on a scale
    where the best run of one repeated letter, of any length, is 0 and the right answer 1."""
    # Outside these lengths gaps cost at least what all matches could earn.
    if not 2 * len(right) < 3 * len(answer) < 4.5 * len(right):
        return 0.0
    constant = max(0, 2 * max(right.count(letter) for letter in set(right)) - len(right))
    if constant == len(right):
        return 0.0
    score = float(_aligner().score(answer, right))
    return max(0.0, (score - constant) / (len(right) - constant))


@cache
def _aligner() -> Any:
    return PairwiseAligner(mode="global", match_score=1.0, mismatch_score=-1.0, gap_score=-2.0)
