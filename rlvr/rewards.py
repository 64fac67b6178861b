"""From completions to rewards: every verifier's column, computed once for a batch.

    layer = RewardLayer({"label": Weighted(Label(), weight=1.0)}, template.answers)
    GRPOTrainer(reward_funcs=layer.functions(), args=GRPOConfig(reward_weights=layer.weights(), ...), ...)
    layer.score(questions, texts)  # the same verdicts without TRL or a model

One TRL reward function per verifier, each logged on its own. Whichever TRL calls first scores the batch
by all verifiers; the others read their columns from that one result, `last_rows`.

A row holds question_id, task, completion, thought, answer, finished, gate (the verifier that closed it, or
None), reward (the weighted sum that TRL forms), and for each verifier `<v>` (what trains), `<v>/reason`,
`<v>/error` (the end of a traceback, or None), `<v>/evidence` (JSON). Three rules stand between a verdict
and what trains:

- A verifier that abstains gives None in its own column; TRL counts that as 0 for the whole group.
- A gate whose score is 0 sets every other score of that completion to 0. Reasons and evidence stay as given.
- A verifier that fails (raises, or gives anything but one valid verdict per completion) makes the whole row
  None, which TRL leaves out of its group. Above `max_error_rate` the run stops.
"""

from __future__ import annotations

import json
import logging
import math
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from rlvr.completions import completion_text, parse
from rlvr.types import Completion, Error, Question, Reason, Verdict
from rlvr.verifier import Pair, Verifier

log = logging.getLogger(__name__)

Raw = str | Sequence[Mapping[str, Any]]  # a completion as TRL gives it: text or messages
Row = dict[str, Any]
RewardFunction = Callable[..., list[float | None]]

OWN_COLUMNS = ("question_id", "task", "completion", "thought", "answer", "finished", "gate", "reward")
TRAINER_COLUMNS = ("step", "phase", "group", "prompt", "advantage")  # the trainer adds these to a rollout
EVALUATION_COLUMNS = ("context", "perturbation", "readout", "split", "truth", "lenient")  # and evaluation these
ENOUGH = 20  # completions that a verifier must have been asked about before its error rate counts


@dataclass(frozen=True)
class Weighted:
    """A verifier as a recipe uses it. A gate with score 0 sets the completion's other scores to 0."""

    verifier: Verifier
    weight: float = 1.0
    gate: bool = False


@dataclass(frozen=True)
class Failure:
    """In the place of a verdict: `summary` is one line, `text` the end of the traceback."""

    summary: str
    text: str

    @classmethod
    def of(cls, error: Exception) -> Failure:
        frames = traceback.extract_tb(error.__traceback__)
        place = f" ({frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno})" if frames else ""
        message = "".join(traceback.format_exception_only(error)).strip().partition("\n")[0]
        return cls(f"{message[:300]}{place}", "".join(traceback.format_exception(error))[-4000:])


