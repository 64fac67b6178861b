"""Gene-level tables of CRISPR screens as their programs write them: one-sided p values of enrichment and depletion.

    table = read(Path("mine.gene_summary.txt"))      # index: genes as written; p_up and p_down, or one of them

Read: MAGeCK RRA (Li 2014, doi:10.1186/s13059-014-0554-4) and MLE (Li 2015, doi:10.1186/s13059-015-0843-6), drugZ (Colic
2019, doi:10.1186/s13073-019-0665-3), BAGEL2 (Kim 2021, doi:10.1186/s13073-021-00809-3), and any table whose columns are
named: one-sided p values (`up`, `down`), or a two-sided p and a column whose sign says which way (`p`, `effect`). Up is
enrichment in what the table compares with its control.

A Bayes factor of BAGEL is for depletion alone; 1 / (1 + 2^BF), the probability at even odds that the gene does nothing,
stands in the place of a p value. A local false discovery rate (CRISPhieRmix) does not say which way: name that.
"""

from __future__ import annotations

import csv
import gzip
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm

from rlvr.types import Error, suggest

GENES = ("id", "gene", "genes", "gene_id", "gene_symbol", "genesymbol", "symbol", "hgnc_symbol", "target", "name")
EFFECTS = ("log2foldchange", "log2fc", "logfc", "lfc", "beta", "effect", "z", "zscore", "z_score", "normz", "score")
TWO_SIDED = ("pvalue", "p-value", "p_value", "pval", "p.value", "p", "wald-p-value")


@dataclass(frozen=True)
class Columns:
    """What the caller says of a table; "" is for the reader to find. gene: the symbols. up, down: one-sided p values.
    p, effect: a two-sided p, and what has the sign. condition: of a MAGeCK MLE table of several."""

    gene: str = ""
    up: str = ""
    down: str = ""
    p: str = ""
    effect: str = ""
    condition: str = ""


def read(path: Path, columns: Columns = Columns()) -> pd.DataFrame:
    """index: genes as written, stripped; columns p_up and p_down, or one of them. Rows without numbers have nan.

    Errors: no such file, no table, columns that are not there or not recognised, p values outside [0, 1].
    """
    frame = _frame(path)
    lower = {str(column).strip().lower(): str(column) for column in frame.columns}
    _refuse_missing(frame, columns, path)
    gene = columns.gene or next((lower[name] for name in GENES if name in lower), "")
    if not gene:
        raise Error(f"{path}: no column of genes among {_shown(frame)}; name it in `gene`")
    found = _declared(frame, columns, path) or _recognised(frame, lower, columns, path)
    table = pd.DataFrame(found).set_axis(frame[gene].fillna("").astype(str).str.strip())
    if table.notna().sum().min() == 0:
        raise Error(f"{path}: no row has a number in every column that is needed")
    return table


def _frame(path: Path) -> pd.DataFrame:
    """A table with tabs, commas or semicolons, plain or gzipped, with or without a byte order mark."""
    if not path.is_file():
        raise Error(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}; name a screen's gene-level table")
    raw = path.read_bytes()
    try:
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise Error(f"{path}: is no text: {error}; save it as UTF-8 with tabs or commas") from error
    first = text.partition("\n")[0]
    mark = max("\t,;", key=first.count)
    if not first.count(mark):
        raise Error(f"{path}: its first line has one column ({first[:60]!r}); give a table with a header")
    decimal = "," if mark == ";" else "."
    try:
        frame = pd.read_csv(
            io.StringIO(text), sep=mark, decimal=decimal, keep_default_na=False, na_values=["", "NA", "NaN", "nan"],
            dtype={name: str for name in next(csv.reader([first], delimiter=mark)) if name.strip().lower() in GENES},
        )  # fmt: skip
    except (ValueError, pd.errors.ParserError) as error:
        raise Error(f"{path}: cannot be read as a table: {' '.join(str(error).split())}") from error
    if frame.empty:
        raise Error(f"{path}: no rows below the header")
    return frame


