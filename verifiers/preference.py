"""`preference`: whether the answer is the likelier one, compared with every other.

`rlvr score ROLLOUTS --verifier preference` applies it to saved completions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlvr.oracle import Belief

from ._belief import Foretold


@dataclass(frozen=True)
class Preference(Foretold):
    """The share of the other answers to which an oracle prefers the given one; equals count half.

    A comparison of pairs, as preference models are trained on (Bradley and Terry 1952, doi:10.2307/2334029), read off
    an oracle's probabilities: of two labels it is 1 for the likelier one and 0 for the other, of three .5 lies
    between. Only the order of the probabilities counts, so a table that is not calibrated but ranks well serves too
    (`most_error: null`); with `weighted` the order counts for as much as the oracle is sure of it. An answer meets
    every other answer of its question, whether or not its group holds one, so that no completion has to see another.
    """

    name: ClassVar[str] = "preference"

    def earned(self, answer: str, belief: Belief) -> float:
        own = belief.get(answer)
        others = [share for label, share in belief.items() if label != answer]
        if own is None or not others:
            return 0.0 if own is None else 1.0
        return sum(1.0 if own > share else 0.5 if own == share else 0.0 for share in others) / len(others)
