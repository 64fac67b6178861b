"""`rlvr data show` for sources of every kind: several tasks, open answers, no prompt of their own, many questions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import rlvr
from rlvr import cli
from rlvr.cli.data import Survey
from rlvr.evaluation import shortcuts
from rlvr.types import Question

HEAD = """
from dataclasses import dataclass
from typing import ClassVar
from rlvr.source import File, Source
from rlvr.types import Question

@dataclass(frozen=True)
class Mixed(Source):
    name: ClassVar[str] = "mixed"
    version: ClassVar[str] = "3"
    licence: ClassVar[str] = "for research only"
    commercial: ClassVar[bool] = False
    citation: ClassVar[str] = "Nobody, 2020"
    doi: ClassVar[str] = "10.0/0"
    path: str
    n: int = 60

    @classmethod
    def files(cls):
        return ()

    def questions(self):
        for i in range(self.n):
            split = ("train", "train", "validation", "test")[i % 4]
"""
EDGE = """
            fields, truth = {"tf": f"TF{i % 5}", "target": f"G{i}"}, {"answer": "yes" if i % 2 else "no", "degree": i}
            yield Question(f"edge:{i}", "mine/edge", fields, truth, "mixed", split)
"""
SEQUENCE = """
            yield Question(f"dna:{i}", "sequence/reverse_complement", {"sequence": "ACGT" * (i + 1)},
                           {"answer": "ACGT" * (i + 1)}, "mixed", split)
"""
LEFT_OUT = """
    @property
    def drops(self):
        return {"rows without a number": 7}

    def unresolved(self):
        return {"1-Mar": "date", "NOPE": "unknown", "Sep-07": "date"}

    @classmethod
    def files(cls):
        return (File("some/table.csv", "0" * 64),)
