"""`rlvr verifiers`: every verifier is listed, whatever state it is in; a bad one does not pass the check."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rlvr import cli, plugins

GOOD = """
from dataclasses import dataclass
from typing import ClassVar
from rlvr.types import Reason, Verdict
from rlvr.verifier import Verifier

@dataclass(frozen=True)
class Mine(Verifier):
    '''1.0 for the measured
    answer.

    More is said here.'''
    name: ClassVar[str] = "{name}"
    tasks: ClassVar[tuple[str, ...]] = ("perturbation/direction",)

    def verify(self, question, completion):
        right = completion.answer == question.truth["answer"]
        return Verdict(float(right), Reason.CORRECT if right else Reason.WRONG)
"""
SUBSTRING = GOOD.replace("completion.answer == question", "question").replace(
    'truth["answer"]\n', 'truth["answer"] in completion.text\n'
)
Rlvr = Callable[..., tuple[int, str, str]]


@pytest.fixture
def rlvr_command(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Rlvr:
    """rlvr_command("verifiers", "list"): exit code, stdout, stderr, in this process."""

    def go(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rlvr", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capsys.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return go


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """install(distribution, name, code): a distribution on the path that offers one verifier."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def add(distribution: str, name: str, code: str) -> None:
        info = tmp_path / f"{distribution}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[rlvr.verifiers]\n{name} = {distribution}_code:Mine\n")
        (tmp_path / f"{distribution}_code.py").write_text(code)

    yield add
    for module in [m for m in sys.modules if m.endswith("_code")]:
        del sys.modules[module]


def test_every_built_in_is_listed_with_what_it_scores(rlvr_command: Rlvr) -> None:
    code, out, _ = rlvr_command("verifiers", "list", "--json")
    found = {row["name"]: row for row in json.loads(out)}
    assert code == 0
    assert set(found) == set(plugins.names("verifiers"))
    assert {"format", "label", "mention", "neighbours"} <= set(found)
    for row in found.values():
        assert row["from"] == "built in"
        assert row["kind"] in ("hard", "soft")
        assert row["scores"] and row["tasks"] and row["version"]


def test_a_package_is_listed_by_its_first_line_and_its_tasks(rlvr_command: Rlvr, install: Callable[..., None]) -> None:
    install("far", "distant", GOOD.format(name="distant"))
    _, out, _ = rlvr_command("verifiers", "list", "--json")
    assert next(row for row in json.loads(out) if row["name"] == "distant") == {
        "name": "distant",
        "from": "far",
        "version": "1",
        "kind": "hard",
        "scores": "1.0 for the measured answer.",
        "tasks": ["perturbation/direction"],
    }
    _, table, _ = rlvr_command("verifiers", "list")
    (line,) = [line for line in table.splitlines() if line.startswith(" distant ")]
    assert "perturbation/direction" in line


@pytest.mark.parametrize(
    "code", ["raise RuntimeError('no licence')", "import sys; sys.exit('no licence')", "class Mine: 'no licence'"]
)
def test_a_broken_package_is_a_line_with_its_error(rlvr_command: Rlvr, install: Callable[..., None], code: str) -> None:
    install("bad", "broken", code)
    exit_code, out, _ = rlvr_command("verifiers", "list", "--json")
    found = {row["name"]: row for row in json.loads(out)}
    assert exit_code == 0
    assert "verifiers plugin 'broken' (bad: bad_code:Mine)" in found["broken"]["error"]
    assert "error" not in found["label"]


def test_two_of_one_name_are_an_error(rlvr_command: Rlvr, install: Callable[..., None]) -> None:
    install("rival", "label", GOOD.format(name="label"))
    code, out, err = rlvr_command("verifiers", "list")
    assert (code, out) == (1, "")
    assert err == "error: verifiers: 'label' is offered by built in and by rival; uninstall one\n"


def test_a_good_verifier_passes_the_check(rlvr_command: Rlvr, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(GOOD.format(name="mine"))
    code, out, _ = rlvr_command("verifiers", "check", str(tmp_path / "mine.py"))
    assert code == 0, out
    assert "FAILED" not in out
    assert max(map(len, out.splitlines())) <= 80
    code, out, _ = rlvr_command("verifiers", "check", str(tmp_path / "mine.py"), "--json")
    (report,) = json.loads(out)
    assert (report["verifier"], report["ok"], report["tasks"]) == ("mine", True, ["perturbation/direction"])
    assert all(finding["ok"] for finding in report["findings"])


def test_a_verifier_that_reads_by_substring_does_not(rlvr_command: Rlvr, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SUBSTRING.format(name="mine"))
    code, out, _ = rlvr_command("verifiers", "check", str(tmp_path / "mine.py"))
    assert code == 1
    assert "FAILED" in out
    assert max(map(len, out.splitlines())) <= 80
    code, out, _ = rlvr_command("verifiers", "check", str(tmp_path / "mine.py"), "--json")
    assert code == 1
    assert not json.loads(out)[0]["ok"]


def test_an_installed_verifier_is_checked_by_name(rlvr_command: Rlvr, install: Callable[..., None]) -> None:
    install("far", "distant", GOOD.format(name="distant"))
    code, out, _ = rlvr_command("verifiers", "check", "distant")
    assert code == 0, out
    assert "distant 1 (hard)" in out


def test_all_gives_one_line_each_and_details_of_what_failed(rlvr_command: Rlvr, monkeypatch: Any) -> None:
    from rlvr import testing

    good, bad = (
        testing.Finding("honest_play", True, ""),
        testing.Finding("cheats", False, "earns 1, above 0.5; hedging"),
    )
    speed = testing.Finding("speed", True, "from 1,234 completions per second (slowest task)")
    reports = [
        testing.Report("fine", "1", "hard", ("a", "b"), 20, (good, speed)),
        testing.Report("flawed", "2", "soft", ("a",), 10, (good, bad, speed)),
    ]
    monkeypatch.setattr(testing, "check_all", lambda: reports)
    code, out, _ = rlvr_command("verifiers", "check", "--all")
    assert code == 1
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["fine", "flawed"]
    assert "2 of 2" in lines[1] and "2 of 3" in lines[2] and "1,234" in lines[1]
    assert "flawed 2 (soft), 10 questions of a" in out
    assert "fine 1 (hard)" not in out
    assert max(map(len, lines)) <= 80
    monkeypatch.setattr(testing, "check_all", lambda: reports[:1])
    assert rlvr_command("verifiers", "check", "--all")[0] == 0


@pytest.mark.parametrize("arguments", [[], ["label", "--all"]])
def test_check_wants_one_verifier_or_all(rlvr_command: Rlvr, arguments: list[str]) -> None:
    code, _, err = rlvr_command("verifiers", "check", *arguments)
    assert code == 2
    assert "or --all" in err


def test_check_suggests_the_nearest_name(rlvr_command: Rlvr) -> None:
    code, _, err = rlvr_command("verifiers", "check", "lable")
    assert code == 1
    assert "did you mean 'label'?" in err


def test_new_prints_what_it_wrote(rlvr_command: Rlvr, tmp_path: Path) -> None:
    code, out, _ = rlvr_command("verifiers", "new", "codon_bias", "--package", "--to", str(tmp_path))
    written = [Path(line) for line in out.splitlines()]
    assert code == 0
    assert sorted(written) == sorted(path for path in tmp_path.rglob("*") if path.is_file())
    code, _, err = rlvr_command("verifiers", "new", "codon_bias", "--package", "--to", str(tmp_path))
    assert code == 1
    assert err.startswith("error: ") and "exists" in err
