"""From a table of measurements and a knowledge base to Questions, each with its evidence.

Evidence is what related perturbations did to the same readout in the same cells. Everything comes from
the training split and nothing from the question's own perturbation, so a training question is
cross-fitted as a held-out one is. The prompt may show single measurements; their vote is truth, for
verifiers and shortcuts alone.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rlvr import tables
from rlvr.knowledge import Annotations
from rlvr.source import Source
from rlvr.types import Error, Question

# Weight of the readout's own rate in a vote, in units of squared cosine. On the validation splits of
# K562, RPE1 and the T-cell screens the vote's AUROC moves by less than .02 between .01 and .1.
PRIOR = 0.03
# Contrastive evidence asks for a comparison. In steps of one percent, a policy of 135M parameters read nearly every
# similarity rightly after its warm start, and got one difference in four right; few steps make few differences.
COARSE = 5
PAIRS = 20_000  # of genes whose annotation is compared at once: bounds the memory
Votes = NDArray[np.float64]


@dataclass(frozen=True)
class EvidenceSource(Source):
    """Options of every source whose questions show evidence: evidence (measurements shown; 0 is none), contrastive
    (as many of each label as there are), snippets (words of annotation shown of each gene; 0 is none).

    asks: context, as in truth["context"] -> the options of each source that asks what a perturbation does there;
    such a source has a `table`.
    """

    asks: ClassVar[Mapping[str, Sequence[Mapping[str, Any]]]] = {}

    evidence: int = 4
    contrastive: bool = False
    snippets: int = 0

    def __post_init__(self) -> None:
        for option, number in (("evidence", self.evidence), ("snippets", self.snippets)):
            if number < 0:
                raise Error(f"{self.name}: {option} is {number}; it must be at least 0")

    @property
    def shown(self) -> dict[str, Any]:
        """These options, as `build_questions` takes them."""
        return {"k": self.evidence, "contrastive": self.contrastive, "snippets": self.snippets}

    def table(self) -> pd.DataFrame:
        """The canonical table that `questions` are made of."""
        raise NotImplementedError

    def reasked(self, table: pd.DataFrame) -> Iterator[Question]:
        """The questions that it would ask of another canonical table: of pairs that nobody has measured, say."""
        other = copy.copy(self)
        object.__setattr__(other, "table", lambda: table)
        return other.questions()


def build_questions(
    table: pd.DataFrame,
    knowledge: Annotations,
    *,
    task: str,
    source: str,
    labels: Sequence[str],
    k: int,
    modality: str,
    contexts: Mapping[str, str],
    contrastive: bool = False,
    snippets: int = 0,
) -> Iterator[Question]:
    """One Question for each row of a canonical table, in the table's order.

    labels: every label of the task. k: measurements shown, the most related ones; contrastive: the most related
    ones of each label in turn, so that how many there are of each says nothing, in steps of COARSE percent. modality:
    "CRISPRi knockdown". contexts: key in the table's `context` column -> words for the cells. snippets: words of
    annotation shown of each gene, the rarest terms first (`known` in the fields). Errors: a table that is not
    canonical, a context without words.
    """
    where = f"{source}, {task}"
    tables.check(table, labels, where)
    wordless = sorted(set(table["context"]) - set(contexts))
    if wordless:
        raise Error(f"{where}: context {wordless[0]!r} has no words; add it to contexts")
    table = table.reset_index(drop=True)
    genes = _Genes.of(table["perturbation"], knowledge)
    related = _related(table, genes, labels, k, contrastive)
    evidence = _evidence(related, genes, knowledge, labels, COARSE if contrastive else 1)
    known = _known(knowledge, sorted({*genes.names, *table["readout"]}), snippets) if snippets else {}
    core, annotations = knowledge.core(genes.names).tolist(), knowledge.annotations(genes.names).tolist()
    # Plain lists: reading an array number by number would take most of the time.
    place, neighbours, partners = genes.of_row.tolist(), related.neighbours.tolist(), related.partners.tolist()
    for row, (perturbation, readout, context, answer, split) in enumerate(
        table[list(tables.COLUMNS)].itertuples(index=False, name=None)
    ):
        shown = evidence[row]
        yield Question(
            id=f"{source}:{task}:{context}:{perturbation}:{readout}",
            task=task,
            fields={
                "perturbation": perturbation,
                "readout": readout,
                "context": contexts[context],
                "modality": modality,
                "evidence": [item for item, _ in shown],
                **({"known": {name: known[name] for name in (perturbation, readout)}} if snippets else {}),
            },
            truth={
                "answer": answer,
                "neighbours": _named(neighbours[row], labels),
                "partners": _named(partners[row], labels),
                "core": core[place[row]],
                "annotations": annotations[place[row]],
                "context": context,
                # The ids behind each item's `shared`. Not beside it: what stands in the fields a prompt may show, and
                # who cites what is shown has added nothing.
                "shared": [term for _, term in shown],
                **({"contrastive": True} if contrastive else {}),
            },
            source=source,
            split=split,
        )


@dataclass(frozen=True)
class _Genes:
    """The perturbations of a table. of_row: [rows], place in `names`; identity: [names], equal for two symbols of one
    gene; similarity and shared complexes: [names, names]."""

    names: list[str]
    of_row: NDArray[np.integer[Any]]
    identity: NDArray[np.int64]
    similarity: Votes
    partners: NDArray[np.bool_]

    @classmethod
    def of(cls, perturbations: pd.Series, knowledge: Annotations) -> _Genes:
        names = sorted(set(perturbations))
        rows = knowledge.rows(names)
        return cls(
            names,
            pd.Series(range(len(names)), index=names)[perturbations].to_numpy(),
            np.where(rows >= 0, rows, -1 - np.arange(len(names))),
            knowledge.similarity(names, names),
            knowledge.partners(names, names),
        )


@dataclass(frozen=True)
class _Related:
    """Of each row of a table: two votes of the training rows of its readout, [rows, labels], nan where none is related;
    and the rows that its prompt shows, [rows, k], -1 where there are fewer. label: [rows], place in the labels."""

    neighbours: Votes
    partners: Votes
    nearest: NDArray[np.integer[Any]]
    label: NDArray[np.integer[Any]]


def _related(table: pd.DataFrame, genes: _Genes, labels: Sequence[str], k: int, contrastive: bool) -> _Related:
    """What the training rows of the same readout in the same cells say of each row, less those of its own gene."""
    gene, size = genes.of_row, (len(table), len(labels))
    label = pd.Series(range(len(labels)), index=list(labels))[table["label"]].to_numpy()
    training = (table["split"] == "train").to_numpy()
    related = _Related(np.full(size, np.nan), np.full(size, np.nan), np.full((len(table), k), -1), label)
    for group in table.groupby(["context", "readout"], sort=False).indices.values():
        rows = np.asarray(group)
        known = rows[training[rows]]
        known = known[np.argsort(gene[known], kind="stable")]  # by name, which breaks ties
        if not len(known):
            continue
        pairs = np.ix_(gene[rows], gene[known])
        other = genes.identity[gene[rows]][:, None] != genes.identity[gene[known]][None, :]
        close = np.where(other, genes.similarity[pairs], 0.0)
        answers = np.eye(len(labels))[label[known]]
        rate = _rate(other, answers)
        related.neighbours[rows] = _vote(close**2, answers, rate)
        related.partners[rows] = _vote((genes.partners[pairs] & other).astype(float), answers, rate)
        if not k:
            continue
        rank = _turns(close, label[known]) if contrastive else -close
        order = np.argsort(rank, axis=1, kind="stable")[:, :k]
        visible = np.take_along_axis(close, order, axis=1) >= 0.005  # below that it would read 0 %
        related.nearest[rows, : order.shape[1]] = np.where(visible, known[order], -1)
    return related


def _evidence(
    related: _Related, genes: _Genes, knowledge: Annotations, labels: Sequence[str], step: int
) -> list[list[tuple[dict[str, Any], str]]]:
    """What each row's prompt shows: items, each with the id of what it shares. step: of a similarity, in percent."""
    shown = np.argwhere(related.nearest >= 0)
    measured = related.nearest[tuple(shown.T)]
    left, right = genes.of_row[shown[:, 0]], genes.of_row[measured]
    shared = _shared(knowledge, genes.names, left, right)
    percent = (step * np.rint(100 / step * genes.similarity[left, right])).astype(int).tolist()
    rows: list[list[tuple[dict[str, Any], str]]] = [[] for _ in related.nearest]
    for row, name, label, similarity, (term, words) in zip(
        shown[:, 0].tolist(), right.tolist(), related.label[measured].tolist(), percent, shared, strict=True
    ):
        item = {
            "perturbation": genes.names[name],
            "answer": labels[label],
            "similarity": similarity,
            "shared": words,
        }
        rows[row].append((item, term))
    return rows


