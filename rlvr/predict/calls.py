"""What is called of a pair: only what its probability says beyond how often the readout changes anyway.

Where most genes that were tried lower a readout, a gene of which little is known is likely to lower it too: that is
the readout's rate, and says nothing of the gene. So a call must be likelier than not and leave the rate on that side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rlvr.predict.measured import Context, Neighbour
from rlvr.predict.predicted import NEAR, WAY, WAY_NEAR
from rlvr.types import Error

Floats = NDArray[np.float64]
BAND = 0.2  # log odds around a rate that are as good as the rate: 5 points at one half, 1 point at 5 %
EDGE = 1e-4
PRIORS = {"effect": "effect_rate", "direction": "up_rate"}


def rated(rows: pd.DataFrame, context: Context, prior: Mapping[str, float]) -> pd.DataFrame:
    """rows (target, p_effect, p_up) with rate_effect and rate_up, and base_effect and base_up, how they are known.

    prior: task -> the share of the asked genes that changes a readout, or of these raises it: the probabilities are
    moved from the readout's rate to it. Errors: a prior outside (0, 1), or of a task that is not measured here.
    """
    for task, share in prior.items():
        if task not in context.tables:
            raise Error(f"{PRIORS[task]}: {context.name} measures no {task}; leave it out")
        if not 0 < share < 1:
            raise Error(f"{PRIORS[task]} {share:g}: is no share; give a number between 0 and 1")
    for task, p, name in (("effect", "p_effect", "effect"), ("direction", "p_up", "up")):
        own = context.rates(task).reindex(rows["target"])
        rate, base = own["rate"].to_numpy(dtype=np.float64), own["said"].fillna("").to_numpy(dtype=object)
        if task in prior:
            moved = np.log(prior[task] / (1 - prior[task])) - _logit(rate)
            rows[p] = np.where(np.isnan(rate), rows[p], 1 / (1 + np.exp(-_logit(rows[p].to_numpy()) - moved)))
            rate, base = np.full(len(rows), prior[task]), np.full(len(rows), f"given: {prior[task]:g}", dtype=object)
        rows[f"rate_{name}"], rows[f"base_{name}"] = rate, base
    return rows


def call(effect: float, up: float, effect_rate: float, up_rate: float) -> tuple[str, float, str]:
    """(up, down, no effect or unknown; the probability that all of it is right; why it is unknown, "" if it is not or
    if nothing is known)."""
    if np.isnan(effect) and np.isnan(up):
        return "unknown", np.nan, ""
    changes = 1 if np.isnan(effect) else _side(effect, effect_rate)
    if changes == 0:
        return "unknown", np.nan, NEAR
    if changes < 0:
        return "no effect", 1 - effect, ""
    if np.isnan(up):
        return "unknown", np.nan, WAY
    way = _side(up, up_rate)
    if way == 0:
        return "unknown", np.nan, WAY_NEAR
    return ("up" if way > 0 else "down"), (1.0 if np.isnan(effect) else effect) * max(up, 1 - up), ""


def against(called: str, near: Sequence[Neighbour]) -> str:
    """What most of the shown evidence says, by similarity, if it is not what is called: first whether anything
    changes, then which way. "" where it agrees, or nothing is called."""
    weight = {"up": 0.0, "down": 0.0, "changes": 0.0, "no effect": 0.0}
    for one in near:
        weight[one.outcome] += one.similarity
    none = weight.pop("no effect")
    changed, most = sum(weight.values()), max(weight, key=lambda said: weight[said])
    if called == "no effect":
        return most if changed > none else ""
    if called not in weight:
        return ""
    other = "down" if called == "up" else "up"
    return "no effect" if none > changed else other if weight[other] > weight[called] else ""


def _side(p: float, rate: float) -> int:
    """1: likelier than not, and than the rate; -1: less likely than both; 0: at the rate, or between it and one half.
    A measured 0 or 1 leaves any rate."""
    if p in (0.0, 1.0) or np.isnan(rate):
        return 1 if p >= 0.5 else -1
    beyond = float(_logit(np.array(p)) - _logit(np.array(rate)))
    return 1 if p >= 0.5 and beyond > BAND else -1 if p < 0.5 and beyond < -BAND else 0


def _logit(p: Floats) -> Floats:
    held = np.clip(p, EDGE, 1 - EDGE)
    return np.asarray(np.log(held / (1 - held)))
