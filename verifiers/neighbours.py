"""`neighbours`: how probable related measurements make the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from rlvr.types import Completion, Evidence, Question, Reason, Verdict
from rlvr.verifier import Verifier


@dataclass(frozen=True)
class Neighbours(Verifier):
    """The probability of the given answer under `truth["neighbours"]`, a vote of related training
    perturbations that the source cross-fitted: the question's own measurement has no part in it.

    Abstains on a question of which the vote knows nothing (None). An answer that it does not list
    has probability 0.
    """

    name: ClassVar[str] = "neighbours"
    kind: ClassVar[Literal["hard", "soft"]] = "soft"

    def verify(self, question: Question, completion: Completion) -> Verdict:
        vote = question.truth.get("neighbours")
        if vote is None:
            return Verdict(None, Reason.UNCOVERED)
        if completion.answer is None:
            return Verdict(0.0, Reason.UNPARSED)
        probability = float(vote.get(completion.answer, 0.0))
        said = ", ".join(f"{label} {share:.2f}" for label, share in sorted(vote.items()))
        supports = probability == max(vote.values())
        evidence = Evidence(question.source, question.id, f"related knockdowns say {said}", supports)
        return Verdict(probability, Reason.BELIEF, (evidence,))
