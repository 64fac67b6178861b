"""Statements in a thought: which are found, what the knowledge base says of them, and what the verifier pays."""

from __future__ import annotations

import pickle
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr import prompts
from rlvr.answers import build
from rlvr.completions import parse, reference
from rlvr.knowledge import Edge, Fact, Term
from rlvr.knowledge.claims import Claim, Lexicon, check, find
from rlvr.plugins import load
from rlvr.testing.redteam import CHEATS, honest_thought
from rlvr.types import Completion, Error, Reason
from rlvr.verifier import Verifier

ANSWERS = build({"up": "up", "down": "down"}, "test")
TERMS = {
    "GO:1": ("T cell activation", 300),
    "GO:2": ("regulation of T cell activation", 200),
    "GO:3": ("positive regulation of T cell activation", 100),
    "GO:4": ("negative regulation of T cell activation", 90),
    "GO:5": ("protein tyrosine kinase activity", 130),
    "GO:6": ("immunological synapse", 40),
    "GO:7": ("nucleus", 7000),
    "GO:8": ("T cell receptor signaling pathway", 150),
    "GO:9": ("spliceosomal complex", 150),
    "GO:10": ("DNA-binding transcription factor activity, RNA polymerase II-specific", 900),
    "GO:11": ("helicase activity", 120),
    "GO:12": ("interleukin-2 production", 60),
}
GENES = {"ZAP70", "LAT", "LCK", "CBLB", "GATA3", "IL2", "IL4", "IL5", "HLA-A", "MYC", "TERT", "C1orf112"}
# gene, term -> (reference, negated)
FACTS = {
    ("ZAP70", "GO:1"): [("PMID:1", False)],
    ("ZAP70", "GO:3"): [("PMID:1", False)],
    ("ZAP70", "GO:5"): [("PMID:2", False)],
    ("ZAP70", "GO:6"): [("PMID:35113687", False)],
    ("ZAP70", "GO:7"): [("PMID:1", False)],
    ("ZAP70", "GO:8"): [("PMID:35113687", False), ("PMID:3", False)],
    ("ZAP70", "GO:11"): [("PMID:4", True)],
    ("CBLB", "GO:4"): [("PMID:5", False)],
    ("LAT", "GO:8"): [("PMID:6", False)],
    ("LCK", "GO:8"): [("PMID:6", False), ("PMID:7", True)],
    ("MYC", "GO:10"): [("PMID:8", False)],
}
# tf, target -> (relation, code)
EDGES = {
    ("GATA3", "IL4"): [("activates", "curated"), ("regulates", "curated")],
    ("GATA3", "IL5"): [("activates", "curated"), ("represses", "curated")],
    ("MYC", "TERT"): [("activates", "default")],
}


class World:
    """A knowledge base of a dozen terms, made by hand."""

    def resolve(self, symbol):
        aliases = {"IL-2": "IL2", "KO": "KRT8", "KD": "KRT9", "OE": "OE1", "WT": "WT1", "TF": "TF"}
        return aliases.get(symbol, symbol if symbol in GENES else None)

    def term(self, id):
        return Term(id, TERMS[id][0], "biological_process") if id in TERMS else None

    def find(self, name, namespace=None):
        return tuple(self.term(id) for id, (own, _) in TERMS.items() if own.casefold() == name.casefold())

    def size(self, id):
        return TERMS[id][1]

    def facts(self, gene, term):
        rows = FACTS.get((gene, term), [])
        return tuple(fact(gene, term, reference, negated) for reference, negated in rows)

    def edge(self, tf, target):
        rows = EDGES.get((tf, target))
        facts = [fact(tf, target, "PMID:9", False, *row) for row in rows or ()]
        return Edge(tf, target, "unknown", tuple(facts)) if rows else None


def fact(subject, object, reference, negated, relation="involved_in", code="IDA"):
    return Fact(subject, relation, object, "", "by hand", "1", code, reference, "CC0", negated)


WORLD = World()
LEXICON = Lexicon(WORLD, [(name, id) for id, (name, _) in TERMS.items()] + [("IL-2 production", "GO:12")])


def said(text):
    """Each statement as gene, relation, name, with a leading "not" where it is denied."""
    return [" ".join(["not"] * c.negated + [c.gene, c.relation, c.name]) for c in find(text, LEXICON)]


