"""A perturbation experiment on single cells, from an .h5ad to effects: what was perturbed changes which gene.

Cells are labelled (perturbed gene, control, several genes), grouped by context, summed by replicate and tested
(rlvr/questions/biology/pseudobulk.py). Everything that is left out is counted. `data/perturb_seq.py` asks questions
about the result.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from rlvr.knowledge.symbols import missing
from rlvr.questions.biology import h5ad, pseudobulk
from rlvr.questions.biology.h5ad import Expression, Species
from rlvr.questions.biology.labels import Known, genes_of
from rlvr.types import Error

log = logging.getLogger(__name__)

MODALITIES = {"knockdown": "CRISPRi knockdown", "knockout": "CRISPR knockout", "activation": "CRISPR activation"}
ALSO = {"crispri": "knockdown", "crisprko": "knockout", "crispra": "activation"}  # as files say it
LEAST_COUNTS = 5  # mean count of a gene in a sample, below which it is not tested
LEAST_LOG = 0.1  # the same for the mean log value over cells, in some perturbation or the controls
SHOWN = 5  # labels that a message spells out
NULLS = 3  # random divisions of the controls
REPLICATED = "replicated"
EXPLORATORY = "exploratory, pseudoreplicated"


@dataclass(frozen=True)
class Design:
    """How a file says what was done; names of columns of obs.

    perturbation: the perturbed gene, several joined by `separator`; controls: its values that mean none, () for those
    that `labels.is_control` knows.
    replicate: culture, donor or guide. modality: a key of MODALITIES, or a column. context: a column with the cell
    line or type, or "" for one context. least_cells: of a perturbation in a replicate. test: see pseudobulk.compare.
    layer: of the file; "" for the best there is.
    """

    perturbation: str
    controls: tuple[str, ...]
    replicate: str
    modality: str
    context: str
    separator: str = "+"
    least_cells: int = 20
    test: str = "deseq2"
    layer: str = ""


@dataclass(frozen=True)
class Effects:
    """One context. table: perturbation, gene, fold (log2), p, q. quality: REPLICATED or EXPLORATORY. null: of two
    halves of the controls, the share of genes with q <= .05 and the share with p <= .05; None if too few."""

    context: str
    modality: str
    quality: str
    table: pd.DataFrame
    null: tuple[float, float] | None


@dataclass(frozen=True)
class Result:
    """effects: of each context. drops: what was left out and why -> how many."""

    effects: tuple[Effects, ...]
    species: Species
    drops: Counter[str] = field(default_factory=Counter)


def measure(path: Path, design: Design, known: Known = lambda name: False) -> Result:
    """Read and test a whole file. known: whether a name is a gene, which tells a guide's number from a symbol's.

    Errors: no controls, nothing with enough cells, several modalities in one context, what h5ad.read refuses.
    """
    expression = h5ad.read(path, design.layer)
    species = expression.species()
    drops: Counter[str] = Counter()
    cells = _label(expression, design, drops, known)
    replicated = bool(design.replicate) and expression.kind == "counts"
    if not replicated:
        missing = "no counts" if expression.kind != "counts" else "no replicates"
        log.warning("%s: %s; cells are compared as if independent: %s", path, missing, EXPLORATORY)
    found = []
    for context, part in cells.groupby("context", sort=True):
        if not (part["perturbation"] == "").any():
            drops[f"cells of {context!s}, which has no controls"] += len(part)
            continue
        modality = _one_modality(part, design, f"{path}, {context}")
        log.info("%s %s: comparing %d perturbations", path.name, context, part["perturbation"].nunique() - 1)
        effects = (_replicated if replicated else _exploratory)(expression, part, design, drops)
        if effects is not None:
            quality = REPLICATED if replicated else EXPLORATORY
            found.append(Effects(str(context), modality, quality, *effects))
            _say(path, found[-1], design)
    if not found:
        why = "; ".join(f"{count} {what}" for what, count in drops.items())
        raise Error(f"{path}: no perturbation can be compared with controls (left out: {why or 'nothing'})")
    return Result(tuple(found), species, drops)


def _label(expression: Expression, design: Design, drops: Counter[str], known: Known) -> pd.DataFrame:
    """Cells to be used, index: row in the file; columns perturbation ("" is control), replicate, context, modality."""
    given = expression.column(design.perturbation)
    genes = {value: genes_of(value, known, design.separator, design.controls) for value in set(given)}
    others = _other_controls(genes, design)
    count = given.map({value: len(held) for value, held in genes.items()})
    frame = pd.DataFrame(
        {
            "perturbation": given.map({value: "".join(held) for value, held in genes.items()}),
            "replicate": expression.column(design.replicate) if design.replicate else "all",
            "context": expression.column(design.context) if design.context else "",
            "modality": design.modality if design.modality in MODALITIES else expression.column(design.modality),
        }
    ).reset_index(drop=True)
    _refuse_without_controls(genes, others, expression, design)
    _tell(genes, expression.path)
    kept = pd.Series(True, index=frame.index)
    for why, faulty in (
        ("cells without a perturbation", given.map(lambda value: bool(genes[value]) and missing(value)).to_numpy()),
        ("cells of controls that `controls` does not name", given.isin(others).to_numpy()),
        ("cells with several perturbed genes", (count > 1).to_numpy()),
        ("cells without a replicate", (frame["replicate"] == "").to_numpy()),
        ("cells without a context", ((frame["context"] == "") & bool(design.context)).to_numpy()),
    ):
        if (faulty & kept).any():
            drops[why] += int((faulty & kept).sum())
            kept &= ~faulty
    return frame[kept]


def _other_controls(genes: Mapping[str, list[str]], design: Design) -> list[str]:
    """Labels that look like controls where the caller names others: neither those nor genes."""
    if not design.controls:
        return []
    return sorted(value for value, held in genes.items() if not held and value not in design.controls)


def _refuse_without_controls(
    genes: Mapping[str, list[str]], others: Sequence[str], expression: Expression, design: Design
) -> None:
    if any(not held and value not in others for value, held in genes.items()):
        return
    shown = ", ".join(sorted(genes)[:5])
    named = f"is never one of {', '.join(design.controls)}" if design.controls else "has no label that looks like one"
    likely = f"; likely ones are {', '.join(others[:5])}" if others else ""
    raise Error(
        f"{expression.path}: no control cells: {design.perturbation!r} {named} (it is {shown}, ...){likely}; name your "
        "controls in `controls`"
    )


def _tell(genes: Mapping[str, list[str]], path: Path) -> None:
    """What was read of the labels that is not what they say word for word."""
    controls = sorted(value for value, held in genes.items() if not held)
    guides = sorted(value for value, held in genes.items() if len(held) == 1 and held[0] != value)
    log.info("%s: controls: %s", path.name, _first(controls))
    if guides:
        log.info("%s: %d labels are read as their gene, as %s", path.name, len(guides), _first(guides))


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _one_modality(part: pd.DataFrame, design: Design, where: str) -> str:
    named = part["modality"][part["perturbation"] != ""].str.lower()
    known = {ALSO.get(m, m) for m in set(named)}
    if len(known) > 1:
        raise Error(f"{where}: {' and '.join(sorted(known))} are mixed; name in `context` the column that parts them")
    if unknown := known - set(MODALITIES):
        raise Error(f"{where}: modality {unknown.pop()!r} is unknown; choose one of {', '.join(MODALITIES)}")
    return MODALITIES[known.pop()] if known else ""


def _replicated(
    expression: Expression, part: pd.DataFrame, design: Design, drops: Counter[str]
) -> tuple[pd.DataFrame, tuple[float, float] | None] | None:
    """(effects, null) of one context by pseudobulk; None where no perturbation has two replicates."""
    sizes = part.groupby(["perturbation", "replicate"]).size()
    small = sizes < design.least_cells
    drops["perturbation x replicate samples with too few cells"] += int(small.sum())
    samples = sizes[~small].reset_index()[["perturbation", "replicate"]]
    replicates = samples["perturbation"].value_counts()
    if replicates.get("", 0) < 2:
        raise Error(
            f"{expression.path}: the controls have {replicates.get('', 0)} replicates of {design.least_cells} cells; "
            "two are needed: name another `replicate` column, or none for an exploratory comparison"
        )
    lone = set(part["perturbation"]) - set(replicates.index[replicates > 1])
    drops["perturbations without two replicates"] += len(lone)
    samples = samples[~samples["perturbation"].isin(lone)].reset_index(drop=True)
    if not (samples["perturbation"] != "").any():
        return None
    place = {key: i for i, key in enumerate(samples.itertuples(index=False, name=None))}
    group = np.full(len(expression.obs), -1)
    group[part.index] = [place.get(key, -1) for key in zip(part["perturbation"], part["replicate"], strict=True)]
    counts = pseudobulk.sums(expression, group, len(samples))
    tested = counts.mean(axis=0) >= LEAST_COUNTS
    drops["genes with too few counts"] += int((~tested).sum())
    genes = [str(g) for g in expression.genes[tested]]
    table = _stack(pseudobulk.compare(counts[:, tested], samples, genes, design.test))
    return table, _null(expression, part, samples, tested, design)


def _null(
    expression: Expression, part: pd.DataFrame, samples: pd.DataFrame, tested: np.ndarray, design: Design
) -> tuple[float, float] | None:
    """The same test between random halves of the controls: the share of genes called changed is a false-positive
    rate."""
    used = samples["replicate"][samples["perturbation"] == ""]
    control = part[(part["perturbation"] == "") & part["replicate"].isin(used)]
    found = []
    for half in pseudobulk.null_halves(control["replicate"], pseudobulk.is_paired(samples), NULLS):
        keys = pd.DataFrame({"perturbation": np.where(half, "half", ""), "replicate": control["replicate"]})
        null = keys.drop_duplicates().reset_index(drop=True)
        place = {key: i for i, key in enumerate(null.itertuples(index=False, name=None))}
        group = np.full(len(expression.obs), -1)
        group[control.index] = [place[key] for key in keys.itertuples(index=False, name=None)]
        counts = pseudobulk.sums(expression, group, len(null))[:, tested]
        genes = [str(g) for g in expression.genes[tested]]
        found.append(pseudobulk.compare(counts, null, genes, design.test)["half"])
    return _shares(found)


def _exploratory(
    expression: Expression, part: pd.DataFrame, design: Design, drops: Counter[str]
) -> tuple[pd.DataFrame, tuple[float, float] | None] | None:
    """The same, with cells in the place of replicates."""
    sizes = part["perturbation"].value_counts()
    small = sizes.index[sizes < design.least_cells]
    drops["perturbations with too few cells"] += len(small)
    if "" in small:
        raise Error(f"{expression.path}: {sizes['']} control cells; {design.least_cells} are needed (`min_cells`)")
    names = ["", *sorted(set(sizes.index) - {"", *small})]
    if len(names) == 1:
        return None
    place = {name: i for i, name in enumerate(names)}
    group = np.full(len(expression.obs), -1)
    group[part.index] = part["perturbation"].map(place).fillna(-1).astype(int)
    held = pseudobulk.moments(expression, group, len(names))
    tested = held[0].max(axis=0) >= LEAST_LOG
    drops["genes with too few counts"] += int((~tested).sum())
    genes = [str(g) for g in expression.genes[tested]]

    def side(held: tuple[np.ndarray, np.ndarray], cells: np.ndarray, i: int) -> tuple[np.ndarray, np.ndarray, int]:
        return held[0][i][tested], held[1][i][tested], int((cells == i).sum())

    control = side(held, group, 0)
    tables = {name: pseudobulk.cell_test(side(held, group, i), control, genes) for name, i in place.items() if i}
    rows, nulls = np.flatnonzero(group == 0), []
    for half in pseudobulk.null_halves(pd.Series("all", index=rows), True, NULLS):
        halved = np.full(len(group), -1)
        halved[rows] = half
        held = pseudobulk.moments(expression, halved, 2)
        nulls.append(pseudobulk.cell_test(side(held, halved, 1), side(held, halved, 0), genes))
    return _stack(tables), _shares(nulls)


def _stack(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    parts = [table.reset_index().assign(perturbation=name) for name, table in sorted(tables.items())]
    return pd.concat(parts, ignore_index=True)


def _shares(nulls: Sequence[pd.DataFrame]) -> tuple[float, float] | None:
    if not nulls:
        return None
    both = pd.concat(nulls)
    return float((both["q"] <= 0.05).mean()), float((both["p"] <= 0.05).mean())


def _say(path: Path, effects: Effects, design: Design) -> None:
    if effects.null is None:
        null = "too few control replicates for a false-positive rate"
    else:
        null = f"control against control: {effects.null[0]:.2%} of genes at q <= .05, {effects.null[1]:.2%} at p <= .05"
    test = design.test if effects.quality == REPLICATED else "Welch's t over cells"
    log.warning("%s %s (%s, %s): %s", path.name, effects.context, effects.quality, test, null)
