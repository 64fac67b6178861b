"""Real coding sequences, from the records that Biopython tests itself with, in families that never cross a split.

Used by the sources `translation` and `coding_variants`, so that what one holds out the other does not train on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from Bio import SeqIO

from rlvr.questions import splits
from rlvr.questions.biology.sequences import STOPS, longest_orfs
from rlvr.source import File
from rlvr.types import Error

LICENCE = "records: public (INSDC), by way of Biopython's test data, BSD-3-Clause"
CITATION = "Cock et al., Biopython, Bioinformatics 25:1422, 2009; INSDC records named in each question"
DOI = "10.1093/bioinformatics/btp163"
SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}

_UPSTREAM = "https://raw.githubusercontent.com/biopython/biopython/8b4d499f0e42567439e18a44986f342cc46e4faa/Tests"
_FILES = {
    "Fasta/nucleotide_lib.fa": "bbb7b29e2a61d816d79d4217613767d919557448e20344387e0d910e15afd961",
    "GenBank/NC_005816.gb": "f11a45c8abf0ae0b9340f3513595d50277ea2ae0f74acaef2666b2f42485f65a",
    "GenBank/arab1.gb": "02f9e5659a90d1e77f87a8b83956b1f8b1fdbd640a3adc3839bb13d94e627196",
    "codonalign/drosophila.fasta": "7ca851970adf3cb35a0c3738c60553f3a092a02061e0e344b7b0200611f21127",
    "codonalign/egfr_nucl.fa": "40de3eefa413a9ac90e84516fb7aeb1023007f8f399f9e92e25e45c14c836ea0",
}
FILES = {
    Path(path).name: File(f"biopython_tests/{Path(path).name}", digest, url=f"{_UPSTREAM}/{path}")
    for path, digest in _FILES.items()
}
# FASTA names no organism in a form that can be read, so the records are listed: file, accession, organism, family.
# One record per gene and organism: the other alleles and transcripts would ask the same again. pGT875 is left out,
# because its record names no organism.
_LISTED = (
    ("egfr_nucl.fa", "HM749883.1", "Bos taurus", "protein kinase"),
    ("egfr_nucl.fa", "NM_057410.3", "Drosophila melanogaster", "protein kinase"),
    ("egfr_nucl.fa", "NM_005228.3", "Homo sapiens", "protein kinase"),
    ("egfr_nucl.fa", "M37394.2", "Rattus norvegicus", "protein kinase"),
    ("egfr_nucl.fa", "NM_214007.1", "Sus scrofa", "protein kinase"),
    ("nucleotide_lib.fa", "BTGST", "Bos taurus", "glutathione S-transferase"),
    ("nucleotide_lib.fa", "RABGLTR", "Oryctolagus cuniculus", "glutathione S-transferase"),
    ("nucleotide_lib.fa", "RABGSTB", "Oryctolagus cuniculus", "glutathione S-transferase"),
    ("nucleotide_lib.fa", "OCDHPR", "Oryctolagus cuniculus", "calcium channel"),
    ("drosophila.fasta", "X57361.1", "Drosophila simulans", "alcohol dehydrogenase"),
    ("drosophila.fasta", "X57365.1", "Drosophila yakuba", "alcohol dehydrogenase"),
    ("drosophila.fasta", "M17837.1", "Drosophila melanogaster", "alcohol dehydrogenase"),
)
# In the annotated genomes each gene is its own family, but for these proteins: their best local alignment (BLOSUM62,
# gaps 11 and 1) with the kinases above, or with each other, scores over 100; no other pair reaches that.
_KIN = {"AAF26468.1": "protein kinase", "AAF26469.1": "protein kinase"}


@dataclass(frozen=True)
class Coding:
    """One gene's coding sequence, without its first codon (whose reading depends on its being first): whole codons,
    the stop last. table: NCBI's number of its genetic code."""

    record: str
    organism: str
    family: str
    table: int
    sequence: str
    split: str

    def windows(self, length: int, step: int) -> Iterator[tuple[int, str]]:
        """(start, bases) of windows every `step` bases, and of one more that ends with the stop codon. `start` counts
        bases from the gene's first, which is 0."""
        last = len(self.sequence) - length
        for start in (*range(0, last, step), *([last] if last >= 0 else [])):
            yield start + 3, self.sequence[start : start + length]

    def truth(self, answer: str) -> dict[str, Any]:
        """The truth of a question about this gene; `group` is what clustered intervals resample."""
        return {"answer": answer, "group": self.record, "family": self.family, "context": self.organism}


def genes() -> list[Coding]:
    """Every coding sequence, in a fixed order. Errors: a record that is missing or does not code."""
    found = [*_listed(), *_annotated("arab1.gb"), *_annotated("NC_005816.gb")]
    # Families are few and unequal: under this salt the largest, a third of all bases, falls to training.
    families = splits.assign(sorted({family for _, _, family, _, _ in found}), SHARES, salt="coding")
    return [
        Coding(record, organism, family, table, _body(sequence, record), families[family])
        for record, organism, family, table, sequence in found
    ]


Row = tuple[str, str, str, int, str]  # record, organism, family, genetic code, coding sequence


def _listed() -> Iterator[Row]:
    records: dict[str, Mapping[str, str]] = {}
    for file, accession, organism, family in _LISTED:
        if file not in records:
            records[file] = {_accession(r.id): str(r.seq).upper() for r in _parsed(file, "fasta")}
        if accession not in records[file]:
            raise Error(f"{FILES[file].name}: there is no record {accession}; the file is not the one expected")
        # These are messenger RNAs: the longest frame is the one that codes, as their records say where they say it.
        yield accession, organism, family, 1, min(longest_orfs(records[file][accession], both_strands=False))


def _annotated(file: str) -> Iterator[Row]:
    for record in _parsed(file, "genbank"):
        for feature in record.features:
            if feature.type != "CDS":
                continue
            name = feature.qualifiers["protein_id"][0]
            table = int(feature.qualifiers.get("transl_table", ["1"])[0])  # absent means 1, by INSDC's definition
            sequence = str(feature.extract(record.seq)).upper()
            yield name, record.annotations["organism"], _KIN.get(name, name), table, sequence


def _parsed(file: str, form: str) -> Iterator[Any]:
    with FILES[file].path().open(encoding="ascii") as lines:
        yield from SeqIO.parse(lines, form)


def _accession(name: str) -> str:
    """`gi|24657088|ref|NM_057410.3|` is NM_057410.3; other names stand for themselves."""
    return name.split("|")[3] if name.count("|") > 2 else name


def _body(sequence: str, record: str) -> str:
    if len(sequence) % 3 or sequence[-3:] not in STOPS:
        raise Error(f"record {record}: its coding sequence does not end with a stop codon in frame")
    return sequence[3:]


def check_length(source: str, length: int) -> None:
    """The length of a window must be whole codons, few enough to be answered."""
    if not 12 <= length <= 300 or length % 3:
        raise Error(f"{source}: length is {length}; it must be a multiple of three from 12 to 300")
