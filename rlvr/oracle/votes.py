"""What a set of measured perturbations says of perturbations that it does not hold: the features of the fitted oracle.

Everything is computed from the measured perturbations alone, so that features of held-out ones and cross-fitted
features of training ones are the same thing. Votes are of what exceeds each readout's mean: they rank the perturbations
of one readout. What exceeds the mean sums to zero, and so says nothing of the rows that were left out: a mean drawn
towards that of other readouts would rank them backwards (rlvr/oracle/crossfit.py). Three tables vote: effect (yes 1, no
0), direction (up 1, down 0), and signed, which holds the pairs of `effect` (up 1, down -1, no change 0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.utils.extmath import randomized_svd

from rlvr.oracle import bilinear
from rlvr.oracle.bilinear import Prior
from rlvr.oracle.similarity import Annotated, Floats, compressed, kernels, placed

Codes = NDArray[np.int64]
WEIGHT = 0.1  # of the readout's own rate in a vote, in units of similarity
SMOOTH = 0.3
RANKS = (3, 8, 20)
LEARNT = 15  # coordinates of readouts that are learnt
SCARCE = ("mix", "all1", "all2", "pathway", "machine")  # kernels that vote on the few rows of direction
NOISE = {"effect": 3.0, "signed": 3.0, "direction": 6.0}


@dataclass(frozen=True)
class Measured:
    """Pairs of a table: place of the perturbation, place of the readout, value. [n] each."""

    perturbation: Codes
    readout: Codes
    value: Floats

    def of(self, keep: NDArray[np.bool_]) -> Measured:
        """The pairs of the perturbations that are kept."""
        rows = keep[self.perturbation]
        return Measured(self.perturbation[rows], self.readout[rows], self.value[rows])

    def excess(self, readouts: int) -> Floats:
        """[n] each value less the mean of its readout."""
        counts = np.maximum(np.bincount(self.readout, minlength=readouts), 1)
        means = np.bincount(self.readout, self.value, readouts) / counts
        return np.asarray(self.value - means[self.readout], dtype=np.float32)


def signed(effect: Measured, direction: Measured) -> Measured:
    """The pairs of `effect` with their direction: 1 up, -1 down, 0 unchanged; those whose direction is not known are
    left out."""
    width = int(max(effect.readout.max(), direction.readout.max())) + 1
    key = direction.perturbation * width + direction.readout
    order = np.argsort(key)
    asked = effect.perturbation * width + effect.readout
    place = np.clip(np.searchsorted(key, asked, sorter=order), 0, len(key) - 1)
    found = key[order[place]] == asked
    sign = np.where(found, 2 * direction.value[order[place]] - 1, 0.0).astype(np.float32)
    kept = found | (effect.value == 0)
    return Measured(effect.perturbation[kept], effect.readout[kept], sign[kept])


class Votes:
    """The features of pairs of one set of perturbations and readouts; similarities are computed once. basis: [n] the
    perturbations that span the coordinates; the others are placed among them."""

    def __init__(self, perturbations: Annotated, readouts: Annotated, basis: NDArray[np.bool_]) -> None:
        self.n, self.m = len(perturbations.symbols), len(readouts.symbols)
        self.kernels = kernels(perturbations)
        whole = self.kernels["mix"].copy()
        np.fill_diagonal(whole, 1.1)  # the mix of a gene with itself
        self.places = placed(whole, basis, 100)
        self.alike = compressed(readouts.rows("all"), 40)
        self._pairs = [perturbations.between(readouts, k) for k in ("all", "machine", "pathway", "biological_process")]
        self._edges = _edges(perturbations, readouts)

    def features(
        self,
        tables: Mapping[str, Measured],
        known: NDArray[np.bool_],
        perturbation: Codes,
        readout: Codes,
        learnt: dict[str, Floats],
    ) -> dict[str, Floats]:
        """name -> [len(perturbation)] of the asked pairs, whose perturbations are not among the known ones.

        known: [n] which perturbations the tables may speak of. learnt: what takes long and rests on the known ones
        alone; it is taken from there if it is there, and else put there.
        """
        asked, row = np.unique(perturbation, return_inverse=True)
        from_, local = np.flatnonzero(known), np.cumsum(known) - 1
        found: dict[str, Floats] = {}
        for name, table in tables.items():
            held = table.of(known)
            for key, block in self._table(name, held, local[held.perturbation], from_, asked, learnt).items():
                found[f"{key}:{name}"] = block[row, readout] if block.shape[1] > 1 else block[row, 0]
        for place, (left, right) in enumerate(self._pairs):
            cosine = left[perturbation].multiply(right[readout]).sum(axis=1)
            found[f"pair:{place}"] = np.asarray(cosine, dtype=np.float32).ravel()
        found["pair:edge"] = np.asarray(self._edges[perturbation, readout], dtype=np.float32).ravel()
        return found

    def _table(
        self, name: str, held: Measured, place: Codes, known: Codes, asked: Codes, learnt: dict[str, Floats]
    ) -> dict[str, Floats]:
        shape, index = (len(known), self.m), (place, held.readout)
        excess = held.excess(self.m)
        above = csr_array((excess, index), shape=shape)
        there = csr_array((np.ones(len(excess), dtype=np.float32), index), shape=shape)
        found: dict[str, Floats] = {}
        for kernel in SCARCE if name == "direction" else self.kernels:
            close = self.kernels[kernel][np.ix_(asked, known)]
            total, weight = _times(close, above), _times(close, there)
            found[f"vote {kernel}"] = total / (weight + WEIGHT)
            if kernel == "mix":
                found["vote shrunk"], found["vote sum"] = total / (weight + 1.0), total
                found |= self._smoothed(name, above, there, known, total / (weight + SMOOTH), learnt)
        size = np.bincount(place, minlength=len(known)).astype(np.float32)
        strength = np.bincount(place, excess, len(known)).astype(np.float32) / np.maximum(size, 1)
        for kernel in ("mix", "all1", "all2"):
            close = self.kernels[kernel][np.ix_(asked, known)]
            found[f"strength {kernel}"] = ((close @ strength) / (close @ (size > 0) + SMOOTH))[:, None].astype(
                np.float32
            )
        return found | self._ridges(name, held, asked, learnt)

    def _smoothed(
        self,
        name: str,
        above: csr_array,
        there: csr_array,
        known: Codes,
        asked: Floats,
        learnt: dict[str, Floats],
    ) -> dict[str, Floats]:
        """Votes projected onto the few patterns of response that the known perturbations share, and onto readouts that
        are annotated alike."""
        if f"{name} patterns" not in learnt:
            close = self.kernels["mix"][np.ix_(known, known)]
            votes = _times(close, above) / (_times(close, there) + SMOOTH)
            learnt[f"{name} scale"] = np.sqrt((votes**2).mean(axis=0)) + 0.02
            most = min(max(RANKS), *votes.shape)
            spread = votes / learnt[f"{name} scale"]
            learnt[f"{name} patterns"] = randomized_svd(spread, n_components=most, n_iter=2, random_state=0)[2]
        scale, patterns = learnt[f"{name} scale"], learnt[f"{name} patterns"]
        asked = np.asarray(asked / scale, dtype=np.float32)
        scores = asked @ patterns.T
        found = {f"patterns {rank}": (scores[:, :rank] @ patterns[:rank]) * scale for rank in RANKS}
        found["alike"] = (asked @ self.alike) @ self.alike.T * scale
        return {key: np.asarray(block, dtype=np.float32) for key, block in found.items()}

    def _ridges(self, name: str, held: Measured, asked: Codes, learnt: dict[str, Floats]) -> dict[str, Floats]:
        used, readout = np.unique(held.readout, return_inverse=True)
        value, noise, where = held.excess(self.m), NOISE[name], self.places
        annotated, found = 0.8 * self.alike[used], {}

        def ridge(key: str, d: int, prior: Prior, alike: Floats | None) -> Floats:
            kept = f"{name} {key}"
            if kept not in learnt:
                learnt[kept] = bilinear.fit(where[:, :d], len(used), held.perturbation, readout, value, prior, alike)
            fitted = learnt[kept]
            found[key] = np.zeros((len(asked), self.m), dtype=np.float32)
            found[key][:, used] = where[asked, :d] @ fitted.T
            return fitted

        ridge("ridge", 100, Prior(1.0, 0.0, noise), None)
        ridge("ridge coarse", 30, Prior(1.0, 0.0, noise), None)
        fitted = ridge("ridge alike", 100, Prior(0.6, 0.02, noise), annotated)
        # Readouts that responded alike are alike: coordinates of their own, from the fit that annotation has drawn.
        patterns = np.linalg.eigh(fitted.T @ fitted)[1][:, ::-1][:, :LEARNT]
        theirs = fitted @ patterns
        theirs /= np.sqrt((theirs**2).sum(axis=1).mean()) + 1e-9
        both = np.hstack([0.75 * annotated, 0.7 * theirs]).astype(np.float32)
        ridge("ridge learnt", 100, Prior(0.4, 0.02, noise), both)
        return found


def _times(close: Floats, table: csr_array) -> Floats:
    return np.asarray((table.T @ np.ascontiguousarray(close.T)).T, dtype=np.float32)


def _edges(perturbations: Annotated, readouts: Annotated) -> csr_array:
    """[n, m] 1 where the perturbed gene is reported to activate the readout, -1 to repress it, 1/2 if unclear."""
    place = {str(gene): i for i, gene in enumerate(perturbations.genes)}
    found = []
    for column, target in enumerate(readouts.symbols):
        for factor in readouts.base.regulators(target):
            edge = readouts.base.edge(factor, target) if factor in place else None
            if edge:
                found.append((place[factor], column, {"activation": 1.0, "repression": -1.0}.get(edge.sign, 0.5)))
    table = np.array(found, dtype=np.float32).reshape(-1, 3)
    index = (table[:, 0].astype(int), table[:, 1].astype(int))
    return csr_array((table[:, 2], index), shape=(len(perturbations.symbols), len(readouts.symbols)))
