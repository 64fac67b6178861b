"""The first sentence of a report: does the model beat the best shortcut, by how much, with what interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def headline(task: str, last: str, measured: Mapping[str, Any]) -> tuple[str, dict[str, Any] | None]:
    """The sentence on one task, and what it says as data: {shortcut, metric, verdict} and the paired difference.

    measured: of rlvr.evaluation.results.tasks. Beating means an interval above 0; a policy whose gain over the evidence
    vote is not above 0 reads its evidence, and one whose gain is below 0 reads it less well than the vote does.
    """
    metric, best = measured["metric"], measured["best"]
    if best is None:
        n = measured["stages"][last]["accuracy"]["n"]
        return f"No {metric} can be formed from {n} questions.", None
    gain = measured["comparisons"][f"{last} - {best}"][metric]
    verdict = "yes" if gain["low"] is not None and gain["low"] > 0 else "no"
    sentence = f"Beats the best shortcut ({best}): {verdict}, by {_signed(gain)} {metric}, n = {gain['n']}."
    vote = measured["comparisons"].get(f"{last} - evidence_vote", {}).get(metric)
    if vote is not None and (vote["low"] is None or vote["low"] <= 0):
        below = vote["high"] is not None and vote["high"] < 0
        sentence += f" The policy reads its evidence{', less well than a vote of it does' if below else ''}."
    if "detectable" in gain:
        sentence += f" A difference of {gain['detectable']:.3f} would be found with 80 % power."
    return sentence, {"shortcut": best, "metric": metric, **gain, "verdict": verdict}


def _signed(gain: Mapping[str, Any]) -> str:
    if gain["low"] is None:
        return f"an unknown margin ({gain.get('reason', 'no interval')}) of"
    return f"{gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"
