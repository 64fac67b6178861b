"""One task, measured: its stages, its shortcuts, their paired differences, and its strata.

A task with a closed set of labels (up, down; or a stated probability of one of them) is measured by
rlvr.evaluation.metrics, one with open answers, or with options of its own for each question, by
rlvr.evaluation.metrics.graded. Everything else is the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd

from rlvr.evaluation import metrics, shortcuts
from rlvr.evaluation.metrics.samples import Samples, best_of, majority_at, pass_at, votes
from rlvr.evaluation.results import rows
from rlvr.evaluation.results.strata import ENOUGH, in_order, strata
from rlvr.prompts import Template
from rlvr.types import Question

ENOUGH_GENES = 10
VOTED = ("auroc", "auroc_macro_gene", "auprc", "auprc_macro_gene", "brier", "ece")
S = TypeVar("S")
Found = dict[str, dict[str, metrics.Measured]]


@dataclass(frozen=True)
class Task(ABC, Generic[S]):
    """How one task is measured. S: what a system is."""

    template: Template
    questions: Mapping[str, Question]  # by id
    train: Sequence[Question]
    verifiers: Sequence[str]
    seed: int
    resamples: int

    @abstractmethod
    def system(self, table: pd.DataFrame) -> S:
        """A stage's own answers."""

    @abstractmethod
    def shortcuts(self, table: pd.DataFrame) -> dict[str, S]:
        """The shortcuts' answers to the same rows."""

    @abstractmethod
    def measured(self, systems: Mapping[str, S], only: Sequence[str] | None = None) -> Found:
        """All metrics (or some) of systems on the same rows."""

    @abstractmethod
    def metric(self, found: Mapping[str, Any]) -> str:
        """The metric that a task is judged by."""

    @abstractmethod
    def take(self, system: S, keep: rows.Mask) -> S:
        """The rows of a mask."""

    def right(self, table: pd.DataFrame) -> rows.Mask:
        return rows.right(table)

    def asked(self, table: pd.DataFrame) -> list[Question]:
        return [self.questions[name] for name in table["question_id"]]

    def report(self, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
        """stages, baselines, comparisons (all as intervals by metric), strata, and the metric to judge by."""
        last = list(tables)[-1]
        table = tables[last]
        alike = {s: own for s, own in tables.items() if own[rows.KEY].equals(table[rows.KEY])}
        lazy = self.shortcuts(table)
        policies = {stage: self.system(own) for stage, own in alike.items()}
        found = self.measured({**policies, **lazy})
        for stage, own in tables.items():
            if stage not in alike:
                found |= self.measured({stage: self.system(own)})
        comparisons = {}
        for other in [*(stage for stage in tables if stage != last), *lazy]:
            pair = found
            if other in tables and other not in alike:  # an unfinished stage: on the rows that both have
                a, b = rows.common(table, tables[other])
                pair = self.measured({last: self.system(a), other: self.system(b)}) if len(a) else {last: {}, other: {}}
            comparisons[f"{last} - {other}"] = metrics.differences(pair[last], pair[other])
        summaries = {name: metrics.intervals(one) for name, one in found.items()}
        judged = self.metric(summaries[last])
        best = best_shortcut(judged, {name: summaries[name] for name in lazy})
        return {
            "stages": {stage: {**self.beside(own), **summaries[stage]} for stage, own in tables.items()},
            "baselines": {name: summaries[name] for name in lazy},
            "comparisons": comparisons,
            "metric": judged,
            "best": best,
            "strata": self.strata(table, policies[last], lazy.get(best or ""), judged),
        }

    def beside(self, table: pd.DataFrame) -> dict[str, metrics.Interval]:
        """Parse rate and the mean score of each verifier, over rows; what several samples of a question give, over
        questions."""
        scores = {f"score/{name}": table[name].to_numpy(float) for name in self.verifiers if name in table}
        held = {name: column for name, column in scores.items() if np.isfinite(column).any()}
        columns = {"parse_rate": table["answer"].notna().to_numpy(float), **held}
        found = self._means(columns, table["perturbation"].tolist())
        samples = Samples.of(table["question_id"].tolist())
        return found | (self.several(table, samples) if samples.most > 1 else {})

    def several(self, table: pd.DataFrame, samples: Samples) -> dict[str, metrics.Interval]:
        """pass@k, maj@k and the best of n by each verifier's score and by the reward."""
        right, given = self.right(table), rows.answers(table)
        columns = {f"pass@{k}": pass_at(k, right, samples) for k in samples.sizes()}
        columns |= {f"maj@{k}": majority_at(k, given, right, samples) for k in samples.sizes() if k > 1}
        for name in (*self.verifiers, "reward"):
            if name in table:
                columns[f"best_of_{samples.most}/{name}"] = best_of(table[name].to_numpy(float), right, samples)
        held = {name: column for name, column in columns.items() if np.isfinite(column).any()}
        return self._means(held, table["perturbation"].iloc[samples.first].tolist())

    def strata(self, table: pd.DataFrame, policy: S, lazy: S | None, judged: str) -> dict[str, dict[str, Any]]:
        """division -> stratum -> accuracy and the judged metric, with the gain over the best shortcut. A stratum with
        fewer than ENOUGH clusters is counted and says so."""
        names = table["question_id"].tolist()
        ids = list(dict.fromkeys(names))
        divided = strata(self.train, [self.questions[name] for name in ids])
        clusters = table["perturbation"].to_numpy()
        only = list(dict.fromkeys(["accuracy", judged]))
        found: dict[str, dict[str, Any]] = {}
        for division, column in divided.items():
            of = dict(zip(ids, column, strict=True))
            places = np.array([of[name] or "" for name in names])
            for stratum in in_order({name for name in column if name}):
                keep = places == stratum
                n = len(set(clusters[keep]))
                row: dict[str, Any] = {"n": int(keep.sum()), "clusters": n}
                if n < ENOUGH:
                    row["reason"] = f"too few clusters: {n}, at least {ENOUGH} are needed"
                else:
                    systems = {"": self.take(policy, keep)} | ({} if lazy is None else {"best": self.take(lazy, keep)})
                    own = self.measured(systems, only)
                    row |= metrics.intervals(own[""])
                    if lazy is not None:
                        row["gain"] = metrics.differences(own[""], own["best"])[judged]
                found.setdefault(division, {})[stratum] = row
        return found

    def _means(self, columns: Mapping[str, Any], clusters: Sequence[str]) -> dict[str, metrics.Interval]:
        return metrics.intervals(metrics.means(columns, clusters, self.seed, self.resamples))


@dataclass(frozen=True)
class ClosedTask(Task[metrics.System]):
    """The labels are the same for every question."""

    labels: Sequence[str]

    def system(self, table: pd.DataFrame) -> metrics.System:
        return rows.system(table, self.labels)

    def shortcuts(self, table: pd.DataFrame) -> dict[str, metrics.System]:
        ids = list(dict.fromkeys(table["question_id"]))
        place = {name: row for row, name in enumerate(ids)}
        of_row = [place[name] for name in table["question_id"]]
        told = shortcuts.shortcuts(self.train, [self.questions[name] for name in ids], self.labels)
        bare = self.system(table)
        return {
            name: {**bare, "probabilities": p[of_row], "answers": [self.labels[i] for i in p.argmax(axis=1)[of_row]]}
            for name, p in told.items()
        }

    def measured(self, systems: Mapping[str, metrics.System], only: Sequence[str] | None = None) -> Found:
        return metrics.measured(self.template.task, systems, self.seed, self.resamples, only)

    def metric(self, found: Mapping[str, Any]) -> str:
        """An average over genes means something only over enough of them; T-cell screens have two readouts."""
        if found.get("auroc", {}).get("value") is None:
            return "accuracy"
        return "auroc_macro_gene" if found["auroc_macro_gene"]["n"] >= ENOUGH_GENES else "auroc"

    def take(self, system: metrics.System, keep: rows.Mask) -> metrics.System:
        at = np.flatnonzero(keep).tolist()
        told = system["probabilities"]
        return metrics.System(
            labels=[system["labels"][i] for i in at],
            probabilities=None if told is None else told[keep],
            answers=[system["answers"][i] for i in at],
            label_names=system["label_names"],
            readouts=[system["readouts"][i] for i in at],
            clusters=[system["clusters"][i] for i in at],
        )

    def right(self, table: pd.DataFrame) -> rows.Mask:
        own = self.system(table)
        return np.array([a == b for a, b in zip(own["answers"], own["labels"], strict=True)], dtype=np.bool_)

    def several(self, table: pd.DataFrame, samples: Samples) -> dict[str, metrics.Interval]:
        """The same, and what the share of the votes is worth as a probability."""
        own = self.system(table)
        shares, winners = votes(own["answers"], self.labels, samples)
        first = np.zeros(len(table), dtype=np.bool_)
        first[samples.first] = True
        poll: metrics.System = {**self.take(own, first), "probabilities": shares, "answers": winners}
        voted = metrics.intervals(self.measured({"": poll}, VOTED)[""])
        return super().several(table, samples) | {f"vote/{name}": value for name, value in voted.items()}


@dataclass(frozen=True)
class OpenTask(Task[metrics.Open]):
    """Open answers, or options that differ from question to question."""

    def system(self, table: pd.DataFrame) -> metrics.Open:
        return self._open(table, rows.answers(table), self.right(table))

    def shortcuts(self, table: pd.DataFrame) -> dict[str, metrics.Open]:
        ids = list(dict.fromkeys(table["question_id"]))
        told = shortcuts.open_shortcuts(self.train, [self.questions[name] for name in ids], self.template)
        found = {}
        for name, given in told.items():
            of = dict(zip(ids, given, strict=True))
            column = [of[name] for name in table["question_id"]]
            found[name] = self._open(table, column, rows.right(table.assign(answer=pd.Series(column, dtype=object))))
        return found

    def _open(self, table: pd.DataFrame, given: Sequence[str | None], right: rows.Mask) -> metrics.Open:
        return metrics.Open([q.truth for q in self.asked(table)], given, right, table["perturbation"].tolist())

    def measured(self, systems: Mapping[str, metrics.Open], only: Sequence[str] | None = None) -> Found:
        return metrics.measured_open(self.template.task, systems, self.seed, self.resamples)

    def metric(self, found: Mapping[str, Any]) -> str:
        """Of numbers and orders hardly any is exact."""
        return next((name for name in ("pearson_delta", "ndcg", "cell_accuracy") if name in found), "accuracy")

    def take(self, system: metrics.Open, keep: rows.Mask) -> metrics.Open:
        at = np.flatnonzero(keep).tolist()
        return metrics.Open(
            [system.truths[i] for i in at],
            [system.answers[i] for i in at],
            system.right[keep],
            [system.clusters[i] for i in at],
        )


def best_shortcut(metric: str, baselines: Mapping[str, Mapping[str, metrics.Interval]]) -> str | None:
    """The best of those in which the metric is defined."""
    known = {name: value for name, row in baselines.items() if (value := row[metric]["value"]) is not None}
    return max(known, key=lambda name: known[name]) if known else None
