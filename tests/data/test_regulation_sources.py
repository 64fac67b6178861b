"""tf_targets and network: which pairs are asked, what is left out and why, and what tells nothing."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr import prompts
from rlvr.knowledge import KnowledgeBase, store
from rlvr.knowledge.readers import Claim
from rlvr.knowledge.releases import UPSTREAM
from rlvr.knowledge.rows import Rows
from rlvr.plugins import load
from rlvr.questions.splits import refuse_leak
from rlvr.source import File, Source
from rlvr.types import Error, Question
from tests.session import need

TfTargets = load("data", "tf_targets", Source)
Network = load("data", "network", Source)
MODULES: dict[str, ModuleType] = {s.name: sys.modules[s.__module__] for s in (TfTargets, Network)}
GENES = ["MYC", "TP53", "GATA1", "BAX", "CDKN1A", "HBB", "SEPTIN7", "KMT2B", "KMT2D", "JUN"]


@pytest.fixture(scope="module")
def knowledge(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a knowledge base of ten genes, in which MYC has one reported target."""

    def fill(write: store.Write) -> None:
        rows = Rows()
        rows.release("genes", UPSTREAM["genes"])
        rows.release("trrust", UPSTREAM["trrust"])
        former = [("P53", 1, "TP53"), ("MLL4", 2, "KMT2B"), ("MLL4", 2, "KMT2D"), ("SEPT7", 1, "SEPTIN7")]
        rows.name([*((gene, 0, gene) for gene in GENES), *former, ("AP1", 2, "JUN")])
        rows.add("trrust", Claim("MYC", "activates", "BAX", "curated", "PMID:1"))
        rows.write(write, "hand", {})

    return str(store.built(tmp_path_factory.mktemp("base") / "hand.sqlite", fill, "hand"))


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], None]:
    """write(source, part, text): a small file in place of the upstream one."""
    monkeypatch.setenv("RLVR_DATA", str(tmp_path))

    def written(source: str, part: str, text: str) -> None:
        (tmp_path / part).write_text(text)
        digest = hashlib.sha256(text.encode()).hexdigest()
        monkeypatch.setitem(MODULES[source].FOUND, part, File(part, digest))

    return written


TRRUST = """TF\tTarget\tRegulation\tReference
MYC\tBAX\tActivation\t11;12
MYC\tBAX\tActivation\t11;12
MYC\tCDKN1A\tRepression\t13
MYC\tHBB\tRepression\t14
MYC\tGATA1\tUnknown\t15
P53\tCDKN1A\tActivation\t16
P53\tBAX\tActivation\t17
TP53\tBAX\tRepression\t18
GATA1\tHBB\tActivation\t19
GATA1\tMYC\tActivation\t19
GATA1\tMYC\tUnknown\t20
GATA1\tBAX\tActivation\tunpublished
TP53\tP53\tActivation\t21
AP1\tBAX\tActivation\t22
MYC\tSep-07\tActivation\t23
MYC\tMLL4\tActivation\t24
MYC\t\tActivation\t25
NaN\tBAX\tActivation\t26
"""


def test_only_pairs_of_one_sign_and_a_paper_are_asked(write: Callable[..., None], knowledge: str) -> None:
    write("tf_targets", "trrust", TRRUST)
    source = TfTargets(knowledge=knowledge)
    asked = {(q.fields["tf"], q.fields["target"]): q for q in source.questions()}
    assert {pair: q.truth["answer"] for pair, q in asked.items()} == {
        ("MYC", "BAX"): "activation",
        ("MYC", "CDKN1A"): "repression",
        ("MYC", "HBB"): "repression",
        ("TP53", "CDKN1A"): "activation",  # by a former symbol
        ("GATA1", "HBB"): "activation",
    }
    assert asked["MYC", "BAX"].truth["references"] == ["PMID:11", "PMID:12"]
    assert asked["MYC", "BAX"].truth["degree"] == 1
    assert {q.cluster for q in asked.values()} == {"MYC", "TP53", "GATA1"}
    assert source.drops == {
        "rows that come twice": 1,
        "rows with a complex": 1,
        "rows with a symbol that a spreadsheet made a date": 1,
        "rows with a symbol of several genes": 1,
        "rows with a word for no gene in the place of a symbol": 1,
        "rows with an empty cell": 1,
        "rows of a factor that acts on itself": 1,
        "pairs with both modes": 1,
        "pairs with an unknown mode": 2,
        "pairs without a paper": 1,
    }
    assert source.unresolved() == {
        "": "unknown",
        "AP1": "complex",  # though it is an alias of JUN here
        "MLL4": "ambiguous",
        "NaN": "missing",
        "Sep-07": "date",
    }


