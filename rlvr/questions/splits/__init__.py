"""Makes splits that never change, and finds what two splits share.

A name goes to its split by a hash of it, so that adding rows, dropping rows or reading them in another order moves
nothing. What a name is, the source decides; the pieces compose:

    by perturbation, readout, TF        split = assign(names, {"train": .7, "test": .3}, salt)
    by complex, by homologous family    group = groups(names, knowledge, by="complex")        # or "family"
                                        split = assign(names, shares, salt, group)
    by both perturbation and readout    both(perturbations[p], readouts[r])                   # None: in neither
    by cell line, cell type, species    chosen(contexts, {"rpe1": "test"})
    by date of annotation               dated(days, {"validation": "2017-01-01", "test": "2018-01-01"})

`overlaps` and `refuse_leak` compare what two splits ask about, `rlvr data audit` does so at length.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from hashlib import sha256

from rlvr.questions.splits.kin import Kin, groups
from rlvr.questions.splits.leaks import overlaps, refuse_leak
from rlvr.types import SPLITS, Error

__all__ = ["Kin", "assign", "both", "chosen", "dated", "fraction", "groups", "overlaps", "refuse_leak"]


def fraction(name: str, salt: str) -> float:
    """A number in [0, 1) that depends on the name and the salt alone."""
    return int.from_bytes(sha256(f"{salt}:{name}".encode()).digest()[:8], "big") / 2**64


def assign(
    names: Iterable[str], shares: Mapping[str, float], salt: str, group: Mapping[str, str] | None = None
) -> dict[str, str]:
    """name -> split; `shares` (split -> share) are cut off in their order and must sum to 1.

    group: name -> group, whose names stay together (see `groups`); a name that is not in it stands for itself.
    The shares are then of groups, not of names.
    """
    if abs(sum(shares.values()) - 1.0) > 1e-9 or min(shares.values()) < 0.0:
        raise Error(f"the shares of the splits are {dict(shares)}; they must be at least 0 and sum to 1")
    last = list(shares)[-1]
    hashed = group or {}
    return {name: _cut(fraction(hashed.get(name, name), salt), shares, last) for name in names}


def _cut(at: float, shares: Mapping[str, float], last: str) -> str:
    for split, share in shares.items():
        if at < share:
            return split
        at -= share
    return last  # rounding of the sum


def both(left: str, right: str) -> str | None:
    """The split of a pair whose two sides must both be new: theirs where they agree; None where they do not, and
    the pair is in no split."""
    return left if left == right else None


def chosen(names: Iterable[str], held_out: Mapping[str, str]) -> dict[str, str]:
    """name -> split, where the splits of a few names are given (a cell line, a species) and all others train.
    Errors: a given name that is not there, a split that is none, nothing left to train on."""
    found = {name: held_out.get(name, "train") for name in names}
    absent = sorted(held_out.keys() - found.keys())
    if absent:
        raise Error(f"held out is {absent[0]!r}, which is not there; choose among {', '.join(sorted(found)[:10])}")
    strange = sorted(set(found.values()) - set(SPLITS))
    if strange:
        raise Error(f"split {strange[0]!r} is not one of {', '.join(SPLITS)}")
    if "train" not in found.values():
        raise Error(f"all of {', '.join(sorted(found)[:10])} are held out; leave one to train on")
    return found


def dated(days: Mapping[str, str], since: Mapping[str, str]) -> dict[str, str]:
    """name -> split by its day: the split that begins last on or before that day; "train" before all of them.

    days, and the first day of each split in `since`: ISO dates (2018-06-30), or GAF's 20180630. A fact that has
    several dates should come with its first. Errors: what is no date.
    """
    begins = sorted((_day(first), split) for split, first in since.items())
    found = {}
    for name, day in days.items():
        at = _day(day)
        found[name] = next((split for first, split in reversed(begins) if first <= at), "train")
    return found


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise Error(f"{text!r} is no date; write it as 2018-06-30") from error
