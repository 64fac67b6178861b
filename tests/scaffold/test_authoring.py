"""Authoring: what `rlvr verifiers new` writes works as it stands, and bad names and existing files are refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import rlvr
from rlvr.scaffold import write
from rlvr.types import Error

ROOT = Path(rlvr.__file__).parent.parent
New = Callable[[str, Path], list[Path]]
BOTH = pytest.mark.parametrize("new", [write.new_file, write.new_package])


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout with a new verifier in it."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("rlvr", "verifiers", "data", "prompts"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "train.py").touch()
    write.new_file("codon_bias", folder)
    return folder


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a new package."""
    folder = tmp_path_factory.mktemp("package")
    write.new_package("codon_bias", folder)
    return folder / "rlvr-codon-bias"


def python(cwd: Path, *arguments: str | Path, path: Path = ROOT) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(path), "MYPYPATH": "src", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )


def test_a_new_verifier_in_a_checkout_is_found_and_passes_its_test(checkout: Path) -> None:
    done = python(checkout, "pytest", "-q", "-p", "no:cacheprovider", "tests/test_codon_bias.py", path=checkout)
    assert done.returncode == 0, done.stdout
    code = "from rlvr.plugins import names; print(names('verifiers')['codon_bias'])"
    env = {**os.environ, "PYTHONPATH": str(checkout)}
    found = subprocess.run([sys.executable, "-c", code], cwd=checkout, env=env, capture_output=True, text=True)
    assert found.stdout == "built in\n"


def test_a_new_package_passes_its_test(package: Path) -> None:
    done = python(package, "pytest", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout


def test_a_new_package_offers_the_verifier_under_its_name(package: Path) -> None:
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    assert project["entry-points"] == {"rlvr.verifiers": {"codon_bias": "rlvr_codon_bias:CodonBias"}}
    assert project["name"] == "rlvr-codon-bias"
    assert project["dependencies"] == [f"rlvr>={rlvr.__version__}"]


def test_what_is_written_is_linted_formatted_and_typed(checkout: Path, package: Path) -> None:
    """By this project's own rules; a package by the same ones, without knowing this project."""
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]
    alone = ["--isolated", "--select", ",".join(rules["lint"]["select"]), "--ignore", ",".join(rules["lint"]["ignore"])]
    length = ["--config", f"line-length={rules['line-length']}", "--no-cache"]
    here = ["--config", str(ROOT / "pyproject.toml"), "--no-cache"]
    new = [checkout / "verifiers" / "codon_bias.py", checkout / "tests" / "test_codon_bias.py"]
    for folder, files, lint, layout in (
        (checkout, new, here, here),
        (package, sorted(package.rglob("*.py")), [*alone, *length, "--extend-ignore", "D"], ["--no-cache"]),
    ):
        for command in (["check", *lint], ["format", "--check", *layout]):
            done = python(folder, "ruff", *command, *files)
            assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_written_is_typed(checkout: Path, package: Path, tmp_path: Path) -> None:
    for folder, files in (
        (checkout, ["verifiers/codon_bias.py", "tests/test_codon_bias.py"]),
        (package, ["src", "tests"]),
    ):
        options = ["--config-file", ROOT / "pyproject.toml", "--cache-dir", tmp_path, "--follow-imports", "silent"]
        done = python(folder, "mypy", "--strict", *options, *files)
        assert done.returncode == 0, done.stdout + done.stderr


@BOTH
@pytest.mark.parametrize(
    "name", ["", "Codon", "codon-bias", "codon bias", "1st", "_hidden", "ü", "../up", "class", "yes", "x__", "a__b"]
)
def test_bad_names_are_refused(new: New, name: str, tmp_path: Path) -> None:
    (tmp_path / "verifiers").mkdir()
    with pytest.raises(Error, match=f"'{name}' cannot be a verifier's name: lower-case letters") as caught:
        new(name, tmp_path)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.rglob("*")] == ["verifiers"]


@BOTH
def test_taken_names_are_refused(new: New, tmp_path: Path) -> None:
    (tmp_path / "verifiers").mkdir()
    with pytest.raises(Error, match=r"there is a verifier 'label' already \(built in\)"):
        new("label", tmp_path)
    with pytest.raises(Error, match="'advantage' is a column of the rollouts"):
        new("advantage", tmp_path)


@BOTH
def test_nothing_is_overwritten_and_nothing_is_half_written(new: New, tmp_path: Path) -> None:
    (tmp_path / "verifiers").mkdir()
    for path in new("codon_bias", tmp_path):
        path.unlink()
    last = new("codon_bias", tmp_path)[-1]
    for path in (found := [p for p in tmp_path.rglob("*") if p.is_file() and p != last]):
        path.unlink()
    last.write_text("mine")
    with pytest.raises(Error, match=f"{last.name} exists; choose another name, or remove it"):
        new("codon_bias", tmp_path)
    assert last.read_text() == "mine"
    assert not any(path.exists() for path in found)


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Error, match=r"has no folder verifiers/.*or say --package"):
        write.new_file("codon_bias", tmp_path)
