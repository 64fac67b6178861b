"""Audits a recipe, or any set of sources, for leaks between training and what is held out.

    rlvr data audit perturbqa_direction
    rlvr data audit perturbqa:context=k562 perturbqa:context=rpe1 --split test

All questions are put together as training would. For every kind of overlap: how many held-out questions, and how
well a look-up of what leaks would score, alone. A perturbation, a pair or a group that training has seen is a leak;
complex partners, paralogs, and readouts that occur in both are strata to know about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from rlvr.evaluation import metrics, shortcuts
from rlvr.knowledge import KnowledgeBase
from rlvr.plugins import names as plugin_names
from rlvr.questions.evidence import PRIOR
from rlvr.questions.splits.kin import Kin
from rlvr.questions.splits.leaks import FATAL, TIES, About, Key, Seen, Told, names, told
from rlvr.recipe import BUILT_IN, Recipe, load
from rlvr.types import Error, Question, suggest

Table = NDArray[np.float64]
MOST_LABELS = 6  # a task with more different answers has no look-up
LISTED = 20  # of the names that are no gene
# What an answer of one task says in another task of its area; the first that is among its labels counts.
SAYS = {
    "no": ("no", "none"),
    "none": ("none", "no"),
    "yes": ("yes",),
    "up": ("up", "yes"),
    "down": ("down", "yes"),
    "activation": ("activation", "reported"),
    "repression": ("repression", "reported"),
}


def audit(questions: Sequence[Question], split: str | None = None, noncommercial: bool = False) -> dict[str, Any]:
    """What held-out questions (of `split`; None: validation and test) share with the training ones, task by task.

    noncommercial: complexes are those of CORUM, whose licence forbids commercial use.
    Errors: nothing to train on, nothing held out.
    """
    train = [q for q in questions if q.split == "train"]
    held_out = [q for q in questions if (q.split == split if split else q.split != "train")]
    if not train:
        raise Error("audit: there are no training questions; check the split of the sources")
    if not held_out:
        present = ", ".join(sorted({q.split for q in questions}))
        raise Error(f"audit: no question is held out in {split or 'validation or test'}; there is only {present}")
    subjects = names([*train, *held_out])
    kin = Kin(KnowledgeBase.open("upstream", noncommercial=True)) if noncommercial else Kin.of(subjects, whole=True)
    measured = list(told(train, kin))
    seen = Seen(measured, kin)
    tasks = {}
    for task in dict.fromkeys(q.task for q in held_out):
        asked = [q for q in held_out if q.task == task]
        tasks[task] = _task(asked, [q for q in train if q.task == task], measured, seen)
    unknown = sorted(name for name in subjects if not kin.gene(name))
    return {
        "split": split or "validation, test",
        "train": len(train),
        "held_out": len(held_out),
        "leak": any(row["leak"] and row["count"] for found in tasks.values() for row in found["overlaps"]),
        "knowledge": kin.base.version,
        "never_held_out": sorted({q.task for q in train} - tasks.keys()),
        "unknown_names": {"n": len(unknown), "of": len(subjects), "first": unknown[:LISTED]},
        "tasks": tasks,
    }


def _task(
    held_out: Sequence[Question], train: Sequence[Question], measured: Sequence[Told], seen: Seen
) -> dict[str, Any]:
    """The overlaps of one task's held-out questions, with their look-ups, and its shortcuts."""
    asked = [About.of(question) for question in held_out]
    shared = [seen.shared(about) for about in asked]
    lookup = LookUp(held_out, train, measured, shared)
    rows = []
    for kind in dict.fromkeys(kind for about in asked for kind in seen.kinds(about)):
        hit = np.array([kind in found for found in shared], dtype=bool)
        rows.append(
            {
                "kind": kind,
                "leak": kind in FATAL,
                **_counted(held_out, hit),
                "contexts": {
                    context: _counted([held_out[i] for i in places], hit[places])
                    for context in dict.fromkeys(about.context for about in asked)
                    for places in [[i for i, about in enumerate(asked) if about.context == context]]
                },
                "lookup": lookup.scores(kind, np.ones_like(hit)) if hit.any() else {},
                "among_them": lookup.scores(kind, hit) if hit.any() else {},
            }
        )
    return {"n": len(held_out), "train": len(train), "overlaps": rows, "shortcuts": lookup.shortcuts()}


def _counted(questions: Sequence[Question], hit: NDArray[np.bool_]) -> dict[str, Any]:
    """How many of the questions are hit, and of their clusters (perturbations, or groups)."""
    found = {q.cluster for q, shares in zip(questions, hit, strict=True) if shares}
    every = {q.cluster for q in questions}
    count = {"count": int(hit.sum()), "n": len(questions), "share": float(hit.mean())}
    return {**count, "clusters": len(found), "of_clusters": len(every)}


