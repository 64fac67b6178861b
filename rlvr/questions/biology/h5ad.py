"""Reads a single-cell matrix (.h5ad) a few hundred cells at a time, and says whether it holds counts.

    cells = h5ad.read(Path("mine.h5ad"))
    for rows, values in cells.chunks(): ...

Only the tables of cells and genes are held in memory. Of the places where a file may keep its matrix (SLOTS), the first
with counts is taken, else the first with logarithms: scaled values say nothing of how much a gene is expressed. Genes
are named by their symbols: where `var_names` are Ensembl ids and a column of `var` holds symbols, these are taken.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import anndata
import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem, sparse_dataset
from numpy.typing import NDArray
from scipy.sparse import csr_array

from rlvr.knowledge.symbols import ENSEMBL, GENOME, missing
from rlvr.types import Error, suggest

log = logging.getLogger(__name__)

Species = Literal["human", "mouse"]
CHUNK = 512  # cells
# The matrix, and the table of its genes; with a point where anndata before 0.7 wrote the file.
SLOTS = {"layers/counts": "var", "layers/raw_counts": "var", "layers/raw": "var", "X": "var"}
SLOTS |= {"raw/X": "raw/var", "raw.X": "raw.var"}
LOG_MOST = 20.0  # no logarithm of a count, or of one of ten thousand, is above: e^20 is half a billion
_HUMAN = re.compile(r"[A-Z][A-Z0-9]{2,}|ENSG\d{11}(\.\d+)?")
_MOUSE = re.compile(r"[A-Z][a-z0-9]{2,}|ENSMUSG\d{11}(\.\d+)?")
# Columns of var that hold symbols beside Ensembl ids, as 10x, scanpy, CELLxGENE and Seurat's converters name them.
SYMBOLS = ["gene_symbols", "gene_symbol", "gene_name", "gene_names", "feature_name", "gene_short_name"]
SYMBOLS += ["symbol", "symbols", "hgnc_symbol", "gene"]


@dataclass(frozen=True)
class Expression:
    """A checked file. obs: one row per cell, unique names. genes: unique names. kind: "counts" are whole numbers,
    "log" is anything else without negative values. slot: where in the file the matrix stands."""

    path: Path
    obs: pd.DataFrame
    genes: NDArray[np.str_]
    kind: Literal["counts", "log"]
    slot: str

    def chunks(self) -> Iterator[tuple[slice, csr_array]]:
        """(cells, their values [cells, genes]) in the file's order."""
        with h5py.File(self.path, "r") as file:
            yield from _chunks(file[self.slot])

    def column(self, name: str) -> pd.Series[Any]:
        """A column of `obs` as text, missing values as ""."""
        if name not in self.obs.columns:
            columns = [str(c) for c in self.obs.columns]
            raise Error(f"{self.path}: obs has no column {name!r}{suggest(name, columns)}; it has {', '.join(columns)}")
        values = self.obs[name].astype(object)
        return values.where(values.notna(), "").astype(str).str.strip()

    def species(self) -> Species:
        """By the spelling of the genes. Errors: a mixture, or neither."""
        names = [str(g) for g in self.genes]
        human, mouse = (sum(bool(p.fullmatch(g)) for g in names) for p in (_HUMAN, _MOUSE))
        genomes = sorted({found.group(1) for g in names if (found := GENOME.match(g))})
        if len(genomes) > 1 or min(human, mouse) > 0.1 * max(human, mouse):
            what = " and ".join(genomes) if len(genomes) > 1 else f"{human} human and {mouse} mouse symbols"
            raise Error(f"{self.path}: mixed species ({what}); keep the cells and genes of one")
        if max(human, mouse) < 0.1 * len(names):
            raise Error(
                f"{self.path}: genes such as {names[0]!r} are no human or mouse symbols; use symbols as var_names"
            )
        return "human" if human > mouse else "mouse"


def require(path: Path) -> None:
    """Errors: no such file, one that is compressed, none that HDF5 opens."""
    if not path.is_file():
        raise Error(f"{path} is not there; name an .h5ad file")
    with path.open("rb") as raw:
        if raw.read(2) == b"\x1f\x8b":
            raise Error(f"{path} is compressed by gzip, and no row can be read alone; unpack it: gunzip {path.name}")
    try:
        h5py.File(path, "r").close()
    except OSError as error:
        raise Error(f"{path} is no .h5ad file: {error}") from error


def read(path: Path, layer: str = "") -> Expression:
    """Open and check a file. layer: "X", "raw" or one of the layers; "": the best there is.

    Errors: not there, no .h5ad, no such layer, repeated names, missing values, no unscaled matrix."""
    require(path)
    with h5py.File(path, "r") as file:
        if not {"obs", "var"} <= set(file):
            raise Error(f"{path} has no obs and var; write it with anndata")
        slot, kind = _choose(file, path, layer)
        obs, var = _tables(file, path, SLOTS.get(slot, "var"))
    for names, what in ((obs.index, "cell"), (var.index, "gene")):
        if names.has_duplicates:
            twice = names[names.duplicated()]
            call = "obs" if what == "cell" else "var"
            raise Error(
                f"{path}: {what} name {twice[0]!r} is there twice ({len(twice)} such); {call}_names_make_unique()"
            )
    if slot != "X":
        log.info("%s: values are taken from %s", path.name, slot)
    return Expression(path, obs, np.array(_symbols(var, path), dtype=str), kind, slot)


