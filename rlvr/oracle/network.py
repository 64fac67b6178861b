"""The network of `rlvr oracle fit --kind mlp`, kept as safetensors, and asked again as an oracle.

    Saved("DIR/mlp_k562.safetensors", "DIR/embeddings_k562.parquet").probabilities(questions)

It has seen all of its training perturbations, and abstains on them: what rewards a training question is in the tables
beside it, which are cross-fitted. It answers for any other gene in the table of embeddings, and for the readouts and
the cells that it has learnt.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from rlvr.files import aside
from rlvr.oracle.base import Belief, Oracle, key
from rlvr.oracle.crossfit import LABELS, Crossfit, Fitted
from rlvr.oracle.mlp import Embeddings, Network, read, said
from rlvr.oracle.similarity import Floats
from rlvr.types import Error, Question


def save(path: Path, network: Network, cross: Crossfit, found: Mapping[str, Fitted]) -> None:
    """The weights, and in their metadata what it takes to answer: no pickle, nothing that runs when it is read."""
    learnt = cross.fold >= 0
    odds = {task: cross.odds(task) for task in cross.tasks}
    about = {
        "context": cross.rows["context"].iloc[0],
        "readouts": list(cross.targets.symbols),
        "trained": [symbol for symbol, known in zip(cross.genes.symbols, learnt.tolist(), strict=True) if known],
        "odds": {task: [None if np.isnan(x) else x for x in values.tolist()] for task, values in odds.items()},
        "logistic": {task: list(found[task].logistic) for task in cross.tasks},
    }
    with aside(path) as side:
        save_file(network.state_dict(), side, metadata={"rlvr": json.dumps(about)})


@dataclass(frozen=True)
class Saved(Oracle):
    """weights, embeddings: files. Errors: one that is missing or broken, embeddings of another width."""

    weights: str
    embeddings: str

    name: ClassVar[str] = "mlp"
    says: ClassVar[str] = "a network on gene embeddings says"

    @property
    def version(self) -> str:
        """The start of the weights' sha256."""
        return _load(self.weights).digest[:12]

    def probabilities(self, questions: Sequence[Question]) -> list[Belief | None]:
        return [self._belief(question) for question in questions]

    def why(self, question: Question) -> str:
        held = _load(self.weights)
        task = question.task.removeprefix("perturbation/")
        context, perturbation, readout = key(question)
        if task not in held.odds:
            return "task not learnt"
        if context != held.context:
            return "context unseen"
        if perturbation in held.trained:
            return "perturbation seen in training"
        if held.odds[task].get(readout) is None:
            return "readout unseen"
        return "no embedding"

    def _belief(self, question: Question) -> Belief | None:
        held, vectors = _load(self.weights), _vectors(self.embeddings)
        if vectors.width != held.width:
            raise Error(
                f"embeddings {self.embeddings}: width {vectors.width}, but {self.weights} was trained on width "
                f"{held.width}; give the table that it was trained on"
            )
        task = question.task.removeprefix("perturbation/")
        context, perturbation, readout = key(question)
        odds = held.odds.get(task, {}).get(readout)
        row = vectors.place.get(perturbation)
        if context != held.context or perturbation in held.trained or odds is None or row is None:
            return None
        place = np.array([held.readouts[readout]])
        score = float(said(held.network, vectors.scaled[[row]], task, np.zeros(1, dtype=np.int64), place)[0])
        constant, of_rate, of_score = held.logistic[task]
        p = float(1 / (1 + np.exp(-(constant + of_rate * odds + of_score * score))))
        return dict(zip(LABELS[task], (p, 1 - p), strict=True))


@dataclass(frozen=True)
class _Weights:
    network: Network
    width: int
    context: str
    readouts: Mapping[str, int]
    trained: frozenset[str]
    odds: Mapping[str, Mapping[str, float | None]]
    logistic: Mapping[str, tuple[float, float, float]]
    digest: str


@dataclass(frozen=True)
class _Vectors:
    scaled: Floats
    place: Mapping[str, int]

    @property
    def width(self) -> int:
        return int(self.scaled.shape[1])


@cache
def _load(path: str) -> _Weights:
    where = f"oracle {path}"
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["rlvr"])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        network = Network(state["first"].shape[1], len(about["readouts"]), list(about["odds"]))
        network.load_state_dict(state)
    except (OSError, SafetensorError, ValueError, KeyError, RuntimeError) as error:
        fault = " ".join(str(error).split())
        raise Error(f"{where}: cannot be read: {fault}; write it with `rlvr oracle fit --kind mlp`") from error
    network.eval()
    names = about["readouts"]
    return _Weights(
        network,
        int(state["first"].shape[1]),
        about["context"],
        {name: i for i, name in enumerate(names)},
        frozenset(about["trained"]),
        {task: dict(zip(names, values, strict=True)) for task, values in about["odds"].items()},
        {task: tuple(values) for task, values in about["logistic"].items()},
        hashlib.sha256(Path(path).read_bytes()).hexdigest(),
    )


@cache
def _vectors(path: str) -> _Vectors:
    held: Embeddings = read(Path(path))
    return _Vectors(held.scaled, {gene: i for i, gene in enumerate(held.genes)})
