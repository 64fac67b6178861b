"""What is done to a question before it is asked again: its evidence taken away, shuffled or turned round, its genes
renamed or exchanged. Each gives a new question, or None where there is nothing to change.

The truth stays as it was, so that a change in accuracy is a change in what the policy made of the prompt.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from rlvr.questions import renaming
from rlvr.types import Question

OPPOSITE = {"up": "down", "yes": "no", "activation": "repression", "enriched": "depleted"}
OPPOSITE |= {other: label for label, other in OPPOSITE.items()}


def removed(question: Question, seed: int) -> Question | None:
    """No evidence."""
    return _with(question, evidence=[]) if question.fields.get("evidence") else None


def reordered(question: Question, seed: int) -> Question | None:
    """The same evidence in another order."""
    evidence = list(question.fields.get("evidence", ()))
    if len(evidence) < 2:
        return None
    shuffled = list(evidence)
    random.Random(_seed(question, seed)).shuffle(shuffled)
    return _with(question, evidence=evidence[::-1] if shuffled == evidence else shuffled)


def shuffled(question: Question, seed: int) -> Question | None:
    """The labels of the evidence dealt anew among its items: as many of each, on other genes."""
    evidence = list(question.fields.get("evidence", ()))
    labels = [item["answer"] for item in evidence]
    if len(set(labels)) < 2:
        return None
    dealt, generator = list(labels), random.Random(_seed(question, seed))
    while dealt == labels:
        generator.shuffle(dealt)
    return _with(question, evidence=[{**item, "answer": label} for item, label in zip(evidence, dealt, strict=True)])


def contradicted(question: Question, seed: int) -> Question | None:
    """Every measurement turned into its opposite; one that has none (no effect) stays."""
    evidence = list(question.fields.get("evidence", ()))
    turned = [{**item, "answer": OPPOSITE.get(item["answer"], item["answer"])} for item in evidence]
    return _with(question, evidence=turned) if turned != evidence else None


def exchanged(question: Question, seed: int) -> Question | None:
    """Perturbation and readout in each other's place: another question, to which the evidence does not speak."""
    fields = question.fields
    if not isinstance(fields.get("perturbation"), str) or not isinstance(fields.get("readout"), str):
        return None
    return _with(question, perturbation=fields["readout"], readout=fields["perturbation"])


def renamed(question: Question, seed: int) -> Question | None:
    """Every gene of the prompt under a made-up name, the same everywhere: what is known of names is out of reach."""
    named = renaming.genes(question)
    return (
        renaming.under(question, {gene: f"GENE{place}" for place, gene in enumerate(named, start=1)}) if named else None
    )


def reading(question: Question, labels: Sequence[str]) -> str | None:
    """What the shown evidence alone says: the label with the most squared similarity. It is the baseline of every
    change in the evidence, for it moves as far as the evidence does. None without evidence."""
    weights = dict.fromkeys(labels, 0.0)
    for item in question.fields.get("evidence", ()):
        if item["answer"] in weights:
            weights[item["answer"]] += float(item["similarity"]) ** 2
    best = max(weights, key=lambda label: weights[label])
    return best if weights[best] else None


def _with(question: Question, **fields: Any) -> Question:
    return dataclasses.replace(question, fields={**question.fields, **fields})


def _seed(question: Question, seed: int) -> int:
    return int.from_bytes(sha256(json.dumps([question.id, seed]).encode()).digest()[:8])
