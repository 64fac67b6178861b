"""From completions to rewards: every verifier's column, computed once for a batch.

    layer = RewardLayer({"label": Weighted(Label(), weight=1.0)}, {template.task: template.answers})
    GRPOTrainer(reward_funcs=layer.functions(), args=GRPOConfig(reward_weights=layer.weights(), ...), ...)
    layer.score(questions, texts)  # the same verdicts without TRL or a model

One TRL reward function per verifier, each logged on its own. Whichever TRL calls first scores the batch
by all verifiers; the others read their columns from that one result, `last_rows`.

A row holds question_id, task, completion, thought, answer, finished, gate (the verifier that closed it, or
None), reward, and for each verifier `<v>` (what trains), `<v>/reason`, `<v>/error` (the end of a traceback, or
None), `<v>/evidence` (JSON). Three rules stand between a verdict and what trains:

- A verifier that abstains gives None in its own column; TRL counts that as 0 for the whole group.
- A gate whose score is 0 sets every other score of that completion to 0. Reasons and evidence stay as given.
- A verifier that fails (raises, hangs, dies, or gives anything but one valid verdict per completion) makes the
  whole row None, which TRL leaves out of its group. Above `max_error_rate` the run stops.

`reward` is the sum of the columns times the weights of the step, as TRL logs it. It is also what TRL compares within
a group under `multi_objective_aggregation: sum_then_normalize` (its default). Under `normalize_then_sum` (GDPO,
arXiv:2601.05242) TRL first brings each column to mean 0 and deviation 1 within its group, and only then applies the
weights: `reward` is then what was earned, not what was compared, and a weight sets a verifier's say whatever its
spread. There too a row of None is left out of every mean and gets advantage 0, and a group on which a verifier
abstains gets 0 from it; a column with but one number in a group says nothing either.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlvr.answers import Answers
from rlvr.completions import completion_text, parse
from rlvr.rewards.asking import Failure, InProcess, Said, Scored
from rlvr.rewards.worker import MEMORY, Worker
from rlvr.schedules import Schedule
from rlvr.types import ABSTENTIONS, Error, Question, Reason
from rlvr.verifier import Pair, Verifier

log = logging.getLogger(__name__)

Raw = str | Sequence[Mapping[str, Any]]  # a completion as TRL gives it: text or messages
Row = dict[str, Any]
RewardFunction = Callable[..., list[float | None]]

OWN_COLUMNS = ("question_id", "task", "completion", "thought", "answer", "finished", "gate", "reward")
TRAINER_COLUMNS = ("step", "phase", "group", "prompt", "advantage")  # the trainer adds these to a rollout
EVALUATION_COLUMNS = ("context", "perturbation", "readout", "split", "truth", "lenient", "sample", "tokens", "refused")
SILENT = ABSTENTIONS - {Reason.NOT_APPLICABLE, Reason.ERROR}
ENOUGH = 20  # completions that a verifier must have been asked about before its error rate counts


@dataclass(frozen=True)
class Weighted:
    """A verifier as a recipe uses it. A gate with score 0 sets the completion's other scores to 0."""

    verifier: Verifier
    weight: float | Schedule = 1.0
    gate: bool = False


