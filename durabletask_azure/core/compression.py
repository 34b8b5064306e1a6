"""The form of a value in a payload store: as it is, or compressed, told apart by its first byte.

``FF 7A`` (``z``) and a zlib stream, ``FF 2D`` (``-``) and the value as it is, or the value alone. Payloads are UTF-8,
in which the byte ``FF`` does not occur: so what was stored before there was compression, or with it turned off, is
read all the same. A value is named by its own content and size, not by those of its stored form.
"""

from __future__ import annotations

import zlib

__all__ = ["STORED_BYTES_MORE_MAX", "pack", "unpack"]

_COMPRESSED = b"\xffz"
_AS_IT_IS = b"\xff-"
_LEVEL = 1
"""Measured on JSON of 32 KiB to 4 MiB: to 0.33 of its size at 40 to 65 MB/s; level 6 to 0.30 at 9 to 13."""

STORED_BYTES_MORE_MAX = len(_AS_IT_IS)
"""How much larger than the value its stored form can be."""


def pack(data: bytes, compress_bytes_min: int) -> bytes:
    """Return the stored form of a value: compressed if it has that many bytes and gets smaller."""
    if len(data) >= compress_bytes_min:
        packed = zlib.compress(data, _LEVEL)
        if len(packed) + len(_COMPRESSED) < len(data):
            return _COMPRESSED + packed
    return _AS_IT_IS + data if data[:1] == b"\xff" else data


def unpack(stored: bytes, size: int) -> bytes:
    """Return the value of a stored form; never more than ``size`` bytes and one, whatever was stored.

    Raises:
        ValueError: it is damaged.
    """
    if stored.startswith(_AS_IT_IS):
        return stored[len(_AS_IT_IS) :]
    if not stored.startswith(_COMPRESSED):
        return stored
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(stored[len(_COMPRESSED) :], size + 1)
    except zlib.error as error:
        raise ValueError(f"the compressed value is damaged: {error}") from error
    if len(data) <= size and (not stream.eof or stream.unused_data):
        raise ValueError("the compressed value is damaged: it has another end than it began with")
    return data
