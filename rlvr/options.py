"""Options from a file: a dataclass from plain values, with types checked and unknown keys named.

build(Vllm, {"enabled": True}, "recipe: vllm")
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from rlvr.types import Error, suggest

T = TypeVar("T")


def build(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """A dataclass from plain values: unknown keys fail with the nearest name, types are checked."""
    hints = get_type_hints(cls)
    known = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise Error(f"{where}: unknown key {key!r}{suggest(key, known)}; known: {', '.join(known) or 'none'}")
    for name, spec in known.items():
        required = spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise Error(f"{where}: {name} is missing")
    typed = {key: _typed(_whole(value, known[key]), hints[key], f"{where}: {key}") for key, value in values.items()}
    try:
        return cls(**typed)
    except Error:
        raise
    except Exception as error:  # a plugin's own check may raise anything
        raise Error(f"{where}: {error!r}") from error


def _whole(value: Any, spec: dataclasses.Field[Any]) -> Any:
    """A section that is given in part keeps the rest of its default."""
    if isinstance(value, Mapping) and dataclasses.is_dataclass(spec.default):
        return {**dataclasses.asdict(spec.default), **value}  # type: ignore[arg-type]
    return value


def _typed(value: Any, hint: Any, where: str) -> Any:
    """The value as the hint says (lists become tuples, sections become dataclasses), or an Error."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        inner = [a for a in args if a is not type(None)]
        if len(inner) == 1:
            return _typed(value, inner[0], where)
        for option in inner:
            try:
                return _typed(value, option, where)
            except Error:
                continue
        raise Error(f"{where} must be {' or '.join(map(_describe, inner))}, not {value!r}")
    if origin is Literal:
        if value not in args:
            raise Error(f"{where} must be one of {', '.join(map(repr, args))}, not {value!r}")
        return value
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise Error(f"{where} must be a section of keys, not {value!r}")
        return build(hint, value, where)  # type: ignore[arg-type]
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise Error(f"{where} must be a list, not {value!r}")
        return tuple(_typed(item, args[0], where) for item in value)
    if origin is Mapping or (isinstance(origin, type) and issubclass(origin, Mapping)):
        if not isinstance(value, Mapping):
            raise Error(f"{where} must be a section of keys, not {value!r}")
        return {str(key): _typed(item, args[1], f"{where}.{key}") for key, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise Error(f"{where} must be {_describe(hint)}, not {value!r}")
    return value


def _describe(hint: Any) -> str:
    """The type in a recipe's words."""
    kind = get_origin(hint) or hint
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return "a section of keys"
    return "a list" if kind is tuple else str(getattr(hint, "__name__", hint))