class RewardLayer:
    """All verifiers of a recipe, and what they said of the last batch.

    verifiers: name -> Weighted, in the order of the reward functions. answers: task -> the type of its answers, as
    `Template.answers` has it. max_error_rate: the share of a verifier's verdicts that may fail over the run.
    eos_token_ids: the ids that end a generation (TRL counts the padding id among them); with none given, or no ids
    in a call, every completion counts as finished. deadline: seconds that a batch may take before the verifiers'
    processes are killed (see `rlvr.rewards.worker`); None asks them in this process, where nothing can be killed, and
    none is kept from the others' code. memory: GiB for the process of a verifier that rlvr does not ship.

    `step`: the training steps taken so far, for weights that follow a schedule; whoever trains sets it.
    """

    def __init__(
        self,
        verifiers: Mapping[str, Weighted],
        answers: Mapping[str, Answers],
        max_error_rate: float = 0.05,
        eos_token_ids: Collection[int] = (),
        deadline: float | None = None,
        memory: float = MEMORY,
    ) -> None:
        if not verifiers:
            raise Error("no verifiers: name at least one under `verifiers:` in the recipe")
        for name in verifiers:
            if name in OWN_COLUMNS + TRAINER_COLUMNS + EVALUATION_COLUMNS or "/" in name:
                raise Error(f"verifier {name!r} would overwrite a column of the rollouts; rename it")
        self.verifiers = dict(verifiers)
        self.answers = dict(answers)
        self.max_error_rate = max_error_rate
        self.eos_token_ids = eos_token_ids
        self.step = 0
        self.asked: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.last_rows: list[Row] = []
        self._schedules = {
            name: Schedule.parse(entry.weight, f"verifier {name!r}: weight") for name, entry in verifiers.items()
        }
        bare = {name: entry.verifier for name, entry in verifiers.items()}
        self._asker = InProcess(bare) if deadline is None else Worker(bare, deadline, memory)
        self._first_failure: dict[str, Failure] = {}
        self._batch: object = None  # what last_rows answer
        self._served: set[str] = set()  # the reward functions that have read them

    def state(self) -> dict[str, Any]:
        """The step, what was asked and what failed so far, as JSON, for a run that goes on in another process."""
        counts = {"asked": self.asked, "errors": self.errors, "first_failure": self._first_failure}
        return {"step": self.step, **counts}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.step, self.asked, self.errors = state["step"], Counter(state["asked"]), Counter(state["errors"])
        self._first_failure = {name: Failure(*failure) for name, failure in state["first_failure"].items()}

    def weights(self, step: int | None = None) -> list[float]:
        """For `GRPOConfig.reward_weights` and `GRPOTrainer.reward_weights`, in the order of `functions()`:
        the weights at `step`, or now."""
        return [schedule.at(self.step if step is None else step) for schedule in self._schedules.values()]

    def functions(self) -> list[RewardFunction]:
        """For `GRPOTrainer(reward_funcs=...)`: one per verifier, named after it. The dataset needs a column
        `question` of JSON strings. Each also logs `errors/<verifier>`, the share of the batch that failed,
        `abstained/<verifier>` of a soft one, and `weights/<verifier>` where that follows a schedule."""
        return [self._function(name) for name in self.verifiers]

    def _function(self, name: str) -> RewardFunction:
        schedule = self._schedules[name]

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
                if self.verifiers[name].verifier.kind == "soft":
                    log_metric(f"abstained/{name}", sum(row[f"{name}/reason"] in SILENT for row in rows) / len(rows))
                if schedule.changes:
                    log_metric(f"weights/{name}", schedule.at(self.step))
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
        batch = (list(questions), texts, list(finished))
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

        Raises Error if the lengths differ, a task has no type of answer, or a verifier fails too often.
        """
        finished = [True] * len(completions) if finished is None else finished
        if not len(questions) == len(completions) == len(finished):
            raise Error(f"{len(questions)} questions, {len(completions)} completions, {len(finished)} ends: must agree")
        self._batch, self._served = None, set()
        pairs = [
            (question, parse(completion_text(completion), self._answers(question), question.fields, finished=ended))
            for question, completion, ended in zip(questions, completions, finished, strict=True)
        ]
        columns = self._asker.ask(pairs)
        for name, column in columns.items():
            self._account(name, pairs, column)
        self.last_rows = self._rows(pairs, columns)
        self._stop_if_failing()
        return self.last_rows

    def _answers(self, question: Question) -> Answers:
        try:
            return self.answers[question.task]
        except KeyError:
            known = ", ".join(sorted(self.answers)) or "none"
            raise Error(
                f"question {question.id}: no prompt says how task {question.task} is answered (known: {known}); "
                "give the reward layer that task's Template.answers"
            ) from None

    def _account(self, name: str, pairs: Sequence[Pair], column: list[Said]) -> None:
        """Count what a verifier was asked and failed on; abstentions that it may not make are failures too."""
        _fail_uneven_abstention(pairs, column)
        failures = [cell for cell in column if isinstance(cell, Failure)]
        self.asked[name] += sum(isinstance(c, Failure) or c.reason != Reason.NOT_APPLICABLE for c in column)
        self.errors[name] += len(failures)
        if failures and name not in self._first_failure:
            self._first_failure[name] = failures[0]
            log.warning("verifier %s failed on %d of %d: %s", name, len(failures), len(pairs), failures[0].summary)

    def _rows(self, pairs: Sequence[Pair], columns: Mapping[str, Sequence[Said]]) -> list[Row]:
        gates = [(name, columns[name]) for name, entry in self.verifiers.items() if entry.gate]
        parts = [
            (columns[name], weight, name, f"{name}/reason", f"{name}/error", f"{name}/evidence")
            for name, weight in zip(self.verifiers, self.weights(), strict=True)
        ]
        failed = {i for column in columns.values() for i, cell in enumerate(column) if isinstance(cell, Failure)}
        rows = []
        for i, (question, completion) in enumerate(pairs):
            closed = [name for name, column in gates if _is_zero(column[i])]
            row: Row = {
                "question_id": question.id,
                "task": question.task,
                "completion": completion.text,
                "thought": completion.thought,
                "answer": completion.answer,
                "finished": completion.finished,
                "gate": closed[0] if closed else None,
            }
            reward = None
            for column, weight, name, reason, error, evidence in parts:
                cell = column[i]
                if isinstance(cell, Failure):
                    row[name], row[reason], row[error], row[evidence] = None, str(Reason.ERROR), cell.text, "[]"
                    continue
                score = cell.score
                if score is not None:
                    score = None if i in failed else 0.0 if closed else score
                if score is not None:
                    reward = weight * score + (reward or 0.0)
                row[name], row[reason], row[error], row[evidence] = score, cell.reason, None, cell.evidence
            row["reward"] = reward
            rows.append(row)
        return rows

    def _stop_if_failing(self) -> None:
        for name, errors in self.errors.items():
            asked = self.asked[name]
            if asked >= ENOUGH and errors > self.max_error_rate * asked:
                raise Error(
                    f"verifier {name} failed on {errors} of {asked} completions ({errors / asked:.1%}, allowed "
                    f"{self.max_error_rate:.1%}): {self._first_failure[name].summary}; mend it or leave it out"
                )


def _is_zero(cell: Said) -> bool:
    return isinstance(cell, Scored) and cell.score == 0


def _fail_uneven_abstention(pairs: Sequence[Pair], column: list[Said]) -> None:
    """Abstention must depend on the question alone: where a verifier scored some completions of a question
    and abstained on others, the abstentions become failures, so that no completion can buy silence."""
    silent = [i for i, cell in enumerate(column) if isinstance(cell, Scored) and cell.score is None]
    if not silent:
        return
    scored = {pair[0].id for pair, cell in zip(pairs, column, strict=True) if _has_score(cell)}
    for i in silent:
        if pairs[i][0].id in scored:
            message = f"abstained on some completions of question {pairs[i][0].id} and not on others"
            column[i] = Failure(message, message)


def _has_score(cell: Said) -> bool:
    return isinstance(cell, Scored) and cell.score is not None
