"""From what virtual-cell models export to the table that `Predictions` reads.

    rlvr oracle calibrate EXPORT SOURCE --task effect --values effect --out DIR      reads any of these forms

Forms, told apart by what the file holds:

- a long table (.csv, .tsv, either gzipped, .parquet): context, perturbation, readout, and one column of values;
- a matrix (the same files): a column of perturbations, then a column for each readout gene;
- .h5ad: obs has the perturbations, var_names are the readout genes, values in X, in a layer, or in an obsm whose genes
  uns names (State's `KEY_var_names`); several cells of one perturbation are averaged;
- the table of gene shifts that Geneformer's InSilicoPerturberStats writes (mode aggregate_gene_shifts): its value is 1
  less the cosine, how far the readout moved; it has no sign, so it is of effects only.

Perturbations stand under one of PERTURBED or `gene` (in obs, or beside a readout), readouts under one of READOUTS, and
"LAT+ctrl" is LAT. Where some are a control (in any spelling that `labels.is_control` knows), values are expression, and
the control of the same context is taken off them. A file without `context` needs the caller's. Who writes what:

    GEARS, scGPT, scFoundation   predict(): perturbation -> expression; as a matrix with a row `ctrl`
    State                        tx infer: .h5ad of cells, with its controls; with --embed-key X are the cells given to
                                 it, and the predictions lie in obsm
    Geneformer                   the table of gene shifts
    TranscriptFormer             gene vectors, for `rlvr oracle fit --kind mlp --embeddings`; else a long table
    Evo2, Enformer, Borzoi       a long table: gene, readout, and the change in log expression that they predict

Values are probabilities in [0, 1], logits, or log fold changes; which of them is for the caller to say, as a column of
numbers does not tell. A fold change is no probability: it is squashed by its own spread to keep the order, and must be
calibrated before it rewards anything.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rlvr.oracle.base import KEY
from rlvr.questions.biology.labels import is_control
from rlvr.types import Error

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]
Values = Literal["probability", "logit", "effect", "direction"]
"""effect: a fold change whose size says how surely there is one; direction: one whose sign says up."""

PERTURBED = ("perturbation", "condition", "target_gene", "pert", "perturbed_gene", "target")  # in any case
READOUTS = ("readout", "feature", "affected_gene", "response_gene")
# Columns of numbers that describe cells or tests, and are no readouts of a matrix.
ABOUT = """
    total_umis total_counts n_counts ncount_rna n_umi umi_count umis n_genes n_genes_by_counts nfeature_rna n_cells
    cell_count num_cells ncells pct_counts_mt percent_mt pct_mt size_factor guide_count n_guides replicate batch index
    unnamed: 0 pval pvalue p_value padj p_adj fdr qvalue
