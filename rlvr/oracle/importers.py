"""From what virtual-cell models export to the table that `Predictions` reads.

    rlvr oracle calibrate EXPORT SOURCE --out DIR      reads any of these forms

Three forms, told apart by what the file holds:

- a long table (.csv, .parquet): context, perturbation, readout, and one column of values;
- a matrix (.csv, .parquet): a column `perturbation`, then a column for each readout gene (GEARS, scGPT and State users
  write these); the context is the caller's;
- .h5ad: obs["perturbation"] and one row per perturbation, var_names the readout genes, values in X or in a layer;
  obs["context"] if it is there.

Values are probabilities in [0, 1], logits, or log fold changes; which of them is for the caller to say, as a column of
numbers does not tell. A fold change is no probability: it is squashed by its own spread to keep the order, and must be
calibrated before it rewards anything.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rlvr import tables
from rlvr.oracle.base import KEY
from rlvr.types import Error

Floats = NDArray[np.float64]
Values = Literal["probability", "logit", "effect", "direction"]
"""effect: a fold change whose size says how surely there is one; direction: one whose sign says up."""


def read(path: Path, values: Values, context: str | None = None, layer: str | None = None) -> pd.DataFrame:
    """context, perturbation, readout, p: one row per pair. Missing values are left out: no prediction.

    context: for files that have none. layer: of an .h5ad file, else X. Errors: no such file or form, a pair that
    comes twice, values outside [0, 1] called probabilities, infinite values.
    """
    where = f"predictions {path}"
    if not path.is_file():
        raise Error(f"{where}: no such file; give a .csv, .parquet or .h5ad")
    frame = _h5ad(path, layer, where) if path.suffix == ".h5ad" else _table(path, where)
    if "context" not in frame.columns:
        if context is None:
            raise Error(f"{where}: names no context; say which cells it is of")
        frame["context"] = context
    long = frame if "readout" in frame.columns else frame.melt(["context", "perturbation"], var_name="readout")
    rest = [column for column in long.columns if column not in (*KEY, "lift")]  # a table of `rlvr oracle fit` has it
    if len(rest) != 1:
        raise Error(
            f"{where}: beside {', '.join(KEY)} it has {', '.join(rest) or 'nothing'}; keep one column of values"
        )
    long = long.rename(columns={rest[0]: "value"}).astype(dict.fromkeys(KEY, str))
    long["value"] = pd.to_numeric(long["value"], errors="coerce")
    long = long[long["value"].notna()].reset_index(drop=True)
    if long.empty:
        raise Error(f"{where}: no values; write at least one prediction")
    twice = long.duplicated(list(KEY))
    if twice.any():
        row = long[twice].iloc[0]
        raise Error(f"{where}: {', '.join(row[list(KEY)])} comes twice, {int(twice.sum())} such; keep one")
    long["p"] = _probabilities(long.pop("value").to_numpy(dtype=np.float64), values, where)
    return long[[*KEY, "p"]]


def _table(path: Path, where: str) -> pd.DataFrame:
    try:
        csv = path.suffix == ".csv"
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""]) if csv else pd.read_parquet(path)
    except Exception as error:  # each reader fails in its own ways
        raise Error(f"{where}: cannot be read: {' '.join(str(error).split())}; write it again") from error
    tables.require(frame, ("perturbation",), where)
    return frame


def _h5ad(path: Path, layer: str | None, where: str) -> pd.DataFrame:
    import anndata

    try:
        data = anndata.read_h5ad(path)
    except Exception as error:  # as above
        raise Error(f"{where}: cannot be read: {' '.join(str(error).split())}; write it with anndata") from error
    if layer is not None and layer not in data.layers:
        raise Error(f"{where}: no layer {layer!r}; it has {', '.join(data.layers) or 'none'}")
    held = data.X if layer is None else data.layers[layer]
    values = np.asarray(held.toarray() if hasattr(held, "toarray") else held, dtype=np.float64)
    tables.require(data.obs, ("perturbation",), f"{where}, obs")
    frame = pd.DataFrame(values, columns=data.var_names.astype(str))
    for column in ("context", "perturbation"):
        if column in data.obs.columns:
            frame.insert(0, column, data.obs[column].astype(str).to_numpy())
    return frame


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
