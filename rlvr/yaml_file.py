"""YAML that people write: recipes, overrides on the command line, the heads of prompts. No key twice, no objects.

values = read_mapping(Path("mine.yaml"), "recipe mine.yaml")
set_values(values, ["grpo.max_steps=5"])
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from rlvr.types import Error


class _Unique:
    """YAML itself lets the last of two equal keys win, without a word; here the second is an error."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    line = key.start_mark.line + 1
                    raise yaml.MarkedYAMLError(problem=f"key {key.value!r} is given twice, again in line {line}")
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)  # type: ignore[misc, no-any-return]


class Plain(_Unique, yaml.SafeLoader):
    """YAML 1.1 reads 1e-5 as a string, and TRL would take it; here it is a number, as in YAML 1.2. A date is text."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in known if tag != "tag:yaml.org,2002:timestamp"]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


Plain.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+"), list("-+0123456789")
)


class Strings(_Unique, yaml.BaseLoader):
    """Every scalar stays a string: YAML would read the words yes and no as true and false."""


def parse(text: str, where: str, loader: type[Plain] | type[Strings] = Plain) -> Any:
    """The value that a text stands for. Raises Error, in one line that begins with `where`."""
    try:
        return yaml.load(text, loader)  # both are safe loaders
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a number or a binary that cannot be read
        raise Error(f"{where}: not valid YAML: {' '.join(str(error).split())}") from error
    except (RecursionError, TypeError) as error:  # nested thousands deep, or a section as a key
        raise Error(f"{where}: not valid YAML: {type(error).__name__}") from error


def read_text(path: Path, where: str) -> str:
    """The text of a file. Errors: it cannot be read, it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")  # editors on Windows begin a file with a mark
    except OSError as error:
        raise Error(f"{where}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise Error(f"{where}: is not text in UTF-8 (byte {error.start}); save it as UTF-8") from error


def read_mapping(path: Path, where: str) -> dict[str, Any]:
    """The keys and values of a file."""
    values = parse(read_text(path, where), where)
    if not isinstance(values, dict):
        raise Error(f"{where}: must be a mapping of keys to values")
    return values


def set_values(
    values: dict[str, Any], overrides: Sequence[str], what: str = "override", example: str = "grpo.max_steps=5"
) -> None:
    """Set dotted keys in place, the last of several wins. Errors: no `=`, no YAML, a key inside what is no section."""
    for override in overrides:
        dotted, mark, text = override.partition("=")
        parts = dotted.split(".")
        if not mark or not all(part and part == part.strip() for part in parts):
            raise Error(f"{what} {override!r}: write key=value, for example {example}")
        section = values
        for depth, part in enumerate(parts[:-1], 1):
            section = section.setdefault(part, {})
            if not isinstance(section, dict):
                raise Error(f"{what} {override!r}: {'.'.join(parts[:depth])} is not a section")
        section[parts[-1]] = parse(text, f"{what} {override!r}")


def each_once(overrides: list[str] | None) -> list[str]:
    """Overrides as typed on a command line; a key that is given twice there is an Error: one of them is a mistake."""
    keys = [override.partition("=")[0] for override in overrides or []]
    twice = next((key for key, count in Counter(keys).items() if count > 1), None)
    if twice is not None:
        raise Error(f"{twice} is given twice; give it once")
    return overrides or []
