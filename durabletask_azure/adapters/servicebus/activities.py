"""Activity tasks over Service Bus: one queue, and one more for each activity group.

A worker that takes all activities receives from every queue; one that takes some, from the queues of whole groups. A
result is sent before its task is completed; completing is left to the link, so that sending does not wait for it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence

from durabletask_azure.adapters.servicebus.bodies import packed, task_parcels
from durabletask_azure.adapters.servicebus.dead_letters import DeadLetterDesk
from durabletask_azure.adapters.servicebus.held_task import HeldTask, Settling, TaskSettlement
from durabletask_azure.adapters.servicebus.sending import SendLink
from durabletask_azure.adapters.servicebus.task_link import TaskLink
from durabletask_azure.adapters.servicebus.thread import Reply
from durabletask_azure.adapters.servicebus.wire import Wire
from durabletask_azure.core.messages import ToActivities, ToPartition
from durabletask_azure.errors import ConfigurationError, TaskHubError
from durabletask_azure.ports import ActivityDelivery, DeadLetter

__all__ = ["ServiceBusActivityQueue"]

_COMMON = ""
_UNCLAIMED_S = 1.0
"""After so long, a task that has come and that nobody asks for is given back."""
_log = logging.getLogger("durabletask_azure.adapters.servicebus")


class _Receiver:
    """One receive under way: where it looks, how much it takes, and what wakes it."""

    __slots__ = ("count_max", "counters", "failure", "waiter")

    def __init__(self, counters: Sequence[_Counter], count_max: int) -> None:
        self.counters = counters
        self.count_max = count_max
        self.waiter: asyncio.Future[None] | None = None
        self.failure: TaskHubError | None = None

    def take(self) -> list[ActivityDelivery]:
        """Take what has come, up to the count asked for."""
        found: list[ActivityDelivery] = []
        for counter in self.counters:
            while counter.ready and len(found) < self.count_max:
                found.append(counter.ready.popleft())
        return found

    def wake(self) -> None:
        """Have it look again."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class _Counter:
    """Where the tasks of one queue are handed out: those that have come, and who asks for them."""

    __slots__ = ("alarm", "link", "ready", "receivers")

    link: TaskLink

    def __init__(self) -> None:
        self.ready: deque[ActivityDelivery] = deque()
        self.receivers: list[_Receiver] = []
        self.alarm: asyncio.TimerHandle | None = None

    def wanted(self) -> int:
        """Return how many tasks are asked for beyond those that have come."""
        return max(0, sum(receiver.count_max for receiver in self.receivers) - len(self.ready))


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
        self._counters: dict[str, _Counter] = {}
        self._interrupts = 0
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
        if self._is_closed:
            return []
        receiver = _Receiver([self._counter(group) for group in self._groups_for(names)], count_max)
        self._enter(receiver)
        try:
            while not self._is_closed:
                found = receiver.take()
                if found:
                    return found
                if receiver.failure is not None:
                    raise receiver.failure
                left_s = deadline - loop.time()
                if left_s <= 0 or interrupts != self._interrupts:
                    break
                receiver.waiter = loop.create_future()
                alarm = loop.call_later(left_s, receiver.wake)
                try:
                    await receiver.waiter
                finally:
                    alarm.cancel()
            return []
        finally:
            self._leave(receiver)

    def _enter(self, receiver: _Receiver) -> None:
        for counter in receiver.counters:
            counter.receivers.append(receiver)
            self._demand(counter)

    def _leave(self, receiver: _Receiver) -> None:
        for counter in receiver.counters:
            counter.receivers.remove(receiver)
            self._demand(counter)
            self._watch(counter)

    def _demand(self, counter: _Counter) -> None:
        """Tell the link how many tasks are asked for."""
        if not (self._is_closed or self._wire.thread.is_closed):
            counter.link.progress_at = time.monotonic()
            self._wire.thread.post(counter.link.demand, counter.wanted())

    def _counter(self, group: str) -> _Counter:
        counter = self._counters.get(group)
        if counter is None:
            home = self._wire.thread.home()
            queue = self._wire.names.activities(group)
            counter = _Counter()
            counter.link = TaskLink(
                self._wire,
                queue,
                home,
                arrived=lambda delivery: self._arrived(counter, delivery),
                failed=lambda error: self._failed(counter, error),
            )
            self._counters[group] = counter
        return counter

    def _arrived(self, counter: _Counter, delivery: ActivityDelivery) -> None:
        counter.ready.append(delivery)
        for receiver in counter.receivers:
            receiver.wake()
        self._watch(counter)

    def _failed(self, counter: _Counter, error: TaskHubError) -> None:
        for receiver in counter.receivers:
            receiver.failure = error
            receiver.wake()

    def _watch(self, counter: _Counter) -> None:
        """See to it that what has come and nobody asks for any more is given back in a while."""
        if counter.ready and not counter.receivers and counter.alarm is None:
            loop = asyncio.get_running_loop()
            counter.alarm = loop.call_later(_UNCLAIMED_S, self._give_back_unclaimed, counter)

    def _give_back_unclaimed(self, counter: _Counter) -> None:
        counter.alarm = None
        if not counter.receivers:
            self._give_back_ready(counter)

    def _give_back_ready(self, counter: _Counter) -> None:
        ready = [_held(delivery) for delivery in counter.ready]
        counter.ready.clear()
        for held in ready:
            held.is_ending = True
        if ready and not self._wire.thread.is_closed:
            self._wire.thread.post(counter.link.settle, TaskSettlement(Settling.ABANDON, ready))

    def _wake_all(self) -> None:
        for counter in self._counters.values():
            for receiver in counter.receivers:
                receiver.wake()

    def interrupt(self) -> None:
        """End the receives that wait now; from the loop that made them."""
        self._interrupts += 1
        self._wake_all()

    async def hold_back(self) -> Sequence[ActivityDelivery]:
        """Give back what the links have fetched ahead; return what had come from them already."""
        replies: list[Reply[None]] = []
        for counter in self._counters.values():
            replies.append(Reply[None](self._wire.thread.home()))
            self._wire.thread.post(counter.link.hold_back, replies[-1])
        try:
            async with asyncio.timeout(self._wire.settings.link_timeout_s):
                for reply in replies:
                    await reply.future
        except TimeoutError:
            _log.info(
                "a link to activity tasks did not answer in time; what it has fetched ahead stays locked"
            )
        found: list[ActivityDelivery] = []
        for counter in self._counters.values():
            found += counter.ready
            counter.ready.clear()
        return found

    # ------------------------------------------------------------ what becomes of them

    async def renew(self, deliveries: Sequence[ActivityDelivery]) -> Sequence[ActivityDelivery]:
        # The links renew; being asked for it means that the activity loop is alive.
        now = time.monotonic()
        for counter in self._counters.values():
            counter.link.progress_at = now
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
        if self._wire.thread.is_closed or not (self._counters or self._senders):
            return
        for counter in self._counters.values():
            self._give_back_ready(counter)
        links = [*(counter.link for counter in self._counters.values()), *self._senders.values()]

        async def close() -> None:
            await asyncio.gather(*(link.close() for link in links), return_exceptions=True)

        await self._wire.thread.call(close)


def _held(delivery: ActivityDelivery) -> HeldTask:
    if not isinstance(delivery.token, HeldTask):
        raise AssertionError(f"not a delivery of a Service Bus hub: {delivery.token!r}")
    return delivery.token
