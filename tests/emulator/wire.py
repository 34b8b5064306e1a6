"""A client of a few lines that writes frames by hand: what the SDK would never send, and many connections cheaply."""

from __future__ import annotations

from collections.abc import Callable

from durabletask_azure.emulator.amqp.decode import decode
from durabletask_azure.emulator.amqp.encode import encode, encode_composite
from durabletask_azure.emulator.amqp.frames import AMQP_HEADER, FrameReader, build_frame
from durabletask_azure.emulator.amqp.types import (
    Described,
    Encoded,
    Symbol,
    UByte,
    UInt,
    Value,
)
from durabletask_azure.emulator.broker.settings import QueueSettings
from durabletask_azure.emulator.cbs import Credentials
from durabletask_azure.emulator.context import Broker
from durabletask_azure.emulator.limits import Limits
from durabletask_azure.emulator.peer import Peer
from tests.emulator.world import World, message

OPEN, BEGIN, ATTACH, FLOW, TRANSFER, DISPOSITION, DETACH, END, CLOSE = range(0x10, 0x19)
ACCEPTED = Encoded(encode_composite(0x24, []))
RECEIVES, SENDS = True, False


def frame(code: int, *fields: Value, payload: bytes = b"", channel: int = 0) -> bytes:
    """Build a frame."""
    return build_frame(channel, encode_composite(code, list(fields)) + payload)


def open_frames() -> bytes:
    """Return the header, an open and a begin."""
    return AMQP_HEADER + frame(OPEN, "client", "host") + frame(BEGIN, None, UInt(0), UInt(5000), UInt(5000))


def attach(
    name: str,
    handle: int,
    role: bool,
    source: str,
    target: str,
    *,
    filters: dict[Value, Value] | None = None,
    presettled: bool = False,
) -> bytes:
    """Build an attach."""
    origin: list[Value] = [source, None, None, None, None, None, None, filters]
    return frame(
        ATTACH,
        name,
        UInt(handle),
        role,
        UByte(1 if presettled else 0),
        UByte(0),
        Encoded(encode_composite(0x28, origin)),
        Encoded(encode_composite(0x29, [target])),
        None,
        None,
        None if role else UInt(0),
    )


def put_token(handle: int = 0, delivery_id: int = 0) -> bytes:
    """Build the transfer that puts a token good for everything."""
    named: dict[Value, Value] = {"operation": "put-token", "type": "jwt", "name": "sb://host/"}
    request = encode_composite(0x73, ["request", None, None, None, "$cbs"])
    request += b"\x00\x53\x74" + encode(named)
    request += b"\x00\x53\x77" + encode("token")
    return frame(TRANSFER, UInt(handle), UInt(delivery_id), b"tag", UInt(0), True, False, payload=request)


def credit(handle: int, amount: int, *, delivery_count: int = 0, drain: bool = False) -> bytes:
    """Build a flow that gives credit."""
    session: list[Value] = [UInt(1), UInt(5000), UInt(0), UInt(5000)]
    return frame(FLOW, *session, UInt(handle), UInt(delivery_count), UInt(amount), None, drain)


def transfer(handle: int, delivery_id: int, body: str = "body") -> bytes:
    """Build a transfer of a message with a body."""
    return transfer_of(handle, delivery_id, message(body))


def transfer_of(handle: int, delivery_id: int, payload: bytes) -> bytes:
    """Build a transfer of a message."""
    tag = delivery_id.to_bytes(4, "big")
    return frame(TRANSFER, UInt(handle), UInt(delivery_id), tag, UInt(0), False, False, payload=payload)


def settled(delivery_id: int, state: Encoded = ACCEPTED) -> bytes:
    """Build a disposition of a receiver."""
    return frame(DISPOSITION, RECEIVES, UInt(delivery_id), UInt(delivery_id), False, state)


def before_signing_in() -> bytes:
    """Return what a client sends before `put_token`, for which it then has credit."""
    return (
        open_frames()
        + attach("cbs-in", 0, SENDS, "$cbs", "$cbs")
        + attach("cbs-out", 1, RECEIVES, "$cbs", "$cbs")
        + credit(1, 100)
    )


def read_frames(data: bytes) -> list[tuple[int, list[Value], bytes]]:
    """Return descriptor, fields and payload of each frame of a broker's output; headers are skipped."""
    while data.startswith(b"AMQP"):
        data = data[8:]
    reader = FrameReader(1_000_000)
    reader.feed(data)
    frames: list[tuple[int, list[Value], bytes]] = []
    while (found := reader.frame()) is not None:
        body = found[2]
        if not body:
            continue
        value, end = decode(body)
        assert isinstance(value, Described)
        assert isinstance(value.descriptor, int)
        assert isinstance(value.value, list)
        frames.append((value.descriptor, value.value, body[end:]))
    return frames


class Bench:
    """A broker in virtual time with hand-made clients."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.world = World()
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.broker = Broker(
            self.world.namespace,
            Credentials(accept_tokens=True),
            limits or Limits(),
            lambda: self.world.now,
            lambda seconds, callback: self.later.append((seconds, callback)),
        )
        self.aborted = 0
        self.fill()

    def fill(self) -> None:
        """Make the queues `q` and `other`, and `s` with sessions."""
        for name in ("q", "other"):
            self.world.namespace.create(QueueSettings(name))
        self.world.namespace.create(QueueSettings("s", requires_sessions=True))

    def empty(self) -> None:
        """Make the queues anew."""
        for name in ("q", "other", "s"):
            self.world.namespace.delete(name)
        self.world.forget()
        self.later.clear()
        self.fill()

    def connect(self, data: bytes = b"") -> Peer:
        """Connect a client, and let it send bytes."""
        peer = Peer(self.broker, "test", lambda: None, self._abort)
        if data:
            peer.receive(data)
        return peer

    def sign_in(self) -> Peer:
        """Connect a client that may do everything."""
        peer = self.connect(before_signing_in())
        peer.receive(put_token())
        peer.connection.output()
        return peer

    def _abort(self) -> None:
        self.aborted += 1


def answers(peer: Peer, data: bytes) -> list[tuple[int, list[Value], bytes]]:
    """Let a client send bytes; return the frames it gets."""
    peer.connection.output()
    peer.receive(data)
    return read_frames(peer.connection.output())


def condition(error: Value) -> str:
    """Return the condition of an error in a frame."""
    assert isinstance(error, Described)
    assert isinstance(error.value, list)
    assert isinstance(error.value[0], Symbol)
    return error.value[0]
