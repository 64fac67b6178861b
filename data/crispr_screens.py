"""Genome-wide CRISPR screens: what a knockout or knockdown does to a sorted or surviving fraction of cells.

    rlvr data show crispr_screens

The gene-level tables of genedisco (Mehrjou et al., ICLR 2022). Each screen declares what its columns mean; every
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
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from scipy.stats import combine_pvalues, false_discovery_control, norm

from rlvr import tables
from rlvr.knowledge import FILES, KnowledgeBase
from rlvr.questions import splits
from rlvr.questions.evidence import EvidenceSource, build_questions
from rlvr.source import File
from rlvr.types import Error, Question

from ._symbols import current
from .sample.make_sample import match

log = logging.getLogger(__name__)

CONFIRMED = 0.05  # one-sided p that each replicate must reach, as in tcell_cytokines
QUIET = 0.2  # p above which, in each arm and replicate, a gene counts as doing nothing
# The shares and the salt of tcell_cytokines: a gene is in the same split of both, as two screens are the same.
SHARES = {"train": 0.55, "validation": 0.32, "test": 0.13}
SALT = "tcell_cytokines"
_NO_GENE = re.compile(r"NO-TARGET.*|non-?targeting.*|control.*|hsa-mir-.*|hsa-let-.*", re.I)


@dataclass(frozen=True)
class Replicate:
    """A file and two of its columns. `down` is "" where only enrichment was scored; for the MLE both are the z."""

    file: File
    up: str
    down: str


@dataclass(frozen=True)
class Screen:
    """gene: column with the symbol. statistic: how a column becomes a one-sided p. guides, least: column with the
    number of guides, and how few and how many are too few and too many. readout: what "up" means more of; own: the
    gene whose product that is, which is no question. asked, words: the question in the screen's own words."""

    statistic: Literal["RRA", "MLE", "RSA"]
    replicates: tuple[Replicate, ...]
    gene: str
    separator: str
    readout: str
    context: str
    modality: str
    asked: str
    words: Mapping[str, str]
    own: str = ""
    guides: str = ""
    least: tuple[int, int] = (0, 1_000_000)


def _file(name: str, digest: str) -> File:
    member = f"genedisco/datasets/screens/{name}"
    return File(f"genedisco_screens/{name}", digest, wheel="genedisco==1.0.5", member=member)


IL2 = (
    _file("schmidt_il2_d1.gene_summary.txt", "d74983a627673a96077e04a7a5bce0d1aa66e3c5fb0ca8182a7166ef88522391"),
    _file("schmidt_il2_d2.gene_summary.txt", "c860efa684b6ac0b44c61bd3c984e05ea7b3b2279726f4ef477611380c6ca9fd"),
)
IFNG = (
    _file("schmidt_ifng_d1.gene_summary.txt", "a294aa3197c8634c3fa9665cd57f5e3451dc5531b54028a0592e6e8b51bb506d"),
    _file("schmidt_ifng_d2.gene_summary.txt", "f545a6b6a2eb5d28483cb8577b9d7d66857da8279793dd089c314043c4a04c1a"),
)
NK = _file(
    "zhuang_2019_low_selection.gene_summary.txt", "72bbada9e2fc0eddc847ca2accc7e8c19c81d9deaa84334554d86ac49fd81b8c"
)
TAU = _file("sanchezetal2021_21days.csv", "9d4e9dbb1158fec379ddd6568918c6c37ff1f53b55200dafd0ac03e28c501301")
VIRUS = _file("zhu_2021_sarscov2_host_factors.csv", "3d049e391dafb2f6a26bb80b5bef4ff6a69bc06bf1301b78a181515ffa614f27")
SORTED = {"up": "enriched", "down": "depleted", "none": "neither"}


def _cytokine(files: tuple[File, ...], readout: str, own: str, cells: str) -> Screen:
    return Screen(
        statistic="RRA",
        replicates=tuple(Replicate(file, "pos|p-value", "neg|p-value") for file in files),
        gene="id",
        separator="\t",
        readout=readout,
        context=f"restimulated primary human {cells} T cells",
        modality="CRISPRi knockdown",
        asked=f"is the {readout}-high fraction lower, higher or unchanged",
        words=SORTED,
        own=own,
        guides="num",
        least=(3, 4),
    )


SCREENS = {
    # Schmidt et al., Science 2022, doi:10.1126/science.abj4008. pos: enriched in cytokine-high cells.
    "schmidt_il2": _cytokine(IL2, "IL-2", "IL2", "CD4+"),
    "schmidt_ifng": _cytokine(IFNG, "IFN-gamma", "IFNG", "CD8+"),
    # Zhuang et al., Front Immunol 2019, doi:10.3389/fimmu.2019.02879. beta > 0: enriched in K562 cells that
    # survived NK cells (NCR3LG1, the ligand of NKp30, is at +1.06 and +.75; IFNGR2 at -.83 and -.99).
    "zhuang_nk": Screen(
        statistic="MLE",
        replicates=(Replicate(NK, "Rep1|z", "Rep1|z"), Replicate(NK, "Rep2|z", "Rep2|z")),
        gene="Gene",
        separator="\t",
        readout="survival of killing",
        context="K562 leukaemia cells cultured with primary human NK cells",
        modality="CRISPR knockout",
        asked="is the fraction of cells that survive the NK cells lower, higher or unchanged",
        words=SORTED,
        guides="sgRNA",
        least=(4, 6),
    ),
    # Sanchez et al., Commun Biol 2021, doi:10.1038/s42003-021-02272-1. RSA_Down: depleted from tau-high, so tau is
    # lowered (MAPT itself is at -6.3); RSA_Up: tau is raised (TSC2 at -4.7). One replicate, day 21.
    "sanchez_tau": Screen(
        statistic="RSA",
        replicates=(Replicate(TAU, "RSA_Up", "RSA_Down"),),
        gene="Symbol",
        separator=",",
        readout="tau",
        context="SH-SY5Y neuroblastoma cells",
        modality="CRISPR knockout",
        asked="is the tau-high fraction lower, higher or unchanged",
        words=SORTED,
        own="MAPT",
    ),
    # Zhu et al., Nat Commun 2021, doi:10.1038/s41467-021-21213-4. pos: enriched in cells that survived the virus
    # (ACE2 comes first). The depleted arm is not in the file.
    "zhu_sarscov2": Screen(
        statistic="RRA",
        replicates=(Replicate(VIRUS, "pos|p-value", ""),),
        gene="id",
        separator=",",
        readout="survival of infection",
        context="A549 lung cells with ACE2, infected with SARS-CoV-2",
        modality="CRISPR knockout",
        asked="does it protect the cells from the virus",
        words={"yes": "protects", "no": "does not"},
        guides="num",
        least=(3, 4),
    ),
}


