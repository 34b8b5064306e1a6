"""Frames that are wrong: the peer that sent them is told and cut off; nobody else notices.

Each run is its seed. `MANGLED_FRAMES` in the environment sets how many frames the slow test sends.
"""

from __future__ import annotations

import gc
import os
import random
import sys
from collections.abc import Iterator
from uuid import UUID

import pytest

from durabletask_azure.emulator.amqp.encode import encode, encode_composite
from durabletask_azure.emulator.amqp.types import Array, Encoded, Int, Symbol, Timestamp, UInt, ULong, Value
from tests.emulator.wire import (
    ACCEPTED,
    CLOSE,
    DETACH,
    END,
    RECEIVES,
    SENDS,
    Bench,
    answers,
    attach,
    credit,
    frame,
    put_token,
    settled,
    transfer,
    transfer_of,
)
from tests.emulator.world import message

FEW = 1_500
MANY = int(os.environ.get("MANGLED_FRAMES", "100000"))
GROWTH_BLOCKS_MAX = 50_000

INFO: dict[Value, Value] = {"DeadLetterReason": "why", Symbol("more"): ULong(2**64 - 1)}
NUMBERS: Value = Array((1, 2, 3))
REQUEST: dict[Value, Value] = {
    "lock-tokens": Array((UUID(int=1), UUID(int=2))),
    "session-id": "one",
    "session-state": b"state",
    "messages": [{"message": message("late", scheduled_at=1_900_000_000.0)}],
    "sequence-numbers": NUMBERS,
    "from-sequence-number": 1,
    "message-count": Int(3),
    "receiver-settle-mode": UInt(1),
    "disposition-status": "suspended",
    "properties-to-modify": INFO,
    "last-updated-time": Timestamp(1),
    "skip": Int(0),
    "top": Int(100),
}
OPERATIONS = (
    "renew-lock",
    "renew-session-lock",
    "get-session-state",
    "set-session-state",
    "schedule-message",
    "cancel-scheduled-message",
    "peek-message",
    "receive-by-sequence-number",
    "update-disposition",
    "get-message-sessions",
)


def request(operation: str) -> bytes:
    """Encode a request of `$management`."""
    named: dict[Value, Value] = {"operation": f"com.microsoft:{operation}"}
    head = encode_composite(0x73, ["request", None, None, None, "here"])
    return head + b"\x00\x53\x74" + encode(named) + b"\x00\x53\x77" + encode(REQUEST)


FILTER: dict[Value, Value] = {"com.microsoft:session-filter": None}
GOOD = [
    attach("sender", 2, SENDS, "here", "q"),
    attach("receiver", 3, RECEIVES, "q", "here"),
    attach("session", 4, RECEIVES, "s", "here", filters=FILTER),
    attach("management-in", 5, SENDS, "here", "q/$management"),
    attach("management-out", 6, RECEIVES, "q/$management", "here"),
    credit(3, 5),
    credit(6, 5),
    transfer(2, 1),
    put_token(5, 2),
    transfer(2, 3, "x" * 500),
    settled(1),
    settled(2, ACCEPTED),
    settled(1, Encoded(encode_composite(0x25, [Encoded(encode_composite(0x1D, [Symbol("x"), "y", INFO]))]))),
    settled(2, Encoded(encode_composite(0x27, [True, None, INFO]))),
    settled(3, Encoded(encode_composite(0x27, [True, True, INFO]))),
    transfer_of(2, 4, message("timed", ttl_s=5, scheduled_at=1_900_000_000.0, properties={"a": 1})),
    transfer_of(2, 5, message("in session", session_id="one")),
    *[transfer_of(5, 6 + n, request(name)) for n, name in enumerate(OPERATIONS)],
    frame(DETACH, UInt(2), True),
    frame(END),
    frame(CLOSE),
]


def mangle(chance: random.Random, data: bytes) -> bytes:
    """Change some bytes of a frame; half of the time its size is made to fit again, so that it gets further."""
    mangled = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        at = chance.randrange(len(mangled))
        match chance.randrange(5):
            case 0:
                mangled[at] = chance.randrange(256)
            case 1:
                mangled[at] ^= 1 << chance.randrange(8)
            case 2:
                mangled[at:at] = chance.randbytes(chance.randrange(1, 9))
            case 3:
                del mangled[at : at + chance.randrange(1, 9)]
            case _:
                mangled[at] = chance.choice(
                    (0x00, 0x40, 0x45, 0x70, 0x80, 0xA0, 0xB0, 0xC0, 0xD0, 0xF0, 0xFF)
                )
        if len(mangled) < 8:
            mangled = bytearray(data)
    if chance.random() < 0.7:
        mangled[:8] = len(mangled).to_bytes(4, "big") + data[4:8]
    return bytes(mangled)


def conversations(seed: int, count: int) -> Iterator[list[bytes]]:
    """Yield what one client after another sends, until so many mangled frames are sent."""
    chance = random.Random(seed)
    while count > 0:
        good = chance.randrange(len(GOOD))
        bad = [mangle(chance, chance.choice(GOOD)) for _ in range(chance.randrange(1, 12))]
        count -= len(bad)
        yield [*GOOD[:good], *bad]


def run(bench: Bench, seed: int, count: int) -> int:
    """Send mangled frames; return how many clients were cut off."""
    cut = 0
    for frames in conversations(seed, count):
        peer = bench.sign_in()
        for data in frames:
            peer.receive(data)
            assert len(peer.connection.output()) < 1_000_000
            if peer.closed:
                cut += 1
                break
        peer.lost()
    return cut


def healthy(bench: Bench) -> None:
    """A client that does everything right gets what it should."""
    peer = bench.sign_in()
    answers(peer, attach("sender", 2, SENDS, "here", "other"))
    answers(peer, transfer(2, 1, "still here"))
    frames = answers(peer, attach("receiver", 3, RECEIVES, "other", "here") + credit(3, 1))
    [delivery] = [(fields, payload) for code, fields, payload in frames if code == 0x14]
    assert delivery[1].endswith(b"still here")
    delivery_id = delivery[0][1]
    assert isinstance(delivery_id, int)
    answers(peer, settled(delivery_id))
    assert bench.world.namespace.find("other").messages == {}
    peer.lost()


@pytest.mark.parametrize("seed", range(4))
def test_mangled_frames_hurt_only_who_sends_them(seed: int) -> None:
    bench = Bench()
    assert run(bench, seed, FEW) > 0
    healthy(bench)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_thousand_mangled_frames_leave_nothing_behind() -> None:
    bench = Bench()
    run(bench, 1, 2_000)
    bench.empty()
    gc.collect()
    before = sys.getallocatedblocks()
    cut = run(bench, 2, MANY)
    bench.empty()
    gc.collect()
    grown = sys.getallocatedblocks() - before
    print(f"{MANY} mangled frames: {cut} connections closed, {grown} more blocks of memory in use")
    assert grown < GROWTH_BLOCKS_MAX
    healthy(bench)


@pytest.mark.parametrize("seed", range(20))
def test_noise_instead_of_amqp_is_answered_and_cut_off(seed: int) -> None:
    chance = random.Random(seed)
    bench = Bench()
    peer = bench.connect(chance.randbytes(chance.randrange(8, 2000)))
    assert peer.closed
    assert peer.connection.output() == b"AMQP\x00\x01\x00\x00"
