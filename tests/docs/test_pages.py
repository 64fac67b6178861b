"""The pages keep their word: paths exist, tables are whole, and the site builds where MkDocs is installed.

pytest tests/docs/test_pages.py
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs import tables
from rlvr import plugins, recipe

ROOT = Path(__file__).parents[2]
PAGES = [
    *(
        ROOT / f"{name}.md"
        for name in ("README", "DESIGN", "CONTRIBUTING", "SECURITY", "CHANGELOG", "benchmarks/README")
    ),
    *sorted((ROOT / "docs").rglob("*.md")),
]
FOLDERS = "rlvr|docs|tests|data|verifiers|prompts|benchmarks"
# By the reader of a tutorial.
WRITTEN = {"data/growth.py", "verifiers/short.py", "verifiers/codon_bias.py"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    named = set(re.findall(rf"`((?:{FOLDERS})/[\w./-]*)`", text)) - WRITTEN
    links = {link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link}
    assert [name for name in named if not (ROOT / name).exists()] == []
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_table_of_changes_has_its_rows() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Change X, open Y")[2]
    assert len(re.findall(r"^\| .* \| `.* \| `.* \|$", text, re.MULTILINE)) >= 10


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("recipes", sorted(path.stem for path in recipe.BUILT_IN.glob("*.yaml"))),
        ("verifiers", sorted(name for name, origin in plugins.names("verifiers").items() if origin == "built in")),
        ("sources", sorted(name for name, origin in plugins.names("data").items() if origin == "built in")),
    ],
)
def test_a_table_has_a_row_for_each(name: str, members: list[str]) -> None:
    page = (ROOT / "docs" / "reference" / f"{name}.md").read_text(encoding="utf-8")
    lines = tables.on_page_markdown(page).splitlines()
    rows = [line for line in lines if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == members
    (header,) = [line for line in lines if line.startswith("| ---")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {header.count("|")}


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="needs MkDocs (pip install 'rlvr[docs]')")
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    page = (tmp_path / "reference" / "verifiers" / "index.html").read_text(encoding="utf-8")
    assert "<code>batch_unique</code>" in page
    fetched = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', page)
    assert fetched == []