"""
SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz", ".parquet", ".h5ad")
CELLS = ("cell_type", "celltype", "cell_line")  # of several, one context would be the mean
ALONE = r"\+(?:ctrl|control)$|^(?:ctrl|control)\+"  # GEARS names a single perturbation beside its control
INDEX = "Unnamed: 0"  # what pandas calls an index that it wrote itself
MELTED = "value of the pair"  # no gene is called so
SHIFTS = {"Gene_name": "perturbation", "Affected_gene_name": "readout", "Cosine_sim_mean": "shift"}


def read(path: Path, values: Values, context: str | None = None, layer: str | None = None) -> pd.DataFrame:
    """context, perturbation, readout, p: one row per pair. Missing values are left out: no prediction.

    context: for files that have none. layer: of an .h5ad file, "X", a layer or a key of obsm. Errors: no such file or
    form, a pair that comes twice in a table, a row without a name, values that are no numbers, infinite, or outside
    [0, 1] and called probabilities, a control beside probabilities, or missing from one of several contexts.
    """
    where = f"predictions {path}"
    if not path.is_file():
        raise Error(f"{where}: no such file; give a .csv, .tsv, .parquet or .h5ad")
    if not path.name.lower().endswith(SUFFIXES):
        raise Error(f"{where}: is none of {', '.join(SUFFIXES)}; write it as one of these")
    frame = _h5ad(path, layer, where) if path.suffix == ".h5ad" else _table(path, values, where)
    if "context" not in frame.columns:
        if context is None:
            raise Error(f"{where}: names no context; say which cells it is of")
        frame["context"] = context
    keys = ["context", "perturbation"]
    long = frame if "readout" in frame.columns else frame.melt(keys, var_name="readout", value_name=MELTED)
    rest = [column for column in long.columns if column not in (*KEY, "lift")]  # a table of `rlvr oracle fit` has it
    if len(rest) != 1:
        raise Error(
            f"{where}: beside {', '.join(KEY)} it has {', '.join(rest) or 'nothing'}; keep one column of values"
        )
    long = long.rename(columns={rest[0]: "value"}).astype(dict.fromkeys(KEY, str))
    number = pd.to_numeric(long["value"], errors="coerce")
    strange = long[number.isna() & long["value"].notna()]
    if len(strange):
        first = strange.iloc[0]
        raise Error(f"{where}: {first['value']!r} ({first['readout']}) is no number, {len(strange)} such; mend them")
    long = long.assign(value=number)[number.notna()].reset_index(drop=True)
    twice = long.duplicated(list(KEY))
    if twice.any():
        row = long[twice].iloc[0]
        raise Error(f"{where}: {', '.join(row[list(KEY)])} comes twice, {int(twice.sum())} such; keep one")
    long = _less_control(long, values, where)
    if long.empty:
        raise Error(f"{where}: no values; write at least one prediction")
    long["p"] = _probabilities(long.pop("value").to_numpy(dtype=np.float64), values, where)
    return long[[*KEY, "p"]]


def _less_control(long: pd.DataFrame, values: Values, where: str) -> pd.DataFrame:
    control = long["perturbation"].map({name: is_control(name) for name in long["perturbation"].unique()})
    if not control.any():
        if values == "direction" and len(long) and long["value"].min() >= 0:
            raise Error(
                f"{where}: no value is below 0 and no row is a control: this is expression, or sizes without a sign; "
                "write the control's row too (perturbation `ctrl`), or log fold changes"
            )
        return long
    if values not in ("effect", "direction"):
        name = long.loc[control, "perturbation"].iloc[0]
        raise Error(f"{where}: {name!r} is a control, which no {values} is of; is this expression (--values effect)?")
    base = long[control].groupby(["context", "readout"])["value"].mean()
    rest = long[~control].reset_index(drop=True)
    less = base.reindex(pd.MultiIndex.from_frame(rest[["context", "readout"]])).to_numpy()
    if np.isnan(less).any():
        row = rest[np.isnan(less)].iloc[0]
        raise Error(
            f"{where}: {row['readout']} has no control in {row['context']}; write one, or leave that readout out"
        )
    return rest.assign(value=rest["value"] - less)


def _table(path: Path, values: Values, where: str) -> pd.DataFrame:
    comma = "," if ".csv" in path.name.lower() else "\t"
    try:
        text = path.suffix.lower() != ".parquet"
        frame = pd.read_csv(path, sep=comma, keep_default_na=False, na_values=[""]) if text else pd.read_parquet(path)
        head = (
            pd.read_csv(path, sep=comma, header=None, nrows=1, dtype=str, keep_default_na=False).iloc[0]
            if text
            else None
        )
    except Exception as error:  # each reader fails in its own ways
        raise Error(f"{where}: cannot be read: {' '.join(str(error).split())}; write it again") from error
    if head is not None and head.duplicated().any():
        raise Error(f"{where}: column {head[head.duplicated()].iloc[0]!r} comes twice; keep one")
    if "Shift_to_goal_end" in frame.columns:
        raise Error(
            f"{where}: Shift_to_goal_end says how far a deletion moves whole cells towards a state, and nothing of any "
            "readout; write gene shifts (InSilicoPerturberStats, mode aggregate_gene_shifts)"
        )
    if not set(SHIFTS) <= set(frame.columns):
        return _keyed(frame.drop(columns=[INDEX], errors="ignore"), where)
    if values != "effect":
        raise Error(
            f"{where}: gene shifts say how far a readout moves and not which way; --task effect --values effect"
        )
    kept = [*SHIFTS, *(("context",) if "context" in frame.columns else ())]
    named = frame["Gene_name"].notna() & frame["Affected_gene_name"].notna()  # else the whole cell's shift
    shifts = frame.loc[named, kept].rename(columns=SHIFTS)
    shifts = shifts.assign(shift=1.0 - pd.to_numeric(shifts["shift"], errors="coerce"))
    return _named(shifts, PERTURBED, where)


def _keyed(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """A long table or a matrix with its keys under their own names, whatever they are called and in which case."""
    lower = {str(column).lower(): column for column in frame.columns}
    if "context" in lower:
        frame = frame.rename(columns={lower["context"]: "context"})
    readout = next((lower[name] for name in READOUTS if name in lower), None)
    perturbed = next((lower[name] for name in PERTURBED if name in lower), None)
    if perturbed is not None and readout is None and "gene" in lower and len(frame.columns) <= len(KEY) + 1:
        readout = lower["gene"]
    if perturbed is None and readout is not None and "gene" in lower:
        perturbed = lower["gene"]
    if perturbed is not None and str(perturbed).lower() == "target" and readout is None:
        perturbed = None  # the gene that is read out, as likely as not
    named = {old: new for old, new in ((perturbed, "perturbation"), (readout, "readout")) if old is not None}
    frame = frame.rename(columns=named)
    if readout is None:
        about = [column for column in frame.columns if str(column).lower() in ABOUT.split() or str(column) == INDEX]
        if about:
            log.warning("%s: %s are no readouts, and are left out", where, ", ".join(map(str, about)))
        frame = frame.drop(columns=about)
    return _named(frame, ("perturbation",), where)


def _h5ad(path: Path, layer: str | None, where: str) -> pd.DataFrame:
    import anndata

    try:
        data = anndata.read_h5ad(path)
    except Exception as error:  # as above
        raise Error(f"{where}: cannot be read: {' '.join(str(error).split())}; write it with anndata") from error
    held, genes = _matrix(data, layer, where)
    obs = _named(data.obs, (*PERTURBED, "gene"), where, ("context", "perturbation"), "cells")
    named = [column for column in ("context", "perturbation") if column in obs.columns]
    mixed = [column for column in CELLS if column in obs.columns and obs[column].nunique() > 1]
    if mixed and "context" not in named:
        kinds = obs[mixed[0]].nunique()
        raise Error(f"{where}: obs[{mixed[0]!r}] has {kinds} kinds of cells; call that column context")
    cells = obs[named].astype(str).reset_index(drop=True).groupby(named).indices  # rows are kept sparse until averaged
    means = [np.asarray(held[rows].mean(axis=0), dtype=np.float64).ravel() for rows in cells.values()]
    frame = pd.DataFrame(np.stack(means) if means else None, columns=genes)
    for place, column in enumerate(named):
        of = [names[place] if isinstance(names, tuple) else names for names in cells]
        frame.insert(place, column, of)
    return frame


def _matrix(data: Any, layer: str | None, where: str) -> tuple[Any, list[str]]:
    """Cells x genes, and the genes' names."""
    named = {key: f"{key.removesuffix('_pred')}_var_names" for key in data.obsm}  # as State's tx infer names them
    genes = {key: list(map(str, data.uns[names])) for key, names in named.items() if names in data.uns}
    choice = ", ".join(["X", *data.layers, *data.obsm])
    told = [key for key in data.obsm if key in genes or key.endswith("_pred")]
    if layer is None and told:
        raise Error(f"{where}: obsm {told[0]} may be the predictions, and X what was given; name one of {choice}")
    if layer in data.obsm and layer not in data.layers:
        held = data.obsm[layer]
        readouts = genes.get(layer, list(data.var_names.astype(str)) if held.shape[1] == data.n_vars else [])
        if len(readouts) != held.shape[1]:
            raise Error(f"{where}: obsm {layer} has {held.shape[1]} columns; name their genes in uns[{named[layer]!r}]")
        return held, readouts
    if layer not in (None, "X", *data.layers):
        raise Error(f"{where}: no layer {layer!r}; it has {choice}")
    held = data.layers.get(layer, data.X)
    if held is None:
        raise Error(f"{where}: X is empty; name one of {choice}")
    return held, list(data.var_names.astype(str))


