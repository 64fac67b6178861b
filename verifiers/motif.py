"""`motif`: which transcription factor's JASPAR matrix fits the question's DNA best.

rlvr verifiers check motif
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, ClassVar

from rlvr.questions.biology import sequences
from rlvr.questions.biology.jaspar import best_score
from rlvr.types import Completion, Error, Evidence, Question, Reason, Verdict
from rlvr.verifier import Verifier

from ._common import BAD_ANSWER
from ._sequence import agree, dna


@dataclass(frozen=True)
class Motif(Verifier):
    """1.0 for the option whose matrix has the highest log-likelihood ratio at any place and strand of
    `fields["sequence"]`. With `partial`, another option earns how likely its best site is relative to the best one's
    (2 to the difference in bits), below 1.

    `truth["matrices"]` maps each option to `{"id": JASPAR id, "counts": {base: [count per position]}}`, so that
    neither a file nor the network is needed here. Raises where the truth is not the best, or two options tie.
    """

    name: ClassVar[str] = "motif"
    tasks: ClassVar[tuple[str, ...]] = ("sequence/motif",)
    catches: ClassVar[frozenset[str]] = BAD_ANSWER
    partial: bool = False

    def verify(self, question: Question, completion: Completion) -> Verdict:
        matrices: Mapping[str, Mapping[str, Any]] = question.truth["matrices"]
        if set(matrices) != set(question.fields["options"]):
            raise Error(f"question {question.id}: the options are not those with a matrix, {', '.join(matrices)}")
        found = _scores(dna(question), json.dumps(matrices, sort_keys=True))
        best = max(found.values())
        winners = [name for name, score in found.items() if score == best]
        if len(winners) > 1:
            raise Error(f"question {question.id}: {' and '.join(winners)} fit equally well; no answer is right")
        agree(question, winners)
        answer = completion.answer
        if answer is None:
            return Verdict(0.0, Reason.UNPARSED)
        evidence = tuple(
            Evidence("JASPAR", matrices[name]["id"], f"{name} fits with {found[name]:.1f} bits", name in winners)
            for name in dict.fromkeys([answer, *winners])
            if name in found
        )
        if answer in winners:
            return Verdict(1.0, Reason.CORRECT, evidence)
        score = 2.0 ** (found[answer] - best) if self.partial and answer in found else 0.0
        return Verdict(score, Reason.PARTIAL if score else Reason.WRONG, evidence)


@lru_cache(maxsize=1024)  # one question is asked of a whole group of completions
def _scores(sequence: str, matrices: str) -> Mapping[str, float]:
    sequences.require_bases(sequence)
    read: dict[str, dict[str, Any]] = json.loads(matrices)
    return MappingProxyType({name: best_score(matrix["counts"], sequence) for name, matrix in read.items()})
