"""AMQP over websockets: frames as clients send them, and the whole way with the emulator's port."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durabletask_azure.emulator.amqp.types import AmqpError
from durabletask_azure.emulator.fixture import RunningEmulator
from durabletask_azure.emulator.websocket import (
    BINARY,
    CLOSE,
    FRAME_BYTES_MAX,
    PING,
    PONG,
    FrameParser,
    build_frame,
    handshake,
)
from tests.emulator.wire import before_signing_in

REQUEST = (
    b"GET /$servicebus/websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def masked(payload: bytes, opcode: int = BINARY, mask: bytes = b"mask") -> bytes:
    """Build a frame as a client does: masked."""
    plain = build_frame(payload, opcode)
    head = len(plain) - len(payload)
    hidden = bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))
    return plain[:1] + bytes((plain[1] | 0x80,)) + plain[2:head] + mask + hidden


@given(st.lists(st.binary(max_size=400), max_size=5), st.binary(min_size=4, max_size=4), st.integers(1, 50))
def test_frames_come_back_however_the_bytes_are_cut(parts: list[bytes], mask: bytes, step: int) -> None:
    data = b"".join([masked(part, mask=mask) for part in parts])
    parser = FrameParser()
    found: list[bytes] = []
    for start in range(0, len(data), step):
        found += [payload for _, payload in parser.feed(data[start : start + step])]
    assert found == parts


@pytest.mark.parametrize("size", [125, 126, 65_535, 65_536])
def test_each_width_of_length_is_read(size: int) -> None:
    assert FrameParser().feed(masked(b"x" * size)) == [(BINARY, b"x" * size)]


def test_frames_that_are_not_masked_or_too_large_are_refused() -> None:
    with pytest.raises(AmqpError):
        FrameParser().feed(build_frame(b"x"))
    with pytest.raises(AmqpError):
        FrameParser().feed(masked(b"")[:1] + b"\xff" + (FRAME_BYTES_MAX + 1).to_bytes(8, "big"))


def test_the_handshake_is_that_of_the_specification() -> None:
    # The example of RFC 6455, section 1.3.
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in handshake({"sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="})


@pytest.fixture(scope="module")
def running() -> Iterator[RunningEmulator]:
    with RunningEmulator() as emulator:
        yield emulator


async def test_amqp_goes_through_a_websocket_and_pings_are_answered(running: RunningEmulator) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.server.admin_port)
    writer.write(REQUEST)
    assert b"101 Switching Protocols" in await reader.readuntil(b"\r\n\r\n")
    writer.write(masked(b"hello", PING))
    assert await reader.readexactly(7) == build_frame(b"hello", PONG)
    opening = before_signing_in()
    for start in range(0, len(opening), 100):
        writer.write(masked(opening[start : start + 100]))
    assert b"servicebus-emulator" in await reader.readuntil(b"cbs-out")
    writer.write(masked(b"", CLOSE))
    await reader.read()
    writer.close()
