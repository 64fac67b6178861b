"""Finds verifiers and sources by name: files at the root, then entry points of installed packages.

A built-in's name is its file's stem (`verifiers/label.py` is `label`); a third party's is the name of
its entry point in the group `rlvr.verifiers` or `rlvr.sources`. Two of one name are an error. Nothing
is imported until it is asked for, so a broken plugin harms only the recipe that names it.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import rlvr
from rlvr.types import Error, suggest

T = TypeVar("T")
GROUPS = {"verifiers": "rlvr.verifiers", "data": "rlvr.sources"}


def folders(kind: str) -> list[Path]:
    """The folders that hold built-ins of a kind: `verifiers`, `prompts` or `data`."""
    return [folder for base in rlvr.__path__ if (folder := Path(base) / kind).is_dir()]


def names(kind: str) -> dict[str, str]:
    """Every plugin of a kind: name -> where it comes from. A clash of names is an error."""
    found: dict[str, str] = {}
    for folder in folders(kind):
        for path in sorted(folder.glob("*.py")):
            if not path.stem.startswith("_"):
                found[path.stem] = "built in"
    for point in entry_points(group=GROUPS[kind]):
        origin = point.dist.name if point.dist else point.value
        if point.name in found:
            raise Error(f"{kind}: {point.name!r} is offered by {found[point.name]} and by {origin}; uninstall one")
        found[point.name] = origin
    return found


def load(kind: str, name: str, base: type[T]) -> type[T]:
    """The plugin class of that name. Errors name the plugin and the nearest known name."""
    known = names(kind)
    if name not in known:
        raise Error(f"no {kind} plugin {name!r}{suggest(name, known)}; known: {', '.join(sorted(known))}")
    if known[name] == "built in":
        where, find = "built in", lambda: _only_class(importlib.import_module(f"rlvr.{kind}.{name}"), base)
    else:
        point = next(p for p in entry_points(group=GROUPS[kind]) if p.name == name)
        where, find = f"{known[name]}: {point.value}", point.load
    return _checked(find, base, name, f"{kind} plugin {name!r} ({where})")


def load_file(path: Path, base: type[T]) -> type[T]:
    """The one plugin class of a file, which need not lie where plugins do, nor have their name."""
    spec = importlib.util.spec_from_file_location(f"rlvr_file_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise Error(f"{path} is no .py file; name a plugin, or a file with one")
    # Beside what may be imported under the bare name; pickle looks classes up there.
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    execute = spec.loader.exec_module

    def find() -> type[T]:
        execute(module)
        return _only_class(module, base)

    return _checked(find, base, None, str(path))


def _checked(find: Callable[[], Any], base: type[T], name: str | None, where: str) -> type[T]:
    """What `find` gives, if it is a plugin of that name (None: any). Whatever its code does, the Error says where."""
    try:
        plugin: type[T] = find()
    except Error as error:
        raise Error(f"{where}: {error}") from error
    except (Exception, SystemExit) as error:
        raise Error(f"{where} does not load: {' '.join(repr(error).split())}") from error
    if not (inspect.isclass(plugin) and issubclass(plugin, base) and not inspect.isabstract(plugin)):
        raise Error(f"{where} is not a concrete subclass of {base.__name__}")
    called = getattr(plugin, "name", None)
    if not isinstance(called, str) or name not in (called, None):
        raise Error(f"{where} calls itself {called!r}; the names must agree")
    if "__dataclass_params__" not in vars(plugin):
        raise Error(f"{where} is no dataclass: put @dataclass(frozen=True) above it, so that its options are checked")
    return plugin


def _only_class(module: ModuleType, base: type[T]) -> type[T]:
    own = [c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__]
    matches = [c for c in own if issubclass(c, base) and not inspect.isabstract(c)]
    if len(matches) != 1:
        raise Error(f"defines {len(matches)} concrete subclasses of {base.__name__}; it must define one")
    return matches[0]