def status(text):
    return [check(claim, WORLD, ("PMID:35113687",)).status for claim in find(text, LEXICON)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ZAP70 is involved in T cell activation.", ["ZAP70 has t cell activation"]),
        ("ZAP70 is involved in T-cell activation", ["ZAP70 has t cell activation"]),
        ("ZAP70 likely plays an important role in T cell activation", ["ZAP70 has t cell activation"]),
        ("ZAP70 is a protein tyrosine kinase.", ["ZAP70 has protein tyrosine kinase"]),
        ("ZAP70, a protein tyrosine kinase, binds LAT.", ["ZAP70 has protein tyrosine kinase"]),
        ("The protein tyrosine kinase ZAP70 binds LAT.", ["ZAP70 has protein tyrosine kinase"]),
        ("ZAP70's role in T cell receptor signalling", ["ZAP70 has t cell receptor signaling"]),
        ("LAT and ZAP70 are part of the T cell receptor signaling pathway.",
         ["LAT has t cell receptor signaling pathway", "ZAP70 has t cell receptor signaling pathway"]),
        ("ZAP70 is located in the immunological synapse and the nucleus.",
         ["ZAP70 has immunological synapse", "ZAP70 has nucleus"]),
        ("ZAP70 phosphorylates LAT and is involved in T cell activation.", ["ZAP70 has t cell activation"]),
        ("ZAP70 phosphorylates LAT, which is involved in T cell activation.", ["LAT has t cell activation"]),
        ("ZAP70 is in the nucleus, whereas LAT is in the immunological synapse.",
         ["ZAP70 has nucleus", "LAT has immunological synapse"]),
        ("MYC has DNA-binding transcription factor activity, RNA polymerase II-specific.",
         ["MYC has dna binding transcription factor activity , rna polymerase ii specific"]),
        ("HLA-A is required for T cell activation.", ["HLA-A has t cell activation"]),
        ("C1orf112 is part of the spliceosomal complex.", ["C1orf112 has spliceosomal complex"]),
        # signs
        ("ZAP70 regulates T cell activation.", ["ZAP70 regulates t cell activation"]),
        ("CBLB negatively regulates T cell activation.", ["CBLB represses t cell activation"]),
        ("CBLB is a negative regulator of T cell activation.", ["CBLB represses t cell activation"]),
        ("T cell activation is regulated by ZAP70.", ["ZAP70 regulates t cell activation"]),
        ("ZAP70 promotes IL-2 production.", ["ZAP70 activates il 2 production"]),
        # transcription factors
        ("GATA3 activates IL4 and IL5.", ["GATA3 activates IL4", "GATA3 activates IL5"]),
        ("GATA3 is a repressor of IL4 transcription.", ["GATA3 represses IL4"]),
        ("IL4 is activated by GATA3.", ["GATA3 activates IL4"]),
        ("IL4, induced by GATA3, matters.", ["GATA3 activates IL4"]),
        ("IL4 is activated in T cell activation.", []),
        # denials
        ("ZAP70 is not involved in T cell activation.", ["not ZAP70 has t cell activation"]),
        ("ZAP70 isn't involved in T cell activation.", ["not ZAP70 has t cell activation"]),
        ("ZAP70 has no role in T cell activation.", ["not ZAP70 has t cell activation"]),
        ("ZAP70 lacks helicase activity.", ["not ZAP70 has helicase activity"]),
        ("No evidence shows that ZAP70 has helicase activity.", ["not ZAP70 has helicase activity"]),
        ("ZAP70 is not only in the nucleus.", ["ZAP70 has nucleus"]),
        ("It is false that ZAP70 is in the nucleus.", ["not ZAP70 has nucleus"]),
        ("Nobody says that ZAP70 is in the nucleus.", ["not ZAP70 has nucleus"]),
        ("ZAP70 is hardly in the nucleus.", ["not ZAP70 has nucleus"]),
        ("GATA3 never represses IL4.", ["not GATA3 represses IL4"]),
        # what states nothing
        ("Is ZAP70 involved in T cell activation?", []),
        ("If ZAP70 regulates T cell activation, all is well.", []),
        ("I wonder whether ZAP70 regulates T cell activation.", []),
        ("Knockdown of ZAP70 reduces T cell activation.", []),
        ("ZAP70 knockdown lowers T cell activation.", []),
        ("ZAP70-deficient cells have T cell activation.", []),
        ("Loss of GATA3 reduces IL4.", []),
        ("GATA3 KO reduces IL4.", []),
        ("GATA3-KO cells have T cell activation.", []),
        ("KO of GATA3 reduces IL4.", []),
        ("GATA3 KD reduces IL4.", []),
        ("GATA3 OE raises IL4.", []),
        ("The TF GATA3 activates IL4.", ["GATA3 activates IL4"]),
        ("GATA3 is a TF and activates IL4.", ["GATA3 activates IL4"]),
        ("In WT cells, GATA3 activates IL4.", ["GATA3 activates IL4"]),
        ("ZAP70 is annotated to T cell activation (GO:1).", []),
        ("ZAP70: T cell activation; helicase activity.", []),
        ("ZAP70, LAT, T cell activation.", []),
        ("It is involved in T cell activation.", []),
        ("zap70 is involved in T cell activation.", []),
        ("ZAP700 is involved in T cell activation. ZAP70.1 is involved in T cell activation", []),
        ("ZAP\u200b70 is involved in T cell activation. Z\u0391P70 is involved in T cell activation.", []),
        ("ZAP70 is involved in T ce\u200bll activation or T cеll activation.", []),
        ("\u202e07PAZ is involved in T cell activation. ＺＡＰ７０ is a kinase.", []),
        ("ZAP70 is\ninvolved in\nT cell activation", []),
        ("", []),
    ],
)  # fmt: skip
def test_statements_are_found(text, expected):
    assert said(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ZAP70 is involved in T cell activation.", "supported"),
        ("ZAP70 is a protein tyrosine kinase.", "supported"),
        ("ZAP70 is part of the spliceosomal complex.", "unknown"),  # absence denies nothing
        ("ZAP70 has helicase activity.", "contradicted"),  # a NOT annotation
        ("ZAP70 lacks helicase activity.", "supported"),
        ("ZAP70 is not involved in T cell activation.", "contradicted"),
        ("ZAP70 is not part of the spliceosomal complex.", "unknown"),
        ("ZAP70 is in the nucleus.", "vague"),
        ("LCK is part of the T cell receptor signaling pathway.", "unknown"),  # the sources say both
        ("ZAP70 is part of the T cell receptor signaling pathway.", "supported"),
        ("ZAP70 is part of the immunological synapse.", "unknown"),  # reported by an excluded paper alone
        ("ZAP70 promotes T cell activation.", "supported"),
        ("ZAP70 suppresses T cell activation.", "contradicted"),
        ("CBLB suppresses T cell activation.", "supported"),
        ("CBLB promotes T cell activation.", "contradicted"),
        ("CBLB does not promote T cell activation.", "supported"),
        ("LAT suppresses T cell receptor signaling pathway.", "unknown"),
        ("GATA3 activates IL4.", "supported"),
        ("GATA3 represses IL4.", "contradicted"),
        ("GATA3 regulates IL5.", "supported"),
        ("GATA3 activates IL5.", "unknown"),  # sources name both signs
        ("GATA3 activates IL2.", "unknown"),
        ("MYC regulates TERT.", "supported"),
        ("MYC represses TERT.", "unknown"),  # a sign given for want of any other contradicts nothing
        ("GATA3 does not activate IL4.", "contradicted"),
    ],
)
def test_statements_are_checked(text, expected):
    assert status(text) == [expected]


