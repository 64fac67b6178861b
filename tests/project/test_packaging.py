"""What a user installs: one package, with the three root folders inside it, and nothing large or generic."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import rlvr

ROOT = Path(rlvr.__file__).parent.parent
FOLDERS = ("verifiers", "prompts", "data")
DATA_LIMIT = 2_000_000  # bytes; downloads belong in the cache


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    out = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(ROOT))
    (found,) = out.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed in it, and nothing else."""
    target = tmp_path_factory.mktemp("site")
    pip("install", "--no-deps", "--target", str(target), str(wheel))
    return target


def pip(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", "-q", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def installed(site: Path, code: str, cwd: Path) -> str:
    """What `code` prints with the installed package first on the path, run from elsewhere."""
    code = f"import sys; sys.path = [{str(site)!r}] + [p for p in sys.path if p not in ('', {str(ROOT)!r})]\n{code}"
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_only_one_name_reaches_site_packages(site: Path) -> None:
    assert {path.name for path in site.iterdir() if path.suffix != ".dist-info"} <= {"rlvr", "bin"}


def test_the_wheel_holds_everything_that_is_committed_to_ship(wheel: Path) -> None:
    """Every Python file, prompt, recipe, template and table of the four folders; no tests, no byte code."""
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("rlvr", *FOLDERS):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                inside = path.relative_to(ROOT).as_posix()
                assert (inside if folder == "rlvr" else f"rlvr/{inside}") in names
    assert "rlvr/py.typed" in names
    assert not [name for name in names if name.endswith(".pyc") or name.split("/")[0] == "tests"]


def test_plugins_load_by_name_from_an_installed_wheel(site: Path, tmp_path: Path) -> None:
    found = installed(
        site,
        "import rlvr, rlvr.plugins as p; from rlvr.verifier import Verifier; from rlvr.source import Source\n"
        "print(rlvr.__file__); print(sorted(p.names('verifiers')))\n"
        "print(p.load('verifiers', 'label', Verifier).__module__)\n"
        "print(len(list(p.load('data', 'tcell_cytokines', Source)().questions())) > 0)",
        tmp_path,
    ).splitlines()
    assert Path(found[0]).is_relative_to(site)
    assert found[1] == str(sorted(path.stem for path in (ROOT / "verifiers").glob("[!_]*.py")))
    assert found[2:] == ["rlvr.verifiers.label", "True"]


def test_prompts_and_recipes_are_found_in_an_installed_wheel(site: Path, tmp_path: Path) -> None:
    code = (
        "from rlvr.prompts import load; from rlvr.recipe import load as recipe\n"
        "print(load('perturbation/direction').path); print(recipe('quickstart').model)"
    )
    path, model = installed(site, code, tmp_path).splitlines()
    assert Path(path).is_relative_to(site)
    assert model == "smollm2-135m"


def test_the_checkout_wins_where_it_stands() -> None:
    """In a checkout `rlvr.verifiers` is the folder at the root, whatever is installed."""
    code = "import rlvr.plugins as p; print(*p.folders('verifiers'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(ROOT / "verifiers")


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_root_folders_are_no_packages(folder: str) -> None:
    assert not list((ROOT / folder).rglob("__init__.py"))


def test_data_stays_small() -> None:
    """force-include ignores .gitignore: whatever lies in data/ would ship."""
    sizes = {path: path.stat().st_size for path in (ROOT / "data").rglob("*") if "__pycache__" not in path.parts}
    assert sum(sizes.values()) < DATA_LIMIT


def test_metadata_says_what_is_supported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0"
    assert project["requires-python"] == ">=3.11,<3.14"
    assert project["scripts"] == {"rlvr": "rlvr.cli:main"}
    assert set(project["optional-dependencies"]) == {"vllm", "dev", "docs", "harness"}
    assert re.search(r'"trl==1\.16', (ROOT / "pyproject.toml").read_text())


def test_version_is_written_once(wheel: Path) -> None:
    assert wheel.name.split("-")[1] == rlvr.__version__
    assert f"\nversion: {rlvr.__version__}\n" in (ROOT / "CITATION.cff").read_text()
