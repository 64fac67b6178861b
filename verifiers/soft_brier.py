"""`soft_brier`: a stated probability against an oracle's.

`rlvr score ROLLOUTS --verifier soft_brier` applies it to saved completions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlvr.oracle import LABELS, Belief
from rlvr.types import Question
from rlvr.verifier import Honest

from ._belief import Foretold, _asked
from ._common import happened


@dataclass(frozen=True)
class SoftBrier(Foretold):
    """The Brier score that a stated probability s expects where the oracle is right: 1 - p (1 - s)^2 - (1 - p) s^2,
    with p the oracle's probability of yes or of up (`brier` is the same against the measurement).

    Proper: s = p earns the most, 1 - p (1 - p). An unparsed answer scores 0, as a certain and wrong one does.
    """

    name: ClassVar[str] = "soft_brier"
    tasks: ClassVar[tuple[str, ...]] = tuple(
        f"{task}_probability" for task, labels in LABELS.items() if len(labels) == 2
    )
    proper: ClassVar[bool] = True

    def earned(self, answer: str, belief: Belief) -> float:
        stated, p = float(answer), positive(belief)
        return 1.0 - p * (1.0 - stated) ** 2 - (1.0 - p) * stated**2

    def honest(self, question: Question) -> Honest:
        """The oracle's own probability; where it abstains, certainty of what was measured."""
        belief = self.believer().probabilities([_asked(question)])[0]
        return Honest("", float(happened(question)) if belief is None else positive(belief))


def positive(belief: Belief) -> float:
    """The probability of the first label, which a stated probability is about."""
    return float(next(belief[label] for label in ("yes", "up") if label in belief))
