"""What `neighbours` and `oracle` share: the score is the probability that an oracle gives to the answer.

Apart from `_common.py`, because an oracle's tables need pandas and most verifiers do not. The command that uses it is
whatever names one of the two, as in `rlvr score ROLLOUTS --verifier oracle`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from rlvr.oracle import LABELS, Oracle
from rlvr.types import Completion, Evidence, Question, Reason, Verdict
from rlvr.verifier import Honest, Pair, Verifier

from ._common import UNREADABLE


@dataclass(frozen=True)
class Believed(Verifier):
    """The probability that an oracle gives to the answer; it abstains where the oracle covers nothing.

    An answer that the oracle does not list has probability 0. The measured truth has no part in it. Two answers
    may be equally probable, so that always giving the usual one is not caught on every question.
    """

    kind: ClassVar[Literal["hard", "soft"]] = "soft"
    tasks: ClassVar[tuple[str, ...]] = tuple(LABELS)
    catches: ClassVar[frozenset[str]] = UNREADABLE

    @abstractmethod
    def believer(self) -> Oracle:
        """The oracle that is asked."""

    def verify(self, question: Question, completion: Completion) -> Verdict:
        return self.verify_batch([(question, completion)])[0]

    def verify_batch(self, pairs: Sequence[Pair]) -> Sequence[Verdict]:
        oracle = self.believer()
        beliefs = oracle.probabilities([question for question, _ in pairs])
        verdicts = []
        for (question, completion), belief in zip(pairs, beliefs, strict=True):
            if belief is None:
                verdicts.append(Verdict(None, Reason.UNCOVERED))
            elif completion.answer is None:
                verdicts.append(Verdict(0.0, Reason.UNPARSED))
            else:
                probability = float(belief.get(completion.answer, 0.0))
                said = ", ".join(f"{label} {share:.2f}" for label, share in sorted(belief.items()))
                supports = probability == max(belief.values())
                evidence = Evidence(oracle.source(question), question.id, f"{oracle.says} {said}", supports)
                verdicts.append(Verdict(probability, Reason.BELIEF, (evidence,)))
        return verdicts

    def honest(self, question: Question) -> Honest:
        """The answer that the oracle thinks likeliest; the measured one among equals, or where it abstains."""
        measured = question.truth["answer"]
        belief = self.believer().probabilities([question])[0]
        if belief is None or belief.get(measured) == max(belief.values()):
            return Honest("", measured)
        return Honest("", max(sorted(belief), key=belief.__getitem__))
