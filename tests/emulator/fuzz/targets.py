"""What a fuzzer runs: bytes go in, and anything but the error that is declared for them comes out as an exception.

Nothing here knows atheris, so that one input can be played again anywhere.
"""

from __future__ import annotations

import resource
import sys
import time
import zlib
from collections.abc import Callable
from typing import Final, TypeAlias

from durabletask_azure.emulator.amqp.decode import decode, skip
from durabletask_azure.emulator.amqp.encode import encode
from durabletask_azure.emulator.amqp.frames import FrameReader
from durabletask_azure.emulator.amqp.message import batch_parts, read_content, read_request
from durabletask_azure.emulator.amqp.performatives import decode_performative
from durabletask_azure.emulator.amqp.types import AmqpError, DecodeError
from durabletask_azure.emulator.broker.settings import QueueSettings
from durabletask_azure.emulator.limits import Limits
from durabletask_azure.emulator.peer import Peer
from tests.emulator.wire import (
    RECEIVES,
    SENDS,
    Bench,
    answers,
    attach,
    credit,
    read_frames,
    settled,
    transfer,
)

Target: TypeAlias = Callable[[bytes], None]

# For one input of at most a few kilobytes. Time is that of the processor, so that a busy machine fails nothing.
INPUT_CPU_S_MAX: Final = 2.0
INPUT_GROWTH_BYTES_MAX: Final = 67_108_864
OUTPUT_BYTES_MAX: Final = 1_000_000
FRAMES_MAX: Final = 64

# The first byte of an input of the broker: the client is signed in; time passes between frames; bytes come in pieces.
SIGNED_IN, TIME_PASSES, IN_PIECES = 1, 2, 4
BYSTANDER: Final = "queue-of-a-bystander"
PASSING_S: Final = 31.0


class OutOfBoundsError(AssertionError):
    """One input took too much time or memory."""


def bounded(target: Target) -> Target:
    """Let a target fail if one input takes more than its share."""

    def run(data: bytes) -> None:
        memory, started = peak_bytes(), time.process_time()
        target(data)
        spent, grown = time.process_time() - started, peak_bytes() - memory
        if spent > INPUT_CPU_S_MAX:
            raise OutOfBoundsError(f"{len(data)} bytes took {spent:.1f} seconds; at most {INPUT_CPU_S_MAX}")
        if grown > INPUT_GROWTH_BYTES_MAX:
            raise OutOfBoundsError(
                f"{len(data)} bytes took {grown:,} bytes; at most {INPUT_GROWTH_BYTES_MAX:,}"
            )

    return run


def peak_bytes() -> int:
    """Return the most memory this process ever had."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


# ------------------------------------------------------------ the codec


def codec(data: bytes) -> None:
    """Read bytes as everything they could be: frames, a value, a performative, a message, a batch, a request."""
    read_value(data)
    for read, declared in (
        (decode_performative, DecodeError),
        (read_content, AmqpError),
        (batch_parts, DecodeError),
        (read_request, DecodeError),
    ):
        try:
            read(data)
        except declared:
            continue
    reader = FrameReader(Limits().frame_bytes_max)
    reader.feed(data)
    try:
        while reader.frame() is not None:
            pass
    except AmqpError:
        return


def read_value(data: bytes) -> None:
    """Decode a value; one that is good ends where `skip` says, and is itself after a round through `encode`."""
    try:
        value, end = decode(data)
    except DecodeError:
        return
    assert skip(data, 0) == end
    try:
        again = encode(value)
    except TypeError:
        # Arrays of mixed or compound types are read and never written.
        return
    repeated, _ = decode(again)
    assert encode(repeated) == again


# ------------------------------------------------------------ a connection and the broker


def broker(data: bytes) -> None:
    """Let a client send bytes to a broker; another one, connected all the time, must not notice."""
    mode, stream = (data[0], data[1:]) if data else (0, b"")
    bench = Bench()
    bench.world.namespace.create(QueueSettings(BYSTANDER))
    bystander = connect_bystander(bench)
    peer = bench.sign_in() if mode & SIGNED_IN else bench.connect()
    for piece in pieces(stream, bool(mode & IN_PIECES)):
        peer.receive(piece)
        output = peer.connection.output()
        assert len(output) < OUTPUT_BYTES_MAX
        read_frames(output)
        if mode & TIME_PASSES:
            let_time_pass(bench, peer)
        if peer.closed:
            break
    peer.lost()
    notices_nothing(bystander)


def pieces(stream: bytes, small: bool) -> list[bytes]:
    """Cut a stream at the ends of its frames, or anywhere; what comes after many pieces stays together."""
    found: list[bytes] = []
    at = 0
    while at < len(stream) and len(found) < FRAMES_MAX:
        size = 8 if stream.startswith(b"AMQP", at) else int.from_bytes(stream[at : at + 4], "big")
        if small:
            size = 1 + zlib.crc32(stream[at : at + 4]) % 97
        found.append(stream[at : at + max(size, 8)])
        at += len(found[-1])
    return [*found, stream[at:]] if at < len(stream) else found


def let_time_pass(bench: Bench, peer: Peer) -> None:
    """Let locks, messages and waits expire, and run what was put off."""
    bench.world.advance(PASSING_S)
    due, bench.later[:] = list(bench.later), []
    for _, callback in due:
        callback()
    peer.upkeep(bench.world.now)
    peer.connection.output()


def connect_bystander(bench: Bench) -> Peer:
    """Connect a client that does everything right."""
    peer = bench.sign_in()
    answers(peer, attach("bystander-out", 2, SENDS, "here", BYSTANDER))
    answers(peer, attach("bystander-in", 3, RECEIVES, BYSTANDER, "here") + credit(3, 1))
    return peer


def notices_nothing(peer: Peer) -> None:
    """Send a message and get it back."""
    assert not peer.closed
    frames = answers(peer, transfer(2, 1, "still here"))
    [(fields, payload)] = [(fields, payload) for code, fields, payload in frames if code == 0x14]
    assert payload.endswith(b"still here")
    assert isinstance(fields[1], int)
    answers(peer, settled(fields[1]))
    assert not peer.closed


TARGETS: Final[dict[str, Target]] = {"codec": bounded(codec), "broker": bounded(broker)}