"""
PROMPT = """---
task: mine/edge
version: 1
answers: {yes: yes, no: no}
---
# system
Answer yes or no.
# user
Does {{ tf }} regulate {{ target }}?
"""


@pytest.fixture
def show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """show(code, "path=x"): `rlvr data show mixed path=x` of a source whose questions are those of `code`."""
    monkeypatch.setattr(rlvr, "__path__", [*rlvr.__path__, str(tmp_path)])
    (tmp_path / "data").mkdir()

    def go(code: str, *options: str) -> tuple[int, str, str]:
        (tmp_path / "data" / "mixed.py").write_text(HEAD + code)
        sys.modules.pop("rlvr.data.mixed", None)
        monkeypatch.setattr(sys, "argv", ["rlvr", "data", "show", "mixed", *options])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capsys.readouterr()
        return int(left.value.code or 0), said.out, said.err

    yield go
    sys.modules.pop("rlvr.data.mixed", None)


@pytest.fixture
def prompt(tmp_path: Path) -> None:
    (tmp_path / "prompts" / "mine").mkdir(parents=True)
    (tmp_path / "prompts" / "mine" / "edge.md").write_text(PROMPT)


def test_a_source_takes_its_options(show: Callable[..., tuple[int, str, str]], prompt: None) -> None:
    code, out, _ = show(EDGE, "path=x", "n=8")
    assert code == 0
    assert "commercial use: no" in out and "for research only" in out and "doi:10.0/0" in out
    assert [line.split()[:3] for line in out.splitlines() if line.startswith(" mine/edge")] == [
        ["mine/edge", "train", "4"],
        ["mine/edge", "validation", "2"],
        ["mine/edge", "test", "2"],
    ]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "source mixed: path is missing"),
        (["pth=x"], "source mixed: unknown key 'pth', did you mean 'path'?"),
        (["path=x", "n=many"], "source mixed: n must be int, not 'many'"),
        (["path"], "option 'path': write key=value"),
    ],
)
def test_mistakes_in_options_are_one_line(
    show: Callable[..., tuple[int, str, str]], options: list[str], told: str
) -> None:
    code, _, err = show(EDGE, *options)
    assert code == 1
    assert told in err
    assert len(err.splitlines()) == 1


def test_shortcuts_are_those_that_the_fields_allow(show: Callable[..., tuple[int, str, str]], prompt: None) -> None:
    """Regulation has no perturbation and no readout: the regulator's and the target's rates stand instead."""
    _, out, _ = show(EDGE, "path=x")
    rows = {
        line.split()[0]
        for line in out.partition("what needs no reasoning")[2].partition("---")[0].splitlines()[2:]
        if line
    }
    assert {"majority", "tf_majority", "target_majority", "degree"} <= rows
    assert not rows & {"readout_frequency", "perturbation_frequency", "evidence_vote"}
    assert "Does TF" in out


def test_open_answers_have_counts_but_no_labels_and_no_shortcuts(show: Callable[..., tuple[int, str, str]]) -> None:
    _, out, _ = show(SEQUENCE, "path=x")
    (train,) = [line for line in out.splitlines() if " train " in line]
    assert train.split() == ["sequence/reverse_complement", "train", "30", "-"]
    assert "what needs no reasoning" not in out
    assert out.count("\n--- dna:") == 3
    assert "[user] Give the reverse complement" in out
    assert max(len(line) for line in out.splitlines() if line.startswith("---")) < 200


def test_every_task_is_among_the_questions_shown(show: Callable[..., tuple[int, str, str]], prompt: None) -> None:
    _, out, _ = show(SEQUENCE + EDGE, "path=x")
    shown = [line.split()[1] for line in out.splitlines() if line.startswith("--- ")]
    assert len(shown) == len(set(shown)) == 3
    assert {name.partition(":")[0] for name in shown} == {"dna", "edge"}


def test_a_task_without_a_prompt_is_shown_by_its_fields(show: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = show(EDGE, "path=x")
    assert code == 0
    assert "(no prompt for mine/edge: its recipe must name one)" in out
    assert '"tf": "TF' in out


def test_a_source_without_questions_is_an_error_and_an_empty_split_a_row(
    show: Callable[..., tuple[int, str, str]],
) -> None:
    code, _, err = show(EDGE, "path=x", "n=0")
    assert (code, err) == (1, "error: mixed has no question; check its options and files\n")
    code, out, _ = show(EDGE, "path=x", "n=2")
    assert code == 0
    counts = [line.split()[1:3] for line in out.splitlines() if line.startswith(" mine/edge")]
    assert counts == [["train", "2"], ["validation", "0"], ["test", "0"]]


def test_what_is_left_out_and_what_is_no_gene_is_listed(show: Callable[..., tuple[int, str, str]]) -> None:
    _, out, _ = show(EDGE + LEFT_OUT, "path=x")
    assert "left out:\n  7 rows without a number\n" in out
    assert "2 symbols that stand for no single gene (date): 1-Mar, Sep-07\n" in out
    assert "1 symbols that stand for no single gene (unknown): NOPE\n" in out
    assert f"file: some/table.csv sha256:{'0' * 64}\n" in out
    assert "left out" not in show(EDGE, "path=x")[1]


def test_the_verifiers_that_fit_are_named(show: Callable[..., tuple[int, str, str]]) -> None:
    _, out, _ = show(SEQUENCE, "path=x")
    (line,) = [line for line in out.splitlines() if "can be verified by" in line]
    begin, _, others = line.partition(";")
    assert begin == "sequence/reverse_complement: verified by reverse_complement, format"
    assert "label" in others and "brier" not in others and "reverse_complement" not in others
    assert "mine/edge: verified by no default; can be verified by" in show(EDGE, "path=x")[1]


def question(i: int, task: str = "sequence/reverse_complement", **fields: Any) -> Question:
    return Question(f"q{i}", task, {"sequence": "A", **fields}, {"answer": "up" if i % 2 else "down"}, "s", "train")


def test_a_long_source_streams_by() -> None:
    """Of open answers only a few examples are kept, the same whatever the order."""
    there, back = Survey(), Survey()
    for i in range(5000):
        there.add(question(i))
        back.add(question(4999 - i))
    assert there.rankable == {}
    assert sum(map(len, there._examples.values())) == 3
    assert there.examples(3) == back.examples(3)
    assert there.counts()[0]["questions"] == 5000


def test_no_shortcut_is_measured_on_the_test_split(make_question: Callable[..., Question]) -> None:
    survey = Survey()
    for split in ("train", "validation", "test"):
        survey.add(make_question(id=split, split=split))
    assert [q.id for q in survey.rankable["perturbation/direction"]] == ["train", "validation"]
    assert set(shortcuts.shortcuts(survey.rankable["perturbation/direction"][:1], [], ["up", "down"])) >= {"majority"}
