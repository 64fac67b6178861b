"""Small regulatory networks that are models, not measurements: BEELINE's GSD network and krumsiek11's simulation.

    rlvr data show network

Model `gsd`: the signed edges of a curated Boolean model of human gonadal sex determination (Rios et al. 2015,
doi:10.1186/s12976-015-0023-0, as BEELINE gives it), asked as regulation/edge and split by regulator. Nodes that are no
human gene are left out, and listed. Model `krumsiek11`: four simulated runs of a model of myeloid differentiation
(Krumsiek et al. 2011, doi:10.1371/journal.pone.0022649, as scanpy ships them). Only the trajectories are in the file,
so regulation/network asks what they show: from the levels at one time, does a gene rise or fall by a later time? Split
by gene.
"""

from __future__ import annotations

import io
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from rlvr.knowledge import FILES, KnowledgeBase
from rlvr.knowledge.readers import read_table
from rlvr.questions import splits
from rlvr.source import File, Source
from rlvr.types import Error, Question

log = logging.getLogger(__name__)

FOUND = {
    "gsd": File(
        "beeline/GroundTruthNetwork.csv",
        "ced52bd994d01fda11b4c84c13c345de45cb02784ccdef936b1ae8fe50eb8d14",
        url="https://raw.githubusercontent.com/Murali-group/Beeline/37464085eb8a95d6cc6a3d3a3c649d36db6052ed"
        "/inputs/example/GSD/GroundTruthNetwork.csv",
    ),
    "krumsiek11": File(
        "scanpy_datasets/krumsiek11.txt",
        "a49c6d04bd77f61028133a9b787222ebf00c4fc02dbf8e2b8edda493a0d5dc93",
        wheel="scanpy==1.11.5",
        member="scanpy/datasets/krumsiek11.txt",
    ),
}
CONTEXTS = {
    "gsd": "a curated Boolean model of human gonadal sex determination",
    "krumsiek11": "a simulated run of a model of myeloid differentiation",
}
SIGNS = {"+": "activation", "-": "repression"}
SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}
# Nodes of GSD whose name, or an alias of it, would pass for a gene.
NO_GENE = {"PGD2": "prostaglandin D2", "UGR": "the urogenital ridge"}
STEP = 20  # time steps from the levels that are shown to the answer
LEAST = 0.1  # of the full range: a smaller change is not asked about; the simulation's noise is below .02


