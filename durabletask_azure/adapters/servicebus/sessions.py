"""Partitions held, as the engine sees them in its own loop; the work is done by ``session_link.py`` in the links'."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence

from azure.servicebus.exceptions import SessionCannotBeLockedError

from durabletask_azure.adapters.servicebus.session_link import SessionLink, Settlement, Token
from durabletask_azure.adapters.servicebus.thread import Mailbox, Reply
from durabletask_azure.adapters.servicebus.translation import translated
from durabletask_azure.adapters.servicebus.wire import Wire
from durabletask_azure.core.partitioning import partition_name
from durabletask_azure.errors import PartitionLostError
from durabletask_azure.ports import Delivery

__all__ = ["ServiceBusSession", "accept_session"]


class ServiceBusSession:
    """The :class:`~durabletask_azure.ports.PartitionSession` of a Service Bus hub."""

    def __init__(self, wire: Wire, partition: int, home: Mailbox) -> None:
        self._wire = wire
        self._partition = partition
        self._home = home
        self._link: SessionLink | None = None
        self._ready: deque[Delivery] = deque()
        self._waiters: list[asyncio.Future[None]] = []
        self._lost: PartitionLostError | None = None
        self._is_closed = False

    @property
    def partition(self) -> int:
        return self._partition

    @property
    def is_closed(self) -> bool:
        """Whether it was closed or lost."""
        return self._is_closed or self._lost is not None

    async def receive(self, count_max: int, wait_s: float) -> Sequence[Delivery]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        while not self._is_closed:
            if self._lost is not None:
                raise self._lost
            if self._ready:
                return self._take(count_max)
            left_s = deadline - loop.time()
            if left_s <= 0:
                break
            waiter: asyncio.Future[None] = loop.create_future()
            alarm = loop.call_later(left_s, _wake, waiter)
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                alarm.cancel()
        return []

    def _take(self, count_max: int) -> list[Delivery]:
        ready, link = self._ready, self._held()
        taken = [ready.popleft() for _ in range(min(count_max, len(ready)))]
        link.taken += len(taken)
        if link.is_paused:
            self._wire.thread.post(link.resume)
        return taken

    async def complete(self, deliveries: Sequence[Delivery]) -> None:
        await self._settle([_token(one) for one in deliveries])

    async def dead_letter(self, delivery: Delivery, reason: str, description: str) -> None:
        await self._settle([_token(delivery)], reason, description)

    async def _settle(
        self, tokens: Sequence[Token], reason: str | None = None, description: str = ""
    ) -> None:
        link = self._held()
        reply = Reply[None](self._home)
        self._wire.thread.post(link.settle, Settlement(tokens, reply, reason, description))
        await reply.future

    async def renew(self) -> None:
        # The lock is renewed by the link; being asked for it means that the partition's loop is alive.
        self._held().progress_at = time.monotonic()

    async def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._wake_all()
        link = self._link
        if link is None or self._lost is not None or self._wire.thread.is_closed:
            return
        reply = Reply[None](self._home)
        self._wire.thread.post(link.close, reply, len(self._ready))
        self._ready.clear()
        await reply.future

    def _held(self) -> SessionLink:
        if self._lost is not None:
            raise self._lost
        if self._is_closed or self._link is None:
            raise PartitionLostError(f"the session of partition {self._partition} is closed")
        return self._link

    # ------------------------------------------------------------ what the link says

    def opened(self, link: SessionLink) -> None:
        """Take note of the link that serves this session."""
        self._link = link

    def arrived(self, delivery: Delivery) -> None:
        """Take in a message."""
        if not self.is_closed:
            self._ready.append(delivery)
            self._wake_all()

    def lost(self, error: PartitionLostError) -> None:
        """Take note that the session is gone."""
        self._lost = error
        self._ready.clear()
        self._wake_all()

    def _wake_all(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            _wake(waiter)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _token(one: Delivery) -> Token:
    if not isinstance(one.token, Token):
        raise AssertionError(f"not a delivery of a Service Bus hub: {one.token!r}")
    return one.token


async def accept_session(wire: Wire, partition: int, links: set[SessionLink]) -> ServiceBusSession | None:
    """Return the session of a partition, ``None`` while another holder has it; ``links`` lists its link while open.

    Raises:
        ThrottledError, HubUnavailableError: it cannot be asked for now.
    """
    session = ServiceBusSession(wire, partition, wire.thread.home())
    home = wire.thread.home()

    async def accept() -> SessionLink | None:
        queue = wire.names.orchestrations
        with translated(f"taking partition {partition}", wire.entity(queue)):
            try:
                receiver = await wire.open_session(
                    queue, partition_name(partition), wire.options.prefetch_max
                )
            except SessionCannotBeLockedError:
                wire.counters.accepts_refused += 1
                return None
        link = SessionLink(wire, partition, receiver, home, arrived=session.arrived, lost=session.lost)
        links.add(link)
        wire.thread.spawn(link.run()).add_done_callback(lambda _: links.discard(link))
        return link

    def unclaimed(link: SessionLink | None) -> None:
        if link is not None:
            wire.thread.post(link.close, None, 0)

    link = await wire.thread.call(accept, unclaimed)
    if link is None:
        return None
    session.opened(link)
    return session
