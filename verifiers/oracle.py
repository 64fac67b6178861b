"""`oracle`: how probable a model's predictions make the answer.

`rlvr score ROLLOUTS --verifier oracle` applies it to saved completions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlvr import oracle

from ._belief import Believed


@dataclass(frozen=True)
class OracleBelief(Believed):
    """The probability of the given answer under an oracle (rlvr/oracle.py): soft verification, as in rbio1
    (bioRxiv 2025.08.18.670981), where a virtual-cell model stands in for the experiment.

    predictions: a .parquet or .csv table of a model's predictions; None asks the vote of related perturbations.
    Abstains on what the oracle does not cover. What rewards training questions must be predicted by a fit that
    has not seen their perturbations.
    """

    name: ClassVar[str] = "oracle"
    predictions: str | None = None

    def believer(self) -> oracle.Oracle:
        return oracle.Neighbours() if self.predictions is None else oracle.Predictions(self.predictions)
