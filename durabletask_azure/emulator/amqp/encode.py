"""Encode AMQP 1.0 values; the wire type follows from the Python type (see `types.py`)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any, Final
from uuid import UUID

from durabletask_azure.emulator.amqp.types import (
    Array,
    Described,
    Encoded,
    Int,
    Symbol,
    Timestamp,
    UByte,
    UInt,
    ULong,
    UShort,
    Value,
)

_U16 = struct.Struct(">H").pack
_U32 = struct.Struct(">I").pack
_I32 = struct.Struct(">i").pack
_U64 = struct.Struct(">Q").pack
_I64 = struct.Struct(">q").pack
_F64 = struct.Struct(">d").pack

NULL: Final = b"\x40"


def encode(value: Value) -> bytes:
    """Encode a value.

    Raises:
        TypeError: no wire type belongs to the value's type.
        struct.error: a number does not fit its wire type.
    """
    encoder = _ENCODERS.get(type(value))
    if encoder is None:
        raise TypeError(f"a {type(value).__name__} has no AMQP type")
    return encoder(value)


def encode_list(parts: Iterable[bytes]) -> bytes:
    """Make a list of values that are encoded already."""
    items = list(parts)
    return _compound(0xC0, items)


def encode_map(parts: Iterable[bytes]) -> bytes:
    """Make a map of keys and values, in turn, that are encoded already."""
    items = list(parts)
    return _compound(0xC1, items)


def encode_composite(code: int, fields: list[Value]) -> bytes:
    """Encode a described list (a performative, a section, a state) without the nulls at its end.

    Args:
        code: the descriptor, below 256.
        fields: the values, in the order of the specification.
    """
    count = len(fields)
    while count and fields[count - 1] is None:
        count -= 1
    items = [encode(field) for field in fields[:count]]
    return b"\x00\x53" + bytes((code,)) + (_compound(0xC0, items) if items else b"\x45")


def encode_section(code: int, body: bytes) -> bytes:
    """Put the descriptor of a message section in front of its encoded body."""
    return b"\x00\x53" + bytes((code,)) + body


def _compound(small: int, items: list[bytes]) -> bytes:
    body = b"".join(items)
    count, size = len(items), len(body) + 1
    if size <= 255 and count <= 255:
        return bytes((small, size, count)) + body
    return bytes((small + 0x10,)) + _U32(size + 3) + _U32(count) + body


def _boolean(value: bool) -> bytes:
    return b"\x41" if value else b"\x42"


def _string(value: str) -> bytes:
    return _variable(0xA1, value.encode())


def _symbol(value: str) -> bytes:
    return _variable(0xA3, value.encode("ascii", "replace"))


def _binary(value: bytes) -> bytes:
    return _variable(0xA0, value)


def _variable(small: int, data: bytes) -> bytes:
    size = len(data)
    return bytes((small, size)) + data if size <= 255 else bytes((small + 0x10,)) + _U32(size) + data


def _integer(value: int) -> bytes:
    # What was read from an unsigned long does not fit a signed one.
    return b"\x81" + _I64(value) if value < 2**63 else b"\x80" + _U64(value)


def _uint(value: int) -> bytes:
    if value == 0:
        return b"\x43"
    return bytes((0x52, value)) if 0 < value <= 255 else b"\x70" + _U32(value)


def _ulong(value: int) -> bytes:
    if value == 0:
        return b"\x44"
    return bytes((0x53, value)) if 0 < value <= 255 else b"\x80" + _U64(value)


def _list(value: list[Value]) -> bytes:
    return _compound(0xC0, [encode(item) for item in value]) if value else b"\x45"


def _map(value: dict[Value, Value]) -> bytes:
    return _compound(0xC1, [encode(part) for pair in value.items() for part in pair])


def _described(value: Described) -> bytes:
    return b"\x00" + encode(value.descriptor) + encode(value.value)


# Items of an array share one constructor, so each is written in the wide form of its type.
_ARRAY_FORMS: Final[dict[type, tuple[int, Callable[[Any], bytes]]]] = {
    bool: (0x56, lambda item: b"\x01" if item else b"\x00"),
    int: (0x81, _I64),
    Int: (0x71, _I32),
    UInt: (0x70, _U32),
    ULong: (0x80, _U64),
    Timestamp: (0x83, _I64),
    float: (0x82, _F64),
    str: (0xB1, lambda item: _U32(len(item.encode())) + item.encode()),
    Symbol: (0xB3, lambda item: _U32(len(item)) + item.encode("ascii", "replace")),
    bytes: (0xB0, lambda item: _U32(len(item)) + item),
    UUID: (0x98, lambda item: item.bytes),
}


def _array(value: Array) -> bytes:
    if not value.items:
        return b"\xe0\x02\x00\x40"
    kinds = {type(item) for item in value.items}
    form = _ARRAY_FORMS.get(kinds.pop())
    if form is None or kinds:
        raise TypeError("an array holds items of one simple type")
    code, pack = form
    if form is _ARRAY_FORMS[int] and max(value.items) >= 2**63:  # pyright: ignore[reportArgumentType]
        # Read from unsigned longs, as in `_integer`.
        code, pack = _ARRAY_FORMS[ULong]
    body = bytes((code,)) + b"".join([pack(item) for item in value.items])
    return b"\xf0" + _U32(len(body) + 4) + _U32(len(value.items)) + body


_ENCODERS: Final[dict[type, Callable[[Any], bytes]]] = {
    type(None): lambda _: NULL,
    bool: _boolean,
    int: _integer,
    Int: lambda value: b"\x71" + _I32(value),
    UByte: lambda value: bytes((0x50, value)),
    UShort: lambda value: b"\x60" + _U16(value),
    UInt: _uint,
    ULong: _ulong,
    Timestamp: lambda value: b"\x83" + _I64(value),
    float: lambda value: b"\x82" + _F64(value),
    str: _string,
    Symbol: _symbol,
    bytes: _binary,
    UUID: lambda value: b"\x98" + value.bytes,
    list: _list,
    dict: _map,
    Described: _described,
    Array: _array,
    Encoded: bytes,
}