def _symbols(var: pd.DataFrame, path: Path) -> list[str]:
    """The names of the genes: symbols, where a column holds them beside Ensembl ids. A gene without one, or whose
    symbol another gene of the file has too, keeps its id: adding up two genes, or choosing one, is not for a reader."""
    ids = [str(name) for name in var.index]
    if sum(bool(ENSEMBL.fullmatch(name)) for name in ids) < 0.5 * len(ids):
        return ids
    columns = {str(column).casefold(): column for column in var.columns}
    found = next((columns[name] for name in SYMBOLS if name in columns), None)
    if found is None:
        log.info("%s: var_names are Ensembl ids, and no column of var is one of %s", path.name, ", ".join(SYMBOLS))
        return ids
    given = ["" if pd.isna(value) or missing(str(value)) else str(value).strip() for value in var[found]]
    times = Counter(given)
    names = [id if not name or times[name] > 1 else name for id, name in zip(ids, given, strict=True)]
    kept = sum(name == id for name, id in zip(names, ids, strict=True))
    log.info("%s: genes by var[%r]; %d without a symbol of their own keep their ids", path.name, found, kept)
    return names


def _choose(file: h5py.File, path: Path, layer: str) -> tuple[str, Literal["counts", "log"]]:
    """The slot with the best values, and what they are."""
    slots = _slots(file, path, layer)
    found = {slot: _kind(file[slot]) for slot in slots}
    kinds: tuple[Literal["counts", "log"], ...] = ("counts", "log")
    for wanted in kinds:
        for slot, kind in found.items():
            if kind == wanted:
                return slot, wanted
    slot = next(iter(found))
    also = f", and {' and '.join(list(found)[1:])} no better" if len(found) > 1 else ""
    raise Error(f"{path}: {slot} holds {found[slot]}{also}; put counts into X or layers['counts'], or name a `layer`")


def _slots(file: h5py.File, path: Path, layer: str) -> list[str]:
    """Where to look for the matrix: where the caller says, else wherever files keep it."""
    held = list(file.get("layers", ()))
    if layer:
        wanted = [slot for slot in (f"layers/{layer}", layer, f"{layer}/X", f"{layer}.X") if slot in file]
        if not wanted or layer in ("obs", "var"):
            raise Error(f"{path} has no layer {layer!r}{suggest(layer, held)}; it has {', '.join(['X', *held])}")
        return wanted[:1]
    present = [slot for slot in SLOTS if slot in file and not _empty(file[slot])]
    if not present:
        raise Error(f"{path}: X is empty, and it has no counts in layers or raw; name a `layer` of {', '.join(held)}")
    return present


def _empty(matrix: Any) -> bool:
    """Whether anndata wrote None here."""
    return isinstance(matrix, h5py.Dataset) and matrix.shape in (None, ())


def _kind(matrix: Any) -> str:
    """What the values are: counts, log, or what is wrong with them."""
    whole, negative, most = True, False, 0.0
    for _, chunk in _chunks(matrix):
        values = chunk.data
        if not np.isfinite(values).all():
            return "missing or infinite values"
        negative |= bool((values < 0).any())
        whole &= bool((values == np.rint(values)).all())
        most = max(most, float(values.max(initial=0.0)))
        if negative and not whole:
            return "scaled values (negative ones)"
    if negative:
        return "negative counts"
    if not whole and most > LOG_MOST:
        return f"values up to {most:g}, which are neither whole counts nor logarithms (round counts, or take log1p)"
    return "counts" if whole else "log"


def _chunks(matrix: Any) -> Iterator[tuple[slice, csr_array]]:
    held: Any = sparse_dataset(matrix) if isinstance(matrix, h5py.Group) else matrix
    if isinstance(matrix, h5py.Group) and held.format == "csc":
        held = held.to_memory().tocsr()  # stored by gene: no row can be read alone
    for start in range(0, held.shape[0], CHUNK):
        rows = slice(start, min(start + CHUNK, held.shape[0]))
        chunk = held[rows]
        yield rows, csr_array(chunk.astype(np.float32) if chunk.dtype == np.float16 else chunk)  # scipy has no float16


def _tables(file: h5py.File, path: Path, genes: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """obs, and the table of genes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # anndata warns of every part that an old version wrote
        if isinstance(file["obs"], h5py.Group):
            return read_elem(file["obs"]), read_elem(file[genes])
        old = anndata.read_h5ad(path, backed="r")  # before 0.7: only anndata knows how
    try:
        return old.obs, old.var if genes == "var" else old.raw.var
    finally:
        old.file.close()
