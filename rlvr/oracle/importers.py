"""From what virtual-cell models export to the table that `Predictions` reads.

    rlvr oracle calibrate EXPORT SOURCE --task effect --values effect --out DIR      reads any of these forms

Forms, told apart by what the file holds:

- a long table (.csv, .parquet): context, perturbation, readout, and one column of values;
- a matrix (.csv, .parquet): a column of perturbations, then a column for each readout gene;
- .h5ad: obs has the perturbations, var_names are the readout genes, values in X or in a layer; several cells of one
  perturbation are averaged;
- the table of gene shifts that Geneformer's InSilicoPerturberStats writes (mode aggregate_gene_shifts): its value is 1
  less the cosine, how far the readout moved; it has no sign, so it is of effects only.

Perturbations stand under `perturbation`, `condition`, `target_gene` or (obs alone) `gene`, and "LAT+ctrl" is LAT. Where
some are a control (`ctrl`, `non-targeting`, `control`), values are expression, and the control of the same context is
taken off them. A file without `context` needs the caller's. Who writes what:

    GEARS, scGPT, scFoundation   predict(): perturbation -> expression; as a matrix with a row `ctrl`
    State                        tx infer: .h5ad of cells, with its controls
    Geneformer                   the table of gene shifts
    TranscriptFormer             gene vectors, for `rlvr oracle fit --kind mlp --embeddings`; else a long table
    Evo2, Enformer, Borzoi       a long table: gene, readout, and the change in log expression that they predict

Values are probabilities in [0, 1], logits, or log fold changes; which of them is for the caller to say, as a column of
numbers does not tell. A fold change is no probability: it is squashed by its own spread to keep the order, and must be
calibrated before it rewards anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rlvr.oracle.base import KEY
from rlvr.types import Error

Floats = NDArray[np.float64]
Values = Literal["probability", "logit", "effect", "direction"]
"""effect: a fold change whose size says how surely there is one; direction: one whose sign says up."""

PERTURBED = ("perturbation", "condition", "target_gene")
CONTROLS = ("ctrl", "non-targeting", "control")
ALONE = r"\+ctrl$|^ctrl\+"  # GEARS names a single perturbation beside its control
SHIFTS = {"Gene_name": "perturbation", "Affected_gene_name": "readout", "Cosine_sim_mean": "shift"}


def read(path: Path, values: Values, context: str | None = None, layer: str | None = None) -> pd.DataFrame:
    """context, perturbation, readout, p: one row per pair. Missing values are left out: no prediction.

    context: for files that have none. layer: of an .h5ad file, else X. Errors: no such file or form, a pair that
    comes twice in a table, values outside [0, 1] called probabilities, infinite values, a control beside probabilities,
    or missing from one of several contexts.
    """
    where = f"predictions {path}"
    if not path.is_file():
        raise Error(f"{where}: no such file; give a .csv, .parquet or .h5ad")
    frame = _h5ad(path, layer, where) if path.suffix == ".h5ad" else _table(path, values, where)
    if "context" not in frame.columns:
        if context is None:
            raise Error(f"{where}: names no context; say which cells it is of")
        frame["context"] = context
    frame["perturbation"] = frame["perturbation"].astype(str).str.replace(ALONE, "", regex=True)
    long = frame if "readout" in frame.columns else frame.melt(["context", "perturbation"], var_name="readout")
    rest = [column for column in long.columns if column not in (*KEY, "lift")]  # a table of `rlvr oracle fit` has it
    if len(rest) != 1:
        raise Error(
            f"{where}: beside {', '.join(KEY)} it has {', '.join(rest) or 'nothing'}; keep one column of values"
        )
    long = long.rename(columns={rest[0]: "value"}).astype(dict.fromkeys(KEY, str))
    long["value"] = pd.to_numeric(long["value"], errors="coerce")
    long = long[long["value"].notna()].reset_index(drop=True)
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
    control = long["perturbation"].isin(CONTROLS)
    if not control.any():
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
    try:
        csv = path.suffix == ".csv"
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""]) if csv else pd.read_parquet(path)
    except Exception as error:  # each reader fails in its own ways
        raise Error(f"{where}: cannot be read: {' '.join(str(error).split())}; write it again") from error
    if not set(SHIFTS) <= set(frame.columns):
        return frame.rename(columns={_perturbed(frame, PERTURBED, where): "perturbation"})
    if values != "effect":
        raise Error(
            f"{where}: gene shifts say how far a readout moves and not which way; --task effect --values effect"
        )
    kept = [*SHIFTS, *(("context",) if "context" in frame.columns else ())]
    shifts = frame.loc[frame["Affected_gene_name"].notna(), kept].rename(columns=SHIFTS)  # else the whole cell's
    return shifts.assign(shift=1.0 - pd.to_numeric(shifts["shift"], errors="coerce"))


def _h5ad(path: Path, layer: str | None, where: str) -> pd.DataFrame:
    import anndata

    try:
        data = anndata.read_h5ad(path)
    except Exception as error:  # as above
        raise Error(f"{where}: cannot be read: {' '.join(str(error).split())}; write it with anndata") from error
    if layer is not None and layer not in data.layers:
        raise Error(f"{where}: no layer {layer!r}; it has {', '.join(data.layers) or 'none'}")
    held = data.X if layer is None else data.layers[layer]
    if held is None:
        raise Error(f"{where}: X is empty; name a layer, it has {', '.join(data.layers) or 'none'}")
    obs = data.obs.rename(columns={_perturbed(data.obs, (*PERTURBED, "gene"), where): "perturbation"})
    named = [column for column in ("context", "perturbation") if column in obs.columns]
    cells = obs[named].astype(str).reset_index(drop=True).groupby(named).indices  # rows are kept sparse until averaged
    means = [np.asarray(held[rows].mean(axis=0), dtype=np.float64).ravel() for rows in cells.values()]
    frame = pd.DataFrame(np.stack(means) if means else None, columns=data.var_names.astype(str))
    for place, column in enumerate(named):
        of = [names[place] if isinstance(names, tuple) else names for names in cells]
        frame.insert(place, column, of)
    return frame


def _perturbed(frame: pd.DataFrame, names: Sequence[str], where: str) -> str:
    found = next((name for name in names if name in frame.columns), None)
    if found is None:
        has = ", ".join(map(str, frame.columns[:5])) or "nothing"
        raise Error(f"{where}: names no perturbations; call them {' or '.join(names)} (it has {has})")
    return found


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
