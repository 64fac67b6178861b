"""`batch_unique`: the types of a batch of cells, each given once.

`rlvr score ROLLOUTS --verifier batch_unique` applies it to saved completions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from rlvr.types import Completion, Question, Reason, Verdict
from rlvr.verifier import Verifier

from ._common import BAD_ANSWER, as_asked, decode, graded


@dataclass(frozen=True)
class BatchUnique(Verifier):
    """N cells, N distinct types (Cell-o1, arXiv:2506.02911): is every cell given its own?

    score: "batch" pays 1.0 if all cells are right, else 0.0; "cell" pays the share of right cells, of which a
    random assignment expects 1/N. Either way an answer with another number of types than cells, with a type
    repeated, or with one that is no option scores 0: naming one likely type for every cell cannot pay.
    """

    name: ClassVar[str] = "batch_unique"
    tasks: ClassVar[tuple[str, ...]] = ("cell/batch",)
    catches: ClassVar[frozenset[str]] = BAD_ANSWER

    score: Literal["batch", "cell"] = "batch"

    def verify(self, question: Question, completion: Completion) -> Verdict:
        truth = list(question.truth["answer"])
        if completion.answer is None:
            return Verdict(0.0, Reason.UNPARSED)
        types = as_asked(decode(question, completion.answer, list), question.fields["options"])
        if types is None or len(types) != len(truth):
            return graded(question, 0.0, f"{len(truth)} cells, one distinct option for each")
        right = sum(said == true for said, true in zip(types, truth, strict=True))
        share = right / len(truth) if self.score == "cell" else float(right == len(truth))
        return graded(question, share, f"{right} of {len(truth)} cells are of the type given")
