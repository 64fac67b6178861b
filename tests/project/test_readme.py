"""The README keeps its word: its verifier runs, its commands exist, and it agrees with the code."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

import rlvr
from rlvr import verifier
from rlvr.options import build
from rlvr.types import Completion, Question
from rlvr.verifier import Verifier

ROOT = Path(rlvr.__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def fenced(language: str) -> list[str]:
    """The README's code blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def example() -> str:
    """The first Python block: a complete verifier."""
    return fenced("python")[0]


def test_the_verifier_passes_the_test_that_the_readme_gives_it(tmp_path: Path) -> None:
    _, tested = fenced("python")
    (tmp_path / "test_short.py").write_text(f"{example()}\n{tested}")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_short.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "passed" in done.stdout


def test_the_verifier_is_the_one_of_the_docstring() -> None:
    text = verifier.__doc__ or ""
    start, end = text.index("    from dataclasses"), text.index("Rules (")
    assert example().strip() == textwrap.dedent(text[start:end]).strip()


def test_the_verifier_is_ten_lines() -> None:
    (written,) = [node for node in ast.parse(example()).body if isinstance(node, ast.ClassDef)]
    assert written.end_lineno is not None
    assert written.end_lineno - written.lineno < 10


@pytest.mark.parametrize(
    ("words", "thought", "score"), [(3, "one two three", 1.0), (2, "one two three", 0.0), (2, None, 0.0)]
)
def test_the_verifier_works(tmp_path: Path, words: int, thought: str | None, score: float) -> None:
    """As a module of its own, with the options a recipe gives it."""
    (tmp_path / "short.py").write_text(example())
    spec = importlib.util.spec_from_file_location("short", tmp_path / "short.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    plugin: type[Verifier] = module.Short
    (options,) = [yaml.safe_load(block)["verifiers"]["short"] for block in fenced("yaml")]
    built = build(plugin, {**{k: v for k, v in options.items() if k != "weight"}, "words": words}, "verifier short")
    question = Question("q", "t", {}, {"answer": "up"}, "hand", "train")
    assert built.verify(question, Completion("", thought, None)).score == score


def test_the_verifier_is_found_where_the_readme_puts_it(tmp_path: Path) -> None:
    """A checkout with that file in verifiers/ lists it, under its name."""
    for name in ("rlvr", "verifiers", "data"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "train.py").touch()
    (tmp_path / "verifiers" / "short.py").write_text(example())
    command = [sys.executable, "-c", "from rlvr.cli import main; main()", "verifiers", "list"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    assert re.search(
        r"^ short +built in +1 +hard +1\.0 for a thought of at most `words` words\.", done.stdout, re.MULTILINE
    )


def test_the_two_commands_exist() -> None:
    commands = [line.split("#")[0].strip() for line in fenced("bash")[0].splitlines()]
    assert commands == ["make quickstart", "make test"]
    makefile = (ROOT / "Makefile").read_text()
    for goal in ("quickstart", "test", "test-vllm"):
        assert re.search(rf"^{goal}:", makefile, re.MULTILINE)


def test_every_recipe_named_exists() -> None:
    named = set(re.findall(r"--config ([\w.-]+)", README))
    assert named
    assert named <= {path.stem for path in (ROOT / "rlvr" / "recipes").glob("*.yaml")}


def test_every_rlvr_command_named_exists() -> None:
    from typer.main import get_command

    from rlvr import cli

    group = get_command(cli.app)
    groups, actions = "models|data|verifiers|knowledge", "list|pull|show|audit|new|check|build"
    single = "doctor|evaluate|score|report|export|launch"
    for words in re.findall(rf"\brlvr ((?:{groups}|{single})(?: (?:{actions}))?)\b", README):
        command = group
        for word in words.split():
            command = command.commands[word]  # type: ignore[attr-defined]
        assert command.name == words.split()[-1]


def test_the_layout_exists() -> None:
    for name in ("train.py", "verifiers", "prompts", "data", "rlvr", "tests", "benchmarks", "LICENSE", "CITATION.cff"):
        assert (ROOT / name).exists()
        assert name in README
