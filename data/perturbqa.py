"""PerturbQA: what a CRISPRi knockdown does to the expression of another gene, in four cell lines.

    rlvr data show perturbqa

Wu et al., ICLR 2025. Task `effect` asks whether the readout changes, `direction` which way (label 1 is
up). Test is the official test split; validation is carved from the official training perturbations by
a fixed hash.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from rlvr import splits, tables
from rlvr.evidence import build_questions
from rlvr.knowledge import FILES, Annotations
from rlvr.source import File, Source
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
TASKS = {"effect": ("de", {0: "no", 1: "yes"}), "direction": ("dir", {0: "down", 1: "up"})}
VALIDATION = 0.12  # share of the official training perturbations


@dataclass(frozen=True)
class PerturbQA(Source):
    """Options: context (k562, rpe1, hepg2, jurkat), task (effect, direction), evidence (measurements shown)."""

    name: ClassVar[str] = "perturbqa"
    version: ClassVar[str] = COMMIT[:7]
    licence: ClassVar[str] = "Genentech Non-Commercial Software License 1.0 (2022): no commercial use"
    commercial: ClassVar[bool] = False
    citation: ClassVar[str] = (
        "Wu et al., Contextualizing biological perturbation experiments through language, ICLR 2025"
    )
    doi: ClassVar[str] = "10.48550/arXiv.2502.21290"

    context: str = "k562"
    task: str = "direction"
    evidence: int = 4

    def __post_init__(self) -> None:
        for option, value, known in (("context", self.context, CONTEXTS), ("task", self.task, TASKS)):
            if value not in known:
                raise Error(f"perturbqa: {option} {value!r} is unknown; choose one of {', '.join(known)}")
        if self.evidence < 0:
            raise Error(f"perturbqa: evidence is {self.evidence}; it must be at least 0")

    @classmethod
    def files(cls) -> tuple[File, ...]:
        return (*FOUND.values(), *FILES)

    def questions(self) -> Iterator[Question]:
        self.announce()
        words = TASKS[self.task][1]
        yield from build_questions(
            self.table(),
            Annotations.from_upstream(),
            task=f"perturbation/{self.task}",
            source=self.name,
            labels=tuple(words.values()),
            k=self.evidence,
            modality="CRISPRi knockdown",
            contexts=CONTEXTS,
        )

    def table(self) -> pd.DataFrame:
        """The canonical table of one cell line and task, in the file's order."""
        kind, words = TASKS[self.task]
        path = FOUND[f"{self.context}-{kind}.csv"].path()
        raw = pd.read_csv(path, keep_default_na=False)
        tables.require(raw, ("pert", "gene", "label", "split"), str(path))
        own = raw["pert"] == raw["gene"]  # that a knockdown lowers its own target is no question
        if own.any():
            log.info("%s: %d rows dropped whose readout is the knocked-down gene itself", path.name, own.sum())
        raw = raw[~own]
        shares = {"validation": VALIDATION, "train": 1.0 - VALIDATION}
        carved = splits.assign(sorted(set(raw["pert"])), shares, salt="perturbqa validation")
        return pd.DataFrame(
            {
                "perturbation": raw["pert"],
                "readout": raw["gene"],
                "context": self.context,
                "label": raw["label"].map(words),
                "split": raw["split"].where(raw["split"] != "train", raw["pert"].map(carved)),
            }
        ).reset_index(drop=True)