@dataclass(frozen=True)
class CrisprScreens(EvidenceSource):
    """Options: screen (schmidt_il2, schmidt_ifng, zhuang_nk, sanchez_tau, zhu_sarscov2), fdr (of a hit), knowledge
    ("upstream", "sample" or the path of a built file), and those of evidence. Hits are asked about, and as many genes
    without effect, each like one hit in annotation; the task is perturbation/response, or perturbation/effect where
    one arm was scored."""

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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.screen not in SCREENS:
            raise Error(f"crispr_screens: screen {self.screen!r} is unknown; choose one of {', '.join(SCREENS)}")
        if not 0 < self.fdr < 1:
            raise Error(f"crispr_screens: fdr is {self.fdr}; it must be in (0, 1)")

    @classmethod
    def files(cls) -> tuple[File, ...]:
        held = dict.fromkeys(r.file for screen in SCREENS.values() for r in screen.replicates)
        return (*held, *FILES)

    @property
    def drops(self) -> Mapping[str, int]:
        """Why rows were left out -> how many."""
        return self._read[1]

    def unresolved(self) -> Mapping[str, str]:
        """Of the genes of every row; controls and microRNAs are no genes."""
        return self._read[2]

    def questions(self) -> Iterator[Question]:
        screen = SCREENS[self.screen]
        one_arm = not screen.replicates[0].down
        labels = ("yes", "no") if one_arm else ("none", "up", "down")
        more = {"asked": screen.asked, "words": dict(screen.words)}
        for question in build_questions(
            self.table(),
            KnowledgeBase.open(self.knowledge).annotations(),
            task="perturbation/effect" if one_arm else "perturbation/response",
            source=self.name,
            labels=labels,
            modality=screen.modality,
            contexts={self.screen: screen.context},
            **self.shown,
        ):
            truth = {**question.truth, "group": question.fields["perturbation"]}
            yield replace(question, fields={**question.fields, **more}, truth=truth)

    def table(self) -> pd.DataFrame:
        """The canonical table: hits, and as many matched genes without effect."""
        screen = SCREENS[self.screen]
        annotations = KnowledgeBase.open(self.knowledge).annotations()
        labelled = label(self._read[0], self.fdr)
        hits, quiet = (labelled["label"].isin(found).sum() for found in (("up", "down"), ("none",)))
        if not hits or quiet < hits:
            raise Error(
                f"crispr_screens: {self.screen} has {hits} hits at fdr {self.fdr} and {quiet} genes without effect"
            )
        genes = list(labelled.index)
        kept = match(labelled, annotations.annotations(genes), annotations.core(genes))
        log.info("crispr_screens: %s: %d hits at fdr %s, as many without effect", self.screen, hits, self.fdr)
        one_arm = {"up": "yes", "none": "no"} if not screen.replicates[0].down else {}
        return pd.DataFrame(
            {
                "perturbation": kept.index,
                "readout": screen.readout,
                "context": self.screen,
                "label": kept["label"].replace(one_arm).astype(str),
                "split": [splits.assign([g], SHARES, salt=SALT)[g] for g in kept.index],
            }
        ).reset_index(drop=True)

    @cached_property
    def _read(self) -> tuple[pd.DataFrame, Mapping[str, int], Mapping[str, str]]:
        return read(SCREENS[self.screen], KnowledgeBase.open(self.knowledge), self.screen)


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
        strange |= knowledge.unresolved(symbol[~symbol.str.fullmatch(_NO_GENE)])
        ways = {f"p_{way}_{n}": (getattr(r, way), way) for n, r in held.items() for way in ("up", "down")}
        parts.append(pd.DataFrame({p: _one_sided(kept[c], screen, way) for p, (c, way) in ways.items() if c}))
    found = pd.concat(parts, axis=1, join="inner").sort_index()
    drops["genes that not every replicate measured"] += max(map(len, parts)) - len(found)
    for why, count in drops.items():
        if count:
            log.info("crispr_screens: %s: left out: %d %s", name, count, why)
    return found, {why: count for why, count in drops.items() if count}, strange


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
    known = symbol.map(knowledge.resolve).fillna("").astype(str)
    named = symbol.map(current(symbol, knowledge.resolve)).fillna("").astype(str)
    guides = raw[screen.guides] if screen.guides else pd.Series(screen.least[0], index=raw.index)
    kept = pd.Series(True, index=raw.index)
    for why, faulty in (
        ("rows whose gene a spreadsheet turned into a date", symbol.str.fullmatch(tables.DATE)),
        ("controls and microRNAs", symbol.str.fullmatch(_NO_GENE)),
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
