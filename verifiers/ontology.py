"""`ontology`: credit for an answer near the truth in the Cell Ontology or the Gene Ontology."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from rlvr.knowledge import KnowledgeBase
from rlvr.types import Completion, Evidence, Question, Reason, Verdict
from rlvr.verifier import KnowledgeVerifier

from ._common import UNREADABLE


@dataclass(frozen=True)
class Ontology(KnowledgeVerifier):
    """The similarity of the answered term to the true one, by what they have in common above them:

        score = |A(answer) & A(truth)| / |A(answer) | A(truth)|

    A(t) is t with all its ancestors by is_a and part_of (simUI: Gentleman 2005, Visualizing and distances using
    GO, Bioconductor package GOstats). It is 1.0 for the truth alone and falls with each edge between the two; two
    terms deep down share much, and an ancestor of the truth earns its depth over the truth's, so that "cell"
    earns little. No path has to be chosen where a term has several parents.

    `truth["ids"]` maps the names of the options to identifiers; an answer without one earns 0. Abstains where the
    truth has no identifier, or one that the knowledge base does not know.
    """

    name: ClassVar[str] = "ontology"
    kind: ClassVar[Literal["hard", "soft"]] = "soft"
    tasks: ClassVar[tuple[str, ...]] = ("cell/type", "knowledge/function")
    catches: ClassVar[frozenset[str]] = UNREADABLE | {"majority"}
    knowledge: Literal["upstream", "sample"] = "upstream"

    def verify(self, question: Question, completion: Completion) -> Verdict:
        knowledge = KnowledgeBase.open(self.knowledge)
        ids, truth = question.truth["ids"], question.truth["answer"]
        if not ids.get(truth):
            return Verdict(None, Reason.NOT_APPLICABLE)
        right = knowledge.ancestors(ids[truth])
        if not right:
            return Verdict(None, Reason.UNCOVERED)
        if completion.answer is None:
            return Verdict(0.0, Reason.UNPARSED)
        identifier = ids.get(completion.answer) or ""
        given = knowledge.ancestors(identifier)
        score = len(given & right) / len(given | right)
        statement = f"{completion.answer} shares {len(given & right)} of {len(given | right)} terms with {truth}"
        evidence = Evidence("knowledge base", identifier, statement, score == 1.0)
        reason = Reason.CORRECT if score == 1.0 else Reason.PARTIAL if score else Reason.WRONG
        return Verdict(score, reason, (evidence,))
