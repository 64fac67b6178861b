"""What a second scoring of the same completions changed: counts, means and a few examples (`rlvr score`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

EXAMPLES = 3  # of each verifier's changed verdicts
TAIL = 60  # characters of a completion that an example shows: its end, where the answer stands
SAME = 1e-9  # a score may come back from a file a rounding away

Row = Mapping[str, Any]


@dataclass
class Column:
    """One verifier's verdicts. The saved ones may be missing (it was not in the run) or in part."""

    scored: int = 0  # with a number; the others abstained or failed, as the reasons say
    total: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)
    compared: int = 0  # rows that also have a saved verdict
    before: int = 0  # of which with a number
    total_before: float = 0.0
    changed: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)

    def add(self, name: str, old: Row, new: Row) -> None:
        score, reason = new[name], new[f"{name}/reason"]
        self.reasons[reason] += 1
        self.scored += score is not None
        self.total += score or 0.0
        if name not in old:
            return
        saved = old[name]
        self.compared += 1
        self.before += saved is not None
        self.total_before += saved or 0.0
        if (saved is None) == (score is None) and abs((saved or 0.0) - (score or 0.0)) <= SAME:
            return
        self.changed += 1
        if len(self.examples) < EXAMPLES:
            told = {"question_id": new["question_id"], "before": saved, "after": score, "reason": reason}
            self.examples.append({**told, "completion": new["completion"][-TAIL:]})

    def to_dict(self) -> dict[str, Any]:
        return {
            "before": self.total_before / self.before if self.before else None,
            "after": self.total / self.scored if self.scored else None,
            "scored": self.scored,
            "compared": self.compared,
            "changed": self.changed if self.compared else None,
            "reasons": dict(self.reasons.most_common()),
            "examples": self.examples,
        }


class Changes:
    """Sums over all rows, fed a batch at a time.

    missing: the ids that no source knows. skipped: how many rows had such an id; they are in no other count.
    """

    def __init__(self, verifiers: Sequence[str], missing: Sequence[str] = ()) -> None:
        self.columns = {name: Column() for name in verifiers}
        self.missing = tuple(missing)
        self.skipped = 0
        self.rows = 0

    def add(self, saved: Sequence[Row], fresh: Sequence[Row]) -> None:
        """The saved rows (a verifier's column where there is one) and the new ones, in the same order."""
        self.rows += len(fresh)
        for old, new in zip(saved, fresh, strict=True):
            for name, column in self.columns.items():
                column.add(name, old, new)

    def to_dict(self) -> dict[str, Any]:
        """JSON values only. Means are over rows with a number."""
        return {
            "rows": self.rows,
            "skipped": self.skipped,
            "missing": list(self.missing),
            "verifiers": {name: column.to_dict() for name, column in self.columns.items()},
        }