class RewardLayer:
    """All verifiers of a recipe, and what they said of the last batch.

    verifiers: name -> Weighted, in the order of the reward functions. answers: allowed word -> label, as
    `Template.answers` has them. max_error_rate: the share of a verifier's verdicts that may fail over the
    run. eos_token_ids: the ids that end a generation (TRL counts the padding id among them); with none
    given, or no ids in a call, every completion counts as finished.
    """

    def __init__(
        self,
        verifiers: Mapping[str, Weighted],
        answers: Mapping[str, str],
        max_error_rate: float = 0.05,
        eos_token_ids: Collection[int] = (),
    ) -> None:
        if not verifiers:
            raise Error("no verifiers: name at least one under `verifiers:` in the recipe")
        for name, entry in verifiers.items():
            if name in OWN_COLUMNS + TRAINER_COLUMNS + EVALUATION_COLUMNS or "/" in name:
                raise Error(f"verifier {name!r} would overwrite a column of the rollouts; rename it")
            if not (math.isfinite(entry.weight) and entry.weight >= 0):
                raise Error(f"verifier {name!r}: weight {entry.weight} must be a number of at least 0")
        self.verifiers = dict(verifiers)
        self.answers = dict(answers)
        self.max_error_rate = max_error_rate
        self.eos_token_ids = eos_token_ids
        self.asked: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.last_rows: list[Row] = []
        self._first_failure: dict[str, Failure] = {}
        self._batch = ""  # the digest of what last_rows answer
        self._served: set[str] = set()  # the reward functions that have read them

    def weights(self) -> list[float]:
        """For `GRPOConfig.reward_weights`, in the order of `functions()`."""
        return [entry.weight for entry in self.verifiers.values()]

    def functions(self) -> list[RewardFunction]:
        """For `GRPOTrainer(reward_funcs=...)`: one per verifier, named after it. The dataset needs a column
        `question` of JSON strings. Each also logs `errors/<verifier>`, the share of the batch that failed."""
        return [self._function(name) for name in self.verifiers]

    def _function(self, name: str) -> RewardFunction:
        def reward(
            prompts: Sequence[Any],
            completions: Sequence[Raw],
            completion_ids: Sequence[Sequence[int]] | None = None,
            *,
            question: Sequence[str] | None = None,
            log_metric: Callable[[str, float], None] | None = None,
            **_: Any,
        ) -> list[float | None]:
            if question is None:
                raise Error(f"reward {name}: the dataset has no column `question`; add one of Question.to_json()")
            rows = self._rows_for(name, question, completions, self._finished(completion_ids, len(completions)))
            if log_metric is not None and rows:
                log_metric(f"errors/{name}", sum(row[f"{name}/error"] is not None for row in rows) / len(rows))
            return [row[name] for row in rows]

        reward.__name__ = name
        return reward

    def _finished(self, ids: Sequence[Sequence[int]] | None, count: int) -> list[bool]:
        """TRL's own test of truncation: a completion has ended if its last token says so."""
        if ids is None or not self.eos_token_ids:
            return [True] * count
        return [len(row) > 0 and int(row[-1]) in self.eos_token_ids for row in ids]

    def _rows_for(
        self, name: str, questions: Sequence[str], completions: Sequence[Raw], finished: Sequence[bool]
    ) -> list[Row]:
        """The rows of a batch, scored anew unless another function has just had this very batch scored."""
        texts = [completion_text(completion) for completion in completions]
        batch = sha256(json.dumps([list(questions), texts, list(finished)]).encode()).hexdigest()
        # A function that asks again for the same batch is in a later step: nothing old is served to it.
        if batch != self._batch or name in self._served:
            parsed = {text: Question.from_json(text) for text in set(questions)}
            self.score([parsed[text] for text in questions], texts, finished)
            self._batch, self._served = batch, set()
        self._served.add(name)
        return self.last_rows

    def score(
        self, questions: Sequence[Question], completions: Sequence[Raw], finished: Sequence[bool] | None = None
    ) -> list[Row]:
        """One row per completion, in order; see the head of this file. Keeps them in `last_rows`.

        Raises Error if the lengths differ or a verifier fails too often.
        """
        finished = [True] * len(completions) if finished is None else finished
        if not len(questions) == len(completions) == len(finished):
            raise Error(f"{len(questions)} questions, {len(completions)} completions, {len(finished)} ends: must agree")
        self._batch, self._served = "", set()
        pairs = [
            (question, parse(completion_text(completion), self.answers, finished=ended))
            for question, completion, ended in zip(questions, completions, finished, strict=True)
        ]
        columns = {name: self._column(name, entry.verifier, pairs) for name, entry in self.verifiers.items()}
        self.last_rows = [
            self._row(question, completion, {name: column[i] for name, column in columns.items()})
            for i, (question, completion) in enumerate(pairs)
        ]
        self._stop_if_failing()
        return self.last_rows

    def _column(self, name: str, verifier: Verifier, pairs: Sequence[Pair]) -> list[Verdict | Failure]:
        """What one verifier says of each pair. Never raises for a fault of the verifier's."""
        column: list[Verdict | Failure] = [Verdict(None, Reason.NOT_APPLICABLE)] * len(pairs)
        asked = []
        for i, (question, _) in enumerate(pairs):
            try:
                if verifier.applies(question):
                    asked.append(i)
            except Exception as error:
                column[i] = Failure.of(error)
        for i, verdict in zip(asked, _ask(verifier, [pairs[i] for i in asked]), strict=True):
            column[i] = verdict
        _fail_uneven_abstention(pairs, column)
        failures = [cell for cell in column if isinstance(cell, Failure)]
        self.asked[name] += sum(isinstance(c, Failure) or c.reason is not Reason.NOT_APPLICABLE for c in column)
        self.errors[name] += len(failures)
        if failures and name not in self._first_failure:
            self._first_failure[name] = failures[0]
            log.warning("verifier %s failed on %d of %d: %s", name, len(failures), len(pairs), failures[0].summary)
        return column

    def _row(self, question: Question, completion: Completion, cells: Mapping[str, Verdict | Failure]) -> Row:
        scores = {name: None if isinstance(cell, Failure) else cell.score for name, cell in cells.items()}
        failed = any(isinstance(cell, Failure) for cell in cells.values())
        gate = next((name for name, entry in self.verifiers.items() if entry.gate and scores[name] == 0), None)
        row: Row = {
            "question_id": question.id,
            "task": question.task,
            "completion": completion.text,
            "thought": completion.thought,
            "answer": completion.answer,
            "finished": completion.finished,
            "gate": gate,
        }
        for name, cell in cells.items():
            score = scores[name]
            row[name] = None if failed or score is None else 0.0 if gate else float(score)
            row[f"{name}/reason"] = str(Reason.ERROR if isinstance(cell, Failure) else cell.reason)
            row[f"{name}/error"] = cell.text if isinstance(cell, Failure) else None
            row[f"{name}/evidence"] = "[]" if isinstance(cell, Failure) else _evidence(cell)
        paid = [entry.weight * row[name] for name, entry in self.verifiers.items() if row[name] is not None]
        row["reward"] = sum(paid) if paid else None
        return row

    def _stop_if_failing(self) -> None:
        for name, errors in self.errors.items():
            asked = self.asked[name]
            if asked >= ENOUGH and errors > self.max_error_rate * asked:
                raise Error(
                    f"verifier {name} failed on {errors} of {asked} completions ({errors / asked:.0%}, allowed "
                    f"{self.max_error_rate:.0%}): {self._first_failure[name].summary}; mend it or leave it out"
                )


