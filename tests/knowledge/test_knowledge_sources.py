"""go_function and pathway_membership: what may be right, what may be wrong, and that no name gives itself away."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from rlvr import prompts
from rlvr.answers import fold
from rlvr.knowledge import KnowledgeBase, Term, store
from rlvr.knowledge.ontologies import Entry
from rlvr.knowledge.readers import Claim
from rlvr.knowledge.releases import UPSTREAM
from rlvr.knowledge.rows import Rows
from rlvr.plugins import load
from rlvr.questions.splits import refuse_leak
from rlvr.source import Source
from rlvr.types import Error, Question
from tests.session import need

GoFunction = load("data", "go_function", Source)
PathwayMembership = load("data", "pathway_membership", Source)
SHARED = sys.modules[GoFunction.__mro__[1].__module__]
ROOT, OTHER_ROOT = "GO:0003674", "GO:0008150"
KINASE, SERINE, TYROSINE, LIPID, RIBOSE = "GO:1", "GO:2", "GO:3", "GO:4", "GO:5"
RECEPTOR = "GO:6"  # a kind of tyrosine kinase
TERMS = {
    ROOT: ("molecular_function", "molecular function", ()),
    OTHER_ROOT: ("biological_process", "biological process", ()),
    KINASE: ("molecular_function", "kinase activity", (ROOT,)),
    SERINE: ("molecular_function", "serine kinase activity", (KINASE,)),
    TYROSINE: ("molecular_function", "tyrosine kinase activity", (KINASE,)),
    LIPID: ("molecular_function", "lipid kinase activity", (KINASE,)),
    RIBOSE: ("molecular_function", "ribose kinase activity", (KINASE,)),
    RECEPTOR: ("molecular_function", "receptor tyrosine kinase activity", (TYROSINE,)),
    "GO:7": ("biological_process", "growth", (OTHER_ROOT,)),
}
GENES = [f"G{i}" for i in range(24)]
LEAVES = (SERINE, TYROSINE, LIPID, RIBOSE)
# G0 to G19: five genes of each kind, by experiment.
PLAIN = [Claim(f"G{i}", "enables", LEAVES[i % 4], "IDA" if i % 2 else "TAS", f"PMID:{i}|GO_REF:1") for i in range(20)]
Make = Callable[..., KnowledgeBase]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """make(claims, pathways={...}): a knowledge base of G0 to G23, terms of two genes and more."""
    monkeypatch.setattr(SHARED, "SIZES", range(2, 20))
    monkeypatch.setattr(sys.modules[GoFunction.__module__], "SIZES", range(2, 20))
    monkeypatch.setattr(sys.modules[PathwayMembership.__module__], "SIZES", range(2, 20))

    def made(
        claims: Sequence[Claim] = (), pathways: Mapping[str, Sequence[str]] = MappingProxyType({})
    ) -> KnowledgeBase:
        def fill(write: store.Write) -> None:
            rows = Rows()
            for part in ("genes", "ontology", "annotation", "pathways"):
                rows.release(part, UPSTREAM[part])
            rows.name((gene, 0, gene) for gene in GENES)
            rows.enter(Entry(Term(id, name, space), parents) for id, (space, name, parents) in TERMS.items())
            rows.enter(Entry(Term(f"R-HSA-{n}", name, "pathway")) for n, name in enumerate(pathways, 1))
            for claim in claims:
                rows.add("annotation", claim)
            for n, genes in enumerate(pathways.values(), 1):
                for gene in genes:
                    rows.add("pathways", Claim(gene, "member_of", f"R-HSA-{n}", "curated"))
            rows.write(write, "hand", {})

        return KnowledgeBase.open(store.built(tmp_path / "hand.sqlite", fill, "hand"))

    return made


def asked(source: type[Source], base: KnowledgeBase, **options: Any) -> dict[str, Question]:
    """By gene."""
    return {q.fields["gene"]: q for q in source(knowledge=str(base.path), **options).questions()}


def test_a_question_names_the_term_among_its_siblings_and_where_it_is_written(make: Make) -> None:
    found = asked(GoFunction, make(PLAIN))
    assert set(found) == set(GENES[:20])
    q = found["G3"]
    assert (q.id, q.task) == ("go_function:molecular_function:G3:GO:5", "knowledge/function")
    assert sorted(q.fields["options"]) == sorted(TERMS[leaf][1] for leaf in LEAVES)
    assert q.truth["answer"] == "ribose kinase activity"
    assert q.truth["ids"] == {TERMS[leaf][1]: leaf for leaf in LEAVES}
    assert (q.truth["references"], q.truth["codes"]) == (["GO_REF:1", "PMID:3"], ["IDA"])
    assert (q.truth["group"], q.cluster) == ("G3", "G3")
    text = prompts.load(q.task).render(q)[1]["content"]
    assert all(f"- {name}" in text for name in q.fields["options"]) and "GO:" not in text and "PMID" not in text
    assert len({found[g].fields["options"].index(found[g].truth["answer"]) for g in found}) == 4


@pytest.mark.parametrize(
    "more",
    [
        Claim("G20", "enables", SERINE, "IEA"),  # electronic
        Claim("G20", "enables", SERINE, "ISS"),  # from a homologue
        Claim("G20", "contributes_to", SERINE, "IDA"),
        Claim("G20", "enables", SERINE, "IDA", negated=True),
        Claim("G20", "enables", KINASE, "IDA"),  # of too many genes
        Claim("G20", "involved_in", "GO:7", "IDA"),  # another namespace
    ],
)
def test_what_is_not_stated_of_the_gene_itself_is_not_asked(make: Make, more: Claim) -> None:
    assert "G20" not in asked(GoFunction, make([*PLAIN, more]))


def test_a_denied_term_is_not_the_answer(make: Make) -> None:
    base = make([*PLAIN, Claim("G20", "enables", LIPID, "IDA"), Claim("G20", "enables", LIPID, "IMP", negated=True)])
    source = GoFunction(knowledge=str(base.path))
    assert "G20" not in {q.fields["gene"] for q in source.questions()}
    assert source.drops["denied by a NOT row"] == 1


def test_no_option_is_carried_or_might_be(make: Make) -> None:
    """G20 carries two kinds, of which one electronically; G21 and G22 are known as receptors only."""
    claims = [
        Claim("G20", "enables", SERINE, "IDA"),
        Claim("G20", "enables", LIPID, "IEA"),
        Claim("G21", "enables", RECEPTOR, "IDA"),
        Claim("G22", "enables", RECEPTOR, "IDA"),
    ]
    found = asked(GoFunction, make([*PLAIN, *claims]), options=3)
    assert sorted(found["G20"].truth["ids"].values()) == sorted((SERINE, TYROSINE, RIBOSE))
    assert "G21" not in found  # a receptor kinase has no sibling
    # A tyrosine kinase may be a receptor, so that is never a wrong option for one.
    assert all(RECEPTOR not in q.truth["ids"].values() for q in found.values())
    source = GoFunction(knowledge=str(make([*PLAIN, *claims]).path))
    assert source.drops["without enough wrong options nearby"] == 3  # two receptors; G20 of four options


def test_by_date_what_is_known_late_is_held_out_and_no_gene_is_on_both_sides(make: Make) -> None:
    plain = [claim._replace(day="20101231" if i < 10 else "20160101") for i, claim in enumerate(PLAIN)]
    more = [
        Claim("G0", "enables", TYROSINE, "IDA", day="20170101"),  # G0 trains
        Claim("G11", "enables", RIBOSE, "IDA", "PMID:99", day="20151231"),  # so it was known before
        Claim("G12", "enables", SERINE, "IEA", day="20050101"),  # electronic: not what the answer rests on
        Claim("G20", "enables", LIPID, "IDA"),
        Claim("G21", "enables", LIPID, "IDA", day="20050101"),
        Claim("G21", "enables", LIPID, "IMP"),  # may be the earlier one
    ]
    base = make([*plain, *more])
    source = GoFunction(knowledge=str(base.path), split_by="date", options=3)
    found: dict[str, set[str]] = {}
    for q in source.questions():
        found.setdefault(q.split, set()).add(q.fields["gene"])
    assert found["train"] == {*GENES[:10], "G11"}
    assert found["validation"] | found["test"] == {"G10", *GENES[12:20]} and not found["validation"] & found["test"]
    assert source.drops["of a later date, of a gene that trains"] == 1
    assert source.drops["without a date of annotation"] == 2
    assert [q.truth["ids"][q.truth["answer"]] for q in source.questions() if q.fields["gene"] == "G0"] == [SERINE]
    later = GoFunction(knowledge=str(base.path), split_by="date", since="2016-01-02", options=3)
    assert {q.split for q in later.questions() if q.fields["gene"] != "G0"} == {"train"}


def test_every_name_is_wrong_as_often_as_its_share_of_right_answers_asks(make: Make) -> None:
    questions = asked(GoFunction, make(PLAIN), options=3).values()
    right = Counter(q.truth["answer"] for q in questions)
    offered = Counter(name for q in questions for name in q.fields["options"])
    assert set(right) == set(offered)
    assert all(abs(offered[name] - 3 * right[name]) <= 1 for name in right)


def test_a_pathway_is_the_most_specific_and_the_others_share_genes_but_not_this_one(make: Make) -> None:
    pathways = {
        "Everything": GENES[:19],
        "Signalling": GENES[:8],
        "Early signalling": GENES[:4],
        "Late signalling": GENES[4:8],
        "Cross-talk": [*GENES[2:4], *GENES[6:10]],
        "cross-talk": [*GENES[3:5], *GENES[10:12]],  # the same name, to a reader
        "Elsewhere": GENES[20:24],
    }
    base = make(pathways=pathways)
    found = asked(PathwayMembership, base, options=2)
    for gene, q in found.items():
        assert gene in pathways[q.truth["answer"]]
        (other,) = set(q.fields["options"]) - {q.truth["answer"]}
        assert gene not in pathways[other] and set(pathways[other]) & set(pathways[q.truth["answer"]])
        assert len({fold(name) for name in q.fields["options"]}) == 2
        assert q.truth["references"] == [q.truth["ids"][q.truth["answer"]]]
    answers = {q.truth["answer"] for q in found.values()}
    assert "Early signalling" in answers and "Elsewhere" not in answers
    assert found["G0"].truth["answer"] == "Early signalling"  # not Signalling, which holds all of it


def test_options_are_checked() -> None:
    with pytest.raises(Error, match="namespace 'function' is unknown; choose one of molecular_function"):
        GoFunction(namespace="function")
    with pytest.raises(Error, match="split_by 'day' is unknown; choose gene or date"):
        GoFunction(split_by="day")
    with pytest.raises(Error, match="go_function: since: 'last year' is no date; write it as 2018-06-30"):
        GoFunction(since="last year")
    with pytest.raises(Error, match="pathway_membership: options is 1; it must be at least 2"):
        PathwayMembership(options=1)


@pytest.fixture(scope="module")
def upstream() -> KnowledgeBase:
    need(GoFunction.files())
    return KnowledgeBase.open("upstream")


@pytest.mark.parametrize(("source", "least"), [(GoFunction, 5000), (PathwayMembership, 12_000)])
def test_real_questions_are_true_by_the_knowledge_base(
    upstream: KnowledgeBase, source: type[Source], least: int
) -> None:
    questions = list(source().questions())
    assert len(questions) == len({q.id for q in questions}) > least
    parts = {s: [q for q in questions if q.split == s] for s in ("train", "validation", "test")}
    refuse_leak(parts["train"], parts["validation"] + parts["test"])
    for q in questions[::7]:
        carried = set(upstream.terms(q.fields["gene"]))
        ids = q.truth["ids"]
        assert {name for name, id in ids.items() if id in carried} == {q.truth["answer"]}
        assert len({fold(name) for name in q.fields["options"]}) == 4
        assert all(5 <= upstream.size(id) <= 300 for id in ids.values())
        assert q.truth["references"]
    # How often each name was right in training: hardly better than one in four on other genes.
    right = Counter(q.truth["answer"] for q in parts["train"])
    offered = Counter(name for q in parts["train"] for name in q.fields["options"])
    blind = [
        max(q.fields["options"], key=lambda n: (right[n] + 0.25) / (offered[n] + 1)) == q.truth["answer"]
        for q in parts["validation"]
    ]
    assert sum(blind) / len(blind) < 0.32


def test_real_questions_by_date_are_of_what_was_known_and_of_what_was_not(upstream: KnowledgeBase) -> None:
    source = GoFunction(split_by="date")
    parts: dict[str, list[Question]] = {}
    for q in source.questions():
        parts.setdefault(q.split, []).append(q)
        term = q.truth["ids"][q.truth["answer"]]
        first = min(f.date for f in upstream.facts(q.fields["gene"], term) if f.code in q.truth["codes"])
        assert (first < "2016-01-01") == (q.split == "train")
    refuse_leak(parts["train"], parts["validation"] + parts["test"])
    genes = {split: {q.fields["gene"] for q in held} for split, held in parts.items()}
    assert not genes["train"] & (genes["validation"] | genes["test"]) and not genes["validation"] & genes["test"]
    assert len(parts["train"]) > 4000 and min(len(parts["validation"]), len(parts["test"])) > 300
    assert source.drops["of a later date, of a gene that trains"] == 969
