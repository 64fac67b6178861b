"""Options from a file: a dataclass from plain values, with types checked and unknown keys named.

build(Vllm, {"enabled": True}, "recipe: vllm")

Pydantic checks each value by its field's type, strictly: no text is read as a number, no number as a truth value, and
no infinity. A range is part of the type, as in `Annotated[int, Field(ge=1)]`, in a plugin's options too.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import BeforeValidator, ConfigDict, InstanceOf, Strict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from rlvr.types import Error, suggest

T = TypeVar("T")

_STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
_WORDS = {
    "int": "int", "float": "float", "bool": "bool", "string": "str", "bytes": "bytes",
    "tuple": "a list", "list": "a list", "set": "a list", "frozen_set": "a list",
    "dict": "a section of keys", "mapping": "a section of keys", "dataclass": "a section of keys",
    "none_required": "null", "finite_number": "a finite number", "int_from_float": "int", "missing": "a longer list",
}  # fmt: skip


def build(cls: type[T], values: Mapping[str, Any], where: str, others: Sequence[str] = ()) -> T:
    """A dataclass from plain values: unknown keys fail with the nearest name, types are checked.

    others: keys that are allowed beside the fields, and have been taken out of `values`.
    """
    hints = get_type_hints(cls, include_extras=True)
    known = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            names = [*known, *others]
            raise Error(f"{where}: unknown key {key!r}{suggest(str(key), names)}; known: {', '.join(names) or 'none'}")
    for name, spec in known.items():
        required = spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise Error(f"{where}: {name} is missing")
    typed = {key: _value(value, known[key], hints[key], f"{where}: {key}") for key, value in values.items()}
    try:
        return cls(**typed)
    except Error:
        raise
    except Exception as error:  # a plugin's own check may raise anything
        raise Error(f"{where}: {' '.join(repr(error).split())}") from error


def _value(value: Any, spec: dataclasses.Field[Any], hint: Any, where: str) -> Any:
    """A field's value. A section that is given in part keeps the rest of its default."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
        given = dataclasses.is_dataclass(spec.default) and not isinstance(spec.default, type)
        default = dataclasses.asdict(spec.default) if given else {}  # type: ignore[arg-type]
        return build(hint, {**default, **value}, where)
    return typed(value, hint, where)


def typed(value: Any, hint: Any, where: str) -> Any:
    """The value as its type says (lists become tuples), or an Error that begins with `where`."""
    try:
        return _adapter(hint).validate_python(value)
    except ValidationError as error:
        raise Error(_message(error.errors(include_url=False), where, value)) from error


@cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    yamls = _from_yaml(hint)
    return TypeAdapter(yamls) if dataclasses.is_dataclass(hint) else TypeAdapter(yamls, config=_STRICT)


def _from_yaml(hint: Any) -> Any:
    """The type as YAML can write it: with a list for a tuple, a section for a dataclass, and any key for a string."""
    origin, args = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        section = BeforeValidator(lambda v: build(hint, v, hint.__name__) if isinstance(v, Mapping) else v)
        return Annotated[InstanceOf[hint], section]  # type: ignore[misc]
    if origin is Annotated:
        return Annotated[_from_yaml(args[0]), *hint.__metadata__]
    if origin in (Union, types.UnionType):
        return Union[tuple(map(_from_yaml, args))]  # noqa: UP007 - of a computed tuple
    if origin is tuple:
        return Annotated[tuple[tuple(_from_yaml(arg) for arg in args)], Strict(False)]  # type: ignore[misc]
    if isinstance(origin, type) and issubclass(origin, Mapping) and args:
        key = Annotated[str, BeforeValidator(str)] if args[0] is str else args[0]
        return Mapping[key, _from_yaml(args[1])]  # type: ignore[valid-type, misc]
    return hint


def _message(errors: list[ErrorDetails], where: str, value: Any) -> str:
    """One line from pydantic's errors on one value: several, where none of a union's types fits."""
    errors = [error for error in errors if error["input"] is not value] or errors  # the type that fits best
    first = errors[0]
    inside = ".".join(str(part) for part in first["loc"] if _is_key(part, value))
    place = f"{where}.{inside}" if inside else where
    wanted = " or ".join(dict.fromkeys(map(_wanted, errors)))
    return f"{place} must be {wanted}, not {first['input']!r}"


def _is_key(part: int | str, value: Any) -> bool:
    """Whether a part of an error's place is the user's: a union's type, and a list's number, stand there too."""
    return isinstance(part, str) and isinstance(value, Mapping) and part in map(str, value)


def _wanted(error: ErrorDetails) -> str:
    """What would have been right, in a recipe's words."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "literal_error":
        return f"one of {context['expected'].replace(' or ', ', ')}"
    bounds = [f"{words} {context[bound]:g}" for bound, words in _BOUNDS.items() if bound in context]
    if bounds:
        return bounds[0]
    if kind == "is_instance_of":
        return "a section of keys"
    return _WORDS.get(kind.removesuffix("_type"), error["msg"].removeprefix("Input should be "))
