"""Several oracles as one: their lifts, weighted as they rank the training perturbations that they had not seen.

    rlvr oracle fit perturbqa:context=k562 --kind ensemble --out DIR      the fitted oracle and the network

The weights rest on cross-fitted training rows (rlvr/oracle/stacking.py): every oracle that goes in must have been
fitted on the same folds, or have seen none of these perturbations.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rlvr.oracle.crossfit import Crossfit, Fitted
from rlvr.oracle.stacking import stacked
from rlvr.types import Error

OTHERS = 0.3  # what the weights of the second and later oracles are drawn towards, if the first has 1


def of(cross: Crossfit, oracles: Mapping[str, Mapping[str, Fitted]]) -> dict[str, Fitted]:
    """oracles: name -> task -> predictions of the same rows, the one to lean on first. Where one of them abstains it
    adds nothing; where all do, the ensemble does. Errors: no oracle, predictions of other rows."""
    if not oracles:
        raise Error("oracle: an ensemble of nothing; name at least one oracle")
    found = {}
    for task in cross.tasks:
        asked = cross.of(task)
        for name, held in oracles.items():
            if len(held[task].predictions) != len(asked):
                raise Error(
                    f"oracle: {name} predicts {len(held[task].predictions)} rows of {len(asked)}; fit it on these"
                )
        lifts = [held[task].predictions["lift"].to_numpy(dtype=np.float64) for held in oracles.values()]
        features = np.column_stack([np.log(lift / (1 - lift)) for lift in lifts])
        silent = np.isnan(features).all(axis=1)
        features = np.nan_to_num(features)
        places = cross.rows["p"].to_numpy()[asked]
        features /= features[cross.place[asked] >= 0].std(axis=0) + 1e-9
        score, weights = stacked(
            features,
            np.array([1.0, *[OTHERS] * (len(oracles) - 1)]),
            cross.label(task),
            cross.rows["g"].to_numpy()[asked],
            cross.place[asked],
        )
        seen = cross.rows["g"].isin(set(cross.measured[task].readout.tolist())).to_numpy()[asked]
        far = np.zeros(len(cross.genes.symbols), dtype=np.bool_)
        far[places[silent & seen]] = True
        weighed = dict(zip(oracles, weights.tolist(), strict=True))
        found[task] = cross.finished(task, score, weighed, {"unknown to every oracle": far})
    return found
