"""The published screens of `crispr_screens`, and what their columns mean. No source itself, as the underscore says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rlvr.source import File


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
