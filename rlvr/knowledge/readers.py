"""Readers of what is said of genes: symbols, annotation, TF-target edges, markers, orthologs, motifs.

Each gives Claims with the symbols of its file; assemble.py brings the symbols up to date.
"""

from __future__ import annotations

import gzip
import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pandas as pd

from rlvr import tables
from rlvr.types import Error

COMPLEXES = frozenset({"AP1", "NFKB"})  # CollecTRI's names of complexes: no genes, whatever an alias says
ASPECTS = {"F": "enables", "P": "involved_in", "C": "part_of"}  # a GAF row without a relation means this one
MODES = {"Activation": "activates", "Repression": "represses", "Unknown": "regulates"}
SPECIES = {"Mm": "mouse", "Hs": "human"}


class Claim(NamedTuple):
    """One row of a source. day: YYYYMMDD or "". species: of the subject. accession: UniProt's, of the protein that
    was annotated."""

    subject: str
    relation: str
    object: str
    code: str = ""
    reference: str = ""
    negated: bool = False
    day: str = ""
    species: str = "human"
    accession: str = ""


class Matrix(NamedTuple):
    """A JASPAR matrix. tf: the factor as JASPAR names it, "" for what stands for no single vertebrate factor.
    counts: letter -> count at each position, as JSON."""

    id: str
    name: str
    tf: str
    human: bool
    code: str
    reference: str
    counts: str


def read_table(path: Path, columns: tuple[str, ...], sep: str = "\t") -> pd.DataFrame:
    """Text columns of a table; nothing is taken for a missing value. Errors: a column is not there."""
    try:
        table = pd.read_csv(path, sep=sep, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, OSError) as error:
        raise Error(f"{path}: cannot be read as a table ({_line(error)}); check what was downloaded") from error
    tables.require(table, columns, str(path))
    return table


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _columns(path: Path, columns: tuple[str, ...], sep: str = "\t") -> Iterator[tuple[str, ...]]:
    yield from read_table(path, columns, sep)[list(columns)].itertuples(index=False, name=None)


class Symbols(NamedTuple):
    """HGNC's genes. names: (name, rank, approved symbol), rank 0 approved, 1 previous, 2 alias. ensembl: Ensembl id ->
    approved symbol. accessions: (UniProt accession, approved symbol); several genes may share one."""

    names: list[tuple[str, int, str]]
    ensembl: dict[str, str]
    accessions: list[tuple[str, str]]


def read_symbols(path: Path) -> Symbols:
    """HGNC's complete set; without Ensembl ids or accessions if the file lacks the column."""
    table = read_table(path, ("symbol", "prev_symbol", "alias_symbol"))
    rows = [(symbol, 0, symbol) for symbol in table["symbol"]]
    for rank, column in ((1, "prev_symbol"), (2, "alias_symbol")):
        for symbol, named in zip(table["symbol"], table[column], strict=True):
            rows += [(name, rank, symbol) for name in dict.fromkeys(named.split("|")) if name]
    ensembl, proteins = (table.get(column, pd.Series(dtype=str)) for column in ("ensembl_gene_id", "uniprot_ids"))
    return Symbols(
        rows,
        {id: symbol for id, symbol in zip(ensembl, table["symbol"], strict=False) if id},
        [(id, s) for ids, s in zip(proteins, table["symbol"], strict=False) for id in ids.split("|") if id],
    )


def read_orthologs(path: Path) -> Iterator[tuple[str, Claim]]:
    """(Ensembl id, human gene ortholog_of mouse gene) of BioMart's table, with commas or, in a .tsv, tabs. code: the
    homology type, and BioMart's confidence."""
    level = "Mouse orthology confidence [0 low, 1 high]"
    columns = ("Gene stable ID", "Gene name", "Mouse gene name", "Mouse homology type", level)
    for id, human, mouse, kind, high in _columns(path, columns, "\t" if path.suffix == ".tsv" else ","):
        if mouse:
            yield id, Claim(human, "ortholog_of", mouse, kind + ("" if high == "1" else ", low confidence"))