def _refuse_missing(frame: pd.DataFrame, columns: Columns, path: Path) -> None:
    held = [str(column) for column in frame.columns]
    for option in ("gene", "up", "down", "p", "effect"):
        name = getattr(columns, option)
        if name and name not in held:
            raise Error(f"{path}: no column {name!r} (`{option}`){suggest(name, held)}; it has {_shown(frame)}")
    if (columns.up or columns.down) and (columns.p or columns.effect):
        raise Error(f"{path}: give `up` and `down` (one-sided), or `p` and `effect` (two-sided and its sign), not both")
    if bool(columns.p) != bool(columns.effect):
        raise Error(f"{path}: `p` and `effect` go together: a two-sided p does not say which way")


def _declared(frame: pd.DataFrame, columns: Columns, path: Path) -> dict[str, pd.Series[float]]:
    if columns.p:
        return _halved(_shares(frame, columns.p, path), _numbers(frame, columns.effect, path))
    ways = {"p_up": columns.up, "p_down": columns.down}
    return {way: _shares(frame, name, path) for way, name in ways.items() if name}


def _recognised(
    frame: pd.DataFrame, lower: dict[str, str], columns: Columns, path: Path
) -> dict[str, pd.Series[float]]:
    for up, down in (("pos|p-value", "neg|p-value"), ("pval_supp", "pval_synth")):  # MAGeCK RRA, drugZ
        ways = {
            way: _shares(frame, lower[name], path) for way, name in (("p_up", up), ("p_down", down)) if name in lower
        }
        if ways:
            return ways
    conditions = [name.removesuffix("|z") for name in map(str, frame.columns) if name.endswith("|z")]
    if conditions:  # MAGeCK MLE: Wald z of beta
        if columns.condition and columns.condition not in conditions:
            near = suggest(columns.condition, conditions)
            raise Error(f"{path}: no condition {columns.condition!r}{near}; it has {', '.join(conditions)}")
        if len(conditions) > 1 and not columns.condition:
            raise Error(f"{path}: several conditions, {', '.join(conditions)}; name one in `condition`")
        z = _numbers(frame, f"{columns.condition or conditions[0]}|z", path)
        return {"p_up": pd.Series(norm.sf(z)), "p_down": pd.Series(norm.sf(-z))}
    if "bf" in lower:
        factor = _numbers(frame, lower["bf"], path)
        return {"p_down": 1.0 / (1.0 + 2.0 ** factor.clip(-500, 500))}
    if "locfdr" in lower:
        raise Error(
            f"{path}: a local false discovery rate (CRISPhieRmix) says that a gene does something and not which way; "
            "name one-sided p values in `up` and `down`, or `p` and `effect`"
        )
    p = next((lower[name] for name in TWO_SIDED if name in lower), "")
    effect = next((lower[name] for name in EFFECTS if name in lower), "")
    if p and effect:
        return _halved(_shares(frame, p, path), _numbers(frame, effect, path))
    raise Error(
        f"{path}: its columns are those of no known program ({_shown(frame)}); name one-sided p values in `up` and "
        "`down`, or a two-sided one in `p` and what has the sign in `effect`"
    )


def _halved(p: pd.Series[float], effect: pd.Series[float]) -> dict[str, pd.Series[float]]:
    """One-sided from two-sided, by the sign of the effect; without a number where either has none."""
    up = pd.Series(np.select([effect > 0, effect < 0], [p / 2, 1 - p / 2], default=0.5), index=p.index)
    known = p.notna() & effect.notna()
    return {"p_up": up.where(known), "p_down": (1 - up).where(known)}


def _numbers(frame: pd.DataFrame, name: str, path: Path) -> pd.Series[float]:
    found = pd.to_numeric(frame[name], errors="coerce")
    strange = frame[name][found.isna() & frame[name].notna()]
    if len(strange) > 0.5 * len(frame):
        raise Error(f"{path}: column {name!r} holds no numbers, such as {strange.iloc[0]!r}")
    return found.astype(float)


def _shares(frame: pd.DataFrame, name: str, path: Path) -> pd.Series[float]:
    found = _numbers(frame, name, path)
    outside = found.notna() & ~found.between(0, 1)
    if outside.any():
        raise Error(f"{path}: column {name!r} has {int(outside.sum())} values outside [0, 1]: it holds no p values")
    return found


def _shown(frame: pd.DataFrame) -> str:
    names = [str(column) for column in frame.columns]
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