def test_the_majority_of_a_factor_leaves_out_the_row_itself_and_knows_no_held_out_row(
    write: Callable[..., None], knowledge: str
) -> None:
    text = "TF\tTarget\tRegulation\tReference\n"
    for i, tf in enumerate(GENES):
        targets = [*GENES[i + 1 :], *GENES[:i]][:4]
        text += "".join(f"{tf}\t{t}\t{'Activation' if n < 2 else 'Repression'}\t1\n" for n, t in enumerate(targets))
    write("tf_targets", "trrust", text)
    questions = list(TfTargets(knowledge=knowledge).questions())
    assert len({q.split for q in questions}) > 1
    for q in questions:  # two of each sign: without its own row the other sign is ahead
        other = {"activation": "repression", "repression": "activation"}[q.truth["answer"]]
        assert q.truth["tf_majority"] == (other if q.split == "train" else None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("TF\tGene\tRegulation\tReference\nMYC\tBAX\tActivation\t1\n", "column 'Target' is missing; it has TF, Gene"),
        ("TF\tTarget\tRegulation\tReference\nMYC\tBAX\tInduction\t1\n", "mode 'Induction' of MYC and BAX is none of"),
        ("", "cannot be read as a table"),
    ],
)
def test_a_faulty_file_is_one_line(write: Callable[..., None], knowledge: str, text: str, said: str) -> None:
    write("tf_targets", "trrust", text)
    with pytest.raises(Error, match=said) as caught:
        list(TfTargets(knowledge=knowledge).questions())
    assert "\n" not in str(caught.value)


def test_options_are_checked() -> None:
    with pytest.raises(Error, match="task 'sign' is unknown; choose one of edge, reported"):
        TfTargets(task="sign")
    with pytest.raises(Error, match="models are toggle; choose from gsd, krumsiek11"):
        Network(models=("toggle",))


EDGES = st.lists(
    st.tuples(st.sampled_from("ABCDE"), st.sampled_from("VWXYZAB")), unique=True, min_size=1, max_size=20
).map(lambda pairs: [p for p in pairs if p[0] != p[1]])


@settings(max_examples=100, deadline=None)
@given(EDGES, st.sets(st.tuples(st.sampled_from("ABCDE"), st.sampled_from("VWXYZAB")), max_size=6))
def test_dealt_pairs_are_new_and_of_the_same_factor(pairs: list[tuple[str, str]], others: set[tuple[str, str]]) -> None:
    deal = MODULES["tf_targets"].deal
    known = {*pairs, *others}
    dealt = deal(pairs, known)
    made = [(tf, target) for (tf, _), target in dealt.items()]
    assert set(dealt) <= set(pairs)
    assert len(set(made)) == len(made)
    assert known.isdisjoint(made) and all(tf != target for tf, target in made)
    assert deal(pairs, known) == dealt
    if len(dealt) == len(pairs):  # then no target is met more often on one side
        assert Counter(target for _, target in made) == Counter(target for _, target in pairs)


GSD = (
    "Gene1,Gene2,Type\nMYC,BAX,+\nMYC,BAX,+\nMYC,HBB,-\nUGR,BAX,+\nTP53,TP53,-\nTP53,MYC,+\nTP53,MYC,-\nWT1mKTS,MYC,+\n"
)


def test_edges_of_a_model_are_named_as_such(write: Callable[..., None], knowledge: str) -> None:
    write("network", "gsd", GSD)
    source = Network(models=("gsd",), knowledge=knowledge)
    first, second = source.questions()
    assert (first.truth["answer"], second.truth["answer"]) == ("activation", "repression")
    assert "model" in first.fields["context"] and "model" in prompts.load(first.task).render(first)[1]["content"]
    assert source.unresolved() == {"UGR": "the urogenital ridge", "WT1mKTS": "unknown"}
    assert source.drops == {
        "edges that come twice": 1,
        "edges of a node that is no gene": 2,
        "edges of a gene that acts on itself": 1,
        "edges with both signs": 2,
    }
    write("network", "gsd", GSD.replace("-", "inhibits"))
    with pytest.raises(Error, match=r"the sign of an edge is 'inhibits'; it must be \+ or -"):
        list(Network(models=("gsd",), knowledge=knowledge).questions())


