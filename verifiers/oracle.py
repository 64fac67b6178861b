"""`oracle`: how probable a model's predictions make the answer.

`rlvr score ROLLOUTS --verifier oracle` applies it to saved completions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ._belief import Foretold


@dataclass(frozen=True)
class OracleBelief(Foretold):
    """The probability of the given answer under an oracle (rlvr/oracle/): soft verification, as in rbio1
    (doi:10.1101/2025.08.18.670981), where a virtual-cell model stands in for the experiment.

    Expected reward is highest for the likeliest answer, but an even guess earns half: see `preference` for a form
    in which only the order counts, and `weighted` and `least` for questions that the oracle does not know.
    """

    name: ClassVar[str] = "oracle"
