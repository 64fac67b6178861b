"""Whether a probability means what it says: calibration, its error, and what is left when an oracle keeps silent.

    rlvr oracle calibrate PREDICTIONS SOURCE --out DIR

Expected calibration error: Guo et al., ICML 2017, arXiv 1706.04599, in ten bins of equally many rows, for oracles and
policies alike (rlvr.evaluation.metrics.calibration). Temperature scaling here has an intercept as well (Platt 1999):
the base rate of the calibration rows need not be that of the model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from rlvr.files import write_atomically
from rlvr.types import Error

Floats = NDArray[np.float64]
Method = Literal["isotonic", "temperature"]
BINS, LEAST = 10, 20
STEPS, IMAGINARY = 50, 20  # of the correction of a base rate: iterations, perturbations at the prior
EDGE = 1e-4  # probabilities are kept this far from 0 and 1: no finite table supports certainty


def calibrate(p: Floats, truth: Floats, asked: Floats, method: Method) -> Floats:
    """`asked` [m] made into calibrated probabilities, learnt from p [n] and truth [n] (0 or 1) of other rows. Errors:
    too few rows, or one label only."""
    require(truth, "what it learns from")
    if method == "isotonic":
        fitted = IsotonicRegression(y_min=EDGE, y_max=1 - EDGE, out_of_bounds="clip").fit(p, truth)
        return np.asarray(fitted.predict(asked), dtype=np.float64)
    model = LogisticRegression(C=1e6).fit(_logit(p)[:, None], truth)
    return np.asarray(model.predict_proba(_logit(asked)[:, None])[:, 1], dtype=np.float64)


def enough(truth: Floats) -> bool:
    """Whether these rows [n] (0 or 1) can teach a map, or measure its error: enough of them, and both labels."""
    return len(truth) >= LEAST and 0 < truth.sum() < len(truth)


def require(truth: Floats, what: str) -> None:
    """Errors: too few rows, or one label only."""
    if not enough(truth):
        labels = len(set(truth.tolist()))
        raise Error(f"calibration: {what}: {len(truth)} rows with {labels} labels; give {LEAST} rows, and both")


def turned(p: Floats, truth: Floats) -> bool:
    """Whether a higher probability means less, or nothing: such an oracle would be calibrated by turning it around, and
    so to say the opposite of what it was given."""
    low, high = calibrate(p, truth, np.array([0.1, 0.9]), "temperature")
    return bool(high <= low)


def shift(p: Floats, group: NDArray[np.int64], prior: float) -> float:
    """What to add to the logit of every one of these probabilities, if the rows that are asked about together have
    another base rate than the `prior` they were learnt at. No label is used: expectation maximisation over the
    probabilities (Saerens, Latinne & Decaestecker 2002, doi:10.1162/089976602753284446).

    group: [n] the perturbation of each row. Perturbations, not rows, are independent draws: twenty imaginary ones that
    keep the prior stand beside them, so that a few do not say what the base rate is.
    """
    here = len(np.unique(group))
    odds, at = _logit(p), float(_logit(np.array([prior]))[0])
    rate, moved = prior, 0.0
    for _ in range(STEPS):
        rate = (here * float((1 / (1 + np.exp(-(odds + moved)))).mean()) + IMAGINARY * prior) / (here + IMAGINARY)
        moved = float(_logit(np.array([rate]))[0]) - at
    return moved


def bins(p: Floats) -> NDArray[np.int64]:
    """[n] the bin of each probability: at most ten, of equally many rows, equal probabilities together."""
    if not len(p):
        return np.zeros(0, dtype=np.int64)
    edges = np.unique(np.quantile(p, np.linspace(0, 1, BINS + 1)[1:-1]))
    return np.unique(np.searchsorted(edges, p, side="left"), return_inverse=True)[1].astype(np.int64)


def reliability(p: Floats, truth: Floats) -> list[dict[str, float]]:
    """For each bin: its least probability, its rows, their mean probability, and the share of true ones."""
    place = bins(p)
    each = [place == number for number in range(int(place.max(initial=-1)) + 1)]
    return [
        {
            "low": float(p[rows].min()),
            "n": int(rows.sum()),
            "said": float(p[rows].mean()),
            "found": float(truth[rows].mean()),
        }
        for rows in each
    ]


def ece(p: Floats, truth: Floats) -> float:
    """Expected calibration error: the mean gap between what is said and found, bins weighted by their rows."""
    if not len(p):
        raise Error("calibration: no rows; give at least one prediction with its label")
    return sum(b["n"] * abs(b["said"] - b["found"]) for b in reliability(p, truth)) / len(p)


def coverage(p: Floats, truth: Floats, steps: int = 20) -> list[dict[str, float]]:
    """Accuracy when only the surest share of the rows is answered, for growing shares."""
    order = np.argsort(-np.abs(p - 0.5), kind="stable")
    right = np.cumsum(((p > 0.5) == (truth > 0.5))[order])
    sizes = sorted({max(1, round(len(p) * step / steps)) for step in range(1, steps + 1)})
    return [{"share": n / len(p), "n": n, "accuracy": float(right[n - 1] / n)} for n in sizes]


def plot(p: Floats, truth: Floats, path: Path, title: str) -> None:
    """The reliability diagram and the coverage curve, as one PNG."""
    import io

    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    table, curve = reliability(p, truth), coverage(p, truth)
    left.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    left.plot([b["said"] for b in table], [b["found"] for b in table], marker="o")
    left.set(xlabel="probability said", ylabel="share found", title=f"{title}: ECE {ece(p, truth):.3f}, n = {len(p)}")
    right.plot([c["share"] for c in curve], [c["accuracy"] for c in curve])
    right.set(xlabel="share answered, surest first", ylabel="accuracy", title="coverage")
    out: Any = io.BytesIO()
    figure.savefig(out, format="png", dpi=120)
    write_atomically(path, out.getvalue())


def _logit(p: Floats) -> Floats:
    inside = np.clip(p, EDGE, 1 - EDGE)
    found: Floats = np.log(inside / (1 - inside))
    return found
