"""The kinds of oracle that `rlvr oracle fit` fits, each of one context's tables.

found, files = fit("ensemble", prepare(tables, base))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rlvr.oracle import ensemble, fitted
from rlvr.oracle.crossfit import Crossfit, Fitted
from rlvr.tables import write_parquet

if TYPE_CHECKING:
    from rlvr.oracle.mlp import Embeddings

Kind = Literal["fitted", "mlp", "ensemble"]
Keep = Callable[[Path], None]  # writes what else is to be kept into a folder
WHAT: Mapping[Kind, str] = {
    "fitted": "votes of related perturbations, stacked (rlvr/oracle/fitted.py)",
    "mlp": "a network on gene embeddings (rlvr/oracle/mlp.py)",
    "ensemble": "the two others, stacked (rlvr/oracle/ensemble.py)",
}


def fit(kind: Kind, cross: Crossfit, embeddings: Embeddings | None = None) -> tuple[dict[str, Fitted], Keep]:
    """Task -> predictions, and what writes the rest of the model. embeddings: of the network; None: computed here."""
    if kind == "fitted":
        return fitted.of(cross), lambda folder: None
    from rlvr.oracle import mlp, network  # torch: the votes do without it

    embeddings = embeddings or mlp.computed(cross.genes)
    told, trained = mlp.of(cross, embeddings)

    def keep(folder: Path) -> None:
        context = cross.rows["context"].iloc[0]
        network.save(folder / f"mlp_{context}.safetensors", trained, cross, told)
        write_parquet(embeddings.table(), folder / f"embeddings_{context}.parquet")

    return (told if kind == "mlp" else ensemble.of(cross, {"fitted": fitted.of(cross), "mlp": told})), keep
