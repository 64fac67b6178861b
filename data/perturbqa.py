"""PerturbQA: what a CRISPRi knockdown does to the expression of another gene, in four cell lines.

    rlvr data show perturbqa
    rlvr data show perturbqa task=set_direction

Wu et al., ICLR 2025. Task `effect` asks whether the readout changes, `direction` which way (label 1 is
up). Tasks `set_effect` and `set_direction` ask the same of a cluster of genes (K562 only), `set_name` what the genes
of a cluster have in common, as the experiment's authors labelled it (Replogle et al. 2022). Test is the official test
split; validation is carved from the official training perturbations by a fixed hash; `set_name` has no official split.
The clusters were split anew upstream: of their test perturbations most are training perturbations of `effect`, and
`set_effect` shows names that `set_name` asks for, so those are not to be trained on together.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from rlvr import tables
from rlvr.knowledge import FILES, KnowledgeBase
from rlvr.questions import splits
from rlvr.questions.evidence import EvidenceSource, build_questions
from rlvr.source import File
from rlvr.types import Error, Question

log = logging.getLogger(__name__)

COMMIT = "04ff16d20060b7e3629e5874a971000b3c1e4b60"
URL = f"https://raw.githubusercontent.com/jonasargelo/PerturbQA/{COMMIT}/perturbqa/datasets"
SHA256 = {
    "hepg2-de.csv": "f94045fb44dcca4af9c69bee5c87de624590061a1123d55d9ee42a9c1ca97932",
    "hepg2-dir.csv": "8c642ab6e6996887dce6c774d5fc58546970ba9216a636c7547b5039062a2cc3",
    "jurkat-de.csv": "cf993f77015bd7df9d71ce9cf1170f6c8e64a571dc6f9ba0aef411ffb103eec5",
    "jurkat-dir.csv": "8e17055a5bbf8c2751317db5284a9e793a2dc5aaccef0afbcdaf87daabc45709",
    "k562-de.csv": "e6ab095f3f970bb29f48427414904136785e8cd4945496f8d9a8fa6eab35ee67",
    "k562-dir.csv": "84a0bc9631b33b8720663ed69506a316dad0f686a51f702f277914cc722000f4",
    "k562_gene-gse.json": "718f85e2cbecf58faa57eb710a709a26a6f6cef95354237fce514d83327b62ae",
    "k562_pert-gse.json": "b930662f0226d2bc394f00b2f0eea083aad5f3c3d316cfdf330390e9aa3bf2f4",
    "k562_set-de.csv": "d51faff9a337d111ff2f0858890bbf3207669925f26c0ba75164bc7217872c54",
    "k562_set-dir.csv": "3298d18708d82bd0852e9f6a91b9c5b56a000a2183375457143ccab7f218cb7f",
    "k562_set-mapping.json": "dd6368b07d81fa134cd0e9558f81f44b809015193bc2350c1367c4d9b925e066",
    "rpe1-de.csv": "a66a86aac5db458e0703bccf7f2d638769400a7ccb9f2615cd9421c106b748ca",
    "rpe1-dir.csv": "25fa0b37c7e86cd73e8135b83513ea9d96c55e5a6c3f222ffbb531b91ab0fb0c",
}
FOUND = {name: File(f"perturbqa/{name}", digest, url=f"{URL}/{name}") for name, digest in SHA256.items()}
CONTEXTS = {
    "k562": "K562 leukaemia cells",
    "rpe1": "RPE1 retinal epithelial cells",
    "hepg2": "HepG2 liver cancer cells",
    "jurkat": "Jurkat T cells",
}
EFFECT, DIRECTION = ("de", {0: "no", 1: "yes"}), ("dir", {0: "down", 1: "up"})
TASKS = {"effect": EFFECT, "direction": DIRECTION, "set_effect": EFFECT, "set_direction": DIRECTION}
# Each file of labelled clusters, and what its genes have in common beside the label.
CLUSTERS = {
    "gene": "K562 leukaemia cells",
    "pert": "K562 leukaemia cells, where the knockdown of each changes expression alike",
}
VALIDATION = 0.12  # share of the official training perturbations
NAME_SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}
MEMBERS = 12  # of a cluster that its words name


@dataclass(frozen=True)
class PerturbQA(EvidenceSource):
    """Options: context (k562, rpe1, hepg2, jurkat), task (effect, direction, set_effect, set_direction, set_name),
    knowledge ("upstream", "sample" or the path of a built file: one with a cutoff, say), and those of evidence."""

    name: ClassVar[str] = "perturbqa"
    version: ClassVar[str] = COMMIT[:7]
    licence: ClassVar[str] = "Genentech Non-Commercial Software License 1.0 (2022): no commercial use"
    commercial: ClassVar[bool] = False
    citation: ClassVar[str] = (
        "Wu et al., Contextualizing biological perturbation experiments through language, ICLR 2025"
    )
    doi: ClassVar[str] = "10.48550/arXiv.2502.21290"
    asks: ClassVar[Mapping[str, Sequence[Mapping[str, Any]]]] = {
        context: [{"context": context, "task": task} for task in ("effect", "direction")] for context in CONTEXTS
    }

    context: str = "k562"
    task: str = "direction"
    knowledge: str = "upstream"

    def __post_init__(self) -> None:
        super().__post_init__()
        for option, value, known in (("context", self.context, CONTEXTS), ("task", self.task, [*TASKS, "set_name"])):
            if value not in known:
                raise Error(f"perturbqa: {option} {value!r} is unknown; choose one of {', '.join(known)}")
        if self._is_set and self.context != "k562":
            raise Error(f"perturbqa: task {self.task} is of k562 alone, not of {self.context}")

    @classmethod
    def files(cls) -> tuple[File, ...]:
        return (*FOUND.values(), *FILES)

    def questions(self) -> Iterator[Question]:
        self.announce()
        if self.task == "set_name":
            yield from self._names()
            return
        words = TASKS[self.task][1]
        made = build_questions(
            self.table(),
            KnowledgeBase.open(self.knowledge).annotations(),
            task=f"perturbation/{self.task.removeprefix('set_')}",
            source=self.name,
            labels=tuple(words.values()),
            modality="CRISPRi knockdown",
            contexts=CONTEXTS,
            **self.shown,
        )
        if not self._is_set:
            yield from made
            return
        sets = self._sets
        readouts = {name: in_words(name, genes) for name, genes in sets.items()}
        for question in made:
            name = question.fields["readout"]
            yield replace(question, fields={**question.fields, "readout": readouts[name], "members": sets[name]})

    def table(self) -> pd.DataFrame:
        """The canonical table of one cell line and task, in the file's order."""
        return self._read[0]

    @property
    def drops(self) -> Mapping[str, int]:
        """Why rows were left out -> how many."""
        return self._labelled[1] if self.task == "set_name" else self._read[1]

    def unresolved(self) -> Mapping[str, str]:
        """Of perturbations, readouts and members of clusters."""
        if self.task == "set_name":
            symbols = {gene for _, _, genes in self._labelled[0] for gene in genes}
        else:
            table = self.table()
            symbols = set(table["perturbation"])
            symbols |= {g for s in set(table["readout"]) for g in (self._sets[s] if self._is_set else [s])}
        return KnowledgeBase.open(self.knowledge).unresolved(symbols)

    @property
    def _is_set(self) -> bool:
        return self.task.startswith("set_")

    @cached_property
    def _read(self) -> tuple[pd.DataFrame, Mapping[str, int]]:
        """The canonical table, and what was left out."""
        kind, words = TASKS[self.task]
        path = FOUND[f"{self.context}{'_set' if self._is_set else ''}-{kind}.csv"].path()
        raw = pd.read_csv(path, keep_default_na=False)
        tables.require(raw, ("pert", "gene", "label", "split"), str(path))
        if self._is_set:
            strange = sorted(set(raw["gene"]) - set(self._sets))
            if strange:
                raise Error(f"{path}: cluster {strange[0]!r} is not in k562_set-mapping.json; use files of one release")
            inside = [p in self._sets[s] for p, s in zip(raw["pert"], raw["gene"], strict=True)]
            own, why = pd.Series(inside, index=raw.index), "rows whose cluster holds the knocked-down gene itself"
        else:
            # That a knockdown lowers its own target is no question.
            own, why = raw["pert"] == raw["gene"], "rows dropped whose readout is the knocked-down gene itself"
        if own.any():
            log.info("%s: %d %s", path.name, own.sum(), why)
        raw = raw[~own]
        shares = {"validation": VALIDATION, "train": 1.0 - VALIDATION}
        carved = splits.assign(sorted(set(raw["pert"])), shares, salt="perturbqa validation")
        table = pd.DataFrame(
            {
                "perturbation": raw["pert"],
                "readout": raw["gene"],
                "context": self.context,
                "label": raw["label"].map(words),
                "split": raw["split"].where(raw["split"] != "train", raw["pert"].map(carved)),
            }
        ).reset_index(drop=True)
        return table, {why: int(own.sum())} if own.any() else {}

    @cached_property
    def _sets(self) -> Mapping[str, list[str]]:
        """Cluster, such as 14-erythroid differentiation -> its genes."""
        path = FOUND["k562_set-mapping.json"].path()
        held = read_json(path)
        if not isinstance(held, dict) or not all(_are_names(genes) for genes in held.values()):
            raise Error(f"{path}: must map each cluster to its genes; check what was downloaded")
        return held

    @cached_property
    def _labelled(self) -> tuple[list[tuple[str, str, list[str]]], Mapping[str, int]]:
        """(which file and place, label, genes) of each labelled cluster; and what was left out."""
        kept: list[tuple[str, str, list[str]]] = []
        drops: Counter[str] = Counter()
        for kind in CLUSTERS:
            path = FOUND[f"k562_{kind}-gse.json"].path()
            held = read_json(path)
            if not isinstance(held, list) or not all(isinstance(c, dict) and _are_names(c.get("genes")) for c in held):
                raise Error(f"{path}: must be a list of clusters with genes and label; check what was downloaded")
            for number, cluster in enumerate(held, 1):
                if cluster.get("label"):
                    kept.append((f"{kind}:{number}", str(cluster["label"]), cluster["genes"]))
                else:
                    drops[f"clusters without a label in {path.name}"] += 1
        for why, count in drops.items():
            log.info("perturbqa: set_name: left out: %d %s", count, why)
        return kept, dict(drops)

    def _names(self) -> Iterator[Question]:
        clusters = self._labelled[0]
        split = splits.assign(sorted({label for _, label, _ in clusters}), NAME_SHARES, salt="perturbqa set_name")
        for place, label, genes in clusters:
            yield Question(
                id=f"{self.name}:perturbation/set:k562:{place}",
                task="perturbation/set",
                fields={"context": CLUSTERS[place.partition(":")[0]], "genes": genes},
                truth={"answer": [label], "group": label, "context": "k562"},
                source=self.name,
                split=split[label],
            )


def in_words(name: str, genes: Sequence[str]) -> str:
    """A cluster as a readout: "the erythroid differentiation cluster 14 (LTBP1, TSC22D1, ...)"."""
    number, _, label = name.partition("-")
    more = f" and {len(genes) - MEMBERS} more" if len(genes) > MEMBERS else ""
    return f"the {label} cluster {number} ({', '.join(genes[:MEMBERS])}{more})"


def read_json(path: Path) -> Any:
    """Errors: the file is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Error(f"{path}: is not JSON ({error}); check what was downloaded") from error


def _are_names(genes: object) -> bool:
    return isinstance(genes, list) and bool(genes) and all(isinstance(gene, str) for gene in genes)
