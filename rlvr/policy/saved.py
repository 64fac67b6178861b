"""Completions that were saved: by another tool, another day, or by an earlier evaluation.

    rlvr evaluate RECIPE --completions answers.jsonl --out DIR

JSON lines or Parquet: question_id, completion; and where they are there, sample (0, 1, ... of one question), finished
(true if not given), tokens, and p/LABEL, the probability of each label, as an evaluation's own rows have them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import file_digest
from pathlib import Path
from typing import Any

from rlvr.policy.slot import Answered
from rlvr.rollouts import require_file, rows
from rlvr.types import Error, Question

SHOWN = 3  # ids that an error names
NOT_GIVEN = Answered("", False, {})


class SavedCompletions:
    """The completions of one file to these questions.

    Errors, with ids: completions to other questions, two of one sample, and questions without one unless `partial`.
    Then a missing one counts as unparsed, which is wrong, and no probabilities are read from the file: whoever could
    leave out the worst would otherwise raise a score.
    """

    def __init__(self, file: Path, questions: Sequence[Question], labels: Iterable[str], partial: bool = False) -> None:
        require_file(file, "--completions")
        self.file = file
        columns = {f"p/{label}": label for label in dict.fromkeys(labels)}
        asked, strange, twice = {q.id for q in questions}, Counter[str](), Counter[str]()
        self._found: dict[tuple[str, int], Answered] = {}
        for row in rows(file, ["question_id", "completion", "finished", "sample", "tokens", *columns]):
            name, sample = row["question_id"], row.get("sample")
            key = (name, 0 if sample is None else sample)
            if not isinstance(key[1], int) or key[1] < 0:
                raise Error(f"{file}: question {name}: sample is {sample!r}; number the samples 0, 1, 2, ...")
            strange[name] += name not in asked
            twice[name] += key in self._found
            self._found[key] = _answered(row, columns, file)
        _refuse(strange, file, "completions to questions that are not asked", "take the recipe that they answer")
        _refuse(twice, file, "a second completion of one sample", "keep one, or number them in a column `sample`")
        self.samples = 1 + max((sample for _, sample in self._found), default=0)
        wanted = [(q.id, sample) for q in questions for sample in range(self.samples)]
        missing = Counter(name for name, sample in wanted if (name, sample) not in self._found)
        if not partial:
            _refuse(missing, file, "no completion", "add them; with --partial the missing ones count as wrong")
        self.missing = sum(missing.values())
        self._whole = not self.missing

    def sha256(self) -> str:
        with self.file.open("rb") as content:
            return file_digest(content, "sha256").hexdigest()

    def of(self, questions: Sequence[Question]) -> list[Answered]:
        """The samples of each question, one question after the other."""
        given = [self._found.get((q.id, n), NOT_GIVEN) for q in questions for n in range(self.samples)]
        return given if self._whole else [Answered(a.text, a.finished, {}, a.tokens) for a in given]


def _answered(row: Mapping[str, Any], columns: Mapping[str, str], file: Path) -> Answered:
    shares = {label: row[column] for column, label in columns.items() if row.get(column) is not None}
    shares = {label: share for label, share in shares.items() if share == share}  # Parquet's NaN is none
    valid = all(isinstance(share, float | int) and 0 <= share <= 1 for share in shares.values())
    if shares and not (valid and math.isclose(sum(shares.values()), 1, abs_tol=1e-3)):
        raise Error(f"{file}: question {row['question_id']}: probabilities {shares} are no shares that sum to 1")
    tokens = row.get("tokens")
    count = int(tokens) if isinstance(tokens, int | float) and math.isfinite(tokens) and tokens >= 0 else None
    return Answered(row["completion"], row.get("finished", True), shares, count)


def _refuse(counts: Mapping[str, int], file: Path, what: str, remedy: str) -> None:
    """One line for all the questions with a count, with the first of their ids."""
    ids = [name for name, count in counts.items() if count]
    if ids:
        some = ", ".join(map(repr, ids[:SHOWN])) + (", ..." if len(ids) > SHOWN else "")
        raise Error(f"{file}: {what}, of {len(ids)} questions: {some}; {remedy}")