def run(*levels: tuple[float, float]) -> str:
    return "".join(f"{t} {a} {b}\n" for t, (a, b) in enumerate(levels))


def test_a_trajectory_is_asked_where_it_moves_and_is_decided_by_what_is_shown(write: Callable[..., None]) -> None:
    steps = MODULES["network"].STEP
    up = [(i / steps, 0.9) for i in range(steps + 1)]  # A rises, B stays
    down = [(0.0, 0.9 - 0.8 * i / steps) for i in range(steps + 1)]  # starts as `up` does: A stays, B falls
    apart = [(0.5 + 0.4 * i / steps, 0.9) for i in range(steps + 1)]
    write("network", "krumsiek11", "# seed = 0\n# it A B\n" + run(*up) + run(*apart) + run(*apart) + run(*down))
    source = Network(models=("krumsiek11",))
    (asked,) = source.questions()
    assert (asked.fields["gene"], asked.truth["answer"], asked.task) == ("A", "rise", "regulation/network")
    assert asked.fields["levels"] == {"A": 0.5, "B": 0.9}
    assert "simulated" in asked.fields["context"]
    assert source.drops == {
        "windows in which the gene hardly changes": 4,
        "windows that start alike and go on to differ": 2,
        "windows that another run shows already": 1,
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0 1 2\n", "its last comment must name the columns"),
        ("# it A B\n0 1 x\n", "a row is not 3 numbers"),
        ("# it A B\n0 1 nan\n", "a level is missing"),
        ("# it A B\n", "there are no rows"),
    ],
)
def test_a_faulty_simulation_is_one_line(write: Callable[..., None], text: str, said: str) -> None:
    write("network", "krumsiek11", text)
    with pytest.raises(Error, match=said):
        list(Network(models=("krumsiek11",)).questions())


def real(source: type[Source], **options: object) -> tuple[Source, list[Question]]:
    need(source.files())
    made = source(**options)
    return made, list(made.questions())


def by_split(questions: list[Question]) -> dict[str, list[Question]]:
    found: dict[str, list[Question]] = defaultdict(list)
    for q in questions:
        found[q.split].append(q)
    return found


def test_trrust_as_published() -> None:
    source, questions = real(TfTargets)
    assert len(questions) == 3995
    assert {"COX1": "ambiguous", "Dec-01": "date"}.items() <= source.unresolved().items()
    assert all(q.truth["references"] and q.fields["tf"] != q.fields["target"] for q in questions)
    parts = by_split(questions)
    refuse_leak(parts["train"], parts["validation"] + parts["test"])
    assert list(source.questions()) == questions


def test_neither_factor_nor_target_tells_what_is_reported() -> None:
    source, questions = real(TfTargets, task="reported")
    known = KnowledgeBase.open("upstream")
    assert len({q.id for q in questions}) == len(questions) > 80_000
    for asked in by_split(questions).values():
        reported, unreported = ([q for q in asked if q.truth["answer"] == a] for a in ("reported", "unreported"))
        for field in ("tf", "target"):
            assert Counter(q.fields[field] for q in reported) == Counter(q.fields[field] for q in unreported)
    for q in questions[:4000]:
        assert (known.edge(q.fields["tf"], q.fields["target"]) is None) == (q.truth["answer"] == "unreported")
    assert {"AP1", "NFKB", "hsa-miR-155"} <= set(source.unresolved())


def test_the_two_models() -> None:
    source, questions = real(Network)
    assert Counter(q.task for q in questions)["regulation/edge"] == 58
    assert source.drops["edges that come twice"] == 7
    assert set(source.unresolved()) == {"UGR", "PGD2", "WT1mKTS", "WT1pKTS"}
    parts = by_split(questions)
    refuse_leak(parts["train"], parts["validation"] + parts["test"])
    for asked in parts.values():
        assert {q.truth["answer"] for q in asked if q.truth["context"] == "krumsiek11"} == {"rise", "fall"}
