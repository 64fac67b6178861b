"""The kinds of oracle that `rlvr oracle fit` fits, each of one context's tables.

found = fit("ensemble", prepare(tables, base))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from rlvr.oracle import ensemble, fitted
from rlvr.oracle.crossfit import Crossfit, Fitted

if TYPE_CHECKING:
    from rlvr.oracle.mlp import Embeddings

Kind = Literal["fitted", "mlp", "ensemble"]
WHAT: Mapping[Kind, str] = {
    "fitted": "votes of related perturbations, stacked (rlvr/oracle/fitted.py)",
    "mlp": "a network on gene embeddings (rlvr/oracle/mlp.py)",
    "ensemble": "the two others, stacked (rlvr/oracle/ensemble.py)",
}


def fit(kind: Kind, cross: Crossfit, embeddings: Embeddings | None = None) -> dict[str, Fitted]:
    """Task -> predictions. embeddings: of the network; None: computed here from the annotation."""
    if kind == "fitted":
        return fitted.of(cross)
    from rlvr.oracle import mlp  # torch: the votes do without it

    network = mlp.of(cross, embeddings or mlp.computed(cross.genes))
    return network if kind == "mlp" else ensemble.of(cross, {"fitted": fitted.of(cross), "mlp": network})
