"""`label`: the answer against the measured truth.

`rlvr score ROLLOUTS --verifier label` applies it to saved completions; `label: {balanced: true}` in a recipe pays right
answers by how rare they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlvr.types import Completion, Error, Evidence, Question, Reason, Verdict
from rlvr.verifier import Verifier

from ._common import BAD_ANSWER, exact


@dataclass(frozen=True)
class Label(Verifier):
    """1.0 if the answer is `truth["answer"]`, else 0.0. A question without that key is an error.

    For every task whose truth is one word; not for stated probabilities, which `brier` and `log_score` judge.
    balanced: a right answer earns the share of the rarest label over its own, both of the training questions of the
    same task and readout (`truth["label_shares"]`), so that answering the commonest label whatever is asked earns no
    more on average than answering any other. The best score of a question is then below 1 where its label is common.
    """

    name: ClassVar[str] = "label"
    catches: ClassVar[frozenset[str]] = BAD_ANSWER

    balanced: bool = False

    def applies(self, question: Question) -> bool:
        return isinstance(question.truth["answer"], str) and not question.task.endswith("_probability")

    def verify(self, question: Question, completion: Completion) -> Verdict:
        verdict = exact(question, completion)
        if not self.balanced or verdict.reason != Reason.CORRECT:
            return verdict
        measured, shares = question.truth["answer"], question.truth.get("label_shares")
        if not shares:
            raise Error(
                f"question {question.id}: no label_shares in its truth, which `label: {{balanced: true}}` weighs by; "
                "they are counted when a recipe's questions are gathered"
            )
        rarest = min(shares.values())
        score = min(1.0, rarest / shares[measured]) if measured in shares else 1.0
        said = f"measured: {measured}, {shares.get(measured, 0.0):.0%} of training labels here; the rarest {rarest:.0%}"
        return Verdict(score, Reason.CORRECT, (Evidence(question.source, question.id, said, True),))
