"""What the verifiers of belief share: an oracle says how probable each answer is, and a form makes a score of it.

Three forms, as in the literature: `oracle` and `neighbours` pay the probability of the chosen answer (rbio1),
`preference` pays an answer for every other one that is less probable, `soft_brier` pays a stated probability by a
proper score. Apart from `_common.py`, because an oracle's tables need pandas and most verifiers do not. The command
that uses it is whatever names one of them, as in `rlvr score ROLLOUTS --verifier oracle`.
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import ClassVar, Literal

from rlvr.oracle import LABELS, Belief, Neighbours, Oracle, Predictions
from rlvr.types import Completion, Error, Evidence, Question, Reason, Verdict
from rlvr.verifier import Honest, Pair, Verifier

from ._common import UNREADABLE


@dataclass(frozen=True)
class Believed(Verifier):
    """Scores an answer by what an oracle believes; it abstains where the oracle covers nothing.

    An answer that the oracle does not list is worth nothing. The measured truth has no part in it. Two answers
    may be equally probable, so that always giving the usual one is not caught on every question.

    An oracle's confidence is how far its likeliest label lies above an even guess, from 0 to 1 (of two labels,
    |p - .5| / .5). weighted: the score is multiplied by it, so that groups of unsure questions pull less; that needs
    `grpo.scale_rewards: none`, as scaling by the group's deviation would undo it. least: abstains below this
    confidence. Both depend on the question alone, so that whole groups abstain together.
    """

    kind: ClassVar[Literal["hard", "soft"]] = "soft"
    tasks: ClassVar[tuple[str, ...]] = tuple(LABELS)
    catches: ClassVar[frozenset[str]] = UNREADABLE

    weighted: bool = False
    least: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.least <= 1.0:
            raise Error(f"verifiers.{self.name}: least is {self.least}; it must lie between 0 and 1")

    @abstractmethod
    def believer(self) -> Oracle:
        """The oracle that is asked."""

    def earned(self, answer: str, belief: Belief) -> float:
        """What an answer is worth, in [0, 1]: its probability."""
        return float(belief.get(answer, 0.0))

    def verify(self, question: Question, completion: Completion) -> Verdict:
        return self.verify_batch([(question, completion)])[0]

    def verify_batch(self, pairs: Sequence[Pair]) -> Sequence[Verdict]:
        oracle = self.believer()
        beliefs = oracle.probabilities([_asked(question) for question, _ in pairs])
        return [
            self._verdict(oracle, question, completion, belief)
            for (question, completion), belief in zip(pairs, beliefs, strict=True)
        ]

    def _verdict(self, oracle: Oracle, question: Question, completion: Completion, belief: Belief | None) -> Verdict:
        if belief is None:
            return Verdict(None, Reason.UNCOVERED)
        sure = confidence(belief)
        if sure < self.least:
            return Verdict(None, Reason.UNSURE)
        if completion.answer is None:
            return Verdict(0.0, Reason.UNPARSED)
        worth = self.earned(completion.answer, belief)
        said = ", ".join(f"{label} {share:.2f}" for label, share in sorted(belief.items()))
        supports = belief.get(completion.answer) == max(belief.values())
        evidence = Evidence(oracle.source(question), question.id, f"{oracle.says} {said}", supports)
        return Verdict(worth * sure if self.weighted else worth, Reason.BELIEF, (evidence,))

    def honest(self, question: Question) -> Honest:
        """The answer that the oracle thinks likeliest; the measured one among equals, or where it abstains."""
        measured = question.truth["answer"]
        belief = self.believer().probabilities([question])[0]
        if belief is None or belief.get(measured) == max(belief.values()):
            return Honest("", measured)
        return Honest("", max(sorted(belief), key=belief.__getitem__))


@dataclass(frozen=True)
class Foretold(Believed):
    """Believes a table of predictions, or the vote of related perturbations that the source cross-fitted.

    predictions: a .parquet or .csv table of a model's predictions, with the card.json beside it that `rlvr oracle fit`
    and `calibrate` write; None asks the vote. What rewards training questions must be predicted by a fit that has not
    seen their perturbations. column: "lift" takes what the perturbation says when the readout's own rate is set aside,
    in tables of `rlvr oracle fit`: of a training question the rate knows its own label, and of a readout that seldom
    changes it makes "no" the answer whatever is perturbed. most_error: a table whose expected calibration error on
    held-out perturbations is above it, or that no card speaks for, is refused, since its probabilities are not what
    they say; null takes any table. made_by: the command that makes the table, for the error where it is missing.
    """

    predictions: str | None = None
    column: Literal["p", "lift"] = "p"
    most_error: float | None = 0.1
    made_by: str = ""

    def prepare(self) -> None:
        if self.predictions is None:
            return
        if not Path(self.predictions).is_file():
            how = f"make it: {self.made_by}" if self.made_by else "give the path of a .parquet or .csv table"
            raise Error(f"verifiers.{self.name}: predictions {self.predictions}: no such file; {how}")
        if self.most_error is not None:
            _refuse_uncalibrated(self.predictions, self.most_error)

    def believer(self) -> Oracle:
        if self.predictions is None:
            return Neighbours()
        self.prepare()
        return Predictions(self.predictions, self.column)


def confidence(belief: Belief) -> float:
    """How far the likeliest label lies above an even guess: 0 to 1."""
    even = 1.0 / len(belief)
    return (max(belief.values()) - even) / (1.0 - even) if len(belief) > 1 else 1.0


def _asked(question: Question) -> Question:
    """The question whose answer an oracle knows: a stated probability is about the same event."""
    return replace(question, task=question.task.removesuffix("_probability"))


@cache
def _refuse_uncalibrated(predictions: str, most: float) -> None:
    path = Path(predictions)
    where, mend = f"predictions {path}", "run `rlvr oracle calibrate` on them and name the table that it writes"
    card = path.with_name("card.json")
    try:
        fits = [fit for fit in json.loads(card.read_text(encoding="utf-8"))["fits"] if fit["task"] == path.stem]
        errors = {str(fit.get("context") or "all cells"): float(fit["ece"]) for fit in fits}
        made = {fit["sha256"] for fit in fits if "sha256" in fit}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise Error(f"{where}: no {card.name} beside them gives their calibration error ({error!r}); {mend}") from error
    if not errors:
        raise Error(f"{where}: {card.name} does not speak of task {path.stem}; {mend}")
    if made - {hashlib.sha256(path.read_bytes()).hexdigest()}:
        raise Error(f"{where}: {card.name} speaks of another table, which stood in its place; {mend}")
    context, worst = max(errors.items(), key=lambda entry: entry[1])
    if not worst <= most:
        raise Error(
            f"{where}: not calibrated: expected calibration error {worst:.3f} in {context}, allowed {most:.3f}; {mend}"
        )