def read_annotation(path: Path) -> Iterator[Claim]:
    """Each line of a GAF file (plain or gzipped), by way of Biopython; ND (no data) is no annotation."""
    from Bio.UniProt.GOA import gafiterator

    packed = path.suffix == ".gz"
    try:
        with gzip.open(path, "rt", encoding="utf-8") if packed else path.open(encoding="utf-8") as lines:
            for row in gafiterator(lines):
                if row["Evidence"] == "ND":
                    continue
                said = [q for q in row["Qualifier"] if q]
                relation = next((q for q in said if q != "NOT"), ASPECTS[row["Aspect"]])
                reference = "|".join(row["DB:Reference"])
                yield Claim(
                    row["DB_Object_Symbol"],
                    relation,
                    row["GO_ID"],
                    row["Evidence"],
                    reference,
                    "NOT" in said,
                    row["Date"],
                    accession=row["DB_Object_ID"] if row["DB"] == "UniProtKB" else "",
                )
    except (ValueError, KeyError, IndexError, OSError) as error:
        raise Error(f"{path}: this is no GAF file ({_line(error)}); check what was downloaded") from error


def read_trrust(path: Path) -> Iterator[Claim]:
    """TRRUST: factor, target, mode, PMIDs; one claim for each paper."""
    for tf, target, mode, papers in _columns(path, ("TF", "Target", "Regulation", "Reference")):
        if mode not in MODES:
            raise Error(f"{path}: mode {mode!r} of {tf} and {target} is none of {', '.join(MODES)}")
        for paper in papers.split(";"):
            yield Claim(tf, MODES[mode], target, "curated", f"PMID:{paper.strip()}")


def read_collectri(path: Path) -> Iterator[Claim]:
    """CollecTRI: factor, target, weight. The table does not say which positives are defaults, so all bear the
    code "default"."""
    for tf, target, weight in _columns(path, ("source", "target", "weight"), ","):
        positive = float(weight) > 0
        yield Claim(tf, "activates" if positive else "represses", target, "default" if positive else "curated")


def read_panglaodb(path: Path) -> Iterator[Claim]:
    """PanglaoDB's markers, once for each species that it names; its symbols are human ones throughout."""
    columns = ("species", "official gene symbol", "cell type", "canonical marker")
    for species, symbol, cell, canonical in _columns(path, columns):
        for named in species.split():
            if named in SPECIES:
                code = "canonical" if canonical == "1" else "reported"
                yield Claim(symbol, "marks", cell, code, species=SPECIES[named])


def read_cellmarker(path: Path) -> Iterator[tuple[str, Claim]]:
    """(Cell Ontology id or "", claim) of CellMarker's normal cells; the object is the cell's name."""
    columns = ("species", "cell_type", "cell_name", "cellontology_id", "marker", "Symbol", "marker_source", "PMID")
    for species, kind, name, cell, marker, symbol, origin, paper in _columns(path, columns, ","):
        if kind == "Normal cell":
            reference = f"PMID:{paper}" if paper else ""
            claim = Claim(symbol or marker, "marks", name, origin, reference, species=species.lower())
            yield cell.replace("_", ":"), claim


def read_motifs(path: Path) -> Iterator[Matrix]:
    """JASPAR's CORE matrices. Of each profile the last version stands for its factor, if it is a single
    vertebrate one."""
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
    try:
        core = connection.execute(
            "SELECT ID, BASE_ID, VERSION, NAME FROM MATRIX WHERE COLLECTION = 'CORE' ORDER BY BASE_ID, VERSION"
        ).fetchall()
        counts: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for id, letter, value in connection.execute("SELECT ID, row, val FROM MATRIX_DATA ORDER BY ID, row, col"):
            counts[id][letter].append(value)
        tags: dict[int, dict[str, str]] = defaultdict(dict)
        for id, tag, value in connection.execute("SELECT ID, TAG, VAL FROM MATRIX_ANNOTATION ORDER BY LOCAL_ID"):
            tags[id].setdefault(tag, value)
        human = {id for (id,) in connection.execute("SELECT ID FROM MATRIX_SPECIES WHERE TAX_ID = '9606'")}
    except sqlite3.Error as error:
        raise Error(f"{path}: this is no JASPAR database ({error}); check what was downloaded") from error
    finally:
        connection.close()
    last = {base: version for _, base, version, _ in core}
    for id, base, version, name in core:
        single = "::" not in name and tags[id].get("tax_group") == "vertebrates" and version == last[base]
        paper = tags[id].get("medline", "")
        yield Matrix(
            f"{base}.{version}",
            name,
            name if single else "",
            id in human,
            tags[id].get("type", ""),
            f"PMID:{paper}" if paper.isdigit() else "",
            json.dumps(counts[id]),
        )
