"""Both queues over the wire in bad weather: cuts, restarts, throttling, full queues, lost replies, blocked loops."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durabletask_azure.emulator.faults import Fault, FaultKind, Operation
from durabletask_azure.emulator.fixture import RunningEmulator
from durabletask_azure.emulator.server import ServerSettings
from durabletask_azure.errors import HubUnavailableError, PartitionLostError, QueueFullError, ThrottledError
from tests.integration.queues_on_emulator import (
    LOCK_S,
    WAIT_S,
    EmulatedHub,
    accepted,
    accepted_soon,
    hub,
    ids,
    leavings_collected,
    message,
    received,
    running,
    task,
    tasks_received,
    until_lost,
)
from tests.wire.proxy import TcpProxy

__all__ = ["hub", "leavings_collected", "running"]

pytestmark = [
    pytest.mark.azure,
    # The SDK leaves sockets of connections that were cut to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


# ---------------------------------------------------------------- connections


async def test_f15_a_cut_connection_ends_the_session_and_another_is_had_at_once(hub: EmulatedHub) -> None:
    queues = hub.open()
    session = await accepted(queues)
    await queues.orchestrations.send([message("a"), message("b", partition=1)])
    (delivery,) = await received(session, 1)

    hub.emulator.cut_connections()

    lost = await until_lost(session)
    assert lost.__cause__ is not None
    with pytest.raises(PartitionLostError):
        await session.complete([delivery])
    await session.close()
    again = await accepted_soon(queues)
    assert ids(await received(again, 1)) == ["a"]
    assert queues.counters.sessions_lost == 1


async def test_sending_goes_on_after_a_cut_without_an_error(hub: EmulatedHub) -> None:
    queues = hub.open()
    await queues.orchestrations.send([message("a")])
    await queues.activities.send([task("a")])

    hub.emulator.cut_connections()

    await queues.orchestrations.send([message("b")])
    await queues.activities.send([task("b")])
    assert ids(await received(await accepted(queues), 2)) == ["a", "b"]


async def test_tasks_outlive_the_link_they_came_by(hub: EmulatedHub) -> None:
    queues, other = hub.open(), hub.open()
    await queues.activities.send([task(f"t{n}") for n in range(4)])
    found = await tasks_received(queues, 4)

    hub.emulator.cut_connections()

    threading.Event().wait(1.5 * LOCK_S)
    assert list(await queues.activities.renew(found)) == []
    await queues.activities.finish([(found[0], message("r0")), (found[1], None)])
    await queues.activities.abandon([found[2]])
    await queues.activities.dead_letter(found[3], "odd", "why")
    (again,) = await tasks_received(other, 1)
    assert (again.id, again.delivery_count) == ("t2", 2)
    await other.activities.finish([(again, None)])
    await other.close()
    await queues.close()
    counts = hub.emulator.counts(hub.names.activities())
    assert (counts.active, counts.dead_letters) == (0, 1)


async def test_a_receive_says_that_the_broker_is_gone_and_goes_on_when_it_is_back(tmp_path: Path) -> None:
    settings = ServerSettings(port=0, tls_port=0, admin_port=0, persist=str(tmp_path / "broker.db"))
    emulator = RunningEmulator(settings).start()
    hub = EmulatedHub(emulator)
    try:
        hub.create()
        queues = hub.open()
        session = await accepted(queues)
        await queues.orchestrations.send([message("a")])
        await queues.activities.send([task("t")])
        server = emulator.server
        ports = {"port": server.port, "admin_port": server.admin_port}
        emulator.stop()

        await until_lost(session)
        await session.close()
        with pytest.raises(HubUnavailableError, match=r"queue 'hub\d+-activities' of emulator"):
            await queues.activities.receive(1, WAIT_S)
        with pytest.raises(HubUnavailableError):
            await queues.orchestrations.send([message("b")])
        with pytest.raises(HubUnavailableError):
            await queues.orchestrations.accept(0)

        emulator = hub.emulator = RunningEmulator(replace(settings, **ports)).start()
        await queues.orchestrations.send([message("c")])
        assert ids(await received(await accepted_soon(queues), 2)) == ["a", "c"]
        assert [one.id for one in await tasks_received(queues, 1)] == ["t"]
    finally:
        began = time.monotonic()
        emulator.stop()
        await hub.close()
        assert time.monotonic() - began < WAIT_S / 2, "closing does not wait for a broker that is gone"


@contextmanager
def proxied(hub: EmulatedHub) -> Generator[tuple[TcpProxy, str]]:
    """A proxy in front of the emulator, and the connection string that leads through it."""
    port = hub.emulator.server.port
    with TcpProxy(port) as proxy:
        yield proxy, hub.emulator.connection_string.replace(f":{port};", f":{proxy.port};")


async def test_a_half_open_connection_is_found_out_and_left(hub: EmulatedHub) -> None:
    with proxied(hub) as (proxy, address):
        queues = hub.open(connection_string=address, link_timeout_s=1.5)
        session = await accepted(queues)
        await queues.orchestrations.send([message("a")])
        await queues.activities.send([task("t")])
        (held,) = await tasks_received(queues, 1)

        proxy.swallow()

        with pytest.raises(HubUnavailableError, match="no answer in time"):
            await queues.orchestrations.send([message("b")])
        await until_lost(session)
        await session.close()
        proxy.heal()
        proxy.cut()
        await queues.orchestrations.send([message("c")])
        again = await accepted_soon(queues)
        assert set(ids(await received(again, 2))) >= {"a", "c"}
        await queues.activities.finish([(held, None)])
        await queues.close()
    assert hub.emulator.counts(hub.names.activities()).active == 0


async def test_f15_a_half_open_link_to_tasks_is_found_out_although_nothing_is_done_on_it(
    hub: EmulatedHub,
) -> None:
    with proxied(hub) as (proxy, address):
        queues = hub.open(connection_string=address, link_timeout_s=1.5)
        await queues.activities.send([task("first")])
        (held,) = await tasks_received(queues, 1)
        await queues.activities.dead_letter(held, "odd", "so that nothing is left to be done on the link")
        waiting = asyncio.create_task(queues.activities.receive(1, WAIT_S))
        await asyncio.sleep(0)
        assert proxy.half_open() > 0
        # The broker hands it out to the link that is dead; when that is closed, the new one gets it.
        await hub.open().activities.send([task("second")])
        with pytest.raises(HubUnavailableError, match="no answer in time"):
            await waiting
        (delivery,) = await tasks_received(queues, 1)
        assert delivery.id == "second"
        # The new one, and that of the sender, which had nothing to do: the dead one is not left open.
        assert proxy.open == 2
        await queues.close()


async def test_closing_waits_for_no_broker_that_says_nothing(hub: EmulatedHub) -> None:
    with proxied(hub) as (proxy, address):
        queues = hub.open(connection_string=address)
        session = await accepted(queues)
        await queues.orchestrations.send([message("a")])
        await queues.activities.send([task("t")])
        deliveries = await received(session, 1)
        (held,) = await tasks_received(queues, 1)
        await queues.orchestrations.dead_letters(1)
        proxy.swallow()
        doing: list[asyncio.Task[Any]] = [
            asyncio.create_task(session.complete(deliveries)),
            asyncio.create_task(queues.activities.finish([(held, message("r"))])),
            asyncio.create_task(queues.activities.abandon([held])),
            asyncio.create_task(queues.orchestrations.dead_letters(1)),
            asyncio.create_task(queues.orchestrations.send([message("b")])),
        ]
        await asyncio.sleep(0)

        began = time.monotonic()
        await session.close()
        assert time.monotonic() - began < WAIT_S / 2
        await queues.close()
        assert time.monotonic() - began < WAIT_S
        outcomes = await asyncio.gather(*doing, return_exceptions=True)
        assert {type(one) for one in outcomes} <= {PartitionLostError, HubUnavailableError, type(None), list}


# ---------------------------------------------------------------- what the broker says


async def test_f25_throttling_is_said_with_how_long_to_wait(hub: EmulatedHub) -> None:
    queues = hub.open()
    hub.emulator.add_fault(Fault(FaultKind.THROTTLE, Operation.SEND, hub.names.orchestrations))
    hub.emulator.add_fault(Fault(FaultKind.THROTTLE, Operation.ATTACH, hub.names.orchestrations, skip=1))

    with pytest.raises(ThrottledError) as throttled:
        await queues.orchestrations.send([message("m")])
    with pytest.raises(ThrottledError):
        await queues.orchestrations.accept(0)

    assert throttled.value.retry_after == timedelta(seconds=2)
    await queues.orchestrations.send([message("m")])


async def test_throttled_settlements_and_renewals_lose_nothing(hub: EmulatedHub) -> None:
    queues = hub.open()
    session = await accepted(queues)
    await queues.orchestrations.send([message("m")])
    await queues.activities.send([task("t")])
    deliveries = await received(session, 1)
    (held,) = await tasks_received(queues, 1)
    for name in (hub.names.orchestrations, hub.names.activities()):
        hub.emulator.add_fault(Fault(FaultKind.THROTTLE, Operation.MANAGE, name))
        hub.emulator.add_fault(Fault(FaultKind.THROTTLE, Operation.SETTLE, name))

    threading.Event().wait(LOCK_S)
    await session.complete(deliveries)
    await queues.activities.finish([(held, None)])

    await queues.close()
    assert queues.counters.completed == 2
    assert queues.counters.sessions_lost == 0
    assert hub.emulator.counts(hub.names.activities()).active == 0


async def test_f26_a_full_queue_is_said_and_takes_messages_again_when_there_is_room(hub: EmulatedHub) -> None:
    queues = hub.open()
    full = Fault(
        FaultKind.REFUSE, Operation.SEND, hub.names.activities(), condition="amqp:resource-limit-exceeded"
    )
    hub.emulator.add_fault(full)

    with pytest.raises(QueueFullError, match="the queue is full"):
        await queues.activities.send([task("t")])

    await queues.activities.send([task("t")])
    assert len(await tasks_received(queues, 1)) == 1


async def test_a_send_whose_reply_is_lost_is_reported_and_may_be_repeated(hub: EmulatedHub) -> None:
    queues = hub.open(link_timeout_s=1.5)
    hub.emulator.add_fault(Fault(FaultKind.SWALLOW_REPLY, Operation.SEND, hub.names.orchestrations))

    with pytest.raises(HubUnavailableError, match="no answer in time"):
        await queues.orchestrations.send([message("a"), message("b")])

    await queues.orchestrations.send([message("a"), message("b")])
    assert ids(await received(await accepted(queues), 4)) == ["a", "b", "a", "b"]


async def test_f13_a_settlement_whose_reply_is_lost_takes_the_other_way(hub: EmulatedHub) -> None:
    queues = hub.open(link_timeout_s=3.0)
    session = await accepted(queues)
    await queues.orchestrations.send([message("m")])
    deliveries = await received(session, 1)
    hub.emulator.add_fault(Fault(FaultKind.SWALLOW_REPLY, Operation.SETTLE, hub.names.orchestrations))

    try:
        await session.complete(deliveries)
    except PartitionLostError:
        await session.close()

    assert await (await accepted_soon(queues)).receive(10, 1.0) == []


async def test_a_dropped_link_ends_a_session_and_reopens_the_others(hub: EmulatedHub) -> None:
    queues = hub.open()
    session = await accepted(queues)
    await queues.orchestrations.send([message("m")])
    await queues.activities.send([task("t")])
    deliveries = await received(session, 1)
    (held,) = await tasks_received(queues, 1)
    for operation, name in (
        (Operation.SETTLE, hub.names.orchestrations),
        (Operation.SETTLE, hub.names.activities()),
        (Operation.SEND, hub.names.activities()),
    ):
        hub.emulator.add_fault(Fault(FaultKind.DROP_LINK, operation, name))

    try:
        await session.complete(deliveries)
    except PartitionLostError:
        await session.close()
    await queues.activities.send([task("u")])
    await queues.activities.finish([(held, None)])

    assert [one.id for one in await tasks_received(queues, 1)] == ["u"]
    await accepted_soon(queues)


async def test_duplicate_detection_swallows_repeats_and_a_pack_is_as_its_messages(
    running: RunningEmulator,
) -> None:
    hub = EmulatedHub(running)
    hub.create(detects_duplicates=True)
    try:
        queues = hub.open()
        await queues.orchestrations.send([message("a"), message("b")])
        await queues.orchestrations.send([message("a"), message("b")])
        await queues.orchestrations.send([message("b"), message("c")])
        await queues.activities.send([task("t"), task("t")])

        assert ids(await received(await accepted(queues), 4)) == ["a", "b", "b", "c"]
        assert [one.id for one in await tasks_received(queues, 1)] == ["t"]
        assert await queues.activities.receive(1, 0.5) == []
    finally:
        await hub.close()
