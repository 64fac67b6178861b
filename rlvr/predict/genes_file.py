"""The genes that are asked about: read from a CSV, and each traced to a current symbol and a measured readout.

perturbation,readout          or: gene           or: one symbol a line, without a header
ZAP70,IL-2                        ZAP70              ZAP70
"""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import pandas as pd

from rlvr.predict.measured import Context
from rlvr.types import Error

log = logging.getLogger(__name__)
NAMES = ("perturbation", "gene")
LONGEST = 200  # characters of a name: what is longer is no symbol, and the file no list of genes


def read(path: Path, readout: str | None, context: Context) -> pd.DataFrame:
    """One row per pair: perturbation, readout, as they are written; gene, target, as they are looked up; reason, why
    nothing can be said ("": something may be). A pair that comes again is left out, and that is logged.

    readout: of the rows that name none. Errors: not a CSV, no genes, columns that mean nothing, no readout.
    """
    lines = _lines(path)
    columns = [name.strip().lower() for name in lines[0][1]]
    own = [name for name in NAMES if name in columns]
    if len(own) == 2:
        raise Error(f"{path}: columns 'perturbation' and 'gene': keep one for the genes; readouts go into 'readout'")
    if own and len(set(columns)) < len(columns):
        raise Error(f"{path}: a column comes twice in {', '.join(columns)}; name each once")
    if not own:
        start = lines[0][1][0].strip()
        # A gene, a gene of several, or what a spreadsheet made of one: a list without a header.
        if len(columns) > 1 or (start not in context.perturbations and context.base.gene(start).status == "unknown"):
            raise Error(f"{path}: no column 'perturbation' or 'gene' in {', '.join(columns)[:LONGEST]!r}; name it so")
        log.info("%s: no header; its one column is read as genes", path)
        columns, own = ["gene"], ["gene"]
        lines = [(0, columns), *lines]
    if len(lines) == 1:
        raise Error(f"{path}: no genes below the header; write at least one")
    only = sorted(set(context.readouts.values()))
    readout = readout or (only[0] if len(only) == 1 else None)
    rows = []
    for number, cells in lines[1:]:
        if len(cells) != len(columns):
            raise Error(f"{path}: line {number} has {len(cells)} cells, the header {len(columns)}; quote the commas")
        row = {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}
        name, target = row[own[0]], row.get("readout") or readout
        if not name or max(map(len, row.values())) > LONGEST:
            raise Error(f"{path}: line {number}: {'no gene' if not name else 'a cell is too long for a name'}; mend it")
        if not target:
            raise Error(f"{path}: line {number}: no readout; add a column 'readout', or give --readout")
        rows.append((name, target, *_traced(name, target, context)))
    found = pd.DataFrame(rows, columns=["perturbation", "readout", "gene", "target", "reason"])
    again = found.duplicated(["gene", "target"])
    if again.any():
        twice = ", ".join(f"{row.perturbation} ({row.readout})" for row in found[again].itertuples())
        log.warning("%s: %d pairs come again, by the same or another symbol: left out: %s", path, again.sum(), twice)
    return found[~again].reset_index(drop=True)


def _traced(name: str, readout: str, context: Context) -> tuple[str, str, str]:
    """gene, target, reason."""
    gene, target = context.base.read(name), _target(readout, context)
    held = context.perturbations.get(name) or context.perturbations.get(gene.symbol or "")
    symbol = held or gene.symbol
    if symbol is None:
        meant = f", {' or '.join(gene.candidates)}" if gene.candidates else ""
        why = {
            "ambiguous": "symbol of several genes",
            "date": "a date that a spreadsheet made of a gene",
            "missing": "a word for no gene",
        }
        return name, target or readout, why.get(gene.status, "symbol unknown") + meant
    if target is None:
        return symbol, readout, f"readout not measured in {context.name}"
    if context.base.current(symbol) == context.base.current(target):
        return symbol, target, "the readout is the perturbed gene itself"
    return symbol, target, ""


def _target(readout: str, context: Context) -> str | None:
    return context.readouts.get(readout) or context.readouts.get(context.base.current(readout))


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """(number, cells) of every line that is not blank."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except FileNotFoundError:
        raise Error(f"{path}: no such file; give a CSV of genes") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Error(f"{path}: cannot be read as CSV: {error}; save it as UTF-8 with commas") from error
    if not lines:
        raise Error(f"{path}: is empty; write one gene a line")
    return lines
