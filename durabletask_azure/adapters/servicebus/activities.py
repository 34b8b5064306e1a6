"""Activity tasks over Service Bus: one queue, and one more for each activity group.

A worker that takes all activities receives from every queue; one that takes some, from the queues of whole groups. A
result is sent before its task is completed; completing is left to the link, so that sending does not wait for it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence

from durabletask_azure.adapters.servicebus.bodies import packed, task_parcels
from durabletask_azure.adapters.servicebus.dead_letters import DeadLetterDesk
from durabletask_azure.adapters.servicebus.sending import SendLink
from durabletask_azure.adapters.servicebus.task_link import HeldTask, Settling, TaskLink, TaskSettlement
from durabletask_azure.adapters.servicebus.thread import Mailbox, Reply
from durabletask_azure.adapters.servicebus.wire import Wire
from durabletask_azure.core.messages import ToActivities, ToPartition
from durabletask_azure.errors import ConfigurationError, TaskHubError
from durabletask_azure.ports import ActivityDelivery, DeadLetter

__all__ = ["ServiceBusActivityQueue"]

_COMMON = ""


class ServiceBusActivityQueue:
    """The :class:`~durabletask_azure.ports.ActivityQueue` of a Service Bus hub."""

    def __init__(self, wire: Wire, results: SendLink, desk: DeadLetterDesk) -> None:
        self._wire = wire
        self._results = results
        self._desk = desk
        groups: Mapping[str, Sequence[str]] = wire.options.activity_groups
        self._group_of = {name: group for group, members in groups.items() for name in members}
        self._members = {group: frozenset(members) for group, members in groups.items()}
        self._senders: dict[str, SendLink] = {}
        self._links: dict[str, TaskLink] = {}
        self._ready: deque[ActivityDelivery] = deque()
        self._waiters: list[asyncio.Future[None]] = []
        self._failure: TaskHubError | None = None
        self._receiving = 0
        self._interrupts = 0
        self._is_stopping = False
        """Whether the last thing heard was an interrupt: its worker may never receive again."""
        self._is_closed = False

    # ------------------------------------------------------------ out

    async def send(self, tasks: Sequence[ToActivities]) -> None:
        by_group: dict[str, list[ToActivities]] = {}
        for out in tasks:
            by_group.setdefault(out.group or self._group_of.get(out.task.name, _COMMON), []).append(out)
        sends = [self._sender(group).send(task_parcels(outs)) for group, outs in by_group.items()]
        if len(sends) == 1:
            await sends[0]
            return
        for outcome in await asyncio.gather(*sends, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    def _sender(self, group: str) -> SendLink:
        sender = self._senders.get(group)
        if sender is None:
            sender = self._senders[group] = SendLink(self._wire, self._wire.names.activities(group))
        return sender

    # ------------------------------------------------------------ in

    async def prepare_for(self, names: Collection[str]) -> None:
        self._groups_for(names)

    def _groups_for(self, names: Collection[str] | None) -> tuple[str, ...]:
        """Return the groups that hold exactly these activities; for ``None`` all, and the common queue."""
        if names is None:
            return (_COMMON, *self._members)
        wanted = frozenset(names)
        groups = tuple(group for group, members in self._members.items() if members and members <= wanted)
        left = wanted.difference(*(self._members[group] for group in groups))
        if left:
            possible = "; ".join(
                f"{group!r}: {', '.join(sorted(members))}" for group, members in self._members.items()
            )
            raise ConfigurationError(
                f"activities {', '.join(map(repr, sorted(left)))} cannot be received alone: Service Bus does not"
                " receive selectively, so a worker that takes some activities takes whole activity groups of the hub"
                f" ({possible or 'it has none'}). What is in no group, only a worker that takes all activities receives"
            )
        return groups

    async def receive(
        self, count_max: int, wait_s: float, names: Collection[str] | None = None
    ) -> Sequence[ActivityDelivery]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        interrupts = self._interrupts
        links = [self._link(group) for group in self._groups_for(names)]
        self._failure = None
        self._receiving += 1
        self._is_stopping = False
        self._demand(links, count_max - len(self._ready))
        try:
            while not self._is_closed:
                if self._ready:
                    return [self._ready.popleft() for _ in range(min(count_max, len(self._ready)))]
                failure, self._failure = self._failure, None
                if failure is not None:
                    raise failure
                left_s = deadline - loop.time()
                if left_s <= 0 or interrupts != self._interrupts:
                    break
                waiter: asyncio.Future[None] = loop.create_future()
                alarm = loop.call_later(left_s, _wake, waiter)
                self._waiters.append(waiter)
                try:
                    await waiter
                finally:
                    alarm.cancel()
            return []
        finally:
            self._receiving -= 1
            self._demand(links, 0)

    def _demand(self, links: Sequence[TaskLink], count: int) -> None:
        if self._is_closed or self._wire.thread.is_closed:
            return
        now = time.monotonic()
        for link in links:
            link.progress_at = now
            self._wire.thread.post(link.demand, max(0, count))

    def _link(self, group: str) -> TaskLink:
        link = self._links.get(group)
        if link is None:
            home: Mailbox = self._wire.thread.home()
            queue = self._wire.names.activities(group)
            link = TaskLink(self._wire, queue, home, arrived=self._arrived, failed=self._failed)
            self._links[group] = link
        return link

    def _arrived(self, delivery: ActivityDelivery) -> None:
        self._ready.append(delivery)
        if self._is_stopping and not self._receiving:
            self._give_back_ready()
        self._wake_all()

    def _give_back_ready(self) -> None:
        """Give back what has come and nobody has received: a worker that stops will not."""
        ready = [_held(delivery) for delivery in self._ready]
        self._ready.clear()
        for held in ready:
            held.is_ending = True
            if not self._wire.thread.is_closed:
                self._wire.thread.post(held.link.settle, TaskSettlement(Settling.ABANDON, [held]))

    def _failed(self, error: TaskHubError) -> None:
        self._failure = error
        self._wake_all()

    def _wake_all(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            _wake(waiter)

    def interrupt(self) -> None:
        """End the receives that wait now; from the loop that made them."""
        self._interrupts += 1
        self._is_stopping = True
        self._give_back_ready()
        self._wake_all()

    # ------------------------------------------------------------ what becomes of them

    async def renew(self, deliveries: Sequence[ActivityDelivery]) -> Sequence[ActivityDelivery]:
        # The links renew; being asked for it means that the activity loop is alive.
        now = time.monotonic()
        for link in self._links.values():
            link.progress_at = now
        return [delivery for delivery in deliveries if _held(delivery).is_lost]

    async def finish(self, results: Sequence[tuple[ActivityDelivery, ToPartition | None]]) -> None:
        messages = sorted((out for _, out in results if out is not None), key=lambda out: out.partition)
        settings = self._wire.settings
        await self._results.send(
            packed(messages, events_max=settings.pack_events_max, bytes_max=settings.pack_bytes_max)
        )
        await self._settle(Settling.COMPLETE, [delivery for delivery, _ in results], at_once=False)

    async def abandon(self, deliveries: Sequence[ActivityDelivery]) -> None:
        await self._settle(Settling.ABANDON, deliveries)

    async def dead_letter(self, delivery: ActivityDelivery, reason: str, description: str) -> None:
        await self._settle(Settling.DEAD_LETTER, [delivery], reason=reason, description=description)

    async def _settle(
        self,
        kind: Settling,
        deliveries: Sequence[ActivityDelivery],
        *,
        at_once: bool = True,
        reason: str = "",
        description: str = "",
    ) -> None:
        by_link: dict[TaskLink, list[HeldTask]] = {}
        for delivery in deliveries:
            held = _held(delivery)
            if not (held.is_ending or held.is_lost):
                held.is_ending = True
                by_link.setdefault(held.link, []).append(held)
        replies: list[Reply[None]] = []
        thread = self._wire.thread
        for link, tasks in by_link.items():
            link.progress_at = time.monotonic()
            reply = None
            if at_once or link.backlog > self._wire.settings.settle_waiting_max:
                reply = Reply[None](thread.home())
                replies.append(reply)
            thread.post(link.settle, TaskSettlement(kind, tasks, reply, reason, description))
        for reply in replies:
            await reply.future

    # ------------------------------------------------------------ dead letters, and the end

    async def dead_letters(self, count_max: int) -> Sequence[DeadLetter]:
        found: list[DeadLetter] = []
        for group in (_COMMON, *self._members):
            if len(found) < count_max:
                queue = self._wire.names.activities(group)
                found += await self._desk.letters(queue, count_max - len(found), is_task=True)
        return found

    async def settle_dead_letter(self, letter: DeadLetter) -> None:
        await self._desk.settle(letter)

    async def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._wake_all()
        if self._wire.thread.is_closed or not (self._links or self._senders):
            return
        self._give_back_ready()
        links, senders = list(self._links.values()), list(self._senders.values())

        async def close() -> None:
            await asyncio.gather(*(link.close() for link in (*links, *senders)), return_exceptions=True)

        await self._wire.thread.call(close)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _held(delivery: ActivityDelivery) -> HeldTask:
    if not isinstance(delivery.token, HeldTask):
        raise AssertionError(f"not a delivery of a Service Bus hub: {delivery.token!r}")
    return delivery.token
