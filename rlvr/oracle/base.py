"""What would happen, according to something other than the question's own measurement: the contract.

    rlvr score ROLLOUTS --verifier oracle      asks one of these for the probability of each answer

An oracle gives, for each question, the probability of each label, or None where it knows nothing, and says why. What
rewards a training question must come from a fit without that question's perturbation: `Neighbours` are
cross-fitted by the source, what `rlvr oracle fit` writes is too (rlvr/oracle/fitted.py); whoever writes a
table of `Predictions` has to see to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rlvr.types import Question

Belief = Mapping[str, float]

# The labels of each task that an oracle is asked about; `p` in a table is the probability of the first.
LABELS = {
    "perturbation/effect": ("yes", "no"),
    "perturbation/direction": ("up", "down"),
    "perturbation/response": ("none", "up", "down"),
}
KEY = ("context", "perturbation", "readout")


class Oracle(ABC):
    """`says` opens the statement of its evidence, as in "related knockdowns say up 0.80"."""

    name: ClassVar[str]
    says: ClassVar[str]

    @property
    def version(self) -> str:
        """Changes whenever its answers may."""
        return "1"

    @abstractmethod
    def probabilities(self, questions: Sequence[Question]) -> list[Belief | None]:
        """For each question, label -> probability in [0, 1]; None where it is not covered."""

    def why(self, question: Question) -> str:
        """Why it abstains on a question that it does not cover."""
        return "not covered"

    def coverage(self, questions: Sequence[Question]) -> Counter[str]:
        """How many questions it covers, under "covered", and how many it abstains on, under the reason."""
        beliefs = self.probabilities(questions)
        return Counter(
            "covered" if belief is not None else self.why(question)
            for question, belief in zip(questions, beliefs, strict=True)
        )

    def source(self, question: Question) -> str:
        """What a piece of evidence names as its source."""
        return f"{self.name} {self.version}"


def key(question: Question) -> tuple[str, str, str]:
    """context, perturbation, readout, as a table spells them."""
    truth, fields = question.truth, question.fields
    return str(truth["context"]), str(fields["perturbation"]), str(fields["readout"])


@dataclass(frozen=True)
class Neighbours(Oracle):
    """The vote of related training perturbations, which the source put into `truth["neighbours"]`."""

    name: ClassVar[str] = "neighbours"
    says: ClassVar[str] = "related knockdowns say"

    def probabilities(self, questions: Sequence[Question]) -> list[Belief | None]:
        return [question.truth.get("neighbours") for question in questions]

    def source(self, question: Question) -> str:
        return question.source
