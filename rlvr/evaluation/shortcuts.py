"""The shortcut rows: what can be scored on a benchmark without any reasoning.

Each is a probability for every held-out question, from the training questions and simple facts about
the perturbation alone. A model that does not beat the best of them has shown nothing. Where a shortcut
knows nothing of a question it says the overall training rate of the labels, so that it ranks nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlvr.prompts import Template
from rlvr.questions.evidence import PRIOR
from rlvr.types import Error, Question

Table = NDArray[np.float64]  # (questions, labels), rows sum to 1
BINS = 5
PSEUDO_ROWS = 2.0  # at the overall rate, added to every rate: ranks 9 of 9 rows above 1 of 1


def shortcuts(train: Sequence[Question], held_out: Sequence[Question], labels: Sequence[str]) -> dict[str, Table]:
    """name -> probabilities (len(held_out), len(labels)) of all shortcuts that the source has the facts for.

    majority: the overall label rates of training.
    readout_frequency: the rates of the readout in its context; perturbation ignored.
    perturbation_frequency: the rates of the perturbation, over all readouts and contexts.
    leaked_pairs: the rates of exactly this perturbation and readout, in any context, taken at their word.
    complex_partners, neighbour_vote: the votes in truth["partners"] and truth["neighbours"].
    core_machinery: the rates of core (or other) genes, by truth["core"].
    annotation_count, degree: the rates in the same fifth of training by truth["annotations"] or truth["degree"].
    tf_majority, target_majority: the rates of the regulator, of the regulated gene.
    evidence_vote: the measurements that the prompt shows, weighted by squared similarity and shrunk
    towards the readout's rate as the neighbour vote is.

    All questions must be of one task. Errors: no training question, a label that is not in `labels`.
    """
    if not train:
        raise Error("shortcuts: there is no training question to count; check the split of the source")
    truths = _one_hot([str(question.truth["answer"]) for question in train], labels)
    overall = truths.mean(axis=0)

    def rates(key: Callable[[Question], Hashable], pseudo_rows: float = PSEUDO_ROWS) -> Table:
        return _rates([key(q) for q in train], truths, [key(q) for q in held_out], overall, pseudo_rows)

    def binned(fact: str) -> Table:
        edges = np.quantile([int(q.truth[fact]) for q in train], np.linspace(0, 1, BINS + 1)[1:-1])
        cuts = sorted(set(edges.tolist()))
        return rates(lambda q: bisect_right(cuts, int(q.truth[fact])))

    known = {fact for question in train[:1] for fact in (*question.truth, *question.fields)}
    rows = {"majority": np.tile(overall, (len(held_out), 1))}
    readout = rows["majority"]
    if {"perturbation", "readout"} <= known:
        readout = rates(lambda q: q.readout)
        rows["readout_frequency"] = readout
        rows["perturbation_frequency"] = rates(lambda q: q.fields["perturbation"])
        rows["leaked_pairs"] = rates(lambda q: (q.fields["perturbation"], q.fields["readout"]), pseudo_rows=0.0)
    if {"tf", "target"} <= known:
        rows["tf_majority"] = rates(lambda q: q.fields["tf"])
        rows["target_majority"] = rates(lambda q: q.fields["target"])
    if "degree" in known:
        rows["degree"] = binned("degree")
    if "partners" in known:
        rows["complex_partners"] = _told([q.truth["partners"] for q in held_out], labels, overall)
    if "core" in known:
        rows["core_machinery"] = rates(lambda q: bool(q.truth["core"]))
    if "annotations" in known:
        rows["annotation_count"] = binned("annotations")
    if "evidence" in known:
        rows["evidence_vote"] = _evidence_vote(held_out, labels, readout)
    if "neighbours" in known:
        rows["neighbour_vote"] = _told([q.truth["neighbours"] for q in held_out], labels, overall)
    return rows


def open_shortcuts(
    train: Sequence[Question], held_out: Sequence[Question], template: Template
) -> dict[str, list[str | None]]:
    """name -> canonical answers to open questions, for as many shortcuts as there are facts for.

    majority: the commonest answer of training, among the question's options where it has some.
    mean_profile: each gene's mean over the training perturbations, truth["baseline"].
    as_listed: the genes in the order in which the prompt lists them.
    """
    common = [word for word, _ in Counter(template.word(q.truth["answer"]) for q in train).most_common()]
    rows = {"majority": [_commonest(common, template, question) for question in held_out]}
    known = {fact for question in train[:1] for fact in (*question.truth, *question.fields)}
    if "baseline" in known:
        rows["mean_profile"] = [template.answers.read(template.word(q.truth["baseline"]), q.fields) for q in held_out]
    if {"relevance", "genes"} <= known:
        rows["as_listed"] = [template.answers.read(template.word(q.fields["genes"]), q.fields) for q in held_out]
    return rows


def _commonest(common: Sequence[str], template: Template, question: Question) -> str | None:
    """The commonest answer of training that this question allows."""
    allowed = template.answers.words(question.fields).values()
    if allowed:
        return next((answer for answer in common if answer in allowed), next(iter(allowed)))
    return template.answers.read(common[0], question.fields) if common else None


def _rates(
    seen: Sequence[Hashable], truths: Table, asked: Sequence[Hashable], overall: Table, pseudo_rows: float
) -> Table:
    """The label rates of each asked key among the seen ones; `overall` for a key never seen."""
    places = {key: place for place, key in enumerate(dict.fromkeys(seen))}
    sums = np.tile(pseudo_rows * overall, (len(places) + 1, 1))
    np.add.at(sums, [places[key] for key in seen], truths)
    sums[-1] = overall
    table: Table = (sums / sums.sum(axis=1, keepdims=True))[[places.get(key, -1) for key in asked]]
    return table


def _told(votes: Sequence[Mapping[str, float] | None], labels: Sequence[str], overall: Table) -> Table:
    """Votes as a table; `overall` where there is none."""
    told = [overall if vote is None else [vote.get(label, 0.0) for label in labels] for vote in votes]
    table = np.array(told, dtype=np.float64).reshape(len(votes), len(labels))
    normalised: Table = table / table.sum(axis=1, keepdims=True)
    return normalised


def _evidence_vote(held_out: Sequence[Question], labels: Sequence[str], readout: Table) -> Table:
    votes = PRIOR * readout
    for row, question in enumerate(held_out):
        shown: Sequence[Mapping[str, Any]] = question.fields["evidence"]
        weights = np.array([float(item["similarity"]) / 100 for item in shown]) ** 2
        votes[row] += weights @ _one_hot([str(item["answer"]) for item in shown], labels)
    table: Table = votes / votes.sum(axis=1, keepdims=True)
    return table


def _one_hot(answers: Sequence[str], labels: Sequence[str]) -> Table:
    strange = next((answer for answer in answers if answer not in labels), None)
    if strange is not None:
        raise Error(f"shortcuts: {strange!r} is not one of the labels {', '.join(labels)}; check the source")
    places = {label: place for place, label in enumerate(labels)}
    return np.eye(len(labels))[[places[answer] for answer in answers]]
