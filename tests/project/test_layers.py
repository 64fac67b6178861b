"""The layout's rule: a wing of rlvr/ imports the spine and the wings listed for it, and no others; nothing is circular.

pytest tests/project/test_layers.py
"""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What each wing may import. Top-level files are the spine, except loading.py, a wing of its own.
SPINE = {"spine"}
BEFORE = SPINE | {"knowledge", "rewards", "policy", "questions", "loading", "oracle", "testing"}
WINGS = {
    "spine": SPINE,
    "knowledge": SPINE,
    "rewards": SPINE,
    "policy": SPINE,
    "questions": SPINE | {"knowledge"},
    "loading": SPINE | {"knowledge", "rewards", "questions"},  # questions: a recipe names a panel, too
    "testing": SPINE | {"knowledge", "rewards"},
    "scaffold": SPINE | {"rewards"},
    "oracle": SPINE | {"knowledge", "questions"},
    "data": SPINE | {"knowledge", "questions"},
    "verifiers": SPINE | {"knowledge", "questions", "oracle"},
    "evaluation": BEFORE,
    "predict": BEFORE | {"evaluation"},
    "training": BEFORE | {"evaluation", "predict"},
    "cli": BEFORE | {"evaluation", "predict", "training", "scaffold"},
}


def wing(module: str) -> str:
    """Of `rlvr.knowledge.base`, knowledge; of `rlvr.types`, spine."""
    part = module.split(".")[1] if "." in module else "spine"
    return part if part in WINGS else "spine"


def modules() -> dict[str, Path]:
    """Dotted name -> file, of the engine and of the folders of plugins."""
    files = [*(ROOT / "rlvr").rglob("*.py"), *(ROOT / "data").glob("*.py"), *(ROOT / "verifiers").glob("*.py")]
    dotted = {}
    for file in files:
        parts = file.relative_to(ROOT).with_suffix("").parts
        whole = parts if parts[0] == "rlvr" else ("rlvr", *parts)
        dotted[".".join(whole).removesuffix(".__init__")] = file
    return dotted


def imports(name: str, file: Path, known: dict[str, Path], later: bool) -> set[str]:
    """The modules of rlvr that a file imports; `later`: inside functions and under TYPE_CHECKING, too."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree)) if later else tree.body
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = name if file.name == "__init__.py" else name.rpartition(".")[0]
            base = ".".join([*([package] if node.level else []), *([node.module] if node.module else [])])
            inner = {f"{base}.{alias.name}" for alias in node.names}
            found |= {each if each in known else base for each in inner}
    return {each for each in found if each.split(".")[0] == "rlvr" and each in known} - {name, "rlvr"}


@pytest.mark.parametrize("name", sorted(WINGS))
def test_a_wing_imports_only_what_stands_before_it(name: str) -> None:
    known = modules()
    wrong = [
        f"{module} imports {other}"
        for module, file in sorted(known.items())
        if wing(module) == name
        for other in sorted(imports(module, file, known, later=True))
        if wing(other) not in WINGS[name] | {name}
    ]
    assert wrong == []


def test_nothing_is_imported_in_a_circle() -> None:
    """Imports at the head of files; graphlib names the circle."""
    known = modules()
    graph = {module: imports(module, file, known, later=False) for module, file in known.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(known)


def test_no_file_is_longer_than_350_lines() -> None:
    files = [*modules().values(), *(ROOT / "benchmarks").rglob("*.py"), ROOT / "train.py"]
    long = {str(f.relative_to(ROOT)): n for f in files if (n := len(f.read_text(encoding="utf-8").splitlines())) > 350}
    assert long == {}