class LookUp:
    """What the leaked answers alone would score on one task's held-out questions.

    A question's probabilities are the rates of the labels among the training answers that its shared keys lead to,
    answers of other tasks included where they say something (who was told "up" knows "yes"). A question that shares
    nothing has the overall training rates, so that among its like it ranks nothing. Relatives vote with the answers
    for the same readout. Their vote is shrunk as those in `rlvr.questions.evidence` are: towards the overall rates
    where questions are pooled, towards the readout's own where AUROC is taken within readouts.
    """

    def __init__(
        self,
        held_out: Sequence[Question],
        train: Sequence[Question],
        measured: Sequence[Told],
        shared: Sequence[Mapping[str, Sequence[Key]]],
    ) -> None:
        self.held_out, self.train, self.shared = held_out, train, shared
        answers = {q.truth["answer"] if isinstance(q.truth["answer"], str) else "" for q in [*held_out, *train]}
        ranked = train and "" not in answers and 2 <= len(answers) <= MOST_LABELS
        self.labels = sorted(answers) if ranked else []
        if not self.labels:
            return
        wanted = {key for found in shared for keys in found.values() for key in keys}
        self._place = {key: i for i, key in enumerate(wanted)}
        self._counts = np.zeros((len(wanted), len(self.labels)))  # of the training answers under each key
        label = {name: i for i, name in enumerate(self.labels)}
        for one in measured:
            said = next((label[a] for a in SAYS.get(str(one.answer), (str(one.answer),)) if a in label), None)
            for key in one.keys if said is not None else ():
                # A pair is one fact, in whichever task; the rates of another task are rates of something else.
                if key in wanted and (one.task == train[0].task or key[0] == "pair"):
                    self._counts[self._place[key], said] += 1
        own = [label[q.truth["answer"]] for q in train]
        self.overall = np.bincount(own, minlength=len(self.labels)) / len(own)

    def scores(self, kind: str, rows: NDArray[np.bool_]) -> dict[str, Any]:
        """AUROC pooled and averaged per readout, accuracy, and the n of each, on some rows; {} without labels."""
        if not self.labels:
            return {}
        chosen = np.flatnonzero(rows)
        found = self._measured(chosen, np.array([self._row(kind, self.shared[int(i)], False) for i in chosen]))
        if kind in TIES:
            within = self._measured(chosen, np.array([self._row(kind, self.shared[int(i)], True) for i in chosen]))
            found |= {name: figure for name, figure in within.items() if name == "auroc_macro_gene"}
        return found

    def shortcuts(self) -> dict[str, Any]:
        """The same of every shortcut; {} without labels."""
        if not self.labels:
            return {}
        everything = np.arange(len(self.held_out))
        found = shortcuts.shortcuts(self.train, self.held_out, self.labels)
        return {name: self._measured(everything, table) for name, table in found.items()}

    def _row(self, kind: str, shared: Mapping[str, Sequence[Key]], within: bool) -> Table:
        """One question's probabilities. within: against others of its readout, whose rate then says nothing."""
        prior = self.overall
        if within:
            prior = prior + self._sum(shared.get("readout") or shared.get("target") or ())
            prior = prior / prior.sum()
        votes = self._sum(shared.get(kind, ())) + (PRIOR * prior if kind in TIES else 0.0)
        total = votes.sum()
        return votes / total if total else prior

    def _sum(self, keys: Sequence[Key]) -> Table:
        counts: Table = self._counts[[self._place[key] for key in keys]].sum(axis=0)
        return counts

    def _measured(self, rows: NDArray[np.int64], probabilities: Table) -> dict[str, Any]:
        asked = [self.held_out[int(i)] for i in rows]
        found = metrics.summarise(
            asked[0].task,
            [str(q.truth["answer"]) for q in asked],
            probabilities,
            [self.labels[i] for i in probabilities.argmax(axis=1)],
            self.labels,
            [q.readout for q in asked],
            [q.cluster for q in asked],
            resamples=0,
        )
        kept = ("auroc", "auroc_macro_gene", "accuracy")
        return {name: {"value": found[name]["value"], "n": found[name]["n"]} for name in kept if name in found}


def recipe_of(asked: Sequence[str]) -> Recipe:
    """A recipe by name or path, with key=value overrides; or sources, as NAME or NAME:key=value,key=value.

    Errors: what is neither a recipe nor a source.
    """
    first, *rest = asked
    recipes, sources = {path.stem for path in BUILT_IN.glob("*.yaml")}, plugin_names("data")
    if first in recipes or first.endswith((".yaml", ".yml")):
        return load(first, rest)
    chosen: list[dict[str, Any]] = []
    for text in asked:
        name, _, options = text.partition(":")
        if name not in sources:
            near = suggest(name, {*recipes, *sources}) or ";"
            known = f"recipes: {', '.join(sorted(recipes))}; sources: {', '.join(sorted(sources))}"
            raise Error(f"{text!r} is neither a recipe nor a source{near} {known}")
        chosen.append({**_options(options, text), "name": name})
    # Only the sources of this recipe are opened: no model, no verifier.
    return Recipe(model="none", source=tuple(chosen), verifiers={"label": {}})


def _options(options: str, where: str) -> dict[str, Any]:
    values = {}
    for option in options.split(",") if options else []:
        key, mark, value = option.partition("=")
        if not mark or not key:
            raise Error(f"{where!r}: write NAME:key=value,key=value, for example perturbqa:context=k562,task=effect")
        values[key] = yaml.safe_load(value)
    return values
