"""`ranking`: genes in the order of their measured effects.

`rlvr score ROLLOUTS --verifier ranking` applies it to saved completions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from scipy.stats import rankdata

from rlvr.types import Completion, Error, Question, Reason, Verdict
from rlvr.verifier import Verifier

from ._common import BAD_ANSWER, as_asked, decode, graded


@dataclass(frozen=True)
class Ranking(Verifier):
    """How well an order of genes agrees with `truth["relevance"]`, the size of each one's effect (>= 0).

    score: "ndcg" is the normalised discounted cumulative gain, gains linear and discounts log2 (Jarvelin and
    Kekalainen, doi:10.1145/582415.582418), as in scikit-learn; "spearman" is the rank correlation r as
    (1 + r) / 2, divided by the largest r that ties in the truth allow. Either gives 1.0 to the measured order.
    A random order earns .5 by "spearman"; what it expects by "ndcg" stands in the evidence, and is often high.
    Each gene of the question must be named once: missing, repeated or unknown ones score 0. Abstains where
    all effects are equal.
    """

    name: ClassVar[str] = "ranking"
    tasks: ClassVar[tuple[str, ...]] = ("perturbation/ranking",)
    catches: ClassVar[frozenset[str]] = BAD_ANSWER

    score: Literal["ndcg", "spearman"] = "ndcg"

    def verify(self, question: Question, completion: Completion) -> Verdict:
        relevance = {str(gene): float(value) for gene, value in question.truth["relevance"].items()}
        if not all(math.isfinite(value) and value >= 0.0 for value in relevance.values()):
            raise Error(f"question {question.id}: a relevance is below 0 or not finite; mend its source")
        if len(set(relevance.values())) < 2:
            return Verdict(None, Reason.NOT_APPLICABLE)
        if completion.answer is None:
            return Verdict(0.0, Reason.UNPARSED)
        genes = as_asked(decode(question, completion.answer, list), relevance)
        if genes is None or len(genes) != len(relevance):
            return graded(question, 0.0, f"{len(relevance)} genes, each to be named once")
        measured = [relevance[gene] for gene in genes]
        if self.score == "spearman":
            r = spearman(measured)
            return graded(question, (1.0 + r) / 2.0, f"rank correlation with the measured order: {r:.3f}")
        value, chance = ndcg(measured), expected_ndcg(measured)
        return graded(question, value, f"nDCG by measured effects: {value:.3f}; a random order expects {chance:.3f}")


def _gain(values: Sequence[float]) -> float:
    return math.fsum(value / math.log2(place + 2) for place, value in enumerate(values))


def ndcg(values: Sequence[float]) -> float:
    """nDCG in [0, 1] of an order, given the relevance of what stands in each place (not all of them 0)."""
    return _gain(values) / _gain(sorted(values, reverse=True))


def expected_ndcg(values: Sequence[float]) -> float:
    """The mean nDCG over all orders: every place holds the mean relevance."""
    mean = math.fsum(values) / len(values)
    return _gain([mean] * len(values)) / _gain(sorted(values, reverse=True))


def spearman(values: Sequence[float]) -> float:
    """Rank correlation in [-1, 1] of an order with the relevance in each place (not all equal), over the largest
    that their ties allow. All sums are of halves and quarters, so the best order gives exactly 1."""
    places = np.arange(len(values), 0, -1) - (len(values) + 1) / 2
    ranks = rankdata(values) - (len(values) + 1) / 2
    return float(np.dot(places, ranks) / np.dot(places, np.sort(ranks)[::-1]))
