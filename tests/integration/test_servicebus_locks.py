"""Locks over the wire: renewed while the engine blocks, given up when it is wedged, judged by no clock of ours."""

from __future__ import annotations

import threading
import time

import pytest
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient

from durabletask_azure.emulator.fixture import RunningEmulator
from durabletask_azure.emulator.server import ServerSettings
from durabletask_azure.errors import PartitionLostError
from tests.integration.queues_on_emulator import (
    LOCK_S,
    WAIT_S,
    EmulatedHub,
    accepted,
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

__all__ = ["hub", "leavings_collected", "running"]

pytestmark = [
    pytest.mark.azure,
    # The SDK leaves sockets of connections that were cut to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


async def test_b10_locks_are_renewed_while_the_engines_loop_is_blocked(hub: EmulatedHub) -> None:
    queues, other = hub.open(), hub.open()
    session = await accepted(queues)
    await queues.orchestrations.send([message("m")])
    await queues.activities.send([task("t")])
    (delivery,) = await received(session, 1)
    (held,) = await tasks_received(queues, 1)

    threading.Event().wait(2.2 * LOCK_S)  # as an orchestrator that blocks

    assert await other.orchestrations.accept(0) is None
    assert list(await queues.activities.renew([held])) == []
    assert await other.activities.receive(1, 0.5) == []
    await session.renew()
    await session.complete([delivery])
    await queues.activities.finish([(held, None)])
    assert queues.counters.renewed >= 4
    await queues.close()
    assert hub.emulator.counts(hub.names.orchestrations).active == 0
    assert hub.emulator.counts(hub.names.activities()).active == 0


async def test_f37_a_session_without_progress_is_let_go_of(hub: EmulatedHub) -> None:
    queues, other = hub.open(wedged_s=1.0), hub.open()
    session = await accepted(queues)
    await queues.activities.send([task("t")])
    (held,) = await tasks_received(queues, 1)

    began = time.monotonic()
    lost = await until_lost(session)

    assert "no progress" in str(lost)
    assert time.monotonic() - began >= 2 * LOCK_S - 1.5
    assert await other.orchestrations.accept(0) is not None
    (again,) = await tasks_received(other, 1)
    assert again.id == held.id
    assert list(await queues.activities.renew([held])) == [held]
    with pytest.raises(PartitionLostError):
        await session.renew()


async def test_progress_keeps_a_session_for_longer(hub: EmulatedHub) -> None:
    # Several times what one round below takes, and less than all of them.
    queues = hub.open(wedged_s=LOCK_S / 2)
    session = await accepted(queues)
    end = time.monotonic() + 2.5 * LOCK_S
    while time.monotonic() < end:
        await session.renew()
        await session.receive(1, 0.5)
    await session.close()


@pytest.mark.parametrize("ahead_s", [-300.0, 300.0], ids=["behind", "ahead"])
async def test_f22_a_clock_that_is_wrong_loses_no_lock(ahead_s: float) -> None:
    settings = ServerSettings(port=0, tls_port=0, admin_port=0, clock=lambda: time.time() - ahead_s)
    with RunningEmulator(settings) as emulator:
        hub = EmulatedHub(emulator)
        hub.create()
        queues, other = hub.open(), hub.open()
        session = await accepted(queues)
        await queues.orchestrations.send([message("m")])
        await queues.activities.send([task("t"), task("u")])
        deliveries = await received(session, 1)
        found = await tasks_received(queues, 2)

        threading.Event().wait(1.5 * LOCK_S)

        assert await other.orchestrations.accept(0) is None
        assert list(await queues.activities.renew(found)) == []
        await session.complete(deliveries)
        await queues.activities.finish([(found[0], message("r"))])
        await queues.activities.dead_letter(found[1], "odd", "why")
        (letter,) = await queues.activities.dead_letters(10)
        await queues.activities.settle_dead_letter(letter)
        assert ids(await received(session, 1)) == ["r"]
        assert abs((deliveries[0].enqueued_at.timestamp() + ahead_s) - time.time()) < 60
        await session.renew()
        await hub.close()
        counts = emulator.counts(hub.names.activities())
        assert (counts.active, counts.dead_letters) == (0, 0)
        assert queues.counters.completed == 3


async def test_what_was_prefetched_and_never_received_is_given_back_uncounted(hub: EmulatedHub) -> None:
    queues, other = hub.open(), hub.open()
    async with (
        ServiceBusClient.from_connection_string(hub.emulator.connection_string) as client,
        client.get_queue_sender(hub.names.activities()) as sender,
    ):
        await sender.send_messages([ServiceBusMessage("{}", message_id=f"{n}") for n in range(30)])
    session = await accepted(queues)
    for n in range(10):
        await queues.orchestrations.send([message(f"{n}")])
    first = await session.receive(1, WAIT_S)
    held = await queues.activities.receive(5, WAIT_S)

    await queues.activities.abandon(held)
    await session.close()

    deliveries = await received(await accepted(other), 10)
    assert {ids([one])[0]: one.delivery_count for one in deliveries} == {
        f"{n}": 2 if n < len(first) else 1 for n in range(10)
    }
    tasks = await tasks_received(other, 30)
    assert sum(one.delivery_count for one in tasks) <= 30 + 5


async def test_a_task_given_back_does_not_come_back_to_the_link_it_came_by(running: RunningEmulator) -> None:
    hub = EmulatedHub(running)
    hub.create(lock_s=60.0)
    try:
        queues, other = hub.open(lock_s=60.0), hub.open(lock_s=60.0)
        await queues.activities.send([task("t")])
        (held,) = await queues.activities.receive(50, WAIT_S)  # which leaves credit for 49 more

        await queues.activities.abandon([held])

        (again,) = await other.activities.receive(1, 5.0)
        assert (again.id, again.delivery_count) == ("t", 2)
    finally:
        await hub.close()
