"""Both queues over the wire in good weather: order, packing, scheduling, groups, dead letters, and what is counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient

from durabletask_azure.emulator.fixture import RunningEmulator
from durabletask_azure.errors import ConfigurationError, HubUnavailableError, PayloadTooLargeError
from durabletask_azure.ports import Delivery, FetchesAhead
from tests.integration.queues_on_emulator import (
    PARTITIONS,
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
)

__all__ = ["hub", "leavings_collected", "running"]

pytestmark = pytest.mark.azure


async def test_messages_keep_their_order_packed_or_not(hub: EmulatedHub) -> None:
    packing, plain = hub.open(pack_events_max=7), hub.open(pack_events_max=1)
    await packing.orchestrations.send([message(f"{n}") for n in range(50)])
    await plain.orchestrations.send([message(f"{n}") for n in range(50, 100)])

    deliveries = await received(await accepted(packing), 100)

    assert ids(deliveries) == [f"{n}" for n in range(100)]
    assert [len(one.messages) for one in deliveries] == [7] * 7 + [1] * 51
    assert packing.counters.messages_sent == 8
    assert packing.counters.sends == 1
    assert packing.counters.events_sent == 50


async def test_what_gathers_while_a_send_is_under_way_goes_out_together(hub: EmulatedHub) -> None:
    queues = hub.open()
    await queues.orchestrations.send([message("first")])
    await asyncio.gather(
        *(queues.orchestrations.send([message(f"{n}", partition=n % PARTITIONS)]) for n in range(200))
    )

    assert queues.counters.messages_sent == 201
    assert queues.counters.sends < 20
    assert ids(await received(await accepted(queues, 1), 50)) == [f"{n}" for n in range(200) if n % 4 == 1]


async def test_more_than_a_batch_takes_is_sent_in_several_and_in_order(hub: EmulatedHub) -> None:
    queues = hub.open()
    sent = [message(f"{n}", text="x" * 30_000) for n in range(40)]

    await queues.orchestrations.send(sent)

    deliveries = await received(await accepted(queues), 40)
    assert [one for delivery in deliveries for one in delivery.messages] == [out.message for out in sent]
    assert queues.counters.sends > 1
    assert max(len(one.messages) for one in deliveries) == 2, "a pack stays within its bytes"


async def test_order_and_content_hold_while_many_completions_are_under_way(hub: EmulatedHub) -> None:
    """Settling at once lets several tasks take frames off one socket; large messages come in several frames."""
    queues = hub.open(pack_events_max=1)
    session = await accepted(queues)
    sizes = [10, 90_000, 10, 10, 200_000, 10, 10, 10]
    sent = [message(f"{n}", text="x" * sizes[n % len(sizes)]) for n in range(480)]

    async def send() -> None:
        for begin in range(0, len(sent), 8):
            await queues.orchestrations.send(sent[begin : begin + 8])

    sending = asyncio.create_task(send())
    found: list[Delivery] = []
    completing: list[asyncio.Task[None]] = []
    while len(found) < len(sent):
        deliveries = await session.receive(200, WAIT_S)
        assert deliveries
        found += deliveries
        completing.append(asyncio.create_task(session.complete(deliveries)))
    await asyncio.gather(sending, *completing)

    assert [delivery.messages for delivery in found] == [(out.message,) for out in sent]
    assert queues.counters.completed == len(sent)
    assert hub.emulator.counts(hub.names.orchestrations).active == 0


async def test_a_message_too_large_for_the_broker_fails_alone(hub: EmulatedHub) -> None:
    queues = hub.open()
    sending = [
        queues.orchestrations.send([message("before")]),
        queues.orchestrations.send([message("large", text="x" * 300_000)]),
        queues.orchestrations.send([message("after")]),
    ]

    outcomes = await asyncio.gather(*sending, return_exceptions=True)

    assert isinstance(outcomes[1], PayloadTooLargeError)
    assert "256 KB" in str(outcomes[1])
    await queues.orchestrations.send([message("again")])
    assert ids(await received(await accepted(queues), 2))[0] == "before"


async def test_a_far_timer_waits_in_the_queue_and_can_be_cancelled_there(
    hub: EmulatedHub, running: RunningEmulator
) -> None:
    queues = hub.open(timer_cancel_s_min=60.0)
    now = datetime.now(UTC)
    await queues.orchestrations.send(
        [
            message("near", deliver_at=now + timedelta(seconds=50)),
            message("far", deliver_at=now + timedelta(hours=2)),
            message("farther", deliver_at=now + timedelta(days=90)),
        ]
    )
    async with (
        ServiceBusClient.from_connection_string(running.connection_string) as client,
        client.get_queue_receiver(hub.names.orchestrations, session_id="p000") as receiver,
    ):
        peeked = await receiver.peek_messages(10)
    assert sorted(one.message_id or "" for one in peeked) == ["far", "farther", "near"]
    assert queues.counters.scheduled == 2

    await queues.orchestrations.cancel_scheduled(0, ["far", "near", "unknown"])
    await queues.orchestrations.send([message("behind it")])
    await queues.orchestrations.send([message("behind it too")])

    assert queues.counters.cancelled == 1
    assert running.counts(hub.names.orchestrations).scheduled == 2


async def test_what_cannot_be_read_is_delivered_with_the_reason(
    hub: EmulatedHub, running: RunningEmulator
) -> None:
    queues = hub.open()
    async with ServiceBusClient.from_connection_string(running.connection_string) as client:
        async with client.get_queue_sender(hub.names.orchestrations) as sender:
            bodies = [b"no json", b'[{"id":"1"}]', b"", b"\xff\xfe"]
            await sender.send_messages([ServiceBusMessage(body, session_id="p000") for body in bodies])
        async with client.get_queue_sender(hub.names.activities()) as sender:
            await sender.send_messages(ServiceBusMessage("{}", message_id="bad"))
    session = await accepted(queues)

    found = [*await session.receive(1, WAIT_S)]
    while len(found) < 4:
        found += await session.receive(10, WAIT_S)
    (unreadable,) = await queues.activities.receive(1, WAIT_S)

    assert [(one.messages, one.error is None) for one in found] == [((), False)] * 4
    assert (unreadable.id, unreadable.task) == ("bad", None)
    assert unreadable.error is not None
    assert "cannot be read" in unreadable.error
    await session.dead_letter(found[0], "undecodable", "no json")
    await queues.activities.dead_letter(unreadable, "undecodable", unreadable.error)
    (letter,) = await queues.orchestrations.dead_letters(10)
    assert (letter.reason, letter.partition, letter.messages) == ("undecodable", 0, ())
    assert "unreadable" in letter.description
    (letter,) = await queues.activities.dead_letters(10)
    assert (letter.id, letter.task, letter.partition) == ("bad", None, None)


async def test_a_dead_letter_whose_reader_has_gone_is_the_next_readers(
    hub: EmulatedHub, running: RunningEmulator
) -> None:
    queues = hub.open()
    await queues.orchestrations.send([message("m")])
    session = await accepted(queues)
    (delivery,) = await received(session, 1)
    gone = asyncio.create_task(queues.orchestrations.dead_letters(10))
    await asyncio.sleep(0)
    gone.cancel()
    following = asyncio.create_task(queues.orchestrations.dead_letters(10))
    await asyncio.sleep(0)

    await session.dead_letter(delivery, "Poison", "nobody could handle it")

    (letter,) = await following
    assert letter.reason == "Poison"
    await queues.orchestrations.settle_dead_letter(letter)
    assert running.counts(hub.names.orchestrations).dead_letters == 0


async def test_a_worker_stays_within_its_connections_and_a_client_within_two(
    hub: EmulatedHub, running: RunningEmulator
) -> None:
    worker = hub.open()
    sessions = [await accepted(worker, partition) for partition in range(PARTITIONS)]
    assert running.call(lambda server: server.connections) == PARTITIONS
    await worker.activities.send([task("t")])
    (found,) = await tasks_received(worker, 1)
    await worker.activities.finish([(found, message("r"))])
    await worker.orchestrations.dead_letters(10)
    await worker.activities.dead_letters(10)
    assert running.call(lambda server: server.connections) <= PARTITIONS + 4
    assert worker.counters.links_open == running.call(lambda server: server.connections)
    for session in sessions:
        await session.close()
    await worker.close()
    assert running.call(lambda server: server.connections) == 0

    client = hub.open()
    await client.orchestrations.send([message("m")])
    await client.activities.send([task("t")])
    assert running.call(lambda server: server.connections) <= 2


async def test_results_are_packed_by_partition_and_tasks_completed(
    hub: EmulatedHub, running: RunningEmulator
) -> None:
    queues = hub.open()
    await queues.activities.send([task(f"t{n}") for n in range(40)])
    found = await tasks_received(queues, 40)

    await queues.activities.finish(
        [(one, message(f"r{one.id}", partition=n % 2)) for n, one in enumerate(found)]
    )

    for partition in (0, 1):
        (pack,) = await (await accepted(queues, partition)).receive(10, WAIT_S)
        assert ids([pack]) == [f"rt{n}" for n in range(40) if n % 2 == partition]
    await queues.close()
    assert running.counts(hub.names.activities()).active == 0


@pytest.fixture
async def grouped(running: RunningEmulator) -> AsyncIterator[EmulatedHub]:
    """A hub with two activity groups."""
    made = EmulatedHub(running, groups={"mail": ["send", "read"], "print": ["print"]})
    made.create()
    yield made
    await made.close()


async def test_activity_groups_have_queues_of_their_own(
    grouped: EmulatedHub, running: RunningEmulator
) -> None:
    queues, other = grouped.open(), grouped.open()
    await queues.activities.send(
        [task(f"{name} {n}", name=name) for n in range(2) for name in ("send", "ship", "read")]
    )
    assert running.counts(grouped.names.activities("mail")).active == 4
    assert running.counts(grouped.names.activities()).active == 2

    await queues.activities.prepare_for(["read", "send"])
    found = await tasks_received(queues, 4, names=["read", "send"])

    assert [one.id for one in found] == ["send 0", "read 0", "send 1", "read 1"]
    assert await queues.activities.receive(10, 0.3, ["print"]) == []
    await queues.activities.dead_letter(found[0], "odd", "why")
    await queues.activities.abandon(found[1:])
    everything = await tasks_received(other, 5)
    assert sorted(one.id for one in everything) == ["read 0", "read 1", "send 1", "ship 0", "ship 1"]
    (letter,) = await other.activities.dead_letters(10)
    assert letter.id == "send 0"
    assert letter.task is not None
    assert letter.task.name == "send"


async def test_two_workers_share_an_opening_and_each_gets_what_it_asks_for(grouped: EmulatedHub) -> None:
    queues = grouped.open()
    mail = asyncio.create_task(queues.activities.receive(1, WAIT_S, ["send", "read"]))
    printing = asyncio.create_task(queues.activities.receive(1, WAIT_S, ["print"]))
    everything = asyncio.create_task(queues.activities.receive(1, WAIT_S))
    await asyncio.sleep(0)

    await queues.activities.send([task("s", name="ship")])
    assert [one.id for one in await everything] == ["s"]
    assert await queues.activities.receive(1, 0.1) == []
    await queues.activities.send([task("p", name="print"), task("m", name="send")])

    assert [one.id for one in await printing] == ["p"]
    assert [one.id for one in await mail] == ["m"]


async def test_f30_what_was_taken_ahead_is_given_back_uncounted(hub: EmulatedHub) -> None:
    queues, other = hub.open(), hub.open()
    await queues.activities.send([task(f"t{n}") for n in range(8)])
    mine = list(await queues.activities.receive(4, WAIT_S))

    assert isinstance(queues.activities, FetchesAhead)
    mine += await queues.activities.hold_back()
    theirs = await tasks_received(other, 8 - len(mine))

    assert sorted(one.id for one in [*mine, *theirs]) == [f"t{n}" for n in range(8)]
    # A lock that had to run out would have counted.
    assert [one.delivery_count for one in theirs] == [1] * len(theirs)
    await queues.activities.finish([(one, None) for one in mine])

    # Held back, a link brings what it is asked for, one at a time, and nothing more stays locked.
    await queues.activities.send([task(f"u{n}") for n in range(3)])
    (one,) = await queues.activities.receive(1, WAIT_S)
    assert await queues.activities.hold_back() == []
    rest = await tasks_received(other, 2)
    assert sorted(each.id for each in [one, *rest]) == ["u0", "u1", "u2"]
    assert [each.delivery_count for each in rest] == [1, 1]


@pytest.mark.parametrize("names", [["send"], ["ship"], ["send", "read", "ship"]])
async def test_only_whole_groups_can_be_received_alone(grouped: EmulatedHub, names: list[str]) -> None:
    queues = grouped.open()

    with pytest.raises(ConfigurationError, match=r"'mail': read, send"):
        await queues.activities.prepare_for(names)
    with pytest.raises(ConfigurationError):
        await queues.activities.receive(1, 0.1, names)


async def test_nothing_works_after_closing_and_nothing_hangs(hub: EmulatedHub) -> None:
    queues = hub.open()
    session = await accepted(queues)
    waiting = [
        asyncio.create_task(session.receive(1, WAIT_S)),
        asyncio.create_task(queues.activities.receive(1, WAIT_S)),
    ]
    await queues.orchestrations.send([message("m")])
    await queues.close()
    await queues.close()

    assert [await one for one in waiting][1] == []
    for call in (
        lambda: queues.orchestrations.send([message("m")]),
        lambda: queues.orchestrations.accept(1),
        lambda: queues.activities.send([task("t")]),
        lambda: queues.orchestrations.dead_letters(1),
    ):
        with pytest.raises(HubUnavailableError, match="closed"):
            await call()
    assert await queues.activities.receive(1, WAIT_S) == []


async def test_a_bad_connection_string_is_refused_at_once_and_not_shown(hub: EmulatedHub) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        hub.open(connection_string="Endpoint=sb://x;SharedAccessKey=topsecret")
    assert "topsecret" not in f"{refusal.value!r} {refusal.value.__cause__!r}"
