"""`set_overlap`: a set of names, genes or terms, against the measured set.

`rlvr score ROLLOUTS --verifier set_overlap` applies it to saved completions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar, Literal

from rlvr.answers import fold
from rlvr.types import Completion, Error, Evidence, Question, Reason, Verdict
from rlvr.verifier import KnowledgeVerifier

from ._common import BAD_ANSWER, decode, graded

if TYPE_CHECKING:
    from rlvr.knowledge import KnowledgeBase

PADDED = 3  # times as many names as the truth has: no longer a guess
LONGEST = 40  # characters; no gene symbol is longer


@dataclass(frozen=True)
class SetOverlap(KnowledgeVerifier):
    """The overlap of the names given with `truth["answer"]`; their order does not matter.

    score: "f1" or "jaccard". Both fall as names are added that do not belong; more than three times as many
    names as the truth has, repeated ones counted, score 0. Names are compared without regard to case; with
    `knowledge` ("upstream" or "sample"), gene symbols first become current HGNC symbols, where an alias counts
    only if it is unique. A name that is not known there is compared as it is written.
    """

    name: ClassVar[str] = "set_overlap"
    tasks: ClassVar[tuple[str, ...]] = ("perturbation/set",)
    catches: ClassVar[frozenset[str]] = BAD_ANSWER

    score: Literal["f1", "jaccard"] = "f1"
    knowledge: Literal["upstream", "sample"] | None = None

    def verify(self, question: Question, completion: Completion) -> Verdict:
        truth = {self._current(str(name)) for name in question.truth["answer"]}
        if not truth:
            raise Error(f"question {question.id}: its truth is an empty set; leave the question out")
        if completion.answer is None:
            return Verdict(0.0, Reason.UNPARSED)
        names = decode(question, completion.answer, list)
        if len(names) > PADDED * len(truth):
            said = f"{len(names)} names for a set of {len(truth)}"
            return Verdict(0.0, Reason.STUFFED, (Evidence(question.source, question.id, said, False),))
        given = {self._current(name) for name in names}
        common = len(given & truth)
        overlap = common / len(given | truth) if self.score == "jaccard" else 2 * common / (len(given) + len(truth))
        return graded(question, overlap, f"{common} of the {len(given)} given are among the {len(truth)} measured")

    def _current(self, name: str) -> str:
        if self.knowledge is None or len(name) > LONGEST:
            return fold(name)
        return fold(_knowledge(self.knowledge).resolve(name.strip()) or name)


@cache
def _knowledge(which: str) -> KnowledgeBase:
    from rlvr.knowledge import KnowledgeBase  # here, because few recipes need it and it takes a while

    return KnowledgeBase.open(which)
