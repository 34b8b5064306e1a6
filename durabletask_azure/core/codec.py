"""User values to JSON text and back.

Invariant: ``deserialize(serialize(value), type(value))`` equals ``value`` for every supported type, and equal values
give equal text in every process (sets are sorted), because the text takes part in names and comparisons. ``None`` is no
payload at all. What cannot be represented is an error at once (NaN, infinities, unknown classes), never a surprise on
the other side. Sizes and spilling are ``core.payloads``'s business.
"""

from __future__ import annotations

import inspect
import json
import math
import re
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache, partial
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from durabletask_azure.core.envelope import encoded_by
from durabletask_azure.core.key_clashes import find_key_clash
from durabletask_azure.core.rebuilding import in_parts, stored_fields
from durabletask_azure.errors import ArgumentTypeError, SerializationError

__all__ = ["DataConverter", "JsonDataConverter", "checked_converter", "rebuilt_as_declared"]

_PLAIN: frozenset[Any] = frozenset((None, Any, object, str, int, float, bool, dict, list, type(None)))
_KEY_NOT_OF_TEXT = re.compile(r'"(?:-?[0-9][^"\\]*|true|false|null)":')
"""Finds keys that may have been numbers or such; a look at all keys before would cost as much as the encoding."""
_decode = msgspec.json.Decoder().decode


class DataConverter(ABC):
    """Turns user values into text and back; replace it to use another format of your own."""

    @abstractmethod
    def serialize(self, value: Any) -> str | None:
        """Return ``value`` as text, ``None`` for ``None``.

        Raises:
            SerializationError: the value cannot be represented; the message names its type.
        """

    @abstractmethod
    def deserialize(self, data: str | None, target_type: Any = None) -> Any:
        """Return the value ``data`` stands for, rebuilt as ``target_type`` if one is given.

        Raises:
            SerializationError: the text is damaged or does not fit the type; the message names the type.
        """

    def coerce(self, value: Any, target_type: Any = None) -> Any:
        """Return a value that is no text any more, rebuilt as ``target_type`` if one is given; errors as above."""
        return value if target_type is None else self.deserialize(self.serialize(value), target_type)

    def can_reconstruct(self, target_type: Any) -> bool:
        """Return whether an annotated type is to be given to :meth:`deserialize`; a type that a call names always is.

        A converter claims nothing unless it says so here: values then arrive as :meth:`deserialize` has them without
        a type.
        """
        return False


_UNCHECKED: tuple[Any, ...] = (None, Any, object)


class JsonDataConverter(DataConverter):
    """The default: plain JSON, with dataclasses, msgspec, attrs and pydantic models, enums and the usual value types.

    A class of your own takes part with a method ``to_json(self)`` that returns something representable and a class
    method ``from_json(cls, value)``, or ``from_json(cls, value, converter)`` to rebuild parts of it. Primitive, unknown
    and missing annotations hand the JSON value over as it is.
    """

    def serialize(self, value: Any) -> str | None:
        if value is None:
            return None
        if type(value) is int:
            return str(value)
        if type(value) is bool:
            return "true" if value else "false"
        try:
            text = _text_of(value)
            if _KEY_NOT_OF_TEXT.search(text):
                _check_keys(value)
            if not text.isascii():
                text.encode()
        except UnicodeEncodeError:  # half a surrogate pair: only the escaped form can be stored
            return json.dumps(value, default=_represent, allow_nan=False, separators=(",", ":"))
        except SerializationError:
            raise
        except (
            Exception
        ) as error:  # ValueError, TypeError, RecursionError, or whatever a user's to_json raises
            kind = cast(type[Any], type(value))
            where = _find_non_finite(value, "$", 0) if isinstance(error, ValueError) else None
            reason = f"{where} is not a finite number" if where else f"{type(error).__name__}: {error}"
            raise SerializationError(
                f"a value of type {kind.__qualname__} cannot be stored: {reason}"
            ) from error
        return text

    def deserialize(self, data: str | None, target_type: Any = None) -> Any:
        if not data:
            return None
        try:
            value = _decode(data)
        except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
            # What JSON proper does not have but its Python reader takes: infinities, half a surrogate pair.
            try:
                value = json.loads(data)
            except (ValueError, RecursionError) as error:
                raise _unreadable(data, error) from error
        if value is None or target_type is None or _is_plain(target_type):
            return value
        return _rebuild(value, target_type, self)

    def coerce(self, value: Any, target_type: Any = None) -> Any:
        if value is None or _is_plain(target_type):
            return value
        if _is_class(target_type) and isinstance(value, target_type):
            return value
        return _rebuild(value, target_type, self)

    def can_reconstruct(self, target_type: Any) -> bool:
        """Return whether values of that type are more than plain JSON."""
        return not _is_plain(target_type)


