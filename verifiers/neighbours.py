"""`neighbours`: how probable related measurements make the answer.

`rlvr score ROLLOUTS --verifier neighbours` applies it to saved completions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlvr import oracle

from ._belief import Believed


@dataclass(frozen=True)
class Neighbours(Believed):
    """The probability of the given answer under `truth["neighbours"]`, a vote of related training
    perturbations that the source cross-fitted: the question's own measurement has no part in it.

    Abstains on a question of which the vote knows nothing (None). An answer that it does not list
    has probability 0.
    """

    name: ClassVar[str] = "neighbours"

    def believer(self) -> oracle.Oracle:
        return oracle.Neighbours()
