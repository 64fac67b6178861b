"""Ridge on the product of perturbation and readout coordinates: what related knockdowns did to related genes.

r(p, g) is modelled as a Gaussian process with the covariance k(p, p') (own [g = g'] + shared + v_g . v_g'), k given by
coordinates: each readout has its own response to each direction of annotation, drawn towards the response that all
readouts share (the strength of a perturbation) and towards that of readouts annotated alike. Solved in the dual, by
conjugate gradients over the measured pairs alone. It is part of `rlvr oracle fit`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Floats = NDArray[np.float32]
Codes = NDArray[np.int64]
TOLERANCE, STEPS = 1e-2, 40  # of the squared residual; the ranking moves by less than .001 beyond it


@dataclass(frozen=True)
class Prior:
    """Variances: of a readout's own response, of the response that all share, of what is measured beside it."""

    own: float = 1.0
    shared: float = 0.0
    noise: float = 3.0


def fit(
    where: Floats, readouts: int, place: Codes, readout: Codes, value: Floats, prior: Prior, alike: Floats | None = None
) -> Floats:
    """[readouts, d] coefficients: the posterior mean of a pair is their product with the perturbation's coordinates.

    where: [perturbations, d]. place, readout, value: [n] the measured pairs. alike: [readouts, k] coordinates.
    """

    def coefficients(weights: Floats) -> Floats:
        own = csr_array((weights, (readout, place)), shape=(readouts, len(where))) @ where
        found = prior.own * own + prior.shared * own.sum(axis=0)
        if alike is not None:
            found = found + alike @ (alike.T @ own)
        return np.asarray(found, dtype=np.float32)

    rows = where[place]
    solution = np.zeros(len(value), dtype=np.float32)
    residual = value.astype(np.float32)
    step, size = residual.copy(), float(residual @ residual)
    goal = TOLERANCE * size
    for _ in range(STEPS):
        if size <= goal:
            break
        image = np.einsum("ij,ij->i", rows, coefficients(step)[readout]) + prior.noise * step
        rate = size / float(step @ image)
        solution += rate * step
        residual -= rate * image
        size, last = float(residual @ residual), size
        step = residual + (size / last) * step
    return coefficients(solution)
