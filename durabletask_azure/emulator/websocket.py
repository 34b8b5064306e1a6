"""AMQP over websockets (RFC 6455), as the SDK speaks it with `TransportType.AmqpOverWebsocket`.

The stream of binary frames is the stream of AMQP; where frames begin and end means nothing.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from durabletask_azure.emulator.amqp.types import AmqpError

PATH: Final = "/$servicebus/websocket"
SUBPROTOCOL: Final = "AMQPWSB10"
HIGH_WATER_BYTES: Final = 65_536
FRAME_BYTES_MAX: Final = 1_048_576
READ_BYTES: Final = 65_536
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
# The constant of RFC 6455, section 1.3.
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def wants_websocket(path: str, headers: Mapping[str, str]) -> bool:
    """Tell whether a request asks for AMQP over a websocket."""
    return (
        path.rstrip("/") == PATH
        and headers.get("upgrade", "").casefold() == "websocket"
        and "sec-websocket-key" in headers
    )


def handshake(headers: Mapping[str, str]) -> bytes:
    """Return the answer that turns a connection into a websocket."""
    digest = hashlib.sha1(headers["sec-websocket-key"].encode() + _GUID, usedforsecurity=False).digest()
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}\r\n"
        f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
    ).encode()


def build_frame(payload: bytes, opcode: int = BINARY) -> bytes:
    """Build a frame of a server: whole, and not masked."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 65_536:
        return bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big") + payload


class FrameParser:
    """Cuts what a client sends into frames."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Take bytes; return opcode and payload of each frame that is whole.

        Raises:
            AmqpError: a frame is not masked, or too large.
        """
        self._data += data
        frames: list[tuple[int, bytes]] = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def _next(self) -> tuple[int, bytes] | None:
        data = self._data
        if len(data) < 2:
            return None
        size, at = data[1] & 0x7F, 2
        if size >= 126:
            wide = 2 if size == 126 else 8
            if len(data) < 2 + wide:
                return None
            size, at = int.from_bytes(data[2 : 2 + wide], "big"), 2 + wide
        if not data[1] & 0x80 or size > FRAME_BYTES_MAX:
            raise AmqpError("amqp:connection:framing-error", "a websocket frame is not masked, or too large")
        end = at + 4 + size
        if len(data) < end:
            return None
        self._data = data[end:]
        return data[0] & 0x0F, _unmask(data[at : at + 4], data[at + 4 : end])


def _unmask(mask: bytes, payload: bytes) -> bytes:
    size = len(payload)
    repeated = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")


class Receiving(Protocol):
    """A protocol that takes the AMQP in a websocket; an `asyncio.Protocol` is one."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start."""
        ...

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        ...

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        ...

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        ...

    def resume_writing(self) -> None:
        """It has caught up."""
        ...


class WebSocketTransport(asyncio.Transport):
    """Writes into a websocket as if it were a connection."""

    def __init__(self, writer: asyncio.StreamWriter, protocol: Receiving) -> None:
        super().__init__()
        self._writer = writer
        self._protocol = protocol
        self._resuming: asyncio.Task[None] | None = None
        self.readable = asyncio.Event()
        self.readable.set()

    def write(self, data: Any) -> None:
        """Send bytes in a frame."""
        self._writer.write(build_frame(bytes(data)))
        if self._resuming is None and self.get_write_buffer_size() > HIGH_WATER_BYTES:
            self._protocol.pause_writing()
            self._resuming = asyncio.get_running_loop().create_task(self._resume())

    async def _resume(self) -> None:
        try:
            await self._writer.drain()
        except ConnectionError:
            return
        self._resuming = None
        self._protocol.resume_writing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the connection below knows."""
        return self._writer.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait."""
        return self._writer.transport.get_write_buffer_size()

    def is_closing(self) -> bool:
        """Tell whether it closes."""
        return self._writer.is_closing()

    def close(self) -> None:
        """Close it."""
        if not self._writer.is_closing():
            self._writer.write(build_frame(b"", CLOSE))
            self._writer.close()

    def abort(self) -> None:
        """Cut it."""
        self._writer.transport.abort()

    def pause_reading(self) -> None:
        """Read no more for now."""
        self.readable.clear()

    def resume_reading(self) -> None:
        """Read again."""
        self.readable.set()


async def serve(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, make_protocol: Callable[[], Receiving]
) -> None:
    """Carry AMQP over a websocket whose handshake is done, until one side ends."""
    protocol = make_protocol()
    parser = FrameParser()
    transport = WebSocketTransport(writer, protocol)
    protocol.connection_made(transport)
    try:
        while data := await reader.read(READ_BYTES):
            await transport.readable.wait()
            for opcode, payload in parser.feed(data):
                if opcode in (BINARY, CONTINUATION):
                    protocol.data_received(payload)
                elif opcode == PING:
                    writer.write(build_frame(payload, PONG))
                elif opcode == CLOSE:
                    return
    except AmqpError:
        return
    finally:
        protocol.connection_lost(None)
