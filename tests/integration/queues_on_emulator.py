"""The queues of a hub on an emulator in this process: what the tests of the Service Bus adapter begin with."""

from __future__ import annotations

import gc
import warnings
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Any

import msgspec
import pytest

from durabletask_azure.adapters.servicebus import ServiceBusQueues, open_queues
from durabletask_azure.core.history import EventRaisedEvent
from durabletask_azure.core.messages import ActivityTask, Message, ToActivities, ToPartition
from durabletask_azure.emulator.fixture import RunningEmulator
from durabletask_azure.ports import ActivityDelivery, Delivery, PartitionSession
from durabletask_azure.settings import Settings
from durabletask_azure.targets import HubNames, QueueOptions, ServiceBusTarget

__all__ = [
    "PARTITIONS",
    "WAIT_S",
    "EmulatedHub",
    "accepted",
    "hub",
    "ids",
    "leavings_collected",
    "message",
    "received",
    "running",
    "task",
    "tasks_received",
]

PARTITIONS = 4
WAIT_S = 20.0
"""How long a receive may wait for what is certain to come."""
LOCK_S = 5.0
"""The shortest that Service Bus allows."""
_numbers = count(1)


class EmulatedHub:
    """The resources of one hub, and any number of openings of its queues."""

    def __init__(self, emulator: RunningEmulator, *, groups: dict[str, list[str]] | None = None) -> None:
        self.emulator = emulator
        self.names = HubNames(hub=f"hub{next(_numbers)}")
        self.groups = groups or {}
        self._opened: list[ServiceBusQueues] = []

    def create(self, *, lock_s: float = LOCK_S, deliveries_max: int = 10, **settings: Any) -> None:
        """Create the queues."""
        common: dict[str, Any] = {"lock_s": lock_s, "deliveries_max": deliveries_max, **settings}
        self.emulator.create_queue(self.names.orchestrations, requires_sessions=True, **common)
        for group in ("", *self.groups):
            self.emulator.create_queue(self.names.activities(group), **common)

    def open(
        self, *, lock_s: float = LOCK_S, connection_string: str | None = None, **settings: Any
    ) -> ServiceBusQueues:
        """Open the queues, as one worker or client does."""
        target = ServiceBusTarget(
            namespace="emulator", connection_string=connection_string or self.emulator.connection_string
        )
        options = QueueOptions(lock_s=lock_s, activity_groups=self.groups)
        chosen = msgspec.structs.replace(Settings(lock_s=lock_s), **settings)
        queues = open_queues(target, self.names, options, chosen, partitions=PARTITIONS)
        self._opened.append(queues)
        return queues

    async def close(self) -> None:
        """Close every opening."""
        for queues in self._opened:
            await queues.close()


@pytest.fixture(scope="module")
def running() -> Iterator[RunningEmulator]:
    """One emulator for a module."""
    with RunningEmulator() as emulator:
        yield emulator


@pytest.fixture(autouse=True)
def leavings_collected() -> Iterator[None]:
    """Collect the sockets that the SDK lets go of unclosed when a connection is cut: here, where that is known."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
async def hub(running: RunningEmulator) -> AsyncIterator[EmulatedHub]:
    """A hub of its own for each test, its queues created with the shortest lock."""
    made = EmulatedHub(running)
    made.create()
    yield made
    await made.close()
    running.call(lambda server: server.faults.clear())


def message(
    message_id: str,
    *,
    partition: int = 0,
    instance_id: str = "i",
    deliver_at: datetime | None = None,
    text: str = "yes",
) -> ToPartition:
    """Return a message to a partition."""
    body = EventRaisedEvent(timestamp=datetime(2026, 1, 1, tzinfo=UTC), name="approved", input=f'"{text}"')
    return ToPartition(
        partition=partition,
        message=Message(id=message_id, instance_id=instance_id, body=body),
        deliver_at=deliver_at,
    )


def task(task_id: str, *, name: str = "ship") -> ToActivities:
    """Return an activity task."""
    return ToActivities(
        task=ActivityTask(id=task_id, instance_id="i", execution_id="e1", task_id=1, name=name, input="1")
    )


def ids(deliveries: list[Delivery]) -> list[str]:
    """Return the ids of the messages in deliveries."""
    return [one.id for delivery in deliveries for one in delivery.messages]


async def accepted(queues: ServiceBusQueues, partition: int = 0) -> PartitionSession:
    """Take a partition that is free."""
    session = await queues.orchestrations.accept(partition)
    assert session is not None
    return session


async def received(session: PartitionSession, events: int) -> list[Delivery]:
    """Receive until so many messages have come, packed or not."""
    found: list[Delivery] = []
    while len(ids(found)) < events:
        batch = await session.receive(100, WAIT_S)
        assert batch, f"only {len(ids(found))} of {events} came"
        found += batch
    return found


async def tasks_received(queues: ServiceBusQueues, tasks: int, **arguments: Any) -> list[ActivityDelivery]:
    """Receive so many tasks."""
    found: list[ActivityDelivery] = []
    while len(found) < tasks:
        batch = await queues.activities.receive(tasks - len(found), WAIT_S, **arguments)
        assert batch, f"only {len(found)} of {tasks} came"
        found += batch
    return found
