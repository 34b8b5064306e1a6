"""Decode AMQP 1.0 values.

Whatever the bytes are, `decode` returns a value or raises `DecodeError`; memory and time are bounded by their number:
nothing has more items than bytes, counts end at `ITEMS_MAX`, nesting at `DEPTH_MAX`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, TypeAlias
from uuid import UUID

from durabletask_azure.emulator.amqp.types import (
    DEPTH_MAX,
    ITEMS_MAX,
    Array,
    DecodeError,
    Described,
    Symbol,
    Timestamp,
    Value,
)

Decoder: TypeAlias = Callable[[bytes, int, int], tuple[Value, int]]

_U16 = struct.Struct(">H").unpack_from
_I16 = struct.Struct(">h").unpack_from
_U32 = struct.Struct(">I").unpack_from
_I32 = struct.Struct(">i").unpack_from
_U64 = struct.Struct(">Q").unpack_from
_I64 = struct.Struct(">q").unpack_from
_I8 = struct.Struct(">b").unpack_from
_F32 = struct.Struct(">f").unpack_from
_F64 = struct.Struct(">d").unpack_from


def decode(data: bytes, at: int = 0) -> tuple[Value, int]:
    """Decode one value.

    Args:
        data: the bytes it stands in.
        at: where it begins.

    Returns:
        The value, and where it ends.

    Raises:
        DecodeError: there is no value.
    """
    try:
        return _any(data, at, 0)
    except (IndexError, struct.error) as error:
        raise DecodeError("a value ends too early") from error
    except UnicodeDecodeError as error:
        raise DecodeError("a string is not UTF-8") from error
    except (ValueError, TypeError, OverflowError) as error:
        raise DecodeError(f"not a value: {error}") from error


def skip(data: bytes, at: int) -> int:
    """Return where the value at a place ends, which costs less than decoding it.

    Raises:
        DecodeError: the value is cut short or of no known type.
    """
    end = _skip(data, at, 0)
    if end > len(data):
        raise DecodeError("a value ends too early")
    return end


def _skip(data: bytes, at: int, depth: int) -> int:
    try:
        code = data[at]
        if code == 0:
            if depth >= DEPTH_MAX:
                raise DecodeError(f"values are nested deeper than {DEPTH_MAX}")
            return _skip(data, _skip(data, at + 1, depth + 1), depth + 1)
        match code >> 4:
            case 0x4 | 0x5 | 0x6 | 0x7 | 0x8 | 0x9:
                return at + 1 + _FIXED_WIDTH[code >> 4]
            case 0xA | 0xC | 0xE:
                return at + 2 + data[at + 1]
            case 0xB | 0xD | 0xF:
                return at + 5 + _U32(data, at + 1)[0]
            case _:
                raise DecodeError(f"no type has the code {code:#04x}")
    except (IndexError, struct.error) as error:
        raise DecodeError("a value ends too early") from error


_FIXED_WIDTH: Final = {0x4: 0, 0x5: 1, 0x6: 2, 0x7: 4, 0x8: 8, 0x9: 16}


def _any(data: bytes, at: int, depth: int) -> tuple[Value, int]:
    decoder = _DECODERS[data[at]]
    if decoder is None:
        raise DecodeError(f"no type has the code {data[at]:#04x}")
    return decoder(data, at + 1, depth)


def _described(data: bytes, at: int, depth: int) -> tuple[Value, int]:
    depth = _deeper(depth)
    descriptor, at = _any(data, at, depth)
    value, at = _any(data, at, depth)
    return Described(descriptor, value), at


def _deeper(depth: int) -> int:
    if depth >= DEPTH_MAX:
        raise DecodeError(f"values are nested deeper than {DEPTH_MAX}")
    return depth + 1


def _boolean(data: bytes, at: int, _: int) -> tuple[Value, int]:
    if data[at] > 1:
        raise DecodeError("a boolean is neither 0 nor 1")
    return data[at] == 1, at + 1


def _byte(data: bytes, at: int, _: int) -> tuple[Value, int]:
    return data[at], at + 1


def _uuid(data: bytes, at: int, _: int) -> tuple[Value, int]:
    return UUID(bytes=_slice(data, at, at + 16)), at + 16


def _opaque16(data: bytes, at: int, _: int) -> tuple[Value, int]:
    # A decimal128: nothing here reckons with it, so its bytes are enough.
    return _slice(data, at, at + 16), at + 16


def _timestamp(data: bytes, at: int, _: int) -> tuple[Value, int]:
    return Timestamp(_I64(data, at)[0]), at + 8


def _char(data: bytes, at: int, _: int) -> tuple[Value, int]:
    code = _U32(data, at)[0]
    if 0xD800 <= code <= 0xDFFF:
        raise DecodeError("a char is half of a pair, which no text can hold")
    return chr(code), at + 4


def _slice(data: bytes, start: int, end: int) -> bytes:
    if end > len(data):
        raise DecodeError("a value ends too early")
    return data[start:end]


def _binary8(data: bytes, at: int, _: int) -> tuple[Value, int]:
    end = at + 1 + data[at]
    return _slice(data, at + 1, end), end


def _binary32(data: bytes, at: int, _: int) -> tuple[Value, int]:
    end = at + 4 + _U32(data, at)[0]
    return _slice(data, at + 4, end), end


def _string8(data: bytes, at: int, _: int) -> tuple[Value, int]:
    end = at + 1 + data[at]
    return _slice(data, at + 1, end).decode(), end


def _string32(data: bytes, at: int, _: int) -> tuple[Value, int]:
    end = at + 4 + _U32(data, at)[0]
    return _slice(data, at + 4, end).decode(), end


def _symbol8(data: bytes, at: int, _: int) -> tuple[Value, int]:
    end = at + 1 + data[at]
    return Symbol(_slice(data, at + 1, end).decode("ascii")), end


def _symbol32(data: bytes, at: int, _: int) -> tuple[Value, int]:
    end = at + 4 + _U32(data, at)[0]
    return Symbol(_slice(data, at + 4, end).decode("ascii")), end


def _compound8(data: bytes, at: int) -> tuple[int, int, int]:
    end = at + 1 + data[at]
    return _counted(data, data[at + 1], at + 2, end)


def _compound32(data: bytes, at: int) -> tuple[int, int, int]:
    end = at + 4 + _U32(data, at)[0]
    return _counted(data, _U32(data, at + 4)[0], at + 8, end)


def _counted(data: bytes, count: int, at: int, end: int) -> tuple[int, int, int]:
    if end > len(data) or at > end:
        raise DecodeError("a list, map or array ends too early")
    if count > ITEMS_MAX:
        raise DecodeError(f"a list, map or array has {count} items, more than {ITEMS_MAX}")
    return count, at, end


def _items(data: bytes, count: int, at: int, end: int, depth: int) -> list[Value]:
    if count > end - at:
        raise DecodeError("a list or map has more items than bytes")
    decoders = _DECODERS
    values: list[Value] = []
    for _ in range(count):
        decoder = decoders[data[at]]
        if decoder is None:
            raise DecodeError(f"no type has the code {data[at]:#04x}")
        value, at = decoder(data, at + 1, depth)
        values.append(value)
    if at != end:
        raise DecodeError("a list or map is not as long as it says")
    return values


def _list8(data: bytes, at: int, depth: int) -> tuple[Value, int]:
    count, at, end = _compound8(data, at)
    return _items(data, count, at, end, _deeper(depth)), end


def _list32(data: bytes, at: int, depth: int) -> tuple[Value, int]:
    count, at, end = _compound32(data, at)
    return _items(data, count, at, end, _deeper(depth)), end


def _map(data: bytes, count: int, at: int, end: int, depth: int) -> tuple[Value, int]:
    if count % 2:
        raise DecodeError("a map has a key without a value")
    items = _items(data, count, at, end, _deeper(depth))
    keys = items[::2]
    if not _KEY_TYPES.issuperset(map(type, keys)):
        raise DecodeError("a key of a map is neither a number, a string, a symbol, binary, boolean nor null")
    return dict(zip(keys, items[1::2], strict=True)), end


# Anybody can make keys of other types whose hashes are all the same, and a map of them takes quadratic time.
_KEY_TYPES: Final = frozenset((bool, int, float, str, Symbol, bytes, Timestamp, type(None)))


def _map8(data: bytes, at: int, depth: int) -> tuple[Value, int]:
    return _map(data, *_compound8(data, at), depth)


def _map32(data: bytes, at: int, depth: int) -> tuple[Value, int]:
    return _map(data, *_compound32(data, at), depth)


def _array(data: bytes, count: int, at: int, end: int, depth: int) -> tuple[Value, int]:
    depth = _deeper(depth)
    if count == 0:
        return Array(()), end
    if count > end - at:
        # Legal for items without bytes of their own, such as nulls, but arrays of those arrays grow without bound.
        raise DecodeError("an array has more items than bytes")
    descriptor: Value = None
    described = data[at] == 0
    if described:
        descriptor, at = _any(data, at + 1, depth)
    decoder = _DECODERS[data[at]]
    if decoder is None or data[at] == 0:
        raise DecodeError(f"no array holds items of the code {data[at]:#04x}")
    at += 1
    values: list[Value] = []
    for _ in range(count):
        value, at = decoder(data, at, depth)
        values.append(Described(descriptor, value) if described else value)
    if at != end:
        raise DecodeError("an array is not as long as it says")
    return Array(tuple(values)), end


def _array8(data: bytes, at: int, depth: int) -> tuple[Value, int]:
    return _array(data, *_compound8(data, at), depth)


def _array32(data: bytes, at: int, depth: int) -> tuple[Value, int]:
    return _array(data, *_compound32(data, at), depth)


def _constant(value: Value) -> Decoder:
    return lambda _data, at, _depth: (value, at)


def _fixed(unpack: Callable[[bytes, int], tuple[Value, ...]], width: int) -> Decoder:
    return lambda data, at, _depth: (unpack(data, at)[0], at + width)


def _empty_list(_data: bytes, at: int, _depth: int) -> tuple[Value, int]:
    return [], at


_BY_CODE: Final[dict[int, Decoder]] = {
    0x00: _described,
    0x40: _constant(None),
    0x41: _constant(True),
    0x42: _constant(False),
    0x43: _constant(0),
    0x44: _constant(0),
    0x45: _empty_list,
    0x50: _byte,
    0x51: _fixed(_I8, 1),
    0x52: _byte,
    0x53: _byte,
    0x54: _fixed(_I8, 1),
    0x55: _fixed(_I8, 1),
    0x56: _boolean,
    0x60: _fixed(_U16, 2),
    0x61: _fixed(_I16, 2),
    0x70: _fixed(_U32, 4),
    0x71: _fixed(_I32, 4),
    0x72: _fixed(_F32, 4),
    0x73: _char,
    0x74: _fixed(_U32, 4),  # a decimal32, by its bits
    0x80: _fixed(_U64, 8),
    0x81: _fixed(_I64, 8),
    0x82: _fixed(_F64, 8),
    0x83: _timestamp,
    0x84: _fixed(_U64, 8),  # a decimal64, by its bits
    0x94: _opaque16,
    0x98: _uuid,
    0xA0: _binary8,
    0xA1: _string8,
    0xA3: _symbol8,
    0xB0: _binary32,
    0xB1: _string32,
    0xB3: _symbol32,
    0xC0: _list8,
    0xC1: _map8,
    0xD0: _list32,
    0xD1: _map32,
    0xE0: _array8,
    0xF0: _array32,
}
_DECODERS: Final[list[Decoder | None]] = [_BY_CODE.get(code) for code in range(256)]