def _turns(close: Votes, label: NDArray[np.integer[Any]]) -> Votes:
    """What to sort the rows of a readout by, so that labels take turns, the most related row of each first;
    close [questions, rows], label [rows]. Within a turn the most related comes first."""
    turn = np.zeros_like(close)
    for value in np.unique(label):
        own = np.flatnonzero(label == value)
        place = np.argsort(np.argsort(-close[:, own], axis=1, kind="stable"), axis=1, kind="stable")
        turn[:, own] = place
    return np.where(close > 0, 2.0 * turn - close, np.inf)  # similarity is at most 1


def _known(knowledge: Annotations, names: Sequence[str], words: int) -> dict[str, list[str]]:
    """Gene -> the names of its rarest annotations, at most so many words in all; [] where nothing is known."""
    told: dict[str, list[str]] = {}
    for name, terms in zip(names, knowledge.rarest(names), strict=True):
        told[name], left = [], words
        for term in terms:
            left -= len(term.split())
            if left < 0:
                break
            told[name].append(term)
    return told


def _rate(other: NDArray[np.bool_], answers: Votes) -> Votes:
    """Share of each label among the readout's training rows of other perturbations, each label counted
    once more (Laplace), [questions, labels]."""
    counts = other.astype(float) @ answers + 1.0
    share: Votes = counts / counts.sum(axis=1, keepdims=True)
    return share


