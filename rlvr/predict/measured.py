"""What is measured in a context: found by asking the sources, looked up by gene, and the nearest of it to a new gene.

context = find("k562", KnowledgeBase.open("upstream"))

Only training and validation rows: what the test split holds is as unmeasured.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from rlvr.knowledge import KnowledgeBase
from rlvr.options import build
from rlvr.oracle.crossfit import LABELS
from rlvr.plugins import load, names
from rlvr.questions.evidence import EvidenceSource
from rlvr.source import Source
from rlvr.types import Error, suggest

log = logging.getLogger(__name__)
NEAREST = 3
LEAST = 0.005  # similarity: below that it would read 0 %


@dataclass(frozen=True)
class Neighbour:
    """A measured perturbation, how alike its annotation is (0 to 1), and its outcome, as in `Context.outcomes`."""

    gene: str
    similarity: float
    outcome: str

    def __str__(self) -> str:
        return f"{self.gene} {self.similarity:.0%}: {self.outcome}"


@dataclass(frozen=True)
class Context:
    """sources: those that ask about it. tables: "effect", "direction" -> canonical table without the test split."""

    name: str
    sources: tuple[EvidenceSource, ...]
    tables: Mapping[str, pd.DataFrame]
    base: KnowledgeBase

    @cached_property
    def outcomes(self) -> pd.Series[str]:
        """(readout, perturbation) -> up, down, no effect, or changes where the way is not known; sorted."""
        words = {"yes": "changes", "no": "no effect", "up": "up", "down": "down"}
        held = pd.concat(self.tables.values())  # the direction last: it says more than that there is an effect
        held = held.drop_duplicates(["readout", "perturbation"], keep="last").sort_values(["readout", "perturbation"])
        return held.set_index(["readout", "perturbation"])["label"].map(words)

    @cached_property
    def perturbations(self) -> Mapping[str, str]:
        """Every name of a perturbation in the tables, and the current symbol of its gene -> the tables' name."""
        return self._names("perturbation")

    @cached_property
    def readouts(self) -> Mapping[str, str]:
        """The same of readouts."""
        return self._names("readout")

    @property
    def origin(self) -> str:
        """Name and version of the sources."""
        return ", ".join(dict.fromkeys(f"{source.name} {source.version}, {self.name}" for source in self.sources))

    @property
    def licence(self) -> str:
        return "; ".join(dict.fromkeys(source.licence for source in self.sources))

    def rates(self, task: str) -> pd.DataFrame:
        """Of each readout: rate of yes or up among its measured perturbations, drawn towards that of all readouts by
        one of them, and said: "20 of 48". Empty where the task is not measured."""
        table = self.tables.get(task, pd.DataFrame({"readout": [], "label": []}, dtype=str))
        positive = table["label"] == LABELS[task][0]
        held = positive.groupby(table["readout"]).agg(["sum", "count"])
        rate = (held["sum"] + (positive.mean() if len(positive) else 0.5)) / (held["count"] + 1)
        return pd.DataFrame({"rate": rate, "said": held["sum"].astype(str) + " of " + held["count"].astype(str)})

    def nearest(self, genes: Sequence[str], readouts: Sequence[str]) -> list[list[Neighbour]]:
        """For each pair of one gene and one readout its three most similarly annotated genes that were perturbed and
        had that readout measured, itself left out under whatever name; [] where none is known."""
        annotations = self.base.annotations()
        found: list[list[Neighbour]] = [[] for _ in genes]
        asked = pd.DataFrame({"gene": genes, "readout": readouts})
        for readout, rows in asked.groupby("readout"):
            if readout not in self.outcomes.index.get_level_values(0):
                continue
            held: pd.Series[str] = self.outcomes.xs(readout)
            measured = [str(name) for name in held.index]
            close = annotations.similarity(rows["gene"].tolist(), measured)
            theirs, ours = (np.array([self.base.current(n) for n in side]) for side in (measured, rows["gene"]))
            close[ours[:, None] == theirs[None, :]] = 0.0
            best = np.argsort(-close, axis=1, kind="stable")[:, :NEAREST]
            for row, (place, order) in enumerate(zip(rows.index, best.tolist(), strict=True)):
                near = [Neighbour(measured[i], float(close[row, i]), str(held.iloc[i])) for i in order]
                found[int(place)] = [one for one in near if one.similarity >= LEAST]
        return found

    def _names(self, column: str) -> dict[str, str]:
        held = sorted({str(name) for table in self.tables.values() for name in table[column]})
        current = {symbol: name for name in reversed(held) if (symbol := self.base.read(name).symbol)}
        return current | {name: name for name in held}


def find(name: str, base: KnowledgeBase) -> Context:
    """Errors: no source asks about such a context, or its own files are not here."""
    known: dict[str, list[tuple[type[EvidenceSource], Mapping[str, object]]]] = {}
    for plugin in sorted(names("data")):
        try:
            found = load("data", plugin, Source)
        except Error as error:
            log.warning("passed over: %s", error)
            continue
        if issubclass(found, EvidenceSource):
            for context, asking in found.asks.items():
                known.setdefault(context, []).extend((found, options) for options in asking)
    wanted = name.strip().lower()
    if wanted not in known:
        raise Error(f"no context {name!r}{suggest(wanted, known)}; known: {', '.join(sorted(known))}")
    sources = tuple(build(found, options, f"source {found.name}") for found, options in known[wanted])
    tables: dict[str, pd.DataFrame] = {}
    for source in sources:
        source.announce()
        table = source.table()
        tables |= _by_task(table[(table["context"] == wanted) & (table["split"] != "test")])
    return Context(wanted, sources, {task: tables[task] for task in LABELS if task in tables}, base)


def _by_task(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """A table of none, up and down is two: an effect or none, and of the effects the direction."""
    table = table.reset_index(drop=True)
    for task, labels in LABELS.items():
        if set(table["label"]) <= set(labels):
            return {task: table}
    none = table["label"] == "none"
    return {"effect": table.assign(label=np.where(none, "no", "yes")), "direction": table[~none]}