def _check_keys(value: Any) -> None:
    clash = find_key_clash(value)
    if clash is not None:
        raise SerializationError(
            f"a value of type {type(value).__qualname__} cannot be stored: it holds a dictionary with the keys"
            f" {clash[0]!r} and {clash[1]!r}, which are the same in JSON"
        )


def _unreadable(text: str, error: Exception) -> SerializationError:
    codec_id = encoded_by(text)
    if codec_id is None:
        return SerializationError(f"a payload is not JSON: {error}")
    return SerializationError(
        f"a value was encoded with the payload codec {codec_id!r}, which this hub was not opened with"
    )


def checked_converter(converter: object) -> DataConverter:
    """Return ``converter``, or the default for ``None``. Raises ``ArgumentTypeError``."""
    if converter is None:
        return JsonDataConverter()
    if not isinstance(converter, DataConverter):
        raise ArgumentTypeError(
            f"data_converter must be an object of a subclass of DataConverter, not {type(converter).__name__}"
        )
    return converter


def _is_plain(target_type: Any) -> bool:
    try:
        return target_type in _PLAIN
    except TypeError:  # an annotation with unhashable parts
        return False


def rebuilt_as_declared(converter: DataConverter, data: str | None, declared: Any) -> Any:
    """Return the value ``data`` stands for, rebuilt as an annotation says if the converter claims its type."""
    return converter.deserialize(data, declared if converter.can_reconstruct(declared) else None)


def _represent(value: Any) -> Any:
    """Return a representable stand-in for an object that JSON does not know (the encoder's ``default`` hook)."""
    if isinstance(value, (set, frozenset)):
        members: list[Any] = list(cast(set[Any], value))
        return sorted(members, key=_encode)
    kind = cast(type[Any], type(value))
    if not isinstance(value, type):
        if hasattr(value, "model_dump") and hasattr(value, "model_validate"):
            if not _is_pydantic(kind):
                return value.model_dump(mode="json")
            # Nothing that cannot be read back: no computed fields, no aliases that are for writing alone.
            return value.model_dump(mode="json", round_trip=True, by_alias=not _by_name(kind))
        to_json = getattr(kind, "to_json", None)
        if callable(to_json):
            return to_json(value)
        if isinstance(value, SimpleNamespace):
            return vars(value)
        if hasattr(kind, "__attrs_attrs__"):  # msgspec leaves private attributes out
            return stored_fields(value)
    hidden = _hidden_attribute(value)
    if hidden:  # msgspec would leave it out without a word
        raise SerializationError(
            f"a value of type {type(value).__qualname__} cannot be stored: it holds an attrs object with the private"
            f" attribute {hidden!r}; give one of the two to_json() and from_json()"
        )
    try:
        return msgspec.to_builtins(value, str_keys=True, enc_hook=_unknown, order="deterministic")
    except TypeError:  # a set, further in, whose members have no order
        fields = stored_fields(value)
        if fields is None:
            raise
        return fields


def _hidden_attribute(value: Any) -> str | None:
    """Return the first private attribute of an attrs object among an object's fields."""
    for field in (stored_fields(value) or {}).values():
        for attribute in getattr(cast(type[Any], type(field)), "__attrs_attrs__", ()):
            if attribute.name.startswith("_"):
                return attribute.name
    return None


def _unknown(value: Any) -> Any:
    """Represent what msgspec met inside another object and does not know itself."""
    if hasattr(value, "model_dump") or hasattr(value, "to_json") or isinstance(value, SimpleNamespace):
        return _represent(value)
    raise SerializationError(
        f"a value of type {type(value).__module__}.{type(value).__qualname__} cannot be stored; "
        "give the class to_json() and from_json(), or make it a dataclass"
    )


_encode = json.JSONEncoder(
    default=_represent, allow_nan=False, ensure_ascii=False, separators=(",", ":")
).encode


def _text_of(value: Any) -> str:
    try:
        return _encode(value)
    except TypeError as error:
        if not str(error).startswith("keys must be"):
            raise
        _check_keys(value)
        try:  # keys that are no text, such as UUIDs: msgspec knows how to write them
            value = msgspec.to_builtins(value, str_keys=True, enc_hook=_unknown, order="deterministic")
        except TypeError:
            raise error from None
    return _encode(value)