def _named(
    frame: pd.DataFrame, names: Sequence[str], where: str, keys: Sequence[str] = KEY, each: str = "rows"
) -> pd.DataFrame:
    """The perturbations under their own name and without a control beside them; every row has its keys."""
    found = next((name for name in names if name in frame.columns), None)
    if found is None:
        has = ", ".join(map(str, frame.columns[:5])) or "nothing"
        raise Error(f"{where}: names no perturbations; call them {' or '.join(names)} (it has {has})")
    frame = frame.rename(columns={found: "perturbation"})
    unnamed = frame[[key for key in keys if key in frame.columns]].isna()
    if unnamed.any(axis=None):
        rows, lacked = int(unnamed.any(axis=1).sum()), ", ".join(unnamed.columns)
        raise Error(f"{where}: {rows} {each} lack one of {lacked}; fill them in or leave them out")
    perturbed = frame["perturbation"].astype(str)
    alone = perturbed.str.contains(ALONE, regex=True)
    if alone.any() and not perturbed.map({name: is_control(name) for name in perturbed.unique()}).any():
        raise Error(
            f"{where}: {perturbed[alone].iloc[0]!r} is how GEARS names a perturbation, of whose expression no "
            "row is the control; write the row `ctrl` too"
        )
    return frame.assign(perturbation=perturbed.str.replace(ALONE, "", regex=True))


def _probabilities(found: Floats, values: Values, where: str) -> Floats:
    if not np.isfinite(found).all():
        raise Error(f"{where}: {int((~np.isfinite(found)).sum())} infinite values; leave those pairs out")
    if values == "probability":
        outside = (found < 0) | (found > 1)
        if outside.any():
            raise Error(
                f"{where}: {int(outside.sum())} values outside [0, 1], such as {found[outside][0]:g}; are they logits?"
            )
        return found
    spread = float(np.sqrt((found**2).mean())) or 1.0
    if values == "effect":
        return np.asarray(1.0 - np.exp(-np.abs(found) / spread))
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(found / (1.0 if values == "logit" else spread), -30, 30))))
