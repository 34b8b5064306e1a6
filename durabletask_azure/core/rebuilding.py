"""Values of types that msgspec cannot check in one go, rebuilt part by part.

That is so for enums of other values than text and whole numbers, for unions of several classes, and for dataclasses,
attrs classes and containers that hold such. What is left is handed over as the JSON value it is.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any, Union, cast

import msgspec

from durabletask_azure.errors import SerializationError

__all__ = ["in_parts", "stored_fields"]

Build = Callable[[Any, Any], Any]
Encode = Callable[[Any], str]
_ROWS: dict[Any, Callable[[list[Any]], Any]] = {list: list, set: set, frozenset: frozenset}


def in_parts(value: Any, target_type: Any, build: Build, encode: Encode) -> Any:
    """Return ``value``, as parsed from JSON, as ``target_type``.

    ``build(value, type)`` rebuilds a part, ``encode(value)`` writes one as JSON.

    Raises:
        SerializationError: it does not fit.
    """
    origin, arguments = typing.get_origin(target_type), typing.get_args(target_type)
    if origin is Annotated:
        return build(value, arguments[0])
    if origin is Union or origin is types.UnionType:
        return _one_of(value, arguments, build, encode)
    if origin in _ROWS and isinstance(value, list):
        return _ROWS[origin]([build(item, arguments[0]) for item in cast(list[Any], value)])
    if origin is tuple and isinstance(value, list):
        return _tuple(cast(list[Any], value), arguments, build)
    if origin is dict and isinstance(value, dict):
        entries = cast(dict[Any, Any], value)
        return {_key(key, arguments[0], build): build(item, arguments[1]) for key, item in entries.items()}
    if isinstance(target_type, type):
        if issubclass(target_type, Enum):
            return _member(value, target_type, encode)
        names: tuple[str, ...] = getattr(cast(Any, target_type), "_fields", ())
        if names and isinstance(value, list):  # a named tuple
            hints = typing.get_type_hints(cast(Any, target_type))
            return cast(Any, target_type)(
                *_tuple(cast(list[Any], value), tuple(map(hints.get, names)), build)
            )
        if isinstance(value, dict):
            return _object(cast(dict[str, Any], value), cast(type[Any], target_type), build)
    return value


def stored_fields(value: Any) -> dict[str, Any] | None:
    """Return an object's fields by the names they are stored under, ``None`` if its class does not say what they are.

    That is so for dataclasses, attrs classes, and structs of msgspec that are stored as plain objects.
    """
    if isinstance(value, msgspec.Struct):
        return {name: getattr(value, field) for name, field in _struct_fields(type(value))} or None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
    else:
        names = [field.name for field in getattr(value, "__attrs_attrs__", ())]
    return {name: getattr(value, name) for name in names} or None


def _struct_fields(kind: type[msgspec.Struct]) -> list[tuple[str, str]]:
    """Return the fields of a struct that is stored as a plain object: the stored and the own names."""
    config = kind.__struct_config__
    if config.tag is not None or config.array_like:
        return []
    return [(field.encode_name, field.name) for field in msgspec.structs.fields(kind)]


def _key(key: str, kind: Any, build: Build) -> Any:
    """Return a key, which JSON has as text, of a type that may be another."""
    try:
        return build(key, kind)
    except SerializationError:
        return build(json.loads(key), kind)


def _one_of(value: Any, kinds: tuple[Any, ...], build: Build, encode: Encode) -> Any:
    """Return the value of the first type that writes it again as it is."""
    if value is None:
        return None
    for kind in kinds:
        try:
            built = build(value, kind)
            if json.loads(encode(built)) == value:
                return built
        except Exception:  # noqa: S112 - it is not this one; a user's class may raise anything
            continue
    return value


def _tuple(values: list[Any], kinds: tuple[Any, ...], build: Build) -> Any:
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(build(value, kinds[0]) for value in values)
    if len(kinds) != len(values):
        raise SerializationError(f"{len(kinds)} values are wanted, not {len(values)}")
    return tuple(build(value, kind) for value, kind in zip(values, kinds, strict=True))


def _member(value: Any, kind: type[Enum], encode: Encode) -> Enum:
    for member in kind:
        if json.loads(encode(member)) == value:
            return member
    raise SerializationError(f"{value!r} is none of the values of {kind.__qualname__}")


def _object(entries: dict[str, Any], kind: type[Any], build: Build) -> Any:
    """Return an object of a class that says what it is made from; of another class the JSON value as it is."""
    if typing.is_typeddict(kind):
        kinds = typing.get_type_hints(kind)
        return {name: build(item, kinds.get(name)) for name, item in entries.items()}
    known = _fields(kind)
    if known is None:
        return entries
    hints = typing.get_type_hints(kind)
    arguments = {
        parameter: build(entries[name], hints.get(name if name in hints else parameter))
        for name, parameter in known
        if name in entries
    }
    return kind(**arguments)


def _fields(kind: type[Any]) -> list[tuple[str, str]] | None:
    """Return the fields a class is made from: their names, and the names of the parameters they are given by."""
    if dataclasses.is_dataclass(kind):
        return [(field.name, field.name) for field in dataclasses.fields(kind) if field.init]
    if issubclass(kind, msgspec.Struct):
        return _struct_fields(kind) or None
    attributes: Any = getattr(kind, "__attrs_attrs__", ())
    return [(field.name, field.alias) for field in attributes if field.init] or None