def _vote(weights: Votes, answers: Votes, rate: Votes) -> Votes:
    """Weighted share of each label, shrunk towards the readout's rate by PRIOR; nan where no row weighs
    anything. weights [questions, rows], answers [rows, labels] one-hot."""
    total = weights.sum(axis=1, keepdims=True)
    share: Votes = (weights @ answers + PRIOR * rate) / (total + PRIOR)
    return np.where(total > 0, share, np.nan)


def _named(vote: Sequence[float], labels: Sequence[str]) -> dict[str, float] | None:
    return None if isnan(vote[0]) else {name: round(p, 6) for name, p in zip(labels, vote, strict=True)}


def _shared(
    knowledge: Annotations, names: Sequence[str], left: NDArray[np.integer[Any]], right: NDArray[np.integer[Any]]
) -> list[tuple[str, str]]:
    """(id, name) of the rarest shared annotation of each pair; a pair that comes up often is looked up once."""
    pairs, place = np.unique(left * len(names) + right, return_inverse=True)
    found: list[tuple[str, str]] = []
    for start in range(0, len(pairs), PAIRS):
        ends = np.divmod(pairs[start : start + PAIRS], len(names))
        found += knowledge.shared(*([names[i] for i in end] for end in ends))
    return [found[i] for i in place.tolist()]
