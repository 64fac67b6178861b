"""Which gene a name stands for, as files write it: approved, then previous, then alias, then Ensembl's id.

cleaned("GRCh38_FTH1"), cleaned("ENSG00000105610.6")    # "FTH1", "ENSG00000105610"
missing("NA"), undated("2021-09-02")                    # True, ("SEPT2", "Sept2", "SEP2", "Sep2")
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, timedelta

from rlvr.knowledge.facts import Gene, Status

STATUSES: tuple[Status, ...] = ("approved", "previous", "alias", "ensembl")  # by rank
GENOME = re.compile(r"(GRC[hm]\d\d|hg\d\d|mm\d\d)_+", re.IGNORECASE)  # that some pipelines put before each name
ENSEMBL = re.compile(r"(ENS(?:MUS)?G\d{11})(?:\.\d+)?(?:_PAR_Y)?")
# What tables write where there is no gene, and what experiments call themselves: aliases of genes, some of them.
_MISSING = {"", "na", "n/a", "#n/a", "nan", "none", "null", "nil", "-", "--", ".", "?", "unknown", "unassigned"}
_MISSING |= {"undefined", "undetermined", "missing", "unmapped", "not_available", "not available"}
_MISSING |= {"ko", "kd", "oe", "wt", "ki", "nt", "ntc", "ctrl"}
_DAY = re.compile(r"(\d{1,2})[-/. ]([A-Za-z]{3,4})(?:[-/. ]\d{2,4})?|([A-Za-z]{3,4})[-/. ](\d{1,2})(?:[-/, ]+\d{4})?")
_ISO = re.compile(r"(?:19|20)\d\d[-/.](\d{1,2})[-/.](\d{1,2})(?:[ T]00:00(?::00(?:\.0+)?)?)?")
_SLASHED = re.compile(r"(\d{1,2})[-/.](\d{1,2})[-/.](?:(?:19|20)?\d\d)")
_SERIAL = re.compile(r"([3-5]\d{4})(?:\.0+)?")  # days since the end of 1899: 1982 to 2064
_MONTHS: dict[str, tuple[str, ...]] = {
    **{month: (month,) for month in ("JAN", "FEB", "APR", "MAY", "JUN", "JUL", "AUG", "OCT", "NOV", "DEC")},
    "MAR": ("MARCH", "MARC", "MAR"),
    "SEP": ("SEPT", "SEP"),
}
_NUMBERED = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


def settle(held: Iterable[tuple[int, str]]) -> Gene:
    """The gene among (rank, approved symbol) of one name: a lower rank goes before a higher one, and several
    genes of one rank stand for none, even where a higher rank has only one."""
    rows = sorted(set(held))
    found = tuple(symbol for rank, symbol in rows if rank == rows[0][0])
    if not found:
        return Gene(None, "unknown")
    return Gene(found[0], STATUSES[rows[0][0]], found) if len(found) == 1 else Gene(None, "ambiguous", found)


def cleaned(name: str) -> str:
    """A name without white space around it, the genome before it, and the version behind an Ensembl id."""
    name = GENOME.sub("", name.strip(), count=1)
    found = ENSEMBL.fullmatch(name)
    return found[1] if found else name


def missing(name: str) -> bool:
    """Whether a table that holds this has no gene there."""
    return name.strip().casefold() in _MISSING


def undated(name: str) -> tuple[str, ...]:
    """The symbols that a spreadsheet turns into this date (1-Mar, Mar-01, 2021-03-01, 1/3/2021, 44256); () if it is no
    date."""
    spelt = [f"{start}{number}" for month, number in _dates(name) for start in _MONTHS[month]]
    return tuple(dict.fromkeys(other for upper in spelt for other in (upper, upper.capitalize())))


def _dates(name: str) -> list[tuple[str, int]]:
    """(month, number of the gene) that a date may have been made of: 2021-03-01 and 1-Mar are MARCH1."""
    if found := _DAY.fullmatch(name):
        month, number = (found[2] or found[3]).upper()[:3], int(found[1] or found[4])
        return [(month, number)] if month in _MONTHS else []
    if found := _ISO.fullmatch(name):
        pairs = [(int(found[1]), int(found[2]))]
    elif found := _SLASHED.fullmatch(name):
        pairs = [(int(found[1]), int(found[2])), (int(found[2]), int(found[1]))]
    elif found := _SERIAL.fullmatch(name):
        day = date(1899, 12, 30) + timedelta(days=int(found[1]))
        pairs = [(day.month, day.day)]
    else:
        return []
    return [(_NUMBERED[month - 1], number) for month, number in pairs if 1 <= month <= 12 and 1 <= number <= 31]
