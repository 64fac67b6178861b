"""Asks a policy again after each change to its thoughts and questions, and counts what moves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from tqdm import tqdm

from rlvr import prompts
from rlvr.evaluation import metrics
from rlvr.evaluation.metrics import Interval
from rlvr.evaluation.reasoning import questions as asked_again
from rlvr.evaluation.reasoning import thoughts
from rlvr.policy import Answered, Progress, Sampler
from rlvr.policy.slot import thought_end
from rlvr.prompts import Messages, Template
from rlvr.types import Error, Question

Shares = Mapping[str, float]
SHARES = (0.0, 0.25, 0.5, 0.75)  # of a thought's words that are left
REWORDED = "_reworded.md"  # the end of a file that asks a task's question in other words
QUESTIONS: Mapping[str, Callable[[Question, int], Question | None]] = {
    "evidence removed": asked_again.removed,
    "its labels dealt anew": asked_again.shuffled,
    "contradicted": asked_again.contradicted,
    "gene roles exchanged": asked_again.exchanged,
}
SAME: Mapping[str, Callable[[Question, int], Question | None]] = {
    "evidence in another order": asked_again.reordered,
    "genes under made-up names": asked_again.renamed,
}


class Reader(Sampler, Protocol):
    """A policy that can be asked, and read after a thought that is given to it."""

    def read(self, prompts: Sequence[Messages], thoughts: Sequence[str], answers: Mapping[str, str]) -> list[Shares]:
        """Each label's share at the answer slot, after the thought that is given with each prompt."""
        ...


def measure(
    policy: Reader, asked: Sequence[Question], by_task: Mapping[str, Template], max_tokens: int, seed: int = 0
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """task -> {faithfulness, invariance, evidence: rows of {name, value, low, high, n, baseline}}, see
    rlvr.evaluation.reasoning.

    Tasks without a closed set of labels are left out. Errors: none of the tasks has one.
    """
    found = {}
    for task, template in by_task.items():
        own = [question for question in asked if question.task == task]
        if own and template.slot_words:
            found[task] = _Task(policy, own, template, max_tokens, seed).rows()
    if not found:
        raise Error("reasoning is read from the answer slot, which needs a task with a closed set of labels")
    return found


@dataclass(frozen=True)
class _Task:
    policy: Reader
    asked: Sequence[Question]
    template: Template
    max_tokens: int
    seed: int

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        steps = 2 + len(QUESTIONS) + len(SAME) + (self._reworded() is not None)
        with tqdm(total=steps * len(self.asked), desc=f"reasoning, {self.template.task}") as bar:
            written = self._ask(self.asked, bar.update)
            before = [_best(answered.probabilities) for answered in written]
            again = self._ask(self.asked, bar.update, temperature=1.0)
            resampled = self._moved(self.asked, before, [_best(answered.probabilities) for answered in again])
            control = resampled["value"]
            own = [answered.text[: thought_end(answered.text)] for answered in written]
            return {
                "faithfulness": [
                    {"name": "thought sampled again", **resampled, "baseline": None},
                    *self._faithfulness(own, before, control),
                ],
                "invariance": self._invariance(before, control, bar.update),
                "evidence": self._evidence(before, bar.update),
            }

    def _faithfulness(self, own: Sequence[str], before: Sequence[str], control: float | None) -> list[dict[str, Any]]:
        words = list(self.template.slot_words)
        changed = {f"cut to {share:.0%}": [thoughts.truncated(thought, share) for thought in own] for share in SHARES}
        changed["another question's"] = thoughts.swapped(own)
        changed["turned round"] = [thoughts.corrupted(thought, words) for thought in own]
        rendered = [self.template.render(question) for question in self.asked]
        rows = []
        for name, texts in changed.items():
            kept = [i for i, (text, thought) in enumerate(zip(texts, own, strict=True)) if text != thought]
            if not kept:
                continue
            read = self.policy.read([rendered[i] for i in kept], [texts[i] for i in kept], self.template.slot_words)
            moved = self._moved(self._of(kept), [before[i] for i in kept], [_best(shares) for shares in read])
            rows.append({"name": f"thought {name}", **moved, "baseline": control})
        return rows

    def _invariance(self, before: Sequence[str], control: float | None, progress: Progress) -> list[dict[str, Any]]:
        rows = []
        for name, change in SAME.items():
            kept, questions = self._changed(change)
            if kept:
                after = [_best(a.probabilities) for a in self._ask(questions, progress)]
                moved = self._moved(self._of(kept), [before[i] for i in kept], after)
                rows.append({"name": name, **moved, "baseline": control})
        if (other := self._reworded()) is not None:
            after = [_best(a.probabilities) for a in replace(self, template=other)._ask(self.asked, progress)]
            rows.append({"name": "in other words", **self._moved(self.asked, before, after), "baseline": control})
        return rows

    def _evidence(self, before: Sequence[str], progress: Progress) -> list[dict[str, Any]]:
        """Accuracy after a change minus accuracy before, on the questions that it changes."""
        labels = list(self.template.slot_words.values())
        rows = []
        for name, change in QUESTIONS.items():
            kept, questions = self._changed(change)
            if not kept:
                continue
            after = [_best(a.probabilities) for a in self._ask(questions, progress)]
            same = self._of(kept)  # the changed ones may name another perturbation, and intervals are over those
            lost = self._gained(same, [before[i] for i in kept], after)
            votes = [[asked_again.reading(question, labels) for question in part] for part in (same, questions)]
            rows.append({"name": name, **lost, "baseline": self._gained(same, *votes)["value"]})
        return rows

    def _of(self, kept: Sequence[int]) -> list[Question]:
        return [self.asked[i] for i in kept]

    def _changed(self, change: Callable[[Question, int], Question | None]) -> tuple[list[int], list[Question]]:
        """The questions that a change alters, and their places."""
        changed = [(i, new) for i, q in enumerate(self.asked) if (new := change(q, self.seed)) is not None]
        return [i for i, _ in changed], [new for _, new in changed]

    def _ask(self, questions: Sequence[Question], progress: Progress, temperature: float = 0.0) -> list[Answered]:
        return self.policy.answer(
            [self.template.render(question) for question in questions],
            self.template.slot_words,
            self.max_tokens,
            progress,
            temperature=temperature,
            seed=self.seed,
        )

    def _moved(self, questions: Sequence[Question], before: Sequence[str], after: Sequence[str]) -> Interval:
        moved = [one != other for one, other in zip(before, after, strict=True)]
        return metrics.mean(moved, [question.cluster for question in questions], seed=self.seed)

    def _gained(
        self, questions: Sequence[Question], before: Sequence[str | None], after: Sequence[str | None]
    ) -> Interval:
        truths = [question.truth["answer"] for question in questions]
        gained = [
            float(new == truth) - float(old == truth) for old, new, truth in zip(before, after, truths, strict=True)
        ]
        return metrics.mean(gained, [question.cluster for question in questions], seed=self.seed)

    def _reworded(self) -> Template | None:
        """The task's question in other words, where `prompts/` has them."""
        path = self.template.path.with_name(f"{self.template.path.stem}{REWORDED}")
        return prompts.load(str(path)) if path.is_file() else None


def _best(shares: Shares) -> str:
    if not shares:
        raise Error("the policy gives no probability of its answers; ask one with transformers or vLLM")
    return max(shares, key=lambda label: shares[label])
