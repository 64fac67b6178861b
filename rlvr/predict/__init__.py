"""`rlvr predict GENES.csv --context k562 --readout MYC --out DIR`: which genes will move a readout, before one tries.

    found = predict(Path("genes.csv"), "cd4_il2", Path("out"), base=KnowledgeBase.open("upstream"))

A pair that training or validation holds is answered by its measurement; the test split is never looked at. Otherwise
the oracle answers (oracle.py), or a trained policy (policy.py), each with the nearest measured evidence (measured.py).
Where nothing is known there is no probability: never an even guess; where a probability is but the readout's own rate,
no call (calls.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from rlvr.files import write_atomically
from rlvr.knowledge import KnowledgeBase
from rlvr.predict import calls, genes_file, measured, oracle, page
from rlvr.predict.measured import Context
from rlvr.predict.oracle import Said
from rlvr.predict.predicted import NEAR, WAY, Predicted
from rlvr.types import Error

COLUMNS = (
    "rank", "perturbation", "readout", "p_effect", "p_up", "call", "confidence", "why", "evidence",
    "base_effect", "base_up", "source", "licence", "gene",
)  # fmt: skip
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a cell starts that a spreadsheet would run


def predict(
    genes: Path,
    context: str,
    out: Path,
    *,
    base: KnowledgeBase,
    readout: str | None = None,
    kept: Path | None = None,
    adapter: Path | None = None,
    prior: Mapping[str, float] = MappingProxyType({}),
) -> Predicted:
    """Writes out/predictions.csv and out/predictions.html. kept: a folder of `rlvr oracle fit`, in place of a fit here;
    adapter: RUN/adapter, in place of the oracle; prior: see `calls.rated`. Errors: those of the genes' file and of the
    prior, an unknown context, both kept and adapter."""
    if kept and adapter:
        raise Error("--oracle and --adapter: one of them answers; leave the other out")
    where = measured.find(context, base)
    rows = genes_file.read(genes, readout, where)
    key = pd.MultiIndex.from_frame(rows[["target", "gene"]])
    rows["outcome"] = where.outcomes.reindex(key).fillna("").to_numpy()
    open_ = (rows["reason"] == "") & rows["outcome"].isin(["", "changes"])
    pairs = {}
    for task in where.tables:
        own = open_ & ((rows["outcome"] == "") | (task == "direction"))
        pairs[task] = rows.loc[own, ["gene", "target"]].set_axis(["perturbation", "readout"], axis=1)
    said = _said(where, pairs, kept, adapter) if open_.any() else Said({}, {}, ())
    by = "policy" if adapter else "oracle"
    for task, name in (("effect", "p_effect"), ("direction", "p_up")):
        rows[name], rows[f"{name} why"] = np.nan, ""
        if task in said.p:
            rows.loc[pairs[task].index, name], rows.loc[pairs[task].index, f"{name} why"] = said.p[task], said.why[task]
    rows = calls.rated(rows, where, prior)
    found = Predicted(_ranked(_answered(rows, where, by)), said.quality, where, by)
    text = found.rows.astype({"rank": "string"}).map(
        lambda cell: f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell
    )
    write_atomically(out / "predictions.csv", text.to_csv(index=False, float_format="%.4f").encode())
    write_atomically(out / "predictions.html", page.rendered(found).encode())
    return found


def _said(context: Context, pairs: oracle.Pairs, kept: Path | None, adapter: Path | None) -> Said:
    if adapter:
        from rlvr.predict import policy  # torch: the oracle does without it

        return policy.answered(adapter, context, pairs)
    return oracle.kept(kept, context, pairs) if kept else oracle.fitted(context, pairs)


def _answered(rows: pd.DataFrame, context: Context, by: str) -> pd.DataFrame:
    """rows with call, confidence, why, evidence, source and licence; what is measured is 1 or 0."""
    outcome, silent = rows["outcome"], rows["reason"]
    rows.loc[outcome.isin(["up", "down", "changes"]), "p_effect"] = 1.0
    rows.loc[outcome == "no effect", "p_effect"] = 0.0
    rows.loc[outcome == "up", "p_up"], rows.loc[outcome == "down", "p_up"] = 1.0, 0.0
    told = [calls.call(*p) for p in rows[["p_effect", "p_up", "rate_effect", "rate_up"]].itertuples(index=False)]
    rows["call"], rows["confidence"] = [call for call, _, _ in told], [sure for _, sure, _ in told]
    rows.loc[outcome.isin(["up", "down", "no effect"]), "confidence"] = np.nan
    known = rows["p_effect"].notna(), rows["p_up"].notna()
    why = np.where(known[0] | known[1], by, "abstains: " + silent.where(silent != "", rows["p_effect why"]))
    why = np.where((silent == "") & ~known[0] & known[1], f"{by}, if there is an effect", why)
    why = np.where(outcome == "changes", np.where(known[1], f"measured, the way by the {by}", f"measured, {WAY}"), why)
    for place, (_, _, open_) in enumerate(told):
        if open_ and outcome.iloc[place] in ("", "changes"):
            first = "measured" if outcome.iloc[place] == "changes" else by
            why[place] = f"abstains: {open_}" if open_ == NEAR else f"{first}, {open_}"
    rows["why"] = np.where(outcome.isin(["up", "down", "no effect"]), "measured", why)
    near = silent.isin(["", "the readout is the perturbed gene itself"])
    shown = context.nearest(rows.loc[near, "gene"].tolist(), rows.loc[near, "target"].tolist())
    rows["evidence"] = ""
    rows.loc[near, "evidence"] = ["; ".join(map(str, found)) for found in shown]
    for place, found in zip(rows.index[near], shown, strict=True):
        most = calls.against(str(rows.loc[place, "call"]), found)
        if most and rows.loc[place, "why"] != "measured":
            rows.loc[place, "why"] += f", against the evidence shown ({most})"
    something = known[0] | known[1] | (rows["evidence"] != "")
    rows["source"] = np.where(something, context.origin, "")
    rows["licence"] = np.where(something, context.licence, "")
    return rows


def _ranked(rows: pd.DataFrame) -> pd.DataFrame:
    """By the probability of an effect; what is unknown has no rank and comes last."""
    known = rows["p_effect"].notna() | rows["p_up"].notna()
    order = rows.assign(known=known, first=rows["p_effect"].fillna(rows["confidence"]))
    order = order.sort_values(["known", "first", "confidence", "gene"], ascending=[False, False, False, True])
    order["rank"] = pd.array(np.where(order["known"], np.arange(1, len(order) + 1), 0), dtype="Int64")
    order.loc[~order["known"], "rank"] = pd.NA
    return order[list(COLUMNS)].reset_index(drop=True)
