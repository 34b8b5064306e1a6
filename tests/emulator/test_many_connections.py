"""Many connections: opened and closed they leave nothing behind; too many, idle and unused ones are closed."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from contextlib import suppress
from dataclasses import replace

import pytest

from durabletask_azure.emulator.amqp.links import INCOMING_CREDIT
from durabletask_azure.emulator.broker.settings import QueueSettings
from durabletask_azure.emulator.limits import Limits
from durabletask_azure.emulator.server import Emulator, ServerSettings
from tests.emulator.wire import (
    CLOSE,
    END,
    RECEIVES,
    Bench,
    answers,
    attach,
    before_signing_in,
    condition,
    credit,
    frame,
    put_token,
    read_frames,
    transfer,
)

AT_ONCE = 50
GROWTH_BLOCKS_MAX = 20_000


async def come_and_go(port: int, how: int) -> None:
    """Connect, receive on a queue, and leave: with a close, without a word, or by a reset."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(before_signing_in())
    await reader.readuntil(b"cbs-out")
    writer.write(put_token() + attach("receiver", 2, RECEIVES, "q", "here") + credit(2, 10))
    await reader.readuntil(b"receiver")
    if how == 0:
        writer.write(frame(CLOSE))
        await reader.read()
    elif how == 1:
        raw: socket.socket = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.close()


async def rounds(emulator: Emulator, count: int) -> None:
    for start in range(0, count, AT_ONCE):
        await asyncio.gather(*[come_and_go(emulator.port, (start + n) % 3) for n in range(AT_ONCE)])
    while emulator.connections:  # noqa: ASYNC110  (the loop they end in is this one; no time passes)
        await asyncio.sleep(0)


async def leak(count: int) -> int:
    """Let so many connections come and go; return how many blocks of memory are in use beyond those before."""
    emulator = Emulator(ServerSettings(port=0, admin_port=0))
    emulator.namespace.create(QueueSettings("q"))
    await emulator.start()
    try:
        await rounds(emulator, 10 * AT_ONCE)
        gc.collect()
        before = sys.getallocatedblocks()
        await rounds(emulator, count)
        gc.collect()
        return sys.getallocatedblocks() - before
    finally:
        await emulator.stop()


async def test_connections_that_come_and_go_leave_nothing_behind() -> None:
    assert await leak(500) < GROWTH_BLOCKS_MAX


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_ten_thousand_connections_leave_nothing_behind() -> None:
    grown = await leak(10_000)
    print(f"10000 connections: {grown} more blocks of memory in use")
    assert grown < GROWTH_BLOCKS_MAX


async def test_one_connection_too_many_is_cut_off() -> None:
    limits = replace(Limits(), connections_max=2)
    emulator = Emulator(ServerSettings(port=0, admin_port=0, limits=limits))
    await emulator.start()
    try:
        streams = [await asyncio.open_connection("127.0.0.1", emulator.port) for _ in range(3)]
        with suppress(ConnectionResetError):
            assert await streams[2][0].read() == b""
        assert emulator.connections == 2
        for _, writer in streams:
            writer.close()
    finally:
        await emulator.stop()


def test_a_silent_connection_is_closed() -> None:
    bench = Bench()
    peer = bench.connect(before_signing_in())
    peer.connection.output()
    bench.world.now += bench.broker.limits.idle_timeout_s + 1
    peer.upkeep(bench.world.now)
    assert peer.closed


def test_a_connection_without_links_is_closed_soon_and_one_that_had_some_later() -> None:
    bench = Bench()
    limits = bench.broker.limits
    unused, ended, used = bench.connect(), bench.sign_in(), bench.sign_in()
    answers(ended, frame(END))
    closed: list[tuple[bool, bool, bool]] = []
    for seconds in (limits.never_used_timeout_s - 1, 2, limits.unused_timeout_s):
        bench.world.now += seconds
        for peer in (unused, ended, used):
            peer.last_heard = bench.world.now
            if peer is ended and not closed:
                peer.linked_at = bench.world.now
            if not peer.closed:
                peer.upkeep(bench.world.now)
        closed.append((unused.closed, ended.closed, used.closed))
    assert closed == [(False, False, False), (True, False, False), (True, True, False)]


def test_an_idle_link_is_detached_with_the_reason() -> None:
    bench = Bench()
    peer = bench.sign_in()
    answers(peer, attach("receiver", 2, RECEIVES, "q", "here"))
    bench.world.now += bench.broker.limits.link_idle_timeout_s + 1
    peer.last_heard = bench.world.now
    peer.upkeep(bench.world.now)
    frames = read_frames(peer.connection.output())
    [detach] = [fields for code, fields, _ in frames if code == 0x16]
    assert condition(detach[2]) == "amqp:link:detach-forced"


def test_a_message_without_credit_ends_the_connection() -> None:
    bench = Bench()
    peer = bench.sign_in()
    answers(peer, attach("sender", 2, False, "here", "q"))
    frames = answers(peer, b"".join([transfer(2, 1 + n) for n in range(INCOMING_CREDIT)]))
    assert all(code != 0x16 for code, _, _ in frames)
    early = answers(peer, attach("early", 3, False, "here", "q") + transfer(3, 5000))
    [close] = [fields for code, fields, _ in early if code == 0x18]
    assert condition(close[0]) == "amqp:link:transfer-limit-exceeded"
    assert peer.closed


def test_drain_gives_the_credit_back() -> None:
    bench = Bench()
    peer = bench.sign_in()
    answers(peer, attach("receiver", 2, RECEIVES, "q", "here"))
    flows = [fields for code, fields, _ in answers(peer, credit(2, 10, drain=True)) if code == 0x13]
    assert flows[-1][5:7] == [10, 0]


def test_a_congested_client_is_sent_nothing_until_it_reads() -> None:
    bench = Bench()
    peer = bench.sign_in()
    answers(peer, attach("receiver", 2, RECEIVES, "q", "here") + attach("sender", 3, False, "here", "q"))
    peer.set_congested(True)
    answers(peer, credit(2, 10))
    assert all(code != 0x14 for code, _, _ in answers(peer, transfer(3, 1)))
    peer.set_congested(False)
    assert [code for code, _, _ in read_frames(peer.connection.output())].count(0x14) == 1
