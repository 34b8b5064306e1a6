"""What a partition sends when queues and store share no transaction: everything, in order, confirmed by number."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any, cast

import msgspec

from durabletask_azure.adapters.local import open_local
from durabletask_azure.core.history import (
    EventRaisedEvent,
    ExecutionStartedEvent,
    TaskScheduledEvent,
    encode_event,
)
from durabletask_azure.core.messages import ActivityTask, Message, Outbound, ToActivities, ToPartition
from durabletask_azure.engine.counters import Counters
from durabletask_azure.engine.sender import ReadAgain, Sender
from durabletask_azure.ports import HubPorts
from durabletask_azure.settings import Settings
from tests.contract.builders import NOON, instance
from tests.integration.owners import owner_of


def _event(number: int, partition: int) -> ToPartition:
    body = EventRaisedEvent(timestamp=NOON, name="n", source_id=str(number))
    return ToPartition(partition=partition, message=Message(id=f"m{number}", instance_id="i", body=body))


def _task(number: int, instance_id: str = "i") -> ToActivities:
    return ToActivities(
        task=ActivityTask(
            id=f"t{number}", instance_id=instance_id, execution_id="e", task_id=number, name="a"
        )
    )


def _sender(ports: HubPorts, read_again: ReadAgain | None = None, tasks_max: int = 10_000) -> Sender:
    def spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work)

    async def nothing(instance_id: str, since: int, until: int) -> Sequence[Outbound]:
        raise AssertionError(f"{instance_id} is read again")

    settings = Settings(unsent_tasks_max=tasks_max)
    return Sender(ports, settings, Counters(), lambda: True, spawn, read_again or nothing)


class _Stored:
    """What instances send, by commit, as storage has it; and a queue that takes nothing before it is told to."""

    def __init__(self, ports: HubPorts) -> None:
        self.messages: dict[str, list[tuple[int, Outbound]]] = {}
        self.reads: list[tuple[str, int, int]] = []
        self.room = asyncio.Event()
        self.sent: list[str] = []
        self._activities = ports.activities

    async def send(self, tasks: Sequence[ToActivities]) -> None:
        """Send as soon as there is room."""
        await self.room.wait()
        self.sent += [out.task.id for out in tasks]
        await self._activities.send(tasks)

    async def read_again(self, instance_id: str, since: int, until: int) -> Sequence[Outbound]:
        """Return the messages of some commits."""
        self.reads.append((instance_id, since, until))
        return [out for n, out in self.messages[instance_id] if since <= n <= until]

    def commit(self, sender: Sender, n: int, instance_id: str, messages: Sequence[Outbound]) -> None:
        """Commit, and have it sent."""
        self.messages.setdefault(instance_id, []).extend((n, out) for out in messages)
        sender.begin(n, [instance_id])
        sender.add(n, messages)
        sender.end(n)


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


async def test_f26_tasks_beyond_the_limit_are_read_again_when_there_is_room() -> None:
    ports = open_local(None, partitions=2)
    store = _Stored(ports)
    sender = _sender(replace(ports, activities=cast(Any, store)), store.read_again, tasks_max=3)

    store.commit(sender, 1, "a", [_task(n, "a") for n in range(4)])  # what one commit has goes one way
    store.commit(sender, 2, "b", [_task(10, "b"), _event(1, 0)])
    store.commit(sender, 3, "a", [_task(4, "a")])
    store.commit(sender, 4, "b", [_task(11, "b")])
    session = await ports.orchestrations.accept(0)
    assert session is not None
    (delivery,) = await session.receive(10, 5.0)
    assert delivery.id == "m1", "messages to partitions are not held up"
    assert (sender.confirmed, sender.unsent(), store.reads) == (0, ["a", "b"], [])

    store.room.set()
    await sender.flush()

    assert store.reads == [("b", 2, 4), ("a", 3, 3)]
    assert store.sent == ["t0", "t1", "t2", "t3", "t10", "t11", "t4"]
    assert (sender.confirmed, sender.unsent(), sender.backlog) == (4, [], 0)
    store.commit(sender, 5, "b", [_task(12, "b")])
    await sender.flush()
    assert (len(store.reads), store.sent[-1], sender.confirmed) == (2, "t12", 5)
    assert ports.close is not None
    await ports.close()


async def test_tasks_a_new_owner_finds_unsent_are_read_again_from_the_first_commit_that_may_be() -> None:
    ports = open_local(None, partitions=2)
    store = _Stored(ports)
    sender = _sender(replace(ports, activities=cast(Any, store)), store.read_again, tasks_max=1)
    store.messages = {"a": [(3, _task(1, "a"))], "b": [(2, _task(2, "b")), (4, _task(3, "b"))]}

    sender.begin(4, ["a", "b"])
    for instance_id in ("a", "b"):
        sender.add(4, [out for _, out in store.messages[instance_id]], since=2)
    sender.end(4)
    store.commit(sender, 5, "b", [_task(4, "b")])
    store.room.set()
    await sender.flush()

    assert store.reads == [("b", 2, 5)]
    assert store.sent == ["t1", "t2", "t3", "t4"]
    assert sender.confirmed == 5
    assert ports.close is not None
    await ports.close()


async def test_only_the_commits_that_were_left_out_are_read_again() -> None:
    ports = open_local(None, partitions=1)
    events = [
        ExecutionStartedEvent(timestamp=NOON, name="order", instance_id="i", execution_id="e1", commit=1),
        *(TaskScheduledEvent(timestamp=NOON, event_id=n, name="a", commit=n) for n in range(1, 5)),
    ]
    row = instance("i", tail=b"".join(map(encode_event, events)))
    await ports.store.insert_instance(0, msgspec.structs.replace(row, commit=4))
    session = await ports.orchestrations.accept(0)
    assert session is not None
    owner = owner_of(session, ports, Settings())

    found = await owner.recovery.unsent_of("i", 2, 3)

    assert [out.task.task_id for out in found if isinstance(out, ToActivities)] == [2, 3]
    assert await owner.recovery.unsent_of("nobody", 2, 3) == []
    await session.close()
    assert ports.close is not None
    await ports.close()
