"""What `rlvr predict` found: the table that the page and the CSV show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from rlvr.predict.measured import Context
from rlvr.predict.oracle import Quality

WAY = "the way unknown"
NEAR = "near the readout's own rate"
WAY_NEAR = "the way near the readout's own rate"


@dataclass(frozen=True)
class Predicted:
    """rows: COLUMNS, the surest effect first and what is unknown last; p_effect, p_up (of an effect) and confidence
    (that the call is right) are NaN where nothing is known, confidence also where a measurement answers or nothing is
    called; base_effect, base_up: how often the readout changes, and rises, whatever is perturbed; gene: the symbol that
    was looked up. quality: of the oracle on validation, if it was asked."""

    rows: pd.DataFrame
    quality: tuple[Quality, ...]
    context: Context
    by: str

    def calls(self) -> Mapping[str, int]:
        return Counter(self.rows["call"])

    def abstained(self) -> Mapping[str, int]:
        """Why nothing is said -> of how many pairs."""
        silent = self.rows.loc[self.rows["call"] == "unknown", "why"]
        told = (str(why).removeprefix("abstains: ") for why in silent)
        return Counter(
            why if why.endswith((WAY, WAY_NEAR)) else why.partition(", ")[0] for why in told
        )  # without candidates
