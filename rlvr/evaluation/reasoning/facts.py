"""How much of what the thoughts state of genes the knowledge base holds: supported, contradicted, unknown.

    precision(rows, questions, KnowledgeBase.open("upstream"))

The share of statements that are supported, by outcome (right and wrong answers), with an interval over perturbations.
Its baseline: the same statements said of another question's gene, so that what holds of most genes earns nothing.
Statements are those that `rlvr.knowledge.claims` reads; it misses pronouns and long-range syntax by design.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rlvr.evaluation import metrics
from rlvr.knowledge.claims import Claim, Lexicon, check, find
from rlvr.types import Question

TEXT = 4000  # characters of a thought that are read


def precision(
    rows: Sequence[Mapping[str, Any]], questions: Mapping[str, Question], lexicon: Lexicon, seed: int = 0
) -> list[dict[str, Any]]:
    """One row for all answers, one for the right and one for the wrong ones: {name, value, low, high, n, baseline,
    supported, contradicted, unknown, thoughts}; n counts statements. Empty where nothing is stated."""
    said = [(row, find(str(row["thought"] or "")[:TEXT], lexicon)) for row in rows]
    genes = [claim.gene for _, claims in said for claim in claims]
    others = iter([*genes[len(genes) // 2 :], *genes[: len(genes) // 2]])  # half a table away: another question's
    table = [
        (str(row["question_id"]), claim, _status(claim, lexicon), _status(_of(claim, next(others)), lexicon))
        for row, claims in said
        for claim in claims
    ]
    right = {str(row["question_id"]): row["answer"] == _truth(questions[str(row["question_id"])]) for row in rows}
    parts = {
        "all answers": table,
        "right answers": [entry for entry in table if right[entry[0]]],
        "wrong answers": [entry for entry in table if not right[entry[0]]],
    }
    return [_row(name, part, questions, seed) for name, part in parts.items() if part]


def _row(
    name: str, part: Sequence[tuple[str, Claim, str, str]], questions: Mapping[str, Question], seed: int
) -> dict[str, Any]:
    clusters = [questions[identity].cluster for identity, *_ in part]
    found = metrics.mean([status == "supported" for _, _, status, _ in part], clusters, seed=seed)
    counts = Counter(status for _, _, status, _ in part)
    return {
        "name": name,
        **found,
        "baseline": sum(other == "supported" for *_, other in part) / len(part),
        "thoughts": len({identity for identity, *_ in part}),
        **{status: counts[status] for status in ("supported", "contradicted", "unknown", "vague")},
    }


def _status(claim: Claim, lexicon: Lexicon) -> str:
    return check(claim, lexicon.knowledge).status


def _of(claim: Claim, gene: str) -> Claim:
    return dataclasses.replace(claim, gene=gene)


def _truth(question: Question) -> Any:
    return question.truth["answer"]
