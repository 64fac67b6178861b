"""Genome-wide CRISPR screens: what a knockout or knockdown does to a sorted or surviving fraction of cells.

    rlvr data show crispr_screens
    rlvr data show crispr_screens path=mine.gene_summary.txt readout=CD25 cells="primary human T cells"

The second is your own screen (rlvr/questions/biology/screen_tables.py says which programs' tables are read). Without a
path: the gene-level tables of genedisco (Mehrjou et al., ICLR 2022). Each screen declares what its columns mean; every
statistic becomes a one-sided p for "up" and for "down" in each replicate:
- MAGeCK RRA (Li et al. 2014): `pos|p-value` is enrichment, `neg|p-value` depletion, already one-sided;
- MAGeCK MLE (Li et al. 2015): Wald z of beta, > 0 for enrichment (the permutation p of this file would call 28 % of
  all genes at .05 in each replicate, independently of each other);
- RSA (König et al. 2007): log10 p of the best ranks. A tenth of this file's genes reach p = .02, five times too many,
  as the p is a minimum over a gene's guides: it is multiplied by five;
- positive arm only: nothing is known of depletion, so the question is whether the gene is enriched.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from scipy.stats import combine_pvalues, false_discovery_control, norm

from rlvr import tables
from rlvr.knowledge import FILES, KnowledgeBase
from rlvr.questions import splits
from rlvr.questions.biology import screen_tables
from rlvr.questions.biology.labels import is_control
from rlvr.questions.biology.screen_tables import Columns
from rlvr.questions.evidence import EvidenceSource, build_questions
from rlvr.source import File
from rlvr.types import Error, Question

from ._screens import SCREENS, SORTED, Screen
from ._symbols import current
from .sample.make_sample import match

log = logging.getLogger(__name__)

CONFIRMED = 0.05  # one-sided p that each replicate must reach, as in tcell_cytokines
QUIET = 0.2  # p above which, in each arm and replicate, a gene counts as doing nothing
# The shares and the salt of tcell_cytokines: a gene is in the same split of both, as two screens are the same.
SHARES = {"train": 0.55, "validation": 0.32, "test": 0.13}
SALT = "tcell_cytokines"
ONE_ARM = {"up": {"yes": "enriched", "no": "is not"}, "down": {"yes": "depleted", "no": "is not"}}
_NO_GENE = re.compile(r"NO-TARGET.*|non-?targeting.*|control.*|hsa-mir-.*|hsa-let-.*", re.I)


@dataclass(frozen=True)
class CrisprScreens(EvidenceSource):
    """Options: screen (schmidt_il2, schmidt_ifng, zhuang_nk, sanchez_tau, zhu_sarscov2), fdr (of a hit), knowledge
    ("upstream", "sample" or the path of a built file), and those of evidence. Hits are asked about, and as many genes
    without effect, each like one hit in annotation; the task is perturbation/response, or perturbation/effect where
    one arm was scored.

    Of your own screen: path, a table of one row a gene; readout, what the cells were sorted or selected for, and cells,
    in words; modality, in words; enriched, "high" or "low": in which of the sorted cells the table's enrichment is;
    asked, the question in words, where "is the READOUT-high fraction lower, higher or unchanged" does not say it; and
    where the columns are not recognised gene, up, down, p, effect, condition (see `screen_tables.Columns`).
    """

    name: ClassVar[str] = "crispr_screens"
    version: ClassVar[str] = "1"
    licence: ClassVar[str] = (
        "papers: CC BY 4.0 (Schmidt: public, GEO GSE174292); tables by way of genedisco, Apache-2.0"
    )
    commercial: ClassVar[bool] = True
    citation: ClassVar[str] = (
        "Schmidt et al., Science 375:eabj4008, 2022; Zhuang et al., Front Immunol 10:2879, 2019; Sanchez et al., "
        "Commun Biol 4:736, 2021; Zhu et al., Nat Commun 12:961, 2021; GeneDisco: Mehrjou et al., ICLR 2022"
    )
    doi: ClassVar[str] = (
        "10.1126/science.abj4008, 10.3389/fimmu.2019.02879, 10.1038/s42003-021-02272-1, 10.1038/s41467-021-21213-4"
    )
    asks: ClassVar[Mapping[str, Sequence[Mapping[str, Any]]]] = {screen: [{"screen": screen}] for screen in SCREENS}

    screen: str = "sanchez_tau"
    fdr: float = 0.1
    knowledge: str = "upstream"
    path: str = ""
    readout: str = ""
    cells: str = ""
    modality: str = "CRISPR knockout"
    enriched: Literal["high", "low"] = "high"
    asked: str = ""
    gene: str = ""
    up: str = ""
    down: str = ""
    p: str = ""
    effect: str = ""
    condition: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        own = {"readout": self.readout, "cells": self.cells}
        if self.path and not all(own.values()):
            raise Error("crispr_screens: your own screen needs `readout` (such as CD25) and `cells`, in words")
        if not self.path and (given := [name for name, value in own.items() if value]):
            raise Error(f"crispr_screens: {given[0]} is about your own screen; name its table in `path`")
        if self.screen not in SCREENS:
            raise Error(f"crispr_screens: screen {self.screen!r} is unknown; choose one of {', '.join(SCREENS)}")
        if not 0 < self.fdr < 1:
            raise Error(f"crispr_screens: fdr is {self.fdr}; it must be in (0, 1)")

    @classmethod
    def files(cls) -> tuple[File, ...]:
        held = dict.fromkeys(r.file for screen in SCREENS.values() for r in screen.replicates)
        return (*held, *FILES)

    @property
    def _screen(self) -> Screen:
        if not self.path:
            return SCREENS[self.screen]
        return Screen(
            statistic="RRA",
            replicates=(),
            gene="",
            separator="",
            readout=self.readout,
            context=self.cells,
            modality=self.modality,
            asked=self.asked or f"is the {self.readout}-high fraction lower, higher or unchanged",
            words=SORTED,
            own=KnowledgeBase.open(self.knowledge).resolve(self.readout) or "",
        )

    @property
    def _name(self) -> str:
        """Of the context: the published screen's, or the file's."""
        return Path(self.path).name.partition(".")[0] if self.path else self.screen

    @property
    def _one_arm(self) -> str:
        """up or down, where no other was scored; else ""."""
        ways = {way for way in ("up", "down") if any(str(c).startswith(f"p_{way}_") for c in self._read[0])}
        return ways.pop() if len(ways) == 1 else ""

    @property
    def drops(self) -> Mapping[str, int]:
        """Why rows were left out -> how many."""
        return self._read[1]

    def unresolved(self) -> Mapping[str, str]:
        """Of the genes of every row; controls and microRNAs are no genes."""
        return self._read[2]

    def questions(self) -> Iterator[Question]:
        screen, one_arm = self._screen, self._one_arm
        labels = ("yes", "no") if one_arm else ("none", "up", "down")
        more = {"asked": screen.asked, "words": dict(screen.words)}
        if self.path and one_arm:
            way = SORTED[one_arm]
            more = {"asked": self.asked or f"is it {way} among cells high in {self.readout}", "words": ONE_ARM[one_arm]}
        for question in build_questions(
            self.table(),
            KnowledgeBase.open(self.knowledge).annotations(),
            task="perturbation/effect" if one_arm else "perturbation/response",
            source=self.name,
            labels=labels,
            modality=screen.modality,
            contexts={self._name: screen.context},
            **self.shown,
        ):
            truth = {**question.truth, "group": question.fields["perturbation"]}
            yield replace(question, fields={**question.fields, **more}, truth=truth)

    def table(self) -> pd.DataFrame:
        """The canonical table: hits, and as many matched genes without effect."""
        annotations = KnowledgeBase.open(self.knowledge).annotations()
        labelled = label(self._read[0], self.fdr)
        hits, quiet = (labelled["label"].isin(found).sum() for found in (("up", "down"), ("none",)))
        if not hits or quiet < hits:
            raise Error(
                f"crispr_screens: {self._name} has {hits} hits at fdr {self.fdr} and {quiet} genes without effect"
            )
        genes = list(labelled.index)
        kept = match(labelled, annotations.annotations(genes), annotations.core(genes))
        log.info("crispr_screens: %s: %d hits at fdr %s, as many without effect", self._name, hits, self.fdr)
        one_arm = {self._one_arm: "yes", "none": "no"} if self._one_arm else {}
        return pd.DataFrame(
            {
                "perturbation": kept.index,
                "readout": self._screen.readout,
                "context": self._name,
                "label": kept["label"].replace(one_arm).astype(str),
                "split": [splits.assign([g], SHARES, salt=SALT)[g] for g in kept.index],
            }
        ).reset_index(drop=True)

    @cached_property
    def _read(self) -> tuple[pd.DataFrame, Mapping[str, int], Mapping[str, str]]:
        if not self.path:
            return read(SCREENS[self.screen], KnowledgeBase.open(self.knowledge), self.screen)
        columns = Columns(self.gene, self.up, self.down, self.p, self.effect, self.condition)
        table = screen_tables.read(Path(self.path), columns)
        if self.enriched == "low":
            table = table.rename(columns={"p_up": "p_down", "p_down": "p_up"})
        return own(table, self._screen, KnowledgeBase.open(self.knowledge), self._name)


def read(
    screen: Screen, knowledge: KnowledgeBase, name: str
) -> tuple[pd.DataFrame, Mapping[str, int], Mapping[str, str]]:
    """One-sided p per gene, index: current symbol, columns p_up_1, p_down_1, ...; what was left out; and the symbols
    that are no single gene. A gene is in the result if every replicate measured it."""
    drops: Counter[str] = Counter()
    strange: dict[str, str] = {}
    parts = []
    for file in dict.fromkeys(replicate.file for replicate in screen.replicates):
        held = {number: r for number, r in enumerate(screen.replicates, 1) if r.file == file}
        path = file.path()
        raw = pd.read_csv(path, sep=screen.separator, encoding="utf-8-sig", keep_default_na=False, na_values=[""])
        columns = list(dict.fromkeys(c for r in held.values() for c in (r.up, r.down) if c))
        tables.require(raw, [screen.gene, *columns, *filter(None, [screen.guides])], str(path))
        symbol = raw[screen.gene].fillna("").astype(str).str.strip()
        kept = _usable(raw, symbol, screen, columns, knowledge, drops, path.name)
        strange |= knowledge.unresolved(symbol[~_no_gene(symbol)])
        ways = {f"p_{way}_{n}": (getattr(r, way), way) for n, r in held.items() for way in ("up", "down")}
        parts.append(pd.DataFrame({p: _one_sided(kept[c], screen, way) for p, (c, way) in ways.items() if c}))
    found = pd.concat(parts, axis=1, join="inner").sort_index()
    drops["genes that not every replicate measured"] += max(map(len, parts)) - len(found)
    for why, count in drops.items():
        if count:
            log.info("crispr_screens: %s: left out: %d %s", name, count, why)
    return found, {why: count for why, count in drops.items() if count}, strange


def own(
    table: pd.DataFrame, screen: Screen, knowledge: KnowledgeBase, name: str
) -> tuple[pd.DataFrame, Mapping[str, int], Mapping[str, str]]:
    """The same of a table that `screen_tables.read` gave."""
    drops: Counter[str] = Counter()
    symbol = pd.Series(table.index, dtype=object).astype(str)
    kept = _usable(table.reset_index(drop=True), symbol, screen, list(table.columns), knowledge, drops, name)
    strange = knowledge.unresolved(symbol[~_no_gene(symbol)])
    found = kept.rename(columns=lambda column: f"{column}_1").sort_index()
    return found, {why: count for why, count in drops.items() if count}, strange


def _no_gene(symbol: pd.Series[str]) -> pd.Series[bool]:
    return symbol.str.fullmatch(_NO_GENE) | symbol.map(is_control)


def _usable(
    raw: pd.DataFrame,
    symbol: pd.Series[str],
    screen: Screen,
    columns: list[str],
    knowledge: KnowledgeBase,
    drops: Counter[str],
    where: str,
) -> pd.DataFrame:
    """The rows of one gene each, indexed by its current symbol."""
    values = raw[columns].apply(pd.to_numeric, errors="coerce")
    known = symbol.map(lambda name: knowledge.read(name).symbol).fillna("").astype(str)
    named = symbol.map(current(symbol, lambda name: knowledge.read(name).symbol)).fillna("").astype(str)
    guides = raw[screen.guides] if screen.guides else pd.Series(screen.least[0], index=raw.index)
    kept = pd.Series(True, index=raw.index)
    for why, faulty in (
        ("rows whose gene a spreadsheet turned into a date", symbol.str.fullmatch(tables.DATE)),
        ("controls and microRNAs", _no_gene(symbol)),
        ("rows without a number", ~np.isfinite(values).all(axis=1)),
        ("rows with too few or too many guides", ~guides.between(*screen.least)),
        ("rows of a symbol that is there twice", symbol.duplicated(keep=False)),
        ("symbols that are no single current gene", known == ""),
        ("rows of a gene under another name too", named == ""),
        ("rows of the gene that is read out", known == screen.own),
    ):
        new = faulty & kept
        drops[why] += int(new.sum())
        if new.any():
            log.info("crispr_screens: %s: %s: %s", where, why, ", ".join(symbol[new].iloc[:10]))
        kept &= ~faulty
    usable: pd.DataFrame = values.set_axis(named)[kept.to_numpy()]
    return usable


def _one_sided(values: pd.Series[float], screen: Screen, way: str) -> pd.Series[float]:
    if screen.statistic == "MLE":
        return pd.Series(norm.sf(values if way == "up" else -values), index=values.index)
    if screen.statistic == "RSA":
        return (5.0 * 10.0**values).clip(upper=1.0)
    if not values.between(0, 1).all():
        raise Error(f"crispr_screens: {values.name!r} is no p-value; declare another statistic")
    return values


def label(measured: pd.DataFrame, fdr: float) -> pd.DataFrame:
    """With a column label: up or down where Fisher's combination over replicates has a false discovery rate of at
    most `fdr` (Benjamini-Hochberg) and each replicate agrees; none where each p of each arm is above QUIET; missing
    where the measurement does not say, or says both."""
    out = measured.assign(label=pd.Series(pd.NA, index=measured.index, dtype="string"))
    quiet = pd.Series(True, index=measured.index)
    hits = {}
    for way in ("up", "down"):
        p = measured.filter(like=f"p_{way}_")
        if p.empty:
            continue
        together = combine_pvalues(p.clip(lower=1e-300).to_numpy(), method="fisher", axis=1).pvalue
        hits[way] = (false_discovery_control(together) <= fdr) & (p <= CONFIRMED).all(axis=1)
        quiet &= (p > QUIET).all(axis=1)
    both = pd.DataFrame(hits).sum(axis=1) > 1
    for way, found in hits.items():
        out.loc[found & ~both, "label"] = way
    out.loc[quiet, "label"] = "none"
    return out
