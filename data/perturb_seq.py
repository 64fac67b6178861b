"""Your own Perturb-seq experiment: which genes change, which way, and by how much.

    rlvr data show perturb_seq

    source: {name: perturb_seq, path: mine.h5ad, perturbation: gene, controls: [non-targeting], replicate: donor,
             modality: knockdown, cells: "primary human CD4+ T cells", task: direction}

Counts are summed over the cells of a perturbation in a replicate and compared by DESeq2's Wald test with
Benjamini-Hochberg's correction (`test: t` is faster and needs five replicates or so to see anything). Without counts
or replicates every question says "exploratory, pseudoreplicated". So it is with the shared file that stands in when
no path is given: PerturBench's development sample, log values of Norman 2019 (activation, K562) and McFaline 2023
(knockdown, three glioblastoma lines).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from rlvr.knowledge import FILES, KnowledgeBase
from rlvr.questions import splits
from rlvr.questions.biology import effects
from rlvr.questions.biology.effects import Design, Effects, Result
from rlvr.questions.biology.pseudobulk import TESTS
from rlvr.questions.evidence import EvidenceSource, build_questions
from rlvr.source import File
from rlvr.types import Error, Question

from ._symbols import current

log = logging.getLogger(__name__)

SHARED = File(
    "perturbench/perturbench_devel.h5ad",
    "220998f5630c813228c8661c86dd52244b9ac87127511289af90e0d900d8429b",
    url="https://raw.githubusercontent.com/altoslabs/perturbench/"
    "d357dfae3b50968e800e9f5f273ff145080ae67c/src/perturbench/data/resources/devel.h5ad",
)
SHARED_DESIGN = Design("perturbation", ("control",), "", "perturbation_type", "cell_type")
SHARED_CONTEXTS = {
    "k562": "K562 leukaemia cells",
    "A172": "A172 glioblastoma cells",
    "T98G": "T98G glioblastoma cells",
    "U87MG": "U87MG glioblastoma cells",
}
LABELS = {"effect": ("yes", "no"), "direction": ("up", "down"), "profile": ()}
QUIET = 0.2  # p above which a gene counts as unchanged; between that and a hit nothing is asked
SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}


@dataclass(frozen=True)
class PerturbSeq(EvidenceSource):
    """Options.

    path: an .h5ad; "" is the shared sample, whose columns are known. perturbation: column of obs with the perturbed
    gene, or the guide against it (KLF1_sg2 is KLF1). controls: its values that mean none; left out, any spelling of the
    usual ones (non-targeting, NTC_1, safe-targeting, DMSO, ...). separator: what joins several genes, which are left
    out; where they are known genes, so are other joints (GAB2_TMEM161B). replicate:
    column with the culture, donor or guide; "" for none. modality: knockdown, knockout, activation, or a column that
    says so. context: column with the cell line or type, "" for one context; cells: words for the cells where there is
    one. task: effect (does it change), direction (which way), profile (log2 fold changes). test: deseq2 or t. fdr: of
    a hit. min_cells: of a perturbation in a replicate. readouts: most genes asked of a perturbation, in effect half
    of them unchanged, and in profile as many as are in a question. layer: of your file that holds the values, "" for
    the best there is. knowledge: "upstream", "sample" or the path of a built file. And those of evidence, but in
    profile. A perturbation is in one split, whatever the context.
    """

    name: ClassVar[str] = "perturb_seq"
    version: ClassVar[str] = "1"
    licence: ClassVar[str] = "your file: its own; the shared sample: BSD-3-Clause (perturbench)"
    commercial: ClassVar[bool] = True
    citation: ClassVar[str] = (
        "your file: its own; the shared sample: Wu et al., PerturBench, 2024, with data of Norman et al., Science "
        "365:786, 2019, and McFaline-Figueroa et al., Cell Genomics 4:100487, 2024"
    )
    doi: ClassVar[str] = "10.48550/arXiv.2408.10609, 10.1126/science.aax4438, 10.1016/j.xgen.2023.100487"

    path: str = ""
    perturbation: str = "perturbation"
    controls: tuple[str, ...] = ()
    separator: str = "+"
    replicate: str = ""
    modality: str = "knockdown"
    context: str = ""
    cells: str = ""
    task: str = "effect"
    test: str = "deseq2"
    fdr: float = 0.05
    min_cells: int = 20
    readouts: int = 20
    layer: str = ""
    knowledge: str = "upstream"

    def __post_init__(self) -> None:
        super().__post_init__()
        for option, value, known in (("task", self.task, tuple(LABELS)), ("test", self.test, TESTS)):
            if value not in known:
                raise Error(f"perturb_seq: {option} {value!r} is unknown; choose one of {', '.join(known)}")
        if self.path and bool(self.context) == bool(self.cells):
            raise Error("perturb_seq: set either `cells` (words) or `context` (a column with the cell line or type)")
        if not self.separator:
            raise Error("perturb_seq: separator must not be empty")
        if not 0 < self.fdr < QUIET or self.min_cells < 2 or self.readouts < 2:
            raise Error(f"perturb_seq: fdr must be in (0, {QUIET}), min_cells and readouts at least 2")

    @classmethod
    def files(cls) -> tuple[File, ...]:
        return (SHARED, *FILES)

    @property
    def drops(self) -> Mapping[str, int]:
        """What was left out and why -> how many."""
        return {why: count for why, count in self._measured[0].drops.items() if count}

    def unresolved(self) -> Mapping[str, str]:
        """Of perturbations and tested genes; they keep the file's name."""
        result = self._measured[0]
        named = {
            name for effects in result.effects for column in ("perturbation", "gene") for name in effects.table[column]
        }
        return KnowledgeBase.open(self.knowledge).unresolved(named, result.species)

    def questions(self) -> Iterator[Question]:
        for group, table in self._measured[1]:
            asked = self._profiles(group, table) if self.task == "profile" else self._labelled(group, table)
            for question in asked:
                more = {"quality": group.quality}
                truth = {**question.truth, **more, "group": question.fields["perturbation"]}
                yield replace(question, fields={**question.fields, **more}, truth=truth)

    @cached_property
    def _measured(self) -> tuple[Result, list[tuple[Effects, pd.DataFrame]]]:
        """The effects, and of each context the table (perturbation, readout, fold, p, q, split), under current
        symbols and without a gene's effect on itself."""
        design = Design(
            self.perturbation,
            self.controls,
            self.replicate,
            self.modality,
            self.context,
            self.separator,
            test=self.test,
            layer=self.layer,
        )
        design = replace(design if self.path else SHARED_DESIGN, least_cells=self.min_cells)
        result = effects.measure(Path(self.path) if self.path else SHARED.path(), design, self._is_gene)
        parts = [(effects, self._current(effects.table, result)) for effects in result.effects]
        for why, count in result.drops.items():
            if count:
                log.info("perturb_seq: left out: %d %s", count, why)
        if result.species != "human":
            log.warning(
                "perturb_seq: the genes are of %s; evidence needs human annotation, so there is none", result.species
            )
        if not any((table["split"] == "train").any() for _, table in parts):
            raise Error(f"perturb_seq: no perturbation of {self.path} falls into training; there are too few")
        return result, parts

    def _is_gene(self, name: str) -> bool:
        base = KnowledgeBase.open(self.knowledge)
        return base.read(name).symbol is not None or base.read(name, "mouse").symbol is not None

    def _current(self, table: pd.DataFrame, result: Result) -> pd.DataFrame:
        knowledge = KnowledgeBase.open(self.knowledge)
        for old, new in (("perturbation", "perturbation"), ("gene", "readout")):
            names = current(sorted(set(table[old])), lambda s: knowledge.current(s, result.species))
            table = table.assign(**{new: table[old].map(names)})
        own = table["perturbation"] == table["readout"]
        unnamed = table[["perturbation", "readout"]].isna().any(axis=1)
        untested = table["p"].isna() & ~own & ~unnamed
        result.drops["effects of a perturbation on its own gene"] += int(own.sum())
        result.drops["effects on or of a gene under another name too"] += int(unnamed.sum())
        result.drops["effects that could not be tested"] += int(untested.sum())
        table = table[~own & ~unnamed & ~untested].reset_index(drop=True)
        split = splits.assign(sorted(set(table["perturbation"])), SHARES, salt="perturb_seq")
        return table.assign(split=table["perturbation"].map(split))

    def _words(self, effects: Effects) -> str:
        return self.cells or (effects.context if self.path else SHARED_CONTEXTS[effects.context])

    def _labelled(self, effects: Effects, table: pd.DataFrame) -> Iterator[Question]:
        hit = table["q"] <= self.fdr
        if self.task == "direction":
            chosen = _most(table[hit], self.readouts)
            label = chosen["fold"].gt(0).map({True: "up", False: "down"})
        else:
            hits = _most(table[hit], self.readouts // 2)
            quiet = table[(table["p"] > QUIET) & table["readout"].isin(table["readout"][hit])]
            number = hits["perturbation"].value_counts()  # as many unchanged genes, that change elsewhere
            quiet = _most(quiet, quiet["perturbation"].map(number).fillna(0))
            chosen = pd.concat([hits, quiet]).sort_index()
            label = chosen["q"].le(self.fdr).map({True: "yes", False: "no"})
        if chosen.empty:
            log.warning("perturb_seq: nothing in %s is changed at fdr %s", self._words(effects), self.fdr)
            return
        context = effects.context or "cells"
        yield from build_questions(
            chosen.assign(label=label, context=context),
            KnowledgeBase.open(self.knowledge).annotations(),
            task=f"perturbation/{self.task}",
            source=self.name,
            labels=LABELS[self.task],
            modality=effects.modality,
            contexts={context: self._words(effects)},
            **self.shown,
        )

    def _profiles(self, effects: Effects, table: pd.DataFrame) -> Iterator[Question]:
        """One question per perturbation on the genes that vary most over training perturbations; its own gene, and
        what could not be tested, are left out of them."""
        training = table[table["split"] == "train"]
        spread = training.groupby("readout")["fold"].agg(["var", "mean"]).sort_values("var", ascending=False)
        panel = list(spread.index[: self.readouts])
        baseline = spread["mean"].round(4).to_dict()
        for perturbation, rows in table[table["readout"].isin(panel)].groupby("perturbation"):
            fold = rows.set_index("readout")["fold"].round(4)
            genes = [g for g in panel if g in fold.index]
            yield Question(
                id=f"{self.name}:perturbation/profile:{effects.context or 'cells'}:{perturbation}",
                task="perturbation/profile",
                fields={
                    "context": self._words(effects),
                    "modality": effects.modality,
                    "perturbation": str(perturbation),
                    "genes": genes,
                },
                truth={
                    "answer": {g: float(fold[g]) for g in genes},
                    "baseline": {g: float(baseline[g]) for g in genes},
                    "context": effects.context or "cells",
                },
                source=self.name,
                split=str(rows["split"].iloc[0]),
            )


def _most(table: pd.DataFrame, most: int | pd.Series[Any]) -> pd.DataFrame:
    """At most so many rows of each perturbation, by a fixed hash of perturbation and readout."""
    keys = table["perturbation"] + " " + table["readout"]
    order = keys.map(lambda key: splits.fraction(key, "readouts")).sort_values().index
    place = table.loc[order].groupby("perturbation").cumcount().reindex(table.index)
    return table[place < most]
