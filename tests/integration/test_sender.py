"""What a partition sends when queues and store share no transaction: everything, in order, confirmed by number."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

from durabletask_azure.adapters.local import open_local
from durabletask_azure.core.history import EventRaisedEvent
from durabletask_azure.core.messages import ActivityTask, Message, ToActivities, ToPartition
from durabletask_azure.engine.counters import Counters
from durabletask_azure.engine.sender import Sender
from durabletask_azure.ports import HubPorts
from durabletask_azure.settings import Settings

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def _event(number: int, partition: int) -> ToPartition:
    body = EventRaisedEvent(timestamp=NOON, name="n", source_id=str(number))
    return ToPartition(partition=partition, message=Message(id=f"m{number}", instance_id="i", body=body))


def _task(number: int) -> ToActivities:
    return ToActivities(
        task=ActivityTask(id=f"t{number}", instance_id="i", execution_id="e", task_id=number, name="a")
    )


def _sender(ports: HubPorts) -> Sender:
    def spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work)

    return Sender(ports, Settings(), Counters(), keep_going=lambda: True, spawn=spawn)


async def test_a_commit_of_many_messages_is_sent_whole_and_in_order() -> None:
    ports = open_local(None, partitions=2)
    sender = _sender(ports)

    sender.add(
        1, [*(_event(number, 0) for number in range(1_200)), *(_task(number) for number in range(1_200))]
    )
    sender.end(1)
    await sender.flush()

    session = await ports.orchestrations.accept(0)
    assert session is not None
    received: list[str] = []
    while len(received) < 1_200:
        deliveries = await session.receive(500, 1.0)
        assert deliveries, f"only {len(received)} arrived"
        received += [message.id for delivery in deliveries for message in delivery.messages]
    assert received == [f"m{number}" for number in range(1_200)]
    tasks = [delivery.id for _ in range(3) for delivery in await ports.activities.receive(500, 1.0)]
    assert tasks == [f"t{number}" for number in range(1_200)]
    assert sender.confirmed == 1
    assert ports.close is not None
    await ports.close()


async def test_a_commit_is_confirmed_only_after_those_before_it() -> None:
    ports = open_local(None, partitions=2)
    sender = _sender(ports)

    sender.begin(1, ["a"])
    sender.add(2, [_event(1, 0)])
    sender.end(2)
    await sender.flush()
    assert sender.confirmed == 0
    assert sender.unsent() == ["a"]

    sender.add(1, [_event(2, 1)])
    sender.end(1)
    await sender.flush()
    assert sender.confirmed == 2
    assert sender.unsent() == []

    sender.begin(3, ["b"])
    sender.withdraw(3)
    sender.end(4)
    assert sender.confirmed == 4
    assert ports.close is not None
    await ports.close()
