"""Both queues of a hub over Service Bus, opened together: they share a client, a thread and the links' limits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from durabletask_azure.adapters.servicebus.activities import ServiceBusActivityQueue
from durabletask_azure.adapters.servicebus.bodies import packed
from durabletask_azure.adapters.servicebus.counters import WireCounters
from durabletask_azure.adapters.servicebus.dead_letters import DeadLetterDesk
from durabletask_azure.adapters.servicebus.sending import SendLink
from durabletask_azure.adapters.servicebus.session_link import SessionLink
from durabletask_azure.adapters.servicebus.sessions import ServiceBusSession, accept_session
from durabletask_azure.adapters.servicebus.wire import Wire
from durabletask_azure.core.messages import ToPartition
from durabletask_azure.errors import ConfigurationError
from durabletask_azure.ports import ActivityQueue, DeadLetter, OrchestrationQueue
from durabletask_azure.settings import Settings
from durabletask_azure.targets import HubNames, QueueOptions, ServiceBusTarget

__all__ = ["ServiceBusOrchestrationQueue", "ServiceBusQueues", "open_queues"]


class ServiceBusOrchestrationQueue:
    """The :class:`~durabletask_azure.ports.OrchestrationQueue` of a Service Bus hub."""

    def __init__(self, wire: Wire, sender: SendLink, desk: DeadLetterDesk) -> None:
        self._wire = wire
        self._sender = sender
        self._desk = desk
        self._sessions: set[ServiceBusSession] = set()
        self._links: set[SessionLink] = set()

    async def accept(self, partition: int) -> ServiceBusSession | None:
        if not 0 <= partition < self._wire.partitions:
            raise ConfigurationError(
                f"the hub has partitions 0 to {self._wire.partitions - 1}, not {partition}"
            )
        session = await accept_session(self._wire, partition, self._links)
        if session is not None:
            self._sessions = {other for other in self._sessions if not other.is_closed}
            self._sessions.add(session)
        return session

    async def send(self, messages: Sequence[ToPartition]) -> None:
        settings = self._wire.settings
        await self._sender.send(
            packed(messages, events_max=settings.pack_events_max, bytes_max=settings.pack_bytes_max)
        )

    async def cancel_scheduled(self, partition: int, message_ids: Sequence[str]) -> None:
        if message_ids:
            self._sender.cancel(message_ids)

    async def dead_letters(self, count_max: int) -> Sequence[DeadLetter]:
        return await self._desk.letters(self._wire.names.orchestrations, count_max, is_task=False)

    async def settle_dead_letter(self, letter: DeadLetter) -> None:
        await self._desk.settle(letter)

    async def close(self) -> None:
        sessions, self._sessions = self._sessions, set()
        await asyncio.gather(*(session.close() for session in sessions), return_exceptions=True)


class ServiceBusQueues:
    """The queues of one opened hub; closing them closes every link, and ends the thread the links live in."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._sender = SendLink(wire, wire.names.orchestrations)
        self._desk = DeadLetterDesk(wire)
        self._orchestrations = ServiceBusOrchestrationQueue(wire, self._sender, self._desk)
        self._activities = ServiceBusActivityQueue(wire, self._sender, self._desk)
        self._is_closed = False

    @property
    def orchestrations(self) -> OrchestrationQueue:
        """The queue of messages to partitions."""
        return self._orchestrations

    @property
    def activities(self) -> ActivityQueue:
        """The queue of activity tasks."""
        return self._activities

    @property
    def counters(self) -> WireCounters:
        """What went over the wire so far."""
        return self._wire.counters

    async def close(self) -> None:
        """Close everything within a few seconds, also when the broker is gone; closing twice is harmless."""
        if self._is_closed:
            return
        self._is_closed = True
        thread = self._wire.thread
        if thread.is_started:
            await asyncio.gather(
                self._orchestrations.close(), self._activities.close(), return_exceptions=True
            )

            async def close() -> None:
                await asyncio.gather(self._sender.close(), self._desk.close(), return_exceptions=True)

            await thread.call(close)
        await thread.stop()


def open_queues(
    target: ServiceBusTarget, names: HubNames, options: QueueOptions, settings: Settings, *, partitions: int
) -> ServiceBusQueues:
    """Return the queues of a hub that exists; links are opened when they are first needed.

    Raises:
        ConfigurationError: the connection string or the file of certificates cannot be used.
    """
    return ServiceBusQueues(Wire(target, names, options, settings, partitions))
