"""Activity tasks: competing consumers, results, tasks given back, and dead letters."""

from __future__ import annotations

import asyncio

import pytest

from durabletask_azure.errors import ConfigurationError
from durabletask_azure.ports import ActivityDelivery, HubPorts, Interruptible
from tests.contract.builders import WAIT_S, let_others_run, message, task
from tests.contract.conftest import SETTINGS, PortsFactory


async def receive_all(ports: HubPorts, count: int) -> list[ActivityDelivery]:
    """Return exactly ``count`` tasks."""
    received: list[ActivityDelivery] = []
    while len(received) < count:
        batch = await ports.activities.receive(count - len(received), WAIT_S)
        assert batch, f"only {len(received)} of {count} came"
        received.extend(batch)
    return received


async def test_tasks_come_in_the_order_sent_and_as_sent(ports: HubPorts) -> None:
    sent = [task(f"t{number}") for number in range(10)]
    await ports.activities.send(sent)

    received = await receive_all(ports, 10)

    assert [delivery.task for delivery in received] == [one.task for one in sent]
    assert {(delivery.delivery_count, delivery.error) for delivery in received} == {(1, None)}
    assert await ports.activities.receive(10, 0) == []


async def test_each_task_goes_to_one_of_the_competing_consumers(ports_factory: PortsFactory) -> None:
    consumers = [await ports_factory(), await ports_factory()]
    waiting = [asyncio.create_task(ports.activities.receive(5, WAIT_S)) for ports in consumers]
    await let_others_run()

    await consumers[0].activities.send([task(f"t{number}") for number in range(10)])

    received = [delivery.id for batch in await asyncio.gather(*waiting) for delivery in batch]
    while len(received) < 10:
        # One whose first batch was smaller may have others under way to it.
        again = [asyncio.create_task(ports.activities.receive(10, 0.2)) for ports in consumers]
        received += [delivery.id for batch in await asyncio.gather(*again) for delivery in batch]
    assert sorted(received) == [f"t{number}" for number in range(10)]


async def test_a_finished_task_is_gone_and_its_result_is_sent(ports: HubPorts) -> None:
    await ports.activities.send([task("a"), task("b"), task("c")])
    received = await receive_all(ports, 3)

    await ports.activities.finish([(received[0], message("ra", partition=1)), (received[1], None)])
    await ports.activities.finish([(received[2], message("rc", partition=1))])

    session = await ports.orchestrations.accept(1)
    assert session is not None
    results = [*await session.receive(1, WAIT_S), *await session.receive(1, WAIT_S)]
    assert [delivery.messages[0].id for delivery in results] == ["ra", "rc"]
    await ports.activities.abandon(received)
    assert await ports.activities.receive(10, 0) == []


async def test_an_abandoned_task_comes_again_at_once_and_is_counted(ports_factory: PortsFactory) -> None:
    one, other = await ports_factory(), await ports_factory()
    await one.activities.send([task("a"), task("b")])
    first, second = await receive_all(one, 2)
    waiting = asyncio.create_task(other.activities.receive(10, WAIT_S))
    await let_others_run()

    await one.activities.abandon([first])

    (again,) = await waiting
    assert (again.id, again.delivery_count) == ("a", 2)
    assert list(await one.activities.renew([second])) == []


async def test_a_task_delivered_too_often_becomes_a_dead_letter(ports: HubPorts) -> None:
    await ports.activities.send([task("poison"), task("fine")])
    for attempt in range(1, SETTINGS.delivery_count_max + 1):
        (delivery,) = await receive_all(ports, 1)
        assert (delivery.id, delivery.delivery_count) == ("poison", attempt)
        await ports.activities.abandon([delivery])

    (delivery,) = await receive_all(ports, 1)
    assert delivery.id == "fine"
    (letter,) = await ports.activities.dead_letters(10)
    assert letter.task == task("poison").task
    assert (letter.partition, letter.messages) == (None, ())
    assert letter.delivery_count == SETTINGS.delivery_count_max
    assert list(await ports.activities.dead_letters(10)) == []
    await ports.activities.settle_dead_letter(letter)


async def test_a_task_put_aside_is_a_dead_letter(ports: HubPorts) -> None:
    await ports.activities.send([task("bad"), task("good")])
    bad, good = await receive_all(ports, 2)

    await ports.activities.dead_letter(bad, "Unreadable", "no such kind")
    await ports.activities.abandon([bad, good])

    (letter,) = await ports.activities.dead_letters(10)
    assert (letter.id, letter.reason, letter.description, letter.delivery_count) == (
        "bad",
        "Unreadable",
        "no such kind",
        1,
    )
    assert [delivery.id for delivery in await receive_all(ports, 1)] == ["good"]
    await ports.activities.settle_dead_letter(letter)


async def prepared(ports: HubPorts, *names: str) -> list[str]:
    """Get a queue ready for some activities, if it can tell them apart."""
    try:
        await ports.activities.prepare_for(names)
    except ConfigurationError as refusal:
        pytest.skip(f"this adapter has queues for groups of activities: {refusal}")
    return list(names)


async def test_tasks_of_some_activities_are_received_alone_and_in_order(ports: HubPorts) -> None:
    names = await prepared(ports, "ship", 'l\'été "☀"')
    sent = [task(f"t{n}", name=("ship", "pack", names[1])[n % 3]) for n in range(30)]
    await ports.activities.send(sent)

    received = [one.id for one in await ports.activities.receive(5, WAIT_S, names)]
    received += [one.id for one in await ports.activities.receive(100, WAIT_S, names)]

    assert received == [f"t{n}" for n in range(30) if n % 3 != 1]
    assert await ports.activities.receive(10, 0, names) == []
    assert await ports.activities.receive(10, 0, ["nothing"]) == []
    assert [one.id for one in await receive_all(ports, 10)] == [f"t{n}" for n in range(30) if n % 3 == 1]


async def test_a_receive_of_some_activities_waits_for_one_of_them(ports_factory: PortsFactory) -> None:
    one, other = await ports_factory(), await ports_factory()
    names = await prepared(one, "ship")
    waiting = asyncio.create_task(one.activities.receive(10, WAIT_S, names))
    await let_others_run()

    await other.activities.send([task("p", name="pack")])
    await let_others_run()
    assert not waiting.done()
    await other.activities.send([task("s", name="ship")])

    (found,) = await waiting
    assert found.id == "s"
    await one.activities.abandon([found])
    assert [again.delivery_count for again in await one.activities.receive(10, WAIT_S, names)] == [2]
    assert [left.id for left in await receive_all(other, 1)] == ["p"]


async def test_an_interrupt_ends_pending_receives_and_no_later_ones(ports: HubPorts) -> None:
    if not isinstance(ports.activities, Interruptible):
        pytest.skip("this adapter ends no wait early")
    waiting = asyncio.create_task(ports.activities.receive(10, WAIT_S))
    await let_others_run()

    ports.activities.interrupt()

    assert await waiting == []
    await ports.activities.send([task("t")])
    assert len(await receive_all(ports, 1)) == 1


async def test_closing_ends_a_pending_receive(ports: HubPorts) -> None:
    waiting = asyncio.create_task(ports.activities.receive(10, WAIT_S))
    await let_others_run()

    await ports.activities.close()

    assert await waiting == []
    assert await ports.activities.receive(10, WAIT_S) == []
