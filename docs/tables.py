"""The site's tables of recipes, verifiers and sources, made from the code when the site is built.

    make docs

MkDocs calls `on_page_markdown` for every page; a line `<!-- table: recipes -->` becomes the table.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlvr import plugins, recipe
from rlvr.source import Source
from rlvr.verifier import Verifier


def recipes() -> str:
    """Every shipped recipe, with its model, sources, verifiers, and the comment at its head."""
    rows = []
    for path in sorted(recipe.BUILT_IN.glob("*.yaml"), key=lambda file: file.stem):
        loaded = recipe.load(path.stem, [])
        head = path.read_text(encoding="utf-8").splitlines()
        words = [line.lstrip("# ") for line in head[: next(i for i, line in enumerate(head) if line[:1] != "#")]]
        rows.append(
            {
                "recipe": f"`{path.stem}`",
                "model": f"`{loaded.model}`",
                "verifiers": ", ".join(f"`{name}`" for name in loaded.verifiers),
                "what it is": " ".join(words),
            }
        )
    return _table(rows)


def verifiers() -> str:
    """Every built-in verifier, with its kind, tasks and options."""
    return _table([_verifier(name) for name in _built_in("verifiers")])


def sources() -> str:
    """Every built-in source, with its licence, citation and options."""
    return _table([_source(name) for name in _built_in("data")])


TABLES: Mapping[str, Callable[[], str]] = {"recipes": recipes, "verifiers": verifiers, "sources": sources}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """A page with its tables in place. An unknown table is a KeyError, which stops the build."""
    return re.sub(r"^<!-- table: (\w+) -->$", lambda match: TABLES[match[1]](), markdown, flags=re.MULTILINE)


def _built_in(kind: str) -> list[str]:
    """The names that come with rlvr: what else is installed on the builder's machine is not documented here."""
    return [name for name, origin in sorted(plugins.names(kind).items()) if origin == "built in"]


def _verifier(name: str) -> dict[str, str]:
    plugin = plugins.load("verifiers", name, Verifier)
    return {
        "verifier": f"`{name}`",
        "kind": plugin.kind,
        "tasks": ", ".join(f"`{task}`" for task in plugin.tasks),
        "what it scores": _summary(plugin),
        "options": _options(plugin),
    }


def _source(name: str) -> dict[str, str]:
    plugin = plugins.load("data", name, Source)
    return {
        "source": f"`{name}`",
        "licence": plugin.licence + ("" if plugin.commercial else " **(no commercial use)**"),
        "citation": f"{plugin.citation} doi:{plugin.doi}",
        "options": _options(plugin),
    }


def _summary(plugin: type[Any]) -> str:
    return " ".join((inspect.getdoc(plugin) or "").partition("\n\n")[0].split())


def _options(plugin: type[Any]) -> str:
    """`name=default` of each option; one without a default must be given."""
    fields = [field for field in dataclasses.fields(plugin) if field.init]
    missing = dataclasses.MISSING
    return ", ".join(f"`{f.name}`" if f.default is missing else f"`{f.name}={f.default!r}`" for f in fields) or "none"


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows as Markdown. What a cell says is text: no HTML, and no new columns."""
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([_cell(row[name]) for name in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[").replace("\n", " ")
