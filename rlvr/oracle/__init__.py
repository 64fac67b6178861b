"""Oracles: what would happen, according to something other than the question's own measurement.

    rlvr oracle fit perturbqa:context=k562 --out DIR
    rlvr score ROLLOUTS --verifier oracle:predictions=DIR/direction.parquet

base: the contract, and the neighbours' vote that a source has counted. measured, predictions: tables. similarity,
bilinear, votes, fitted: the oracle that is fitted here. calibration: whether a probability means what it says.
"""

from rlvr.oracle.base import KEY, LABELS, Belief, Neighbours, Oracle
from rlvr.oracle.predictions import Predictions

__all__ = ["KEY", "LABELS", "Belief", "Neighbours", "Oracle", "Predictions"]
