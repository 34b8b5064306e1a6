"""The values of AMQP 1.0 and the errors of its codec.

Decoding gives plain Python values: every integer is an `int`, a string is a `str`, a symbol is a `Symbol`, which is a
`str` too. Encoding takes the wire type from the Python type, so the classes here name what a plain value cannot say.
"""

from __future__ import annotations

from typing import Final, TypeAlias
from uuid import UUID

import msgspec


class Symbol(str):
    """An AMQP symbol, for example an error condition."""

    __slots__ = ()


class UByte(int):
    """An unsigned byte."""

    __slots__ = ()


class UShort(int):
    """An unsigned integer of two bytes."""

    __slots__ = ()


class UInt(int):
    """An unsigned integer of four bytes."""

    __slots__ = ()


class ULong(int):
    """An unsigned integer of eight bytes."""

    __slots__ = ()


class Int(int):
    """A signed integer of four bytes. A plain `int` goes out as a long, of eight."""

    __slots__ = ()


class Timestamp(int):
    """Milliseconds since 1970 in UTC."""

    __slots__ = ()


class Encoded(bytes):
    """A value that is encoded already and goes out as it stands."""

    __slots__ = ()


class Described(msgspec.Struct, frozen=True):
    """A value with its descriptor, a number or a symbol."""

    descriptor: Value
    value: Value


class Array(msgspec.Struct, frozen=True):
    """Values of one type; all have the wire type of the first."""

    items: tuple[Value, ...]


Value: TypeAlias = (
    "bool | int | float | str | bytes | UUID | list[Value] | dict[Value, Value] | Described | Array | None"
)
Fields: TypeAlias = "list[Value]"

# Counts are read from the wire before anything is made from them. The SDK has the same bound (its `_decode.py`).
ITEMS_MAX: Final = 65_536
DEPTH_MAX: Final = 32


class AmqpError(Exception):
    """An error with an AMQP condition, which the peer is told.

    Attributes:
        condition: the error's symbol, such as `amqp:not-found`.
        description: a sentence for people.
    """

    def __init__(self, condition: str, description: str = "") -> None:
        super().__init__(f"{condition}: {description}" if description else condition)
        self.condition = condition
        self.description = description


class DecodeError(AmqpError):
    """The peer sent bytes that are not AMQP."""

    def __init__(self, description: str) -> None:
        super().__init__("amqp:decode-error", description)


def text(value: Value, default: str = "") -> str:
    """Return a string as it is, bytes as UTF-8, anything else as the default."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return default


def whole(value: Value, default: int = 0) -> int:
    """Return an integer as it is, anything else (also a bool) as the default."""
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def mapping(value: Value) -> dict[Value, Value]:
    """Return a map as it is, anything else as an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: Value) -> list[Value]:
    """Return the items of a list or an array; anything else is one item, and null none."""
    if isinstance(value, list):
        return value
    if isinstance(value, Array):
        return list(value.items)
    return [] if value is None else [value]
