"""Messages to partitions: order, due times, exclusive sessions, redelivery and dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from durabletask_azure.errors import ConfigurationError, PartitionLostError
from durabletask_azure.ports import Delivery, HubPorts, PartitionSession
from tests.contract.builders import WAIT_S, let_others_run, message
from tests.contract.conftest import SETTINGS, PortsFactory


async def accept(ports: HubPorts, partition: int = 0) -> PartitionSession:
    session = await ports.orchestrations.accept(partition)
    assert session is not None
    return session


async def receive_all(session: PartitionSession, count: int) -> list[Delivery]:
    """Return exactly ``count`` deliveries."""
    received: list[Delivery] = []
    while len(received) < count:
        batch = await session.receive(count - len(received), WAIT_S)
        assert batch, f"only {len(received)} of {count} came"
        received.extend(batch)
    return received


async def open_links(ports: HubPorts) -> None:
    """Have the links open that a test with short times needs: over a wire that takes longer than the times do."""
    await ports.orchestrations.send([message("opener", partition=ports.info.partitions - 1)])


def soon_ms(delay_ms: int) -> datetime:
    """Return a time soon, in whole milliseconds, which is what Service Bus keeps."""
    due = datetime.now(UTC) + timedelta(milliseconds=delay_ms)
    return due.replace(microsecond=due.microsecond // 1000 * 1000)


def ids(deliveries: Sequence[Delivery]) -> list[str]:
    return [one.id for delivery in deliveries for one in delivery.messages]


async def test_messages_come_in_the_order_sent_and_as_sent(ports: HubPorts) -> None:
    sent = [message(f"m{number}") for number in range(20)]
    await ports.orchestrations.send(sent[:7])
    await ports.orchestrations.send(sent[7:])
    session = await accept(ports)

    received = await receive_all(session, 20)

    assert [one for delivery in received for one in delivery.messages] == [one.message for one in sent]
    assert {delivery.delivery_count for delivery in received} == {1}
    assert all(delivery.error is None for delivery in received)
    times = [delivery.enqueued_at for delivery in received]
    assert times == sorted(times)
    assert abs(datetime.now(UTC) - times[0]) < timedelta(minutes=1)
    assert await session.receive(10, 0) == []


async def test_a_partition_gets_only_its_own(ports: HubPorts) -> None:
    await ports.orchestrations.send([message("zero", partition=0)])
    await ports.orchestrations.send([message("one", partition=1)])

    assert ids(await (await accept(ports, 1)).receive(10, WAIT_S)) == ["one"]
    assert ids(await (await accept(ports, 0)).receive(10, WAIT_S)) == ["zero"]


async def test_a_waiting_receive_is_woken_by_a_send(ports_factory: PortsFactory) -> None:
    receiver, sender = await ports_factory(), await ports_factory()
    session = await accept(receiver)
    waiting = asyncio.create_task(session.receive(10, WAIT_S))
    await let_others_run()

    await sender.orchestrations.send([message("m")])

    assert ids(await waiting) == ["m"]


async def test_a_scheduled_message_comes_when_due_and_not_before(ports: HubPorts) -> None:
    session = await accept(ports)
    await open_links(ports)
    due = soon_ms(250)
    await ports.orchestrations.send([message("later", deliver_at=due), message("now")])

    assert ids(await session.receive(10, WAIT_S)) == ["now"]
    received = await session.receive(10, WAIT_S)

    assert datetime.now(UTC) >= due
    assert ids(received) == ["later"]
    assert received[0].enqueued_at == due


async def test_a_message_scheduled_meanwhile_for_sooner_is_not_waited_past(ports: HubPorts) -> None:
    await ports.orchestrations.send(
        [message("in an hour", deliver_at=datetime.now(UTC) + timedelta(hours=1))]
    )
    session = await accept(ports)
    waiting = asyncio.create_task(session.receive(10, WAIT_S))
    await let_others_run()

    await ports.orchestrations.send(
        [message("soon", deliver_at=datetime.now(UTC) + timedelta(milliseconds=30))]
    )

    assert ids(await waiting) == ["soon"]


async def test_a_message_scheduled_in_the_past_keeps_its_place(ports: HubPorts) -> None:
    past = datetime.now(UTC) - timedelta(hours=1)
    await ports.orchestrations.send([message("1"), message("2", deliver_at=past), message("3")])

    received = await receive_all(await accept(ports), 3)

    assert ids(received) == ["1", "2", "3"]
    assert all(delivery.enqueued_at > past for delivery in received)


async def test_due_messages_come_in_the_order_of_their_times_in_batches_of_any_size(ports: HubPorts) -> None:
    await open_links(ports)
    now = soon_ms(0)
    soon = [now + timedelta(milliseconds=200 + place) for place in (4, 1, 3, 0, 2)]
    await ports.orchestrations.send([message(str(due.microsecond), deliver_at=due) for due in soon])
    session = await accept(ports)

    received: list[Delivery] = []
    while len(received) < len(soon):
        received.extend(await session.receive(1, WAIT_S))

    assert ids(received) == [str(due.microsecond) for due in sorted(soon)]
    assert await session.receive(1, 0) == []


async def test_a_cancelled_scheduled_message_never_comes(ports: HubPorts) -> None:
    await open_links(ports)
    soon = soon_ms(300)
    await ports.orchestrations.send(
        [message("a", deliver_at=soon), message("b", deliver_at=soon), message("now")]
    )

    await ports.orchestrations.cancel_scheduled(0, ["a", "now", "never sent"])

    assert ids(await receive_all(await accept(ports), 2)) == ["now", "b"]


async def test_one_holder_at_a_time_has_a_session(ports_factory: PortsFactory) -> None:
    one, other = await ports_factory(), await ports_factory()
    session = await accept(one)

    assert await one.orchestrations.accept(0) is None
    assert await other.orchestrations.accept(0) is None
    assert await other.orchestrations.accept(1) is not None
    await session.close()
    await session.close()
    assert await other.orchestrations.accept(0) is not None


async def test_a_partition_the_hub_does_not_have_is_refused(ports: HubPorts) -> None:
    with pytest.raises(ConfigurationError):
        await ports.orchestrations.accept(ports.info.partitions)


async def test_a_message_is_not_delivered_twice_to_one_session(ports: HubPorts) -> None:
    await ports.orchestrations.send([message("1"), message("2")])
    session = await accept(ports)

    assert ids(await session.receive(1, WAIT_S)) == ["1"]
    assert ids(await session.receive(9, WAIT_S)) == ["2"]
    assert await session.receive(9, 0) == []


async def test_what_was_not_completed_comes_again_and_is_counted(ports_factory: PortsFactory) -> None:
    one, other = await ports_factory(), await ports_factory()
    due = datetime.now(UTC) + timedelta(milliseconds=10)
    await one.orchestrations.send(
        [message("a"), message("b"), message("c"), message("timer", deliver_at=due)]
    )
    session = await accept(one)
    received = await receive_all(session, 3)
    received += await session.receive(1, WAIT_S)
    assert ids(received) == ["a", "b", "c", "timer"]
    await session.complete([received[1]])
    await one.orchestrations.send([message("never delivered before")])
    await session.close()

    again = await receive_all(await accept(other), 4)

    counts = {ids([delivery])[0]: delivery.delivery_count for delivery in again}
    assert counts == {"a": 2, "c": 2, "timer": 2, "never delivered before": 1}
    assert ids(again)[:2] == ["a", "c"]


async def test_what_was_completed_is_gone(ports: HubPorts) -> None:
    await ports.orchestrations.send([message(str(number)) for number in range(5)])
    session = await accept(ports)
    await session.complete(await receive_all(session, 5))
    await session.close()

    assert await (await accept(ports)).receive(10, 0) == []


async def test_a_closed_session_receives_nothing_and_completes_nothing(ports: HubPorts) -> None:
    await ports.orchestrations.send([message("m")])
    session = await accept(ports)
    received = await receive_all(session, 1)
    waiting = asyncio.create_task(session.receive(10, WAIT_S))
    await let_others_run()

    await session.renew()
    await session.close()

    assert await waiting == []
    assert await session.receive(10, WAIT_S) == []
    with pytest.raises(PartitionLostError):
        await session.complete(received)
    with pytest.raises(PartitionLostError):
        await session.dead_letter(received[0], "reason", "why")
    with pytest.raises(PartitionLostError):
        await session.renew()


async def test_a_message_delivered_too_often_becomes_a_dead_letter(ports: HubPorts) -> None:
    await ports.orchestrations.send([message("poison")])
    for attempt in range(1, SETTINGS.delivery_count_max + 1):
        session = await accept(ports)
        (delivery,) = await receive_all(session, 1)
        assert delivery.delivery_count == attempt
        await session.close()
    await ports.orchestrations.send([message("fine")])

    assert ids(await receive_all(await accept(ports), 1)) == ["fine"]
    (letter,) = await ports.orchestrations.dead_letters(10)
    assert letter.messages[0].id == letter.id == "poison"
    assert (letter.partition, letter.task, letter.delivery_count) == (0, None, SETTINGS.delivery_count_max)
    assert letter.reason


async def test_a_message_put_aside_is_a_dead_letter_until_settled(ports_factory: PortsFactory) -> None:
    ports, other = await ports_factory(), await ports_factory()
    await ports.orchestrations.send([message("bad", partition=2), message("good", partition=2)])
    session = await accept(ports, 2)
    received = await receive_all(session, 2)

    await session.dead_letter(received[0], "Unreadable", "no such kind")

    (letter,) = await ports.orchestrations.dead_letters(10)
    assert (letter.id, letter.partition) == ("bad", 2)
    assert (letter.reason, letter.description, letter.delivery_count) == ("Unreadable", "no such kind", 1)
    assert letter.enqueued_at == received[0].enqueued_at
    assert list(await other.orchestrations.dead_letters(10)) == [], "locked for its reader"
    assert list(await ports.activities.dead_letters(10)) == []
    await ports.orchestrations.settle_dead_letter(letter)
    await ports.orchestrations.settle_dead_letter(letter)
    await session.close()
    assert ids(await receive_all(await accept(ports, 2), 1)) == ["good"]
