"""Which gene a symbol stands for: approved, then previous, then alias, if only one gene has it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rlvr.knowledge.facts import Gene, Status

STATUSES: tuple[Status, ...] = ("approved", "previous", "alias")  # by rank
_DATE = re.compile(r"(\d{1,2})-([A-Za-z]{3})|([A-Za-z]{3})-(\d{1,2})")
_MONTHS: dict[str, tuple[str, ...]] = {
    **{month: (month,) for month in ("JAN", "FEB", "APR", "MAY", "JUN", "JUL", "AUG", "OCT", "NOV", "DEC")},
    "MAR": ("MARCH", "MARC", "MAR"),
    "SEP": ("SEPT", "SEP"),
}


def settle(held: Iterable[tuple[int, str]]) -> Gene:
    """The gene among (rank, approved symbol) of one name: a lower rank goes before a higher one, and several
    genes of one rank stand for none, even where a higher rank has only one."""
    rows = sorted(set(held))
    found = tuple(symbol for rank, symbol in rows if rank == rows[0][0])
    if not found:
        return Gene(None, "unknown")
    return Gene(found[0], STATUSES[rows[0][0]], found) if len(found) == 1 else Gene(None, "ambiguous", found)


def undated(symbol: str) -> tuple[str, ...]:
    """The symbols that a spreadsheet turns into this date (1-Mar, Mar-01); () if it is no date."""
    found = _DATE.fullmatch(symbol)
    month = (found[2] or found[3]).upper() if found else ""
    number = int(found[1] or found[4]) if found else 0
    spelt = [f"{start}{number}" for start in _MONTHS.get(month, ())]
    return tuple(name for upper in spelt for name in (upper, upper.capitalize()))