def _ask(verifier: Verifier, pairs: Sequence[Pair]) -> list[Verdict | Failure]:
    """One verdict or failure per pair. Where the batch raises, each pair is asked alone, so that one bad
    item costs one row; a batch of the wrong length cannot be matched to its pairs and fails as a whole."""
    if not pairs:
        return []
    try:
        verdicts = list(verifier.verify_batch(pairs))
    except Exception as error:
        log.warning("verifier %s: a batch of %d failed (%r), asking one by one", verifier.name, len(pairs), error)
        return [_ask_one(verifier, pair) for pair in pairs]
    try:
        if len(verdicts) != len(pairs):
            raise ValueError(f"verify_batch gave {len(verdicts)} verdicts for {len(pairs)} completions")
    except ValueError as error:
        return [Failure.of(error)] * len(pairs)
    return [_checked(verdict) for verdict in verdicts]


def _ask_one(verifier: Verifier, pair: Pair) -> Verdict | Failure:
    try:
        return _checked(verifier.verify(*pair))
    except Exception as error:
        return Failure.of(error)


def _checked(verdict: object) -> Verdict | Failure:
    """The verdict if it is one, down to its evidence: a subclass may have skipped the checks of Verdict."""
    try:
        if not isinstance(verdict, Verdict):
            raise TypeError(f"gave {type(verdict).__name__}, not a Verdict")
        if not isinstance(verdict.reason, Reason) or verdict.reason is Reason.ERROR:
            raise ValueError(f"gave the reason {verdict.reason!r}; give another Reason, or raise where the work failed")
        Verdict.__post_init__(verdict)
        _evidence(verdict)
        return verdict
    except Exception as error:
        return Failure.of(error)


def _evidence(verdict: Verdict) -> str:
    return json.dumps([asdict(item) for item in verdict.evidence])


def _fail_uneven_abstention(pairs: Sequence[Pair], column: list[Verdict | Failure]) -> None:
    """Abstention must depend on the question alone: where a verifier scored some completions of a question
    and abstained on others, the abstentions become failures, so that no completion can buy silence."""
    abstained: dict[str, list[int]] = defaultdict(list)
    scored: set[str] = set()
    for i, ((question, _), cell) in enumerate(zip(pairs, column, strict=True)):
        if isinstance(cell, Verdict) and cell.score is None:
            abstained[question.id].append(i)
        elif isinstance(cell, Verdict):
            scored.add(question.id)
    for question_id in abstained.keys() & scored:
        message = f"abstained on some completions of question {question_id} and not on others"
        for i in abstained[question_id]:
            column[i] = Failure(message, message)
