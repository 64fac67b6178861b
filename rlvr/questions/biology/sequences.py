"""What a DNA sequence says, by Biopython: translation, reverse complement, longest reading frames, variants' effects.

    from rlvr.questions.biology.sequences import translate; translate("ATGGCN", table=1)      # "MA"

The sequence verifiers recompute every answer with these functions; the sequence sources ask with them. Genetic codes
are NCBI's, by number, as in `Bio.Data.CodonTable`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from Bio import Seq
from Bio.Data import CodonTable, IUPACData

from rlvr.types import Error

BASES = frozenset("ACGT")
IUPAC = frozenset(IUPACData.ambiguous_dna_letters)  # the four bases and the codes of ambiguity, such as N and R
STOPS = frozenset(CodonTable.unambiguous_dna_by_id[1].stop_codons)
EFFECTS = ("synonymous", "missense", "nonsense", "frameshift", "inframe")
_VARIANT = re.compile(r"c\.([0-9]{1,9})(?:_([0-9]{1,9}))?(?:([ACGT])>([ACGT])|(del)|ins([ACGT]+))")


def translate(sequence: str, table: int = 1) -> str:
    """The protein from the first base to the first stop codon (which is left out) or the end; a last codon of one or
    two bases is left out too. A codon of ambiguous bases gives its amino acid where all readings agree, a code of
    ambiguity (B, Z, J) or X where they do not.

    Errors: a letter that is no IUPAC code for DNA, an unknown genetic code, and one in which a codon is both stop and
    amino acid (27, 28, 31), where the end is undecidable.
    """
    _check(sequence, IUPAC)
    if table not in CodonTable.ambiguous_dna_by_id:
        raise Error(f"there is no genetic code {table}; NCBI's numbers are {', '.join(map(str, _tables()))}")
    try:
        return str(Seq.translate(sequence[: len(sequence) // 3 * 3].upper(), table=table, to_stop=True))
    except ValueError as error:  # raised for the codes with codons of two meanings
        raise Error(f"genetic code {table} does not say where a protein stops: {error}") from error


def reverse_complement(sequence: str) -> str:
    """The other strand, 5' to 3', in upper case; codes of ambiguity have complements too (R and Y, K and M)."""
    _check(sequence, IUPAC)
    return str(Seq.reverse_complement(sequence.upper()))


def longest_orfs(sequence: str, *, both_strands: bool) -> frozenset[str]:
    """The longest open reading frames, as bases from ATG to TAA, TAG or TGA, both included; several where they tie,
    none where there is no complete frame. A frame on the other strand is given as it reads there, 5' to 3'."""
    require_bases(sequence)
    strands = [sequence.upper()]
    if both_strands:
        strands.append(reverse_complement(sequence))
    found = {orf for strand in strands for frame in range(3) for orf in _orfs(strand, frame)}
    longest = max(map(len, found), default=0)
    return frozenset(orf for orf in found if len(orf) == longest)


def _orfs(strand: str, frame: int) -> list[str]:
    found, start = [], None
    for at in range(frame, len(strand) - 2, 3):
        codon = strand[at : at + 3]
        if start is None and codon == "ATG":
            start = at
        elif start is not None and codon in STOPS:
            found.append(strand[start : at + 3])
            start = None
    return found


@dataclass(frozen=True)
class Variant:
    """A change of a coding sequence: the bases from `start` up to `end` (0-based, half open) become `bases`."""

    start: int
    end: int
    bases: str

    def apply(self, sequence: str) -> str:
        return sequence[: self.start] + self.bases + sequence[self.end :]


def read_variant(text: str, sequence: str) -> Variant:
    """A variant in HGVS's coding notation, counted from the first base of `sequence`: a substitution (c.7A>G), a
    deletion (c.5del, c.5_7del) or an insertion between neighbours (c.5_6insAC)."""
    match = _VARIANT.fullmatch(text)
    if match is None:
        raise Error(f"variant {text!r} is not of the form c.7A>G, c.5del, c.5_7del or c.5_6insAC")
    first, last, old, new, deleted, inserted = match.groups()
    start, end = int(first) - 1, int(last or first)
    if not 0 <= start < end <= len(sequence) or (old and last):
        raise Error(f"variant {text!r} names no place in a sequence of {len(sequence)} bases")
    if old and sequence[start].upper() != old:
        raise Error(f"variant {text!r} replaces {old}, but base {first} of the sequence is {sequence[start]}")
    if deleted:
        return Variant(start, end, "")
    if old:
        return Variant(start, end, new)
    if end - start != 2:
        raise Error(f"variant {text!r} must insert between two neighbours, such as c.5_6ins")
    return Variant(start + 1, start + 1, inserted)


def effect(sequence: str, variant: str) -> str:
    """What the variant does to the protein, one of EFFECTS, by the standard genetic code.

    frameshift: the length changes by no multiple of three, wherever the new stop falls. nonsense: a stop codon arises,
    by a substitution or by an insertion or deletion in frame. inframe: other insertions and deletions in frame.

    Errors: a sequence that is not whole codons or holds a stop codon before its last, a variant that does not fit it,
    and the loss of the last stop codon, for which there is no word among EFFECTS.
    """
    require_bases(sequence)
    if len(sequence) % 3 or "*" in Seq.translate(sequence)[:-1]:
        raise Error(f"sequence {_short(sequence)} is not coding: whole codons are needed, and no stop before the last")
    changed = read_variant(variant, sequence).apply(sequence)
    longer = len(changed) - len(sequence)
    if longer % 3:
        return "frameshift"
    before, had_stop, _ = Seq.translate(sequence).partition("*")
    after, has_stop, _ = Seq.translate(changed).partition("*")
    if had_stop and not has_stop:
        raise Error(f"variant {variant!r} takes away the stop codon of {_short(sequence)}; no effect has that name")
    if (after, has_stop) == (before, had_stop):
        return "synonymous"
    if has_stop and (not had_stop or len(after) < len(before) + longer // 3):
        return "nonsense"
    return "inframe" if longer else "missense"


def require_bases(sequence: str) -> None:
    """Stop at any letter but A, C, G and T."""
    _check(sequence, BASES)


def _check(sequence: str, letters: frozenset[str]) -> None:
    strange = sorted(set(sequence.upper()) - letters)
    if strange:
        raise Error(f"sequence {_short(sequence)} holds {' '.join(map(repr, strange[:5]))}: not the code of a base")


def _short(sequence: str) -> str:
    return repr(sequence if len(sequence) <= 60 else f"{sequence[:57]}...")


def _tables() -> list[int]:
    return sorted(CodonTable.ambiguous_dna_by_id)
