"""Frames: cut a stream of bytes into them, and build them.

A frame is a header of eight bytes (size, where the body begins, type, channel) and a body (AMQP 1.0, part 2
section 2.3). An empty body keeps a connection alive.
"""

from __future__ import annotations

import struct
from typing import Final

from durabletask_azure.emulator.amqp.types import AmqpError

AMQP_HEADER: Final = b"AMQP\x00\x01\x00\x00"
SASL_HEADER: Final = b"AMQP\x03\x01\x00\x00"
EMPTY_FRAME: Final = b"\x00\x00\x00\x08\x02\x00\x00\x00"
FRAME_AMQP: Final = 0
FRAME_SASL: Final = 1
HEADER_BYTES: Final = 8
FRAME_BYTES_MIN: Final = 512

_HEADER = struct.Struct(">IBBH")


class FrameReader:
    """Gathers bytes and gives out whole frames. It holds less than one frame of the largest size."""

    __slots__ = ("_at", "_data", "frame_bytes_max")

    def __init__(self, frame_bytes_max: int) -> None:
        self._data = b""
        self._at = 0
        self.frame_bytes_max = frame_bytes_max

    def feed(self, data: bytes) -> None:
        """Add bytes."""
        self._data = self._data[self._at :] + data if self._at < len(self._data) else data
        self._at = 0

    def take(self, count: int) -> bytes | None:
        """Return the next bytes, or None while there are fewer than that."""
        if len(self._data) - self._at < count:
            return None
        self._at += count
        return self._data[self._at - count : self._at]

    def frame(self) -> tuple[int, int, bytes] | None:
        """Return type, channel and body of the next frame, or None while it is not whole.

        Raises:
            AmqpError: what comes is no frame, or one larger than agreed.
        """
        data, at = self._data, self._at
        have = len(data) - at
        if have < HEADER_BYTES:
            return None
        size, offset, kind, channel = _HEADER.unpack_from(data, at)
        if size < HEADER_BYTES or offset < 2 or offset * 4 > size or kind > FRAME_SASL:
            raise AmqpError("amqp:connection:framing-error", "what came is not a frame")
        if size > self.frame_bytes_max:
            raise AmqpError(
                "amqp:connection:framing-error",
                f"a frame of {size} bytes; at most {self.frame_bytes_max} are allowed",
            )
        if have < size:
            return None
        self._at = at + size
        return kind, channel, data[at + offset * 4 : at + size]


def build_frame(channel: int, body: bytes, kind: int = FRAME_AMQP) -> bytes:
    """Put a header in front of a body."""
    return _HEADER.pack(len(body) + HEADER_BYTES, 2, kind, channel) + body
