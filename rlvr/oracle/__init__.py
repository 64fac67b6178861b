"""Oracles: what would happen, according to something other than the question's own measurement.

    rlvr oracle fit perturbqa:context=k562 --out DIR
    rlvr score ROLLOUTS --verifier oracle:predictions=DIR/direction.parquet

base: the contract, and the neighbours' vote that a source has counted. predictions: what a model wrote. crossfit: folds
and probabilities; similarity, bilinear, votes, stacking, fitted: votes of related perturbations; mlp: a network on gene
embeddings; ensemble: both; kinds: any of the three by name. calibration: whether a probability means what it says;
card: what is written about an oracle.
"""

from rlvr.oracle.base import KEY, LABELS, Belief, Neighbours, Oracle
from rlvr.oracle.predictions import Predictions

__all__ = ["KEY", "LABELS", "Belief", "Neighbours", "Oracle", "Predictions"]
