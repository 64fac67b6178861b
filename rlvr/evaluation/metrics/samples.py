"""Several samples of one question: pass@k, maj@k, best-of-n, and the share of votes as a probability.

Every function takes one mask or column over the rows and `Samples`, which says which rows are of one question, and
gives one value per question. A question with fewer than k samples has none (NaN).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import hypergeom

from rlvr.evaluation.metrics.bootstrap import Codes, Floats, Mask


@dataclass(frozen=True)
class Samples:
    """The rows of each question, in the order of the samples."""

    rows: tuple[Codes, ...]

    @classmethod
    def of(cls, question_ids: Sequence[str]) -> Samples:
        """Rows in the order given; questions in the order of their first row."""
        held: dict[str, list[int]] = {}
        for row, name in enumerate(question_ids):
            held.setdefault(name, []).append(row)
        return cls(tuple(np.array(rows, dtype=np.int64) for rows in held.values()))

    @property
    def first(self) -> Codes:
        """One row of each question."""
        return np.array([rows[0] for rows in self.rows], dtype=np.int64)

    @property
    def most(self) -> int:
        return max((len(rows) for rows in self.rows), default=0)

    def sizes(self) -> list[int]:
        """The k that are reported: powers of two, and all samples."""
        powers = [2**i for i in range(self.most.bit_length()) if 2**i < self.most]
        return [*powers, self.most] if self.most else []


def pass_at(k: int, right: Mask, samples: Samples) -> Floats:
    """The chance that at least one of k samples, drawn without replacement, is right: 1 - C(n-c, k) / C(n, k), the
    unbiased estimator of Chen et al. (arXiv:2107.03374)."""
    drawn = np.array([len(rows) for rows in samples.rows])
    hits = np.array([right[rows].sum() for rows in samples.rows])
    found = np.full(len(drawn), np.nan)
    enough = drawn >= k
    found[enough] = hypergeom.sf(0, drawn[enough], hits[enough], k)
    return found


def majority_at(k: int, answers: Sequence[str | None], right: Mask, samples: Samples) -> Floats:
    """Whether the commonest parsed answer of k samples is right, over the n // k disjoint runs of k samples. Of
    equally common answers each counts in part; where nothing parses, the vote is wrong."""
    found = np.full(len(samples.rows), np.nan)
    for place, rows in enumerate(samples.rows):
        runs = [rows[start : start + k] for start in range(0, len(rows) - k + 1, k)]
        if runs:
            found[place] = np.mean([_vote(run, answers, right) for run in runs])
    return found


def _vote(run: Codes, answers: Sequence[str | None], right: Mask) -> float:
    votes = Counter(answers[row] for row in run if answers[row] is not None)
    most = max(votes.values(), default=0)
    winners = {answer for answer, count in votes.items() if count == most}
    good = {answers[row] for row in run if right[row]}
    return len(winners & good) / len(winners) if winners else 0.0


def best_of(scores: Floats, right: Mask, samples: Samples) -> Floats:
    """Whether the sample that a verifier scores highest is right; of equally good ones the share that is. A sample
    without a score ranks last; NaN for a question on which there is none."""
    found = np.full(len(samples.rows), np.nan)
    for place, rows in enumerate(samples.rows):
        own = scores[rows]
        if np.isfinite(own).any():
            found[place] = right[rows][own == np.nanmax(own)].mean()
    return found


def votes(answers: Sequence[str | None], names: Sequence[str], samples: Samples) -> tuple[Floats, list[str | None]]:
    """(questions, labels) shares of the votes, an unparsed one split evenly among the labels, and each question's
    winner: None where nothing parses, the label named first among equals."""
    place = {name: column for column, name in enumerate(names)}
    table = np.zeros((len(samples.rows), len(names)))
    winners: list[str | None] = []
    for question, rows in enumerate(samples.rows):
        given = [answer for row in rows if (answer := answers[row]) is not None]
        for answer in given:
            table[question, place[answer]] += 1
        winners.append(names[int(table[question].argmax())] if given else None)
        table[question] += (len(rows) - len(given)) / len(names)
        table[question] /= len(rows)
    return table, winners
