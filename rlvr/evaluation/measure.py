"""Asks a subject the held-out questions, a chunk at a time, and keeps every row with its verdicts."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from itertools import takewhile
from math import ceil
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from tqdm import tqdm

from rlvr import knowledge, policy
from rlvr.evaluation.chunks import Parts, Span
from rlvr.evaluation.lengths import max_tokens
from rlvr.evaluation.subject import Subject
from rlvr.lenient import lenient
from rlvr.loading import Templates
from rlvr.prompts import Messages, Template
from rlvr.questions import panels
from rlvr.recipe import Budget, Recipe
from rlvr.rewards.layer import RewardLayer, Row
from rlvr.types import Error, Question
from rlvr.verifier import KnowledgeVerifier

SCORED_AT_ONCE = 512  # completions: the layer's deadline is meant for a batch


@dataclass(frozen=True)
class Evaluation:
    """Who is asked what, how it is judged, and where it is kept.

    `Evaluation(...).run()` writes evaluations/<stage>.parquet under `folder`: one row per completion, with slot
    probabilities and every verdict; and <stage>.json, how they came about.
    """

    who: Subject
    questions: Sequence[Question]
    templates: Templates
    layer: RewardLayer
    recipe: Recipe
    stage: str
    folder: Path
    budget: Budget = field(default_factory=Budget)

    @cached_property
    def parts(self) -> Parts:
        """Where the answers are kept, and all that they depend on."""
        return Parts(self.folder, self.stage, self._asking())

    @property
    def max_tokens(self) -> int:
        return max_tokens(self.recipe)

    @property
    def chunk(self) -> int:
        """Questions between two saves: at most one rank's share, so that no rank is idle while another asks all."""
        share = ceil(len(self.questions) / int(PartialState().num_processes))
        return max(1, min(self.who.chunk, share))

    def run(self) -> None:
        """Ranks share the chunks; what an earlier start has answered stays answered.

        Errors: what was kept is of another evaluation; the subject fails. What was answered until then stays.
        """
        state, parts = PartialState(), self.parts
        if state.is_main_process:
            parts.open()
        state.wait_for_everyone()
        if parts.finished():
            if state.is_main_process:
                parts.clear()
            return
        total = len(self.questions)
        try:
            stopped = self._ask()
        except Error as error:
            where = f"{parts.answered()} of {total} questions are answered and kept in {parts.folder}"
            raise Error(f"{error}; {where}, the same command goes on from there") from error
        reasons = gather_object([stopped]) if state.num_processes > 1 else [stopped]
        state.wait_for_everyone()
        if state.is_main_process:
            why = next((reason for reason in reasons if reason), None)
            if why is None and parts.answered() < total:
                raise Error(
                    f"{parts.folder} lacks answers of other ranks; put it on a file system that all nodes share"
                )
            parts.assemble({"stopped": why, "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])})
        state.wait_for_everyone()

    def _asking(self) -> dict[str, Any]:
        verifiers = {name: entry.verifier for name, entry in self.layer.verifiers.items()}
        versions = {name: verifier.version for name, verifier in verifiers.items()}
        read = {Path(v.knowledge).stem for v in verifiers.values() if isinstance(v, KnowledgeVerifier) and v.knowledge}
        bases = {stem: version for stem, version in knowledge.opened().items() if stem.partition("-")[0] in read}
        return {
            **self.who.facts,
            "asked": len(self.questions),
            "questions_sha256": panels.digest(self.questions),
            "data_sha256": _digest(sorted(question.to_json() for question in self.questions)),
            "prompt_sha256": {task: template.digest for task, template in self.templates.items()},
            "verifiers_sha256": _digest([self.recipe.to_dict()["verifiers"], versions, bases]),
            "chunk": self.chunk,
            "samples": self.who.samples,
            "temperature": self.recipe.evaluation.temperature,
            "seed": self.recipe.seed,
            "max_tokens": self.max_tokens,
        }

    def _ask(self) -> str | None:
        """Ask what is left of this rank's chunks; returns what stopped it, if anything did."""
        state, started, who, budget, parts = PartialState(), time.monotonic(), self.who, self.budget, self.parts
        questions = _ordered(self.questions)
        left = _left(len(questions), self.chunk, parts.spans(), state.process_index, state.num_processes)
        tokens = None if budget.tokens is None else (budget.tokens - parts.tokens()) // state.num_processes
        opened: policy.Sampler | policy.SavedCompletions | None = None
        written = 0
        completions = sum(stop - start for start, stop in left) * who.samples
        with tqdm(total=completions, desc=f"evaluate {self.stage}", disable=not state.is_main_process) as bar:
            while left:
                start, stop = left.pop(0)
                if budget.minutes is not None and time.monotonic() - started >= 60 * budget.minutes:
                    return "minutes"
                if budget.questions is not None and start >= budget.questions:
                    return "questions"
                end = stop if budget.questions is None else min(stop, budget.questions)
                if tokens is not None:  # as many as fit if every completion is as long as it may be
                    end = min(end, start + max(tokens, 0) // (self.max_tokens * who.samples))
                if end == start:
                    return "tokens"
                opened = opened or who.open()
                began = time.monotonic()
                rows, broken = self._rows(opened, questions[start:end], start, bar.update)
                if broken:
                    if whole := len(rows) // who.samples:
                        parts.write(Span(start, start + whole), rows, time.monotonic() - began)
                    raise broken
                parts.write(Span(start, end), rows, time.monotonic() - began)
                if tokens is not None:
                    tokens -= sum(self.max_tokens if row["tokens"] is None else row["tokens"] for row in rows)
                written += sum(row["tokens"] or 0 for row in rows)
                bar.set_postfix_str(f"{written / (time.monotonic() - started):.0f} tokens/s")
                if end < stop:
                    left.insert(0, Span(end, stop))
        return None

    def _rows(
        self,
        who: policy.Sampler | policy.SavedCompletions,
        questions: Sequence[Question],
        start: int,
        progress: Callable[[int], Any],
    ) -> tuple[list[dict[str, Any]], policy.Broken | None]:
        """The rows of a chunk, in the order of its questions; where the sampler breaks down, those of the first
        questions that it has answered, and why."""
        broken: policy.Broken | None = None
        rows_of: dict[str, list[dict[str, Any]]] = {}
        for task, template in self.templates.items():
            own = [question for question in questions if question.task == task]
            if not own:
                continue
            rendered = [template.render(question) for question in own]
            try:
                answered = self._answers(who, own, rendered, template, start, progress)
            except policy.Broken as error:
                broken = error
                whole = len(error.answered) // self.who.samples
                own, rendered, answered = own[:whole], rendered[:whole], error.answered[: whole * self.who.samples]
            for question, rows in zip(own, _scored(own, rendered, answered, template, self.layer), strict=True):
                rows_of[question.id] = rows
            if broken:
                break
        answered_first = list(takewhile(lambda question: question.id in rows_of, questions))
        return [row for question in answered_first for row in rows_of[question.id]], broken

    def _answers(
        self,
        who: policy.Sampler | policy.SavedCompletions,
        questions: Sequence[Question],
        rendered: Sequence[Messages],
        template: Template,
        start: int,
        progress: Callable[[int], Any],
    ) -> list[policy.Answered]:
        if isinstance(who, policy.SavedCompletions):
            answered = who.of(questions)
            progress(len(answered))
            return answered
        return who.answer(
            rendered,
            template.slot_words,
            self.max_tokens,
            progress,
            temperature=self.recipe.evaluation.temperature,
            samples=self.recipe.evaluation.samples,
            seed=int(sha256(f"{self.recipe.seed}:{start}:{template.task}".encode()).hexdigest()[:8], 16),
        )


def _left(total: int, chunk: int, done: Sequence[Span], rank: int, ranks: int) -> list[Span]:
    """What of a rank's chunks is not answered. A budget may have cut one short: its rest is a span of its own."""
    found = []
    for number, start in enumerate(range(0, total, chunk)):
        stop = min(start + chunk, total)
        for span in done:
            if span.start == start:
                start = span.stop
        if number % ranks == rank and start < stop:
            found.append(Span(start, stop))
    return found


def _ordered(questions: Sequence[Question]) -> list[Question]:
    """By a hash of their ids, whatever order they come in, so that any beginning is a random sample of them."""
    return sorted(questions, key=lambda question: sha256(question.id.encode()).hexdigest())


def _scored(
    asked: Sequence[Question],
    rendered: Sequence[Sequence[Mapping[str, str]]],
    answered: Sequence[policy.Answered],
    template: Template,
    layer: RewardLayer,
) -> list[list[dict[str, Any]]]:
    """For each question the rows of its samples."""
    samples = len(answered) // max(len(asked), 1)
    repeated = [question for question in asked for _ in range(samples)]
    verdicts: list[Row] = []
    for start in range(0, len(answered), SCORED_AT_ONCE):
        part = answered[start : start + SCORED_AT_ONCE]
        verdicts += layer.score(repeated[start : start + len(part)], [a.text for a in part], [a.finished for a in part])
    rows = []
    for i, (question, messages) in enumerate(zip(asked, rendered, strict=True)):
        same = {**_identity(question), "prompt": "\n\n".join(message["content"] for message in messages)}
        own = range(i * samples, (i + 1) * samples)
        rows.append(
            [
                {
                    **same,
                    "sample": number,
                    "lenient": lenient(answered[k].text, template.answers, question.fields),
                    **verdicts[k],
                    "tokens": answered[k].tokens,
                    "refused": answered[k].refused,
                    **{f"p/{label}": answered[k].probabilities.get(label) for label in template.slot_words.values()},
                }
                for number, k in enumerate(own)
            ]
        )
    return rows


def _identity(question: Question) -> dict[str, Any]:
    truth = question.truth["answer"]
    return {
        "question_id": question.id,
        "task": question.task,
        "context": str(question.truth.get("context", "")),
        "perturbation": question.cluster,
        "readout": str(question.fields.get("readout", "")),
        "split": question.split,
        "truth": truth if isinstance(truth, str) else json.dumps(truth),
    }


def _digest(values: Any) -> str:
    return sha256(json.dumps(values, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