@dataclass(frozen=True)
class Network(Source):
    """Options: models (some of gsd, krumsiek11), knowledge ("upstream", "sample" or the path of a built file: which
    nodes are genes)."""

    name: ClassVar[str] = "network"
    version: ClassVar[str] = "1"
    licence: ClassVar[str] = "BEELINE: GPL-3.0; scanpy: BSD-3-Clause"
    commercial: ClassVar[bool] = True
    citation: ClassVar[str] = (
        "Pratapa et al., Benchmarking algorithms for gene regulatory network inference from single-cell transcriptomic "
        "data, Nature Methods 17:147, 2020; Wolf et al., SCANPY, Genome Biology 19:15, 2018"
    )
    doi: ClassVar[str] = "10.1038/s41592-019-0690-6"

    models: tuple[str, ...] = ("gsd", "krumsiek11")
    knowledge: str = "upstream"

    def __post_init__(self) -> None:
        strange = [model for model in self.models if model not in CONTEXTS]
        if strange or not self.models:
            raise Error(f"network: models are {', '.join(self.models) or 'none'}; choose from {', '.join(CONTEXTS)}")

    @classmethod
    def files(cls) -> tuple[File, ...]:
        return (*FOUND.values(), *FILES)

    def questions(self) -> Iterator[Question]:
        if "gsd" in self.models:
            yield from self._signs()
        if "krumsiek11" in self.models:
            yield from self._changes()

    @property
    def drops(self) -> Mapping[str, int]:
        """Why edges or windows were left out -> how many."""
        found: Counter[str] = Counter()
        if "gsd" in self.models:
            found += Counter(self._edges[1])
        if "krumsiek11" in self.models:
            found += Counter(self._windows[1])
        return dict(found)

    def unresolved(self) -> Mapping[str, str]:
        """Nodes of the GSD model that are no gene -> what they are."""
        return self._edges[2] if "gsd" in self.models else {}

    def _signs(self) -> Iterator[Question]:
        edges = self._edges[0]
        split = splits.assign(sorted({tf for tf, _ in edges}), SHARES, salt="network gsd")
        degree = Counter(tf for tf, _ in edges)
        counts = Counter((tf, answer) for (tf, _), answer in edges.items() if split[tf] == "train")
        for (tf, target), answer in edges.items():
            others = {label: counts[tf, label] - (label == answer) for label in SIGNS.values()}
            most = [label for label, n in others.items() if n == max(others.values()) > 0]
            truth = {
                "answer": answer,
                "tf_majority": most[0] if len(most) == 1 else None,
                "degree": degree[tf],
                "references": ["doi:10.1186/s12976-015-0023-0"],
                "group": tf,
            }
            yield self._question("gsd", f"{tf}:{target}", "edge", {"tf": tf, "target": target}, truth, split[tf])

    def _changes(self) -> Iterator[Question]:
        for key, gene, fields, answer in self._windows[0]:
            split = splits.assign([gene], SHARES, salt="krumsiek11")[gene]  # both answers occur in each split
            truth = {"answer": answer, "group": gene}
            yield self._question("krumsiek11", f"{key}:{gene}", "network", fields, truth, split)

    def _question(
        self, model: str, key: str, task: str, fields: Mapping[str, Any], truth: Mapping[str, Any], split: str
    ) -> Question:
        return Question(
            id=f"{self.name}:{model}:{key}",
            task=f"regulation/{task}",
            fields={"context": CONTEXTS[model], **fields},
            truth={**truth, "context": model},
            source=self.name,
            split=split,
        )

    @cached_property
    def _edges(self) -> tuple[dict[tuple[str, str], str], Mapping[str, int], Mapping[str, str]]:
        """Signed edges between two genes; what was left out; nodes that are no gene."""
        path, knowledge = FOUND["gsd"].path(), KnowledgeBase.open(self.knowledge)
        table = read_table(path, ("Gene1", "Gene2", "Type"), ",")[["Gene1", "Gene2", "Type"]]
        strange = table[~table["Type"].isin(list(SIGNS))]
        if len(strange):
            raise Error(f"{path}: the sign of an edge is {strange['Type'].iloc[0]!r}; it must be + or -")
        nodes = sorted({*table["Gene1"], *table["Gene2"]})
        unresolved = {n: NO_GENE.get(n, knowledge.gene(n).status) for n in nodes if _gene(n, knowledge) is None}
        rows = table.drop_duplicates()
        pairs = rows[["Gene1", "Gene2"]]
        faults = {
            "edges of a node that is no gene": pairs.isin(list(unresolved)).any(axis=1),
            "edges of a gene that acts on itself": pairs["Gene1"] == pairs["Gene2"],
            "edges with both signs": pairs.duplicated(keep=False),
        }
        drops = {"edges that come twice": len(table) - len(rows)}
        kept = pd.Series(True, index=rows.index)
        for why, faulty in faults.items():
            drops[why] = int((faulty & kept).sum())
            kept &= ~faulty
        if unresolved:
            log.info("network: no genes of their own: %s", ", ".join(unresolved))
        edges = {(tf, target): SIGNS[sign] for tf, target, sign in rows[kept].itertuples(index=False, name=None)}
        return edges, _told(drops), unresolved

    @cached_property
    def _windows(self) -> tuple[list[tuple[str, str, dict[str, Any], str]], Mapping[str, int]]:
        """(run and time, gene, fields, answer) of what the trajectories show; and what was left out."""
        asked: list[tuple[str, str, dict[str, Any], str]] = []
        drops: Counter[str] = Counter()
        runs = read_runs(FOUND["krumsiek11"])
        genes = list(runs[0].columns)
        for start in range(0, min(map(len, runs)) - STEP, STEP // 2):
            levels = np.array([run.iloc[start] for run in runs])
            change = np.array([run.iloc[start + STEP] for run in runs]) - levels
            for number, run in enumerate(runs):
                # Runs that cannot be told apart here are one question, and none if they go on to differ.
                alike = np.abs(levels - levels[number]).max(axis=1) < LEAST
                shown = {g: round(max(float(level), 0.0), 2) for g, level in zip(genes, levels[number], strict=True)}
                for column, gene in enumerate(genes):
                    moved = change[alike, column]
                    if abs(change[number, column]) < LEAST:
                        drops["windows in which the gene hardly changes"] += 1
                    elif not ((moved > LEAST / 2).all() or (moved < -LEAST / 2).all()):
                        drops["windows that start alike and go on to differ"] += 1
                    elif alike[:number].any() and (np.abs(change[:number][alike[:number], column]) >= LEAST).any():
                        drops["windows that another run shows already"] += 1
                    else:
                        time = {"gene": gene, "levels": shown, "start": int(run.index[start]), "steps": STEP}
                        answer = "rise" if change[number, column] > 0 else "fall"
                        asked.append((f"run {number + 1}:{start}", gene, time, answer))
        return asked, _told(drops)


def read_runs(file: File) -> list[pd.DataFrame]:
    """The runs of a simulation in scanpy's text format: rows are times, columns genes, levels about 0 to 1.

    Errors: no header, a cell that is no number.
    """
    path = file.path()
    lines = path.read_text(encoding="utf-8").splitlines()
    heads = [line.lstrip("# ").split() for line in lines if line.startswith("#")]
    if not heads or heads[-1][:1] != ["it"]:
        raise Error(f"{path}: its last comment must name the columns, it and the genes; check what was downloaded")
    try:
        text = "\n".join(line for line in lines if not line.startswith("#"))
        table = pd.read_csv(io.StringIO(text), sep=r"\s+", names=heads[-1], dtype=float, index_col="it")
    except (ValueError, TypeError) as error:
        raise Error(f"{path}: a row is not {len(heads[-1])} numbers ({error})") from error
    if table.empty or not np.isfinite(table.to_numpy()).all():
        raise Error(f"{path}: there are no rows, or a level is missing; check what was downloaded")
    run = np.cumsum(np.append(0, np.diff(table.index.to_numpy()) < 0))  # time starts again with each run
    return [held for _, held in table.groupby(run)]


def _gene(node: str, knowledge: KnowledgeBase) -> str | None:
    return None if node in NO_GENE else knowledge.resolve(node)


def _told(drops: Mapping[str, int]) -> Mapping[str, int]:
    """The drops, once they have been logged."""
    for why, count in drops.items():
        if count:
            log.info("network: left out: %d %s", count, why)
    return {why: count for why, count in drops.items() if count}