def _find_non_finite(value: Any, path: str, depth: int) -> str | None:
    """Return where in ``value`` a NaN or infinity sits, as a path (``$.rates[3]``), if it does in plain sight."""
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{path} ({value})"
    if depth > 50:
        return None
    steps: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        steps = [(f"{path}.{key}", item) for key, item in cast(dict[Any, Any], value).items()]
    elif isinstance(value, (list, tuple)):
        steps = [(f"{path}[{index}]", item) for index, item in enumerate(cast(list[Any], value))]
    for step, item in steps:
        found = _find_non_finite(item, step, depth + 1)
        if found:
            return found
    return None


def _rebuild(value: Any, target_type: Any, converter: DataConverter) -> Any:
    """Return ``value``, as parsed from JSON, as an instance of ``target_type``."""
    try:
        if _is_class(target_type) and _has_hook(target_type):
            return _decode_hook(converter, target_type, value)
        if _holds_hooks(target_type):
            return _rebuild_in_parts(value, target_type, converter)
        return msgspec.convert(value, target_type, dec_hook=partial(_decode_hook, converter), str_keys=True)
    except SerializationError as error:
        raise SerializationError(f"a payload does not fit {_type_name(target_type)}: {error}") from error
    except TypeError:  # not a type msgspec can check (a protocol, a type variable, an unusual union or enum)
        return _rebuild_in_parts(value, target_type, converter)
    except _UnknownClassError:
        return value
    except Exception as error:  # a validation error, or whatever a user's from_json raises
        raise SerializationError(f"a payload does not fit {_type_name(target_type)}: {error}") from error


def _rebuild_in_parts(value: Any, target_type: Any, converter: DataConverter) -> Any:
    try:
        return in_parts(value, target_type, partial(_part, converter), _encode)
    except Exception as error:  # an error of a part, or whatever a user's class raises
        raise SerializationError(f"a payload does not fit {_type_name(target_type)}: {error}") from error


def _part(converter: DataConverter, value: Any, target_type: Any) -> Any:
    return (
        value if any(target_type is kind for kind in _UNCHECKED) else _rebuild(value, target_type, converter)
    )


def _is_pydantic(kind: type[Any]) -> bool:
    return hasattr(kind, "__pydantic_validator__")


@lru_cache(maxsize=1024)
def _by_name(model: Any) -> bool:
    """Return whether a pydantic model can be read by the names of its fields: from pydantic 2.11 on."""
    return "by_name" in inspect.signature(model.model_validate_json).parameters


def _type_name(target_type: Any) -> str:
    return cast(type[Any], target_type).__qualname__ if isinstance(target_type, type) else str(target_type)


def _is_class(target_type: Any) -> bool:
    return isinstance(target_type, type)


def _has_hook(target_type: Any) -> bool:
    return callable(getattr(target_type, "model_validate", None)) or callable(
        getattr(target_type, "from_json", None)
    )


def _holds_hooks(target_type: Any) -> bool:
    """Return whether a container or union holds a class with hooks, which msgspec would build by its fields."""
    return any(
        (_is_class(part) and callable(getattr(part, "from_json", None))) or _holds_hooks(part)
        for part in typing.get_args(target_type)
    )


def _decode_hook(converter: DataConverter, target_type: Any, value: Any) -> Any:
    """Build a class that msgspec does not know itself."""
    validate = getattr(target_type, "model_validate", None)
    try:
        if callable(validate):
            if _is_pydantic(target_type):
                # From JSON, not from its values: strict models and encoded bytes are read right only so.
                names = {"by_alias": True, "by_name": True} if _by_name(target_type) else {}
                return target_type.model_validate_json(_encode(value), **names)
            return validate(value)
        from_json = getattr(target_type, "from_json", None)
        if callable(from_json):
            return from_json(value, converter) if _takes_converter(from_json) else from_json(value)
    except TypeError as error:
        raise SerializationError(f"TypeError: {error}") from error
    raise _UnknownClassError


@lru_cache(maxsize=1024)
def _takes_converter(from_json: Callable[..., Any]) -> bool:
    """Return whether a ``from_json`` asks for the converter too, by a second parameter called ``converter``."""
    try:
        return list(inspect.signature(from_json).parameters)[1:2] == ["converter"]
    except (TypeError, ValueError):
        return False


class _UnknownClassError(Exception):
    """An annotation names a class without a way to build it: the JSON value is handed over as it is."""
