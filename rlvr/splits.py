"""Makes splits that never change, and finds what two splits share.

A perturbation goes to its split by a hash of its name, so that adding rows, dropping rows or reading
them in another order moves nothing; all readouts of a perturbation stay together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256

from rlvr.types import Error, Question


def fraction(name: str, salt: str) -> float:
    """A number in [0, 1] that depends on the name and the salt alone."""
    return int.from_bytes(sha256(f"{salt}:{name}".encode()).digest()[:8], "big") / 2**64


def assign(names: Iterable[str], shares: Mapping[str, float], salt: str) -> dict[str, str]:
    """name -> split; `shares` (split -> share) are cut off in their order and must sum to 1."""
    if abs(sum(shares.values()) - 1.0) > 1e-9 or min(shares.values()) < 0.0:
        raise Error(f"the shares of the splits are {dict(shares)}; they must be at least 0 and sum to 1")
    last = list(shares)[-1]
    return {name: _cut(fraction(name, salt), shares, last) for name in names}


def _cut(at: float, shares: Mapping[str, float], last: str) -> str:
    for split, share in shares.items():
        if at < share:
            return split
        at -= share
    return last  # rounding of the sum


def overlaps(train: Iterable[Question], held_out: Iterable[Question]) -> dict[str, int]:
    """How many held-out questions share with training questions of their task the `perturbation` (in any context; or
    the group that their source names), and how many the `pair` of perturbation and readout."""
    seen = {(q.task, q.cluster, str(q.fields.get("readout"))) for q in train}
    perturbations = {(task, cluster) for task, cluster, _ in seen}
    asked = [(q.task, q.cluster, str(q.fields.get("readout"))) for q in held_out]
    return {
        "perturbation": sum(key[:2] in perturbations for key in asked),
        "pair": sum(key in seen for key in asked),
    }


def refuse_leak(train: Iterable[Question], held_out: Iterable[Question]) -> None:
    """Stop when a held-out perturbation, or a measurement of one, is in training."""
    asked = list(held_out)
    found = overlaps(train, asked)
    if any(found.values()):
        shared = ", ".join(f"{n} share their {what}" for what, n in found.items() if n)
        raise Error(f"training leaks: of {len(asked)} held-out questions {shared} with training; split by perturbation")
