"""What all links of an opened hub share: the client they come from, the names, the limits, the counters."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, TypeVar

from azure.servicebus import ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver, ServiceBusSender

from durabletask_azure.adapters.servicebus.clients import make_client
from durabletask_azure.adapters.servicebus.counters import WireCounters
from durabletask_azure.adapters.servicebus.thread import LinkThread
from durabletask_azure.adapters.servicebus.translation import Entity
from durabletask_azure.settings import Settings
from durabletask_azure.targets import HubNames, QueueOptions, ServiceBusTarget

__all__ = ["NO_WAIT_S", "Wire"]

NO_WAIT_S = 1e-9
"""A wait that is over at once: the SDK then hands out what it has already, and asks for nothing."""
_log = logging.getLogger("durabletask_azure.adapters.servicebus")


L = TypeVar("L", ServiceBusSender, ServiceBusReceiver)


class Wire:
    """One opened hub's way to Service Bus. Links are opened and closed in the links' thread only."""

    def __init__(
        self,
        target: ServiceBusTarget,
        names: HubNames,
        options: QueueOptions,
        settings: Settings,
        partitions: int,
    ) -> None:
        self.target = target
        self.names = names
        self.options = options
        self.settings = settings
        self.partitions = partitions
        self.counters = WireCounters()
        self.thread = LinkThread(f"servicebus-{names.hub}")
        # Made here, so that a bad connection string is found at once; it opens nothing.
        self._client: ServiceBusClient = make_client(target, timeout_s=settings.link_timeout_s)

    def entity(self, queue: str) -> Entity:
        """Return a queue as errors name it."""
        return Entity(self.target.namespace, queue)

    async def open_sender(self, queue: str) -> ServiceBusSender:
        """Open the sender of a queue; errors are the SDK's."""
        return await self._opened(self._client.get_queue_sender(queue))

    async def open_session(self, queue: str, session: str, prefetch: int) -> ServiceBusReceiver:
        """Take a session of a queue; errors are the SDK's."""
        return await self._opened(self._receiver(queue, prefetch, session_id=session))

    async def open_receiver(self, queue: str, prefetch: int) -> ServiceBusReceiver:
        """Open a receiver of a queue; errors are the SDK's."""
        return await self._opened(self._receiver(queue, prefetch))

    async def open_dead_letters(self, queue: str) -> ServiceBusReceiver:
        """Open a receiver of a queue's dead letters; errors are the SDK's."""
        return await self._opened(self._receiver(queue, 0, sub_queue=ServiceBusSubQueue.DEAD_LETTER))

    def _receiver(self, queue: str, prefetch: int, **arguments: Any) -> ServiceBusReceiver:
        # Its actor listens all the time, so it needs no keep-alive task, which would delay closing by a second.
        return self._client.get_queue_receiver(
            queue,
            prefetch_count=prefetch,
            socket_timeout=self.settings.link_poll_s,
            keep_alive=0,
            timeout=self.settings.link_timeout_s,
            **arguments,
        )

    async def _opened(self, link: L) -> L:
        try:
            async with asyncio.timeout(self.settings.link_timeout_s):
                await link.__aenter__()
        except BaseException:
            await self._shut(link)
            raise
        self.counters.links_opened += 1
        self.counters.links_open += 1
        return link

    async def close_link(self, link: ServiceBusSender | ServiceBusReceiver) -> None:
        """Close a link, which may be broken, within ``Settings.link_close_s``."""
        self.counters.links_open -= 1
        await self._shut(link)

    async def _shut(self, link: ServiceBusSender | ServiceBusReceiver) -> None:
        try:
            async with asyncio.timeout(self.settings.link_close_s):
                await link.close()
        except Exception as error:
            _log.debug("a link was not closed properly: %r", error)
