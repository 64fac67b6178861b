"""`profile`: log fold changes, gene by gene.

`rlvr score ROLLOUTS --verifier profile` applies it to saved completions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import correlation, pstdev
from typing import ClassVar, Literal

from rlvr.types import Completion, Question, Reason, Verdict
from rlvr.verifier import Verifier

from ._common import BAD_ANSWER, as_asked, decode, graded

LARGEST = 100.0  # log2; nothing measurable changes more, and sums stay finite
NOTHING = 1e-6  # a spread below this, in log2, is rounding


@dataclass(frozen=True)
class Profile(Verifier):
    """How much an answer knows of a perturbation's log2 fold changes beyond `truth["baseline"]`, each gene's mean
    over the training perturbations.

    score: "pearson" correlates deltas, answer - baseline with measured - baseline; "rmse" compares the root mean
    square errors in log2. A raw correlation of deltas pays for ignorance: a constant answer's delta is -baseline,
    which often correlates with the measured one. So both are skill scores against the best answer of the form
    a + b * baseline, which a and b fitted to this very truth: (r - r0) / (1 - r0) and 1 - rmse / rmse0, at least 0.
    Constants, the baseline and any scaling of it earn 0, the measured profile 1.0. A gene missing, unknown or
    repeated scores 0, as does an amount beyond 100. Abstains where the baseline says all there is.
    """

    name: ClassVar[str] = "profile"
    tasks: ClassVar[tuple[str, ...]] = ("perturbation/profile",)
    catches: ClassVar[frozenset[str]] = BAD_ANSWER

    score: Literal["pearson", "rmse"] = "pearson"

    def verify(self, question: Question, completion: Completion) -> Verdict:
        genes = list(question.truth["answer"])
        truth = [float(question.truth["answer"][gene]) for gene in genes]
        baseline = [float(question.truth["baseline"][gene]) for gene in genes]
        limit = left_over(truth, baseline)
        if limit <= NOTHING:
            return Verdict(None, Reason.NOT_APPLICABLE)
        if completion.answer is None:
            return Verdict(0.0, Reason.UNPARSED)
        given = decode(question, completion.answer, dict)
        names = as_asked(given, genes)
        if names is None or len(names) != len(genes) or any(abs(value) > LARGEST for value in given.values()):
            return graded(question, 0.0, f"{len(genes)} genes, each with one amount of at most {LARGEST:g}")
        amounts = dict(zip(names, given.values(), strict=True))
        answer = [amounts[gene] for gene in genes]
        if self.score == "rmse":
            error = math.sqrt(math.fsum((a - t) ** 2 for a, t in zip(answer, truth, strict=True)) / len(genes))
            said = f"RMSE {error:.3f} log2; the best of the baseline and a constant has {limit:.3f}"
            return graded(question, max(0.0, 1.0 - error / limit), said)
        change = _minus(truth, baseline)
        r, r0 = pearson(_minus(answer, baseline), change), abs(pearson(baseline, change))
        said = f"correlation of deltas {r:.3f}; the best of the baseline and a constant has {r0:.3f}"
        return graded(question, min(1.0, max(0.0, (r - r0) / (1.0 - r0))), said)


def _minus(left: Sequence[float], right: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(left, right, strict=True)]


def pearson(left: Sequence[float], right: Sequence[float]) -> float:
    """Pearson's r, exactly 1 for equal sequences; 0 where either does not vary."""
    return 0.0 if min(_spread(left), _spread(right)) <= NOTHING else correlation(left, right)


def left_over(truth: Sequence[float], baseline: Sequence[float]) -> float:
    """The root mean square error, in log2, of the best a + b * baseline."""
    r = pearson(baseline, truth)
    return pstdev(truth) * math.sqrt(max(0.0, 1.0 - r * r))


def _spread(values: Sequence[float]) -> float:
    return max(values) - min(values)