@given(st.text(alphabet="ZAP70 LTcelactivation.,?()\n-_'\u200bА", max_size=200) | st.text(max_size=200))
def test_any_text_is_read(text):
    assert all(isinstance(claim, Claim) for claim in find(text, LEXICON))


PIECES = ["ZAP70", "LAT", "GATA3", "IL4", "is involved in", "activates", "not", "by", "is", "T cell activation", ","]
PIECES += ["and", "which", "knockdown of", "(", "whether", "helicase activity", ";", "a", "kinase", ".", "?", "\n"]


@given(st.lists(st.sampled_from(PIECES), max_size=40))
def test_any_sentence_is_read_and_checked(pieces):
    for claim in find(" ".join(pieces), LEXICON):
        assert claim.gene in GENES
        assert check(claim, WORLD).status in ("supported", "contradicted", "unknown", "vague")


@pytest.mark.parametrize(
    "piece", ["ZAP70 ", "T cell ", "is ", "a", "not ", "ZAP70 is in the nucleus ", "-", "A-", "é", "A1 "]
)
def test_a_megabyte_is_read(piece):
    claims = find(piece * (1_000_000 // len(piece)), LEXICON)
    assert len(claims) <= 100


# The verifier, on the sample tables.


@pytest.fixture(scope="module")
def ask(make_question):
    """A question that shows nothing of its genes."""
    return lambda fields={}, **options: make_question({"evidence": [], **fields}, **options)


def verifier(**options):
    return load("verifiers", "claims", Verifier)(knowledge="sample", **options)


def verdict(question, thought, **options):
    return verifier(**options).verify(question, parse(reference(thought, "down"), ANSWERS, question.fields))


TRUE = "ZAP70 is part of the T cell receptor signaling pathway."
UNKNOWN = "ZAP70 is part of the spliceosomal complex."


@pytest.mark.parametrize(
    ("thought", "score", "reason"),
    [
        (TRUE, 1.0, Reason.SUPPORTED),
        (f"{TRUE} So knockdown should lower IL-2.", 1.0, Reason.SUPPORTED),
        ("Silence.", 0.0, Reason.MISSING),
        (UNKNOWN, 0.0, Reason.UNKNOWN),
        (f"{TRUE} {UNKNOWN}", 1 / 1.5, Reason.PARTIAL),
        (f"{TRUE} ZAP70 is not involved in the T cell receptor signaling pathway.", 0.5, Reason.CONTRADICTED),
        ("ZAP70 is not involved in the T cell receptor signaling pathway.", 0.0, Reason.CONTRADICTED),
        ("ZAP70 is in the cytosol.", 0.0, Reason.VAGUE),
        ("AAR2 is part of the spliceosomal complex.", 0.0, Reason.MISSING),  # true, but of another gene
        (" ".join([TRUE] * 3), 1.0, Reason.SUPPORTED),  # counts once
        (" ".join([TRUE] * 60), 0.0, Reason.STUFFED),
    ],
)
def test_scores(ask, thought, score, reason):
    found = verdict(ask(), thought)
    assert found.score == pytest.approx(score)
    assert found.reason is reason


@pytest.mark.parametrize(
    ("thought", "reason"),
    [
        ("ZAP70 regulates LAT.", Reason.MISSING),  # as the question has it
        ("ZAP70 activates LAT.", Reason.UNKNOWN),
        ("LAT regulates ZAP70.", Reason.UNKNOWN),
        ("ZAP70 does not regulate LAT.", Reason.UNKNOWN),
    ],
)
def test_what_the_question_says_of_its_own_factor_is_no_statement(ask, thought, reason):
    question = ask({"tf": "ZAP70", "target": "LAT"}, task="regulation/edge")
    assert verdict(question, thought).reason is reason


PARENT = "ZAP70 is involved in antigen receptor-mediated signaling pathway."


@pytest.mark.parametrize(
    "shown",
    [
        {"known": {"ZAP70": ["T cell receptor signaling pathway"]}},
        {"known": {"ZAP70": "kinase; T cell receptor signaling pathway; SH2 domain"}},
        {"snippet": "It acts in T cell receptor signalling."},  # a synonym, in a sentence
        {"evidence": [{"perturbation": "LAT", "shared": "T cell receptor signaling pathway"}]},
        {"options": ["T cell receptor signaling pathway", "DNA repair"]},
    ],
)
def test_what_the_question_shows_earns_nothing(ask, shown):
    assert verdict(ask(), TRUE).score == 1.0
    found = verdict(ask(shown), TRUE)
    assert (found.score, found.reason) == (0.0, Reason.MISSING)
    assert verdict(ask(shown), f"{TRUE} {UNKNOWN}").score == 0.0
    honest = verifier().honest(ask(shown)).thought
    assert "T cell receptor signal" not in honest
    assert verdict(ask(shown), honest).score == 1.0
    assert verdict(ask(shown), f"{TRUE} {honest}").score == 1.0  # neither way
    denied = "ZAP70 is not involved in the T cell receptor signaling pathway."
    assert verdict(ask(shown), f"{honest} {denied}").score == 0.5  # against what is shown


def test_what_follows_from_a_term_shown_earns_nothing(ask):
    assert verdict(ask(), PARENT).score == 1.0
    assert verdict(ask({"known": {"ZAP70": ["T cell receptor signaling pathway"]}}), PARENT).score == 0.0


def test_what_is_true_in_every_question_on_a_readout_does_not_pay_alone(ask):
    unknown = ask({"perturbation": "NOGENE1", "readout": "LAT"})
    readout = verifier().honest(unknown).thought
    assert readout.startswith("LAT ")
    assert verdict(unknown, readout).score == 1.0  # there is nothing else to state
    found = verdict(ask({"readout": "LAT"}), readout)
    assert (found.score, found.reason) == (0.0, Reason.VAGUE)
    assert verdict(ask({"readout": "LAT"}), f"{TRUE} {readout}").score == 1.0


def test_evidence_names_record_and_source(ask):
    (item,) = verdict(ask(), TRUE).evidence
    assert item.supports
    assert "GO:0050852" in item.record
    (item,) = verdict(ask(), UNKNOWN).evidence
    assert not item.supports
    assert item.record == "GO:0005681"


def test_a_list_after_one_gene_is_bounded(ask):
    names = ["T cell activation", "T cell receptor signaling pathway", "DNA repair", "cell cycle", "DNA replication"]
    sentence = "ZAP70 is involved in {}."
    assert verdict(ask(), sentence.format(", ".join(names[:2]))).score == 1.0
    assert verdict(ask(), sentence.format(", ".join(names))).reason is Reason.STUFFED
    many = " ".join(sentence.format(name) for name in names)
    assert verdict(ask(), many).reason is Reason.STUFFED  # nothing but statements
    spaced = " ".join(sentence.format(name) + " That is worth a thought, here as in all else." for name in names)
    assert verdict(ask(), spaced).score > 0


def test_nothing_known_of_the_genes_abstains_whatever_is_said(ask):
    question = ask({"perturbation": "NOGENE1", "readout": "NOGENE2"})
    for thought in ("", TRUE, "x" * 200_000):
        assert verdict(question, thought).reason is Reason.UNCOVERED


def test_excluded_papers_are_those_of_the_benchmarks():
    assert verifier().exclude_references == ("PMID:35688146", "PMID:35113687")
    assert pickle.loads(pickle.dumps(verifier())) == verifier()


def test_the_honest_sentence_earns_everything(ask):
    lexicon = Lexicon.open("sample")
    covered = 0
    for gene in lexicon.knowledge.symbols()[::7]:
        question = ask({"perturbation": gene, "readout": "viability"})
        sentence = verifier().honest(question).thought
        found = verdict(question, sentence or "x")
        assert (found.reason is Reason.UNCOVERED) == (sentence == "")
        if sentence:
            covered += 1
            assert found.score == 1.0
            assert verdict(question, honest_thought(question, sentence)).score == 1.0
    assert covered > 20


def test_cheats_earn_less(ask):
    question = ask()
    template = prompts.load(question.task)
    honest = verifier().honest(question)
    for name in verifier().catches:
        text = CHEATS[name](question, template, honest, Random(1))
        completion = parse(text, template.answers, question.fields)
        assert verifier().verify(question, completion).score < 1.0, name


FILLER = "Other knockdowns in these cells did the same, as the evidence given above has it."
ASSERTIONS = [TRUE, UNKNOWN, "ZAP70 is not involved in the T cell receptor signaling pathway.", "ZAP70 is a helicase."]


@given(st.lists(st.sampled_from(ASSERTIONS), max_size=4), st.sampled_from(ASSERTIONS))
def test_only_truth_raises_the_score(ask, sentences, more):
    sentences = [f"{sentence} {FILLER}" for sentence in sentences]
    before = verdict(ask(), " ".join(sentences)).score
    after = verdict(ask(), " ".join([*sentences, more])).score
    assert 0.0 <= after <= 1.0
    if more != TRUE:
        assert after <= before
    else:
        assert after >= before


@given(st.text() | st.lists(st.sampled_from(PIECES), max_size=60).map(" ".join))
def test_any_thought_gets_a_score(ask, thought):
    found = verifier().verify(ask(), Completion(thought, thought, "down"))
    assert found.score is not None and 0.0 <= found.score <= 1.0


def test_unknown_statements_must_cost():
    with pytest.raises(Error, match="unknown_cost"):
        verifier(unknown_cost=0.0)


# The full files.


@pytest.mark.slow
@pytest.mark.upstream
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A1CF has double-stranded RNA binding activity.", "contradicted"),  # NOT, PMID:11871661
        ("ZAP70 is a protein tyrosine kinase.", "supported"),
        ("SF3B1 is a core component of the spliceosome complex.", "supported"),
        ("ZAP70 positively regulates T cell activation.", "supported"),
        ("LAT is part of the TCR signalling pathway.", "supported"),
        ("PSMA1 is part of Hypoxia.", "unknown"),
        ("ZAP70 is in the nucleus.", "vague"),
        ("NF-κB regulates IL2.", "supported"),
        ("GATA3 represses IFNG.", "unknown"),  # its one sign is CollecTRI's default
        ("MYC represses TERT.", "contradicted"),
    ],
)
def test_real_facts(text, expected):
    lexicon = Lexicon.open("upstream")
    assert [check(claim, lexicon.knowledge).status for claim in find(text, lexicon)] == [expected]
