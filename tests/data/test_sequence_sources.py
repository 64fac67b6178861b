"""The sequence sources: on small records made by hand, and on the real ones where they are."""

from __future__ import annotations

import hashlib
import importlib
import itertools
import random
import sqlite3
from collections import Counter
from pathlib import Path

import pytest
from Bio import SeqIO
from Bio.Align import PairwiseAligner, substitution_matrices
from Bio.Seq import Seq
from Bio.SeqFeature import SeqFeature, SimpleLocation
from Bio.SeqRecord import SeqRecord

from rlvr import prompts
from rlvr.completions import parse, reference
from rlvr.plugins import load
from rlvr.questions.biology import jaspar, sequences
from rlvr.source import File, Source
from rlvr.types import Error, Question
from rlvr.verifier import Verifier
from tests.session import need

NAMES = ("translation", "coding_variants", "motifs")
SOURCES = {name: load("data", name, Source) for name in NAMES}
coding = importlib.import_module("rlvr.data._coding")
SENSE = [a + b + c for a, b, c in itertools.product("ACGT", repeat=3) if a + b + c not in sequences.STOPS]


# --- records made by hand ---


def pinned(path: Path, under: Path) -> File:
    return File(str(path.relative_to(under)), hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One mRNA, a genome of eight genes on both strands in genetic code 11, and a table of eight matrices."""
    monkeypatch.setenv("RLVR_DATA", str(tmp_path))
    monkeypatch.setenv("RLVR_CACHE", str(tmp_path / "cache"))
    draw = random.Random(1)

    def gene(codons: int) -> str:
        return f"ATG{''.join(draw.choices(SENSE, k=codons))}TAA"

    mrna = SeqRecord(Seq(f"CC{gene(60)}GG"), id="gi|1|ref|XM_1.1|", description="")
    genome = SeqRecord(Seq(""), id="G1", annotations={"molecule_type": "DNA", "organism": "Homo fictus"})
    for number in range(8):
        coded, strand = Seq(gene(60)), 1 - 2 * (number % 2)
        place = SimpleLocation(len(genome) + 2, len(genome) + 2 + len(coded), strand)
        qualifiers = {"protein_id": [f"P{number}"], "transl_table": [11]}
        genome.features.append(SeqFeature(place, type="CDS", qualifiers=qualifiers))
        genome.seq += Seq("CC") + (coded if strand == 1 else coded.reverse_complement())
    SeqIO.write([mrna], tmp_path / "one.fa", "fasta")
    SeqIO.write([genome], tmp_path / "two.gb", "genbank")
    files = {"one.fa": pinned(tmp_path / "one.fa", tmp_path), "arab1.gb": pinned(tmp_path / "two.gb", tmp_path)}
    empty = tmp_path / "NC_005816.gb"
    empty.write_text("")
    monkeypatch.setattr(coding, "FILES", {**files, "NC_005816.gb": pinned(empty, tmp_path)})
    monkeypatch.setattr(coding, "_LISTED", (("one.fa", "XM_1.1", "Mus fictus", "kin"),))
    monkeypatch.setattr(coding, "_KIN", {"P3": "kin"})
    return tmp_path


def test_genes_are_read_from_both_kinds_of_file(made: Path) -> None:
    genes = coding.genes()
    assert [g.record for g in genes] == ["XM_1.1", *(f"P{n}" for n in range(8))]
    assert {g.organism for g in genes} == {"Mus fictus", "Homo fictus"}
    assert [g.table for g in genes] == [1] + [11] * 8
    for gene in genes:
        assert len(gene.sequence) == 183 and gene.sequence.endswith("TAA")
        assert len(sequences.translate(gene.sequence)) == 60  # on the right strand, in frame, without the start
    assert len({g.split for g in genes if g.family == "kin"}) == 1
    assert Counter(g.family for g in genes)["kin"] == 2


def test_windows_tile_a_gene_and_reach_its_stop(made: Path) -> None:
    gene = coding.genes()[0]
    windows = list(gene.windows(30, step=30))
    assert [start for start, _ in windows] == [3, 33, 63, 93, 123, 153, 156]
    assert all(gene.sequence[start - 3 : start + 27] == window for start, window in windows)
    assert windows[-1][1].endswith("TAA")
    assert list(gene.windows(300, step=30)) == []


def test_questions_of_small_records_are_right_by_their_verifiers(made: Path) -> None:
    found = [*SOURCES["translation"]().questions(), *SOURCES["coding_variants"](length=15).questions()]
    assert {q.task.split("/")[1] for q in found} == {"translation", "reverse_complement", "orf", "variant_effect"}
    check(found)


def test_a_changed_or_missing_record_is_an_error(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coding, "_LISTED", (("one.fa", "XM_2.1", "Mus fictus", "kin"),))
    with pytest.raises(Error, match=r"there is no record XM_2\.1"):
        coding.genes()
    (made / "one.fa").write_text(">x\nATG\n")
    with pytest.raises(Error, match="sha256 is"):
        coding.genes()


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("translation", {"length": 31}, "multiple of three"),
        ("translation", {"length": 9}, "from 12 to 300"),
        ("translation", {"tasks": ("orf", "folding")}, "choose from translation, reverse_complement, orf"),
        ("translation", {"tasks": ()}, "tasks are none"),
        ("coding_variants", {"length": 303}, "from 12 to 300"),
        ("motifs", {"length": 19}, "from 20 to 300"),
        ("motifs", {"options": 1}, "from 2 to 10"),
        ("motifs", {"sites": 0}, "at least 1"),
    ],
)
def test_options_are_checked_before_anything_is_read(name: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(Error, match=said):
        SOURCES[name](**options)


def test_every_file_has_an_address_and_a_checksum() -> None:
    for name in NAMES:
        assert all(len(file.sha256) == 64 and (file.url or file.wheel) for file in SOURCES[name].files())
        assert SOURCES[name].name == name and SOURCES[name].commercial


def test_the_newest_core_profile_of_a_species_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "jaspar.sqlite"
    with sqlite3.connect(path) as base:
        base.executescript(
            """
            CREATE TABLE MATRIX (ID, COLLECTION, BASE_ID, VERSION, NAME);
            CREATE TABLE MATRIX_ANNOTATION (LOCAL_ID, ID, TAG, VAL);
            CREATE TABLE MATRIX_DATA (ID, row, col, val);
            CREATE TABLE MATRIX_SPECIES (ID, TAX_ID);
            INSERT INTO MATRIX VALUES (1, 'CORE', 'MA1', 1, 'OLD'), (2, 'CORE', 'MA1', 10, 'NEW'),
                (3, 'CORE', 'MA1', 9, 'MID'), (4, 'UNVALIDATED', 'UN1', 1, 'MAYBE'), (5, 'CORE', 'MA2', 1, 'MOUSE');
            INSERT INTO MATRIX_ANNOTATION VALUES (1, 2, 'class', 'bZIP'), (2, 2, 'family', 'Group A'), (3, 2, 'x', 'y');
            INSERT INTO MATRIX_SPECIES VALUES (1, '3702'), (2, '3702'), (3, '3702'), (4, '3702'), (5, '10090');
            INSERT INTO MATRIX_DATA SELECT ID, b, c, c * 1.0 FROM MATRIX,
                (SELECT 'A' b UNION SELECT 'C' UNION SELECT 'G' UNION SELECT 'T'), (SELECT 2 c UNION SELECT 1);
            """
        )
    monkeypatch.setenv("RLVR_DATA", str(tmp_path))
    monkeypatch.setattr(jaspar, "FILE", pinned(path, tmp_path))
    (matrix,) = jaspar.read.__wrapped__("3702")
    assert (matrix.id, matrix.name, matrix.classes, matrix.families) == ("MA1.10", "NEW", ("bZIP",), ("Group A",))
    assert matrix.counts == dict.fromkeys("ACGT", (1.0, 2.0)) and len(matrix) == 2
    assert [m.name for m in jaspar.read.__wrapped__()] == ["NEW", "MOUSE"]


# --- the real records ---


@pytest.fixture(scope="module")
def real() -> dict[str, list[Question]]:
    need({file for name in NAMES for file in SOURCES[name].files()})
    return {name: list(SOURCES[name]().questions()) for name in NAMES}


def check(found: list[Question]) -> None:
    """Ids are unique, JSON holds all, no truth is in reach of a prompt, and the reference answer earns 1.0."""
    assert found and len({q.id for q in found}) == len(found)
    for task in sorted({q.task for q in found}):
        template, verifier = prompts.load(task), load("verifiers", task.split("/")[1], Verifier)()
        for question in (q for q in found if q.task == task):
            assert Question.from_json(question.to_json()) == question
            assert {"answer", "group", "context"} <= question.truth.keys()
            text = reference("t", template.word(question.truth["answer"]))
            answered = parse(text, template.answers, question.fields)
            assert verifier.verify(question, answered).score == 1.0
        bare = Question(question.id, task, question.fields, {}, question.source, question.split)
        assert template.render(bare) == template.render(question)


@pytest.mark.parametrize("name", NAMES)
def test_real_questions_are_right_and_small(real: dict[str, list[Question]], name: str) -> None:
    check(real[name])
    assert max(len(q.to_json()) for q in real[name]) < 6000
    counts = Counter(q.split for q in real[name])
    assert min(counts.values()) > 0.1 * len(real[name]) and counts["train"] > 0.6 * len(real[name])


def test_the_numbers_of_questions(real: dict[str, list[Question]]) -> None:
    tasks = Counter(q.task for questions in real.values() for q in questions)
    assert tasks["sequence/translation"] == tasks["sequence/reverse_complement"] == 1983
    assert tasks["sequence/orf"] > 400 and tasks["sequence/motif"] > 1000 and tasks["sequence/variant_effect"] > 9000


def test_the_order_is_fixed(real: dict[str, list[Question]]) -> None:
    for name in ("translation", "coding_variants"):
        assert list(SOURCES[name]().questions()) == real[name]


def test_genes_are_those_that_the_records_annotate(real: dict[str, list[Question]]) -> None:
    """The longest frame of each mRNA gives the length of the protein in the literature."""
    lengths = {g.record: len(g.sequence) // 3 for g in coding.genes()}  # the start is off, the stop is on
    published = {"NM_005228.3": 1210, "M37394.2": 1209, "NM_214007.1": 1209, "BTGST": 210, "OCDHPR": 1873}
    assert {record: lengths[record] for record in published} == published
    assert lengths["M17837.1"] == 256  # Adh
    assert len(lengths) == 40


def test_splits_share_no_family_and_no_homologue(real: dict[str, list[Question]]) -> None:
    questions = [q for name in ("translation", "coding_variants") for q in real[name]]
    for key in ("family", "group"):
        placed = {(q.truth[key], q.split) for q in questions}
        assert len(placed) == len({value for value, _ in placed})
    aligner = PairwiseAligner(
        mode="local",
        substitution_matrix=substitution_matrices.load("BLOSUM62"),
        open_gap_score=-11,
        extend_gap_score=-1,
    )
    proteins = [(g.split, sequences.translate(g.sequence, g.table)) for g in coding.genes()]
    apart = [(a, b) for (s, a), (t, b) in itertools.combinations(proteins, 2) if s != t]
    assert max(aligner.score(a, b) for a, b in apart) < 100


def test_splits_share_no_stretch_of_dna(real: dict[str, list[Question]]) -> None:
    for name in NAMES:
        where: dict[str, set[str]] = {}
        for q in real[name]:
            strands = (q.fields["sequence"], sequences.reverse_complement(q.fields["sequence"]))
            for strand in strands:
                for at in range(len(strand) - 19):
                    where.setdefault(strand[at : at + 20], set()).add(q.split)
        assert all(len(splits) == 1 for splits in where.values())


def test_no_answer_is_found_by_copying_or_by_the_majority(real: dict[str, list[Question]]) -> None:
    assert all(q.truth["answer"] != q.fields["sequence"] for q in real["translation"])
    effects = Counter(q.truth["answer"] for q in real["coding_variants"])
    assert set(effects) == set(sequences.EFFECTS)
    assert max(effects.values()) < 0.22 * effects.total()
    places = Counter(q.fields["options"].index(q.truth["answer"]) for q in real["motifs"])
    assert max(places.values()) < 0.3 * places.total()
    assert max(Counter(q.truth["answer"] for q in real["motifs"]).values()) <= 2


def test_variants_are_written_as_hgvs_asks(real: dict[str, list[Question]]) -> None:
    for q in real["coding_variants"]:
        sequence = q.fields["sequence"]
        change = sequences.read_variant(q.fields["variant"], sequence)
        if not change.bases:  # a deletion cannot be shifted further 3'
            assert change.end == len(sequence) or sequence[change.start] != sequence[change.end]
        elif change.start == change.end:  # an insertion is no duplication
            assert not sequence[: change.start].endswith(change.bases)
            assert not sequence[change.start :].startswith(change.bases)


def test_motif_options_are_of_one_split_and_other_families(real: dict[str, list[Question]]) -> None:
    offered: dict[str, set[str]] = {}
    classes = {m.id: m.classes[0] for m in jaspar.read("3702") if m.classes}
    used: dict[str, set[str]] = {}
    for q in real["motifs"]:
        assert len({name.casefold() for name in q.fields["options"]}) == 4
        for name, matrix in q.truth["matrices"].items():
            offered.setdefault(name, set()).add(q.split)
            used.setdefault(classes[matrix["id"]], set()).add(q.split)
        scores = sorted(jaspar.best_score(m["counts"], q.fields["sequence"]) for m in q.truth["matrices"].values())
        assert scores[-1] - scores[-2] >= 2.0
    assert all(len(splits) == 1 for splits in (offered | used).values())


def test_counts_in_a_question_are_jaspars(real: dict[str, list[Question]]) -> None:
    published = {m.id: m for m in jaspar.read("3702")}
    for q in real["motifs"][:50]:
        for name, matrix in q.truth["matrices"].items():
            assert published[matrix["id"]].name == name
            assert {base: tuple(column) for base, column in matrix["counts"].items()} == published[matrix["id"]].counts
