"""Identifiers in a thought: which are found, which are right, and what none can buy."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr import prompts
from rlvr.answers import build
from rlvr.completions import parse, reference
from rlvr.knowledge import KnowledgeBase, Term
from rlvr.knowledge.claims import Lexicon
from rlvr.plugins import load
from rlvr.testing.redteam import CHEATS, honest_thought
from rlvr.types import Completion, Reason
from rlvr.verifier import Verifier

ANSWERS = build({"up": "up", "down": "down"}, "test")
TCR = "GO:0050852"  # T cell receptor signaling pathway
RIGHT = f"ZAP70 acts in T cells ({TCR})."


def verifier(**options):
    return load("verifiers", "citation", Verifier)(knowledge="sample", **options)


def verdict(question, thought, **options):
    return verifier(**options).verify(question, parse(reference(thought, "down"), ANSWERS, question.fields))


@pytest.mark.parametrize(
    ("thought", "score", "reason"),
    [
        (RIGHT, 1.0, Reason.CORRECT),
        (f"ZAP70 is in the T cell receptor signaling pathway ({TCR}).", 1.0, Reason.CORRECT),
        (f"{RIGHT} The spliceosomal complex (GO:0005681) is elsewhere.", 1.0, Reason.CORRECT),  # its name is there
        (f"{RIGHT} ZAP70 splices (GO:0005681).", 0.5, Reason.PARTIAL),
        (f"{RIGHT} See GO:9999999.", 0.5, Reason.PARTIAL),
        (f"{RIGHT} It is UniProt P43403.", 1.0, Reason.CORRECT),  # no other gene is spoken of
        (f"{RIGHT} ZAP70 (P43403) binds LAT (O43561).", 1.0, Reason.CORRECT),
        (f"{RIGHT} LAT is P43403.", 0.5, Reason.PARTIAL),
        (f"{RIGHT} It is UniProt O43561.", 0.5, Reason.PARTIAL),  # LAT, which nobody spoke of
        (f"{RIGHT} ZAP70 is P99999.", 0.5, Reason.PARTIAL),
        (f"{RIGHT} {RIGHT} And {TCR}.", 1.0, Reason.CORRECT),  # counts once
        ("No identifier.", 0.0, Reason.MISSING),
        (f"ZAP70 does not act in T cells ({TCR}).", 0.0, Reason.WRONG),  # denies what it cites
        (f"{RIGHT} CD3E: spliceosomal complex (GO:0005681).", 0.5, Reason.PARTIAL),  # named, of a gene without it
        ("ZAP70: spliceosomal complex (GO:0005681).", 0.0, Reason.WRONG),
        ("ZAP70 and GO:9999999, R-HSA-999999999, GO:12.", 0.0, Reason.INVENTED),
        ("ZAP70 splices (GO:0005681).", 0.0, Reason.WRONG),
        ("The spliceosomal complex is GO:0005681.", 0.0, Reason.VAGUE),  # true, and beside the point
        (f"LAT acts in T cells ({TCR}).", 0.0, Reason.VAGUE),  # of a gene that is not asked about
        ("ZAP70 is in the cytosol (GO:0005829).", 0.0, Reason.VAGUE),  # as a quarter of all genes are
        ("ZAP70 is P43403.", 0.0, Reason.VAGUE),  # true, and says nothing of the gene
        ("LAT is P43403.", 0.0, Reason.WRONG),
        ("ZAP70 is P99999.", 0.0, Reason.INVENTED),  # not of the sample: as if it did not exist
        ("ZAP70 is P43403-2 or XP43403.", 0.0, Reason.MISSING),
        (RIGHT * 20, 0.0, Reason.STUFFED),
        (f"ZA\u200bP70 acts in T cells ({TCR}).", 0.0, Reason.WRONG),
        (f"ZAP70 acts in T cells ({TCR[:-1]}\u0662).", 0.0, Reason.MISSING),
        (f"ZAP70 acts (X{TCR} {TCR}x {TCR}-1).", 0.0, Reason.MISSING),
        ("x" * 200_000, 0.0, Reason.STUFFED),
    ],
)
def test_scores(make_question, thought, score, reason):
    found = verdict(make_question(), thought)
    assert (found.score, found.reason) == (score, reason)


@pytest.mark.parametrize(
    "padding",
    [
        f"LAT acts in T cells ({TCR}).",  # its own identifier again, elsewhere
        "CD3E is in the alpha-beta T cell receptor complex (GO:0042105).",
        "Unlike ZAP70, CD3E is in the alpha-beta T cell receptor complex (GO:0042105).",
        "LAT is O43561.",
        "ZAP70 binds LAT (O43561).",
    ],
)
def test_what_is_true_of_other_genes_buys_nothing(make_question, padding):
    wrong = "ZAP70 splices (GO:0000398)."
    assert verdict(make_question(), f"{RIGHT} {wrong}").score == 0.5
    assert verdict(make_question(), f"{RIGHT} {wrong} {padding}").score == 0.5
    assert verdict(make_question(), padding).score == 0.0


def test_a_term_of_the_readout_is_not_to_the_point_where_the_perturbed_gene_has_one(make_question):
    unknown = make_question({"perturbation": "NOGENE1", "readout": "LAT"})
    honest = verifier().honest(unknown).thought
    assert honest.startswith("LAT ")
    assert verdict(unknown, honest).score == 1.0
    assert verdict(make_question({"readout": "LAT"}), honest).reason is Reason.VAGUE
    assert verdict(make_question({"readout": "LAT"}), f"{RIGHT} {honest}").score == 1.0


def test_an_alias_names_the_gene(make_question):
    symbols = Lexicon.open("sample").knowledge
    assert symbols.resolve("SRK") == "ZAP70"
    assert verdict(make_question(), f"SRK acts in T cells ({TCR}).").score == 1.0
    assert verdict(make_question({"perturbation": "SRK"}), RIGHT).score == 1.0


def test_padding_with_named_identifiers_buys_nothing(make_question):
    """A list of terms and their names, learnt by heart, earns what its hits earn alone."""
    terms = [term for term in map(KnowledgeBase.open("sample").term, ["GO:0005681", "GO:0005829"]) if term]
    padding = " ".join(f"{term.name} is {term.id}." for term in terms)
    for thought in (f"{RIGHT} ZAP70 splices (GO:0000398).", "ZAP70 splices (GO:0000398)."):
        assert verdict(make_question(), f"{thought} {padding}").score == verdict(make_question(), thought).score


def test_a_term_whose_name_denies_something_can_be_cited(make_question, monkeypatch):
    real = KnowledgeBase.term
    named = Term(TCR, "signaling without NO", "biological_process")
    monkeypatch.setattr(KnowledgeBase, "term", lambda self, id: named if id == TCR else real(self, id))
    assert verdict(make_question(), f"ZAP70 is in signaling without NO ({TCR}).").score == 1.0
    assert verdict(make_question(), f"ZAP70 is not in signaling without NO ({TCR}).").score == 0.0


def test_an_identifier_of_the_question_does_not_count(make_question):
    question = make_question({"evidence": [{"perturbation": "LAT", "shared": f"see {TCR}"}]})
    assert verdict(question, RIGHT).reason is Reason.MISSING


def test_a_gene_symbol_is_no_accession(make_question, monkeypatch):
    lexicon = Lexicon.open("sample")
    monkeypatch.setattr(lexicon, "symbol", lambda word: word if word in ("P2RY12", "ZAP70") else None)
    citations = __import__(load("verifiers", "citation", Verifier).__module__, fromlist=["citations"]).citations
    assert [found for found, _ in citations("P2RY12 on ZAP70, P43403, A0A023GPI8, GO:0000001.", lexicon)] == [
        "P43403",
        "A0A023GPI8",
        "GO:0000001",
    ]


def test_a_protein_of_several_genes_goes_with_each(make_question, monkeypatch):
    monkeypatch.setattr(KnowledgeBase, "encoded_by", lambda self, id: ("LAT", "ZAP70"))
    for gene in ("LAT", "ZAP70"):
        found = verdict(make_question(), f"{RIGHT} {gene} makes P0C0S8.")
        assert found.score == 1.0 and found.evidence[1].statement == "the protein of LAT, ZAP70"
    assert verdict(make_question(), f"{RIGHT} CD3E makes P0C0S8.").score == 0.5


@pytest.mark.parametrize(
    ("term", "instead"),
    [
        (Term("GO:0000001", "old", "biological_process", obsolete=True, replaced_by=(TCR,)), TCR),
        (Term("GO:0000001", "old", "biological_process", obsolete=True), "nothing"),
        (Term("GO:0000002", "merged", "biological_process"), "GO:0000002"),  # GO:0000001 is an alternative id
    ],
)
def test_what_replaces_an_obsolete_identifier_is_named(make_question, monkeypatch, term, instead):
    real = KnowledgeBase.term
    monkeypatch.setattr(KnowledgeBase, "term", lambda self, id: term if id == "GO:0000001" else real(self, id))
    found = verdict(make_question(), "ZAP70 acts (GO:0000001).")
    assert (found.score, found.reason) == (0.0, Reason.OBSOLETE)
    assert instead in found.evidence[0].statement


def test_nothing_known_of_the_genes_abstains_whatever_is_said(make_question):
    question = make_question({"perturbation": "NOGENE1", "readout": "NOGENE2"})
    for thought in ("", RIGHT, "x" * 200_000):
        assert verdict(question, thought).reason is Reason.UNCOVERED


def test_honest_play_earns_everything_and_cheats_less(make_question):
    question = make_question()
    template = prompts.load(question.task)
    honest = verifier().honest(question)
    assert verdict(question, honest_thought(question, honest.thought)).score == 1.0
    for name in verifier().catches:
        completion = parse(CHEATS[name](question, template, honest, Random(1)), template.answers, question.fields)
        assert verifier().verify(question, completion).score < 1.0, name


PIECES = [
    "ZAP70",
    TCR,
    "GO:",
    "GO:12",
    "R-HSA-",
    "R-HSA-1",
    "P43403",
    "P99999",
    ".",
    " ",
    "\n",
    "T cell receptor signaling pathway",
]


@given(st.text() | st.lists(st.sampled_from(PIECES), max_size=60).map(" ".join))
def test_any_thought_gets_a_score(make_question, thought):
    found = verifier().verify(make_question(), Completion(thought, thought, "down"))
    assert found.score is not None and 0.0 <= found.score <= 1.0


@pytest.mark.parametrize("piece", ["GO:", "GO:0050852 ", "A0A", "R-HSA-1", "A1AAA1", ". "])
def test_long_thoughts_are_read(make_question, piece):
    assert verdict(make_question(), piece * (99_000 // len(piece))).score == 0.0
