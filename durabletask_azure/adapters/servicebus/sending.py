"""The sender of a queue: whatever gathers while the last send is under way forms the next batch, in order.

One task sends; a link is never used by two. A link that turns out to be dead is opened anew and the batch sent again,
once: Service Bus detaches links that were idle for ten minutes, which is no error. Anything else is the caller's to
repeat: he knows how long. Far timers are scheduled by a call of their own that returns their numbers in the queue, so
that they can be cancelled.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

from azure.servicebus.aio import ServiceBusSender
from azure.servicebus.exceptions import (
    MessageSizeExceededError,
    ServiceBusCommunicationError,
    ServiceBusConnectionError,
    ServiceBusError,
)
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_none

from durabletask_azure.adapters.servicebus.bodies import Parcel
from durabletask_azure.adapters.servicebus.thread import Reply
from durabletask_azure.adapters.servicebus.translation import translate
from durabletask_azure.adapters.servicebus.wire import Wire
from durabletask_azure.errors import HubUnavailableError

__all__ = ["SendLink"]

T = TypeVar("T")

_ROUND_PARCELS_MAX = 2_000
"""Messages taken into one round of sending; several batches of the size the broker takes."""
_BATCH_FILL = 0.94
_log = logging.getLogger("durabletask_azure.adapters.servicebus")


class _Job:
    __slots__ = ("left", "parcels", "reply")

    def __init__(self, parcels: Sequence[Parcel], reply: Reply[None]) -> None:
        self.parcels = parcels
        self.reply = reply
        self.left = len(parcels)


class SendLink:
    """The sender of one queue. :meth:`send` is for callers; everything else happens in the links' thread."""

    def __init__(self, wire: Wire, queue: str) -> None:
        self._wire = wire
        self._queue = queue
        self._entity = wire.entity(queue)
        self._jobs: deque[_Job] = deque()
        self._waiting = 0
        self._sender: ServiceBusSender | None = None
        self._task: asyncio.Task[None] | None = None
        self._scheduled: OrderedDict[str, int] = OrderedDict()
        self._cancels: list[int] = []
        self._is_closed = False

    # ------------------------------------------------------------ for callers

    async def send(self, parcels: Sequence[Parcel]) -> None:
        """Send messages in order, behind what was given before.

        Raises:
            ThrottledError, HubUnavailableError, QueueFullError, PayloadTooLargeError: any prefix may have been sent.
        """
        if not parcels:
            return
        thread = self._wire.thread
        while self._waiting >= self._wire.settings.send_waiting_max:
            reply = Reply[None](thread.home())
            thread.post(self._add, _Job((), reply))  # answered when what is before it has been sent
            await reply.future
        self._waiting += len(parcels)
        try:
            reply = Reply[None](thread.home())
            thread.post(self._add, _Job(parcels, reply))
            await reply.future
        finally:
            self._waiting -= len(parcels)

    def cancel(self, message_ids: Sequence[str]) -> None:
        """Cancel what was scheduled here, as far as its number is remembered; from any thread, without waiting."""
        self._wire.thread.post(self._cancel, tuple(message_ids))

    # ------------------------------------------------------------ in the links' thread

    async def close(self) -> None:
        """Close the link; what waits fails."""
        self._is_closed = True
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))
        while self._jobs:
            self._jobs.popleft().reply.fail(HubUnavailableError("the hub's queues are closed"))
        await self._shut()

    def _add(self, job: _Job) -> None:
        if self._is_closed:
            job.reply.fail(HubUnavailableError("the hub's queues are closed"))
            return
        self._jobs.append(job)
        self._wake()

    def _cancel(self, message_ids: Sequence[str]) -> None:
        found = (self._scheduled.pop(message_id, None) for message_id in message_ids)
        self._cancels += [number for number in found if number is not None]
        if self._cancels and not self._is_closed:
            self._wake()

    def _wake(self) -> None:
        if self._task is None:
            self._task = self._wire.thread.spawn(self._drain())

    async def _drain(self) -> None:
        try:
            while self._jobs or self._cancels:
                if self._jobs:
                    await self._round()
                if self._cancels:
                    await self._cancel_now()
        finally:
            self._task = None

    async def _round(self) -> None:
        """Send what has gathered; a failure is told to everybody whose messages were not all sent."""
        jobs: list[_Job] = []
        count = 0
        while self._jobs and (not jobs or count + len(self._jobs[0].parcels) <= _ROUND_PARCELS_MAX):
            jobs.append(self._jobs.popleft())
            count += len(jobs[-1].parcels)
        try:
            await self._send_all(jobs)
        except asyncio.CancelledError:
            self._fail(jobs, HubUnavailableError("the hub's queues are closed"))
            raise
        except Exception as error:
            self._fail(jobs, translate(error, "sending", self._entity), error)
        for job in jobs:
            if not job.left:
                job.reply.set(None)

    def _fail(self, jobs: Sequence[_Job], error: Exception, cause: BaseException | None = None) -> None:
        for job in jobs:
            if job.left:
                error.__cause__ = cause
                job.reply.fail(error)

    async def _send_all(self, jobs: Sequence[_Job]) -> None:
        far = datetime.now(UTC) + timedelta(seconds=self._wire.settings.timer_cancel_s_min)
        near: list[tuple[_Job, Parcel]] = []
        later: dict[datetime, list[tuple[_Job, Parcel]]] = {}
        for job in jobs:
            for parcel in job.parcels:
                if parcel.deliver_at is None or parcel.deliver_at < far:
                    near.append((job, parcel))
                else:
                    later.setdefault(parcel.deliver_at, []).append((job, parcel))
        done = 0
        while done < len(near):
            sent = await self._trying(partial(self._send_batch, [parcel for _, parcel in near[done:]]))
            for job, _ in near[done : done + sent]:
                job.left -= 1
            done += sent
        for at, group in later.items():
            await self._trying(partial(self._schedule, at, [parcel for _, parcel in group]))
            for job, _ in group:
                job.left -= 1

    async def _trying(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call, and once more with a new link if the link turns out to be dead."""
        async for attempt in AsyncRetrying(
            stop=stop_after_attempt(2),
            retry=retry_if_exception(_is_dead_link),
            wait=wait_none(),
            reraise=True,
        ):
            with attempt:
                is_fresh = self._sender is None
                try:
                    async with asyncio.timeout(self._wire.settings.link_timeout_s):
                        return await call()
                except BaseException as error:
                    if not isinstance(error, (MessageSizeExceededError, asyncio.CancelledError)):
                        await self._shut()
                    if is_fresh and _is_dead_link(error):
                        raise translate(error, "sending", self._entity) from error
                    raise
        raise AssertionError("a retry that ends without a result")

    async def _send_batch(self, parcels: Sequence[Parcel]) -> int:
        """Send as many of the first messages as one batch takes; return how many.

        The SDK counts a batch a little smaller than it becomes on the wire, so batches are not filled to the brim.
        """
        sender = await self._opened()
        batch = await sender.create_message_batch()
        room = int(batch.max_size_in_bytes * _BATCH_FILL)
        count = 0
        for parcel in parcels:
            if count and batch.size_in_bytes + parcel.size > room:
                break
            try:
                batch.add_message(parcel.message())
            except (ValueError, MessageSizeExceededError):
                break
            count += 1
        try:
            # What is too large for a batch may not be for a message of its own.
            await sender.send_messages(batch if count > 1 else parcels[0].message())
        except MessageSizeExceededError:
            if count > 1:
                return await self._send_batch(parcels[: count // 2])
            raise
        count = max(count, 1)
        counters = self._wire.counters
        counters.sends += 1
        counters.messages_sent += count
        counters.events_sent += sum(parcel.events for parcel in parcels[:count])
        return count

    async def _schedule(self, at: datetime, parcels: Sequence[Parcel]) -> None:
        sender = await self._opened()
        numbers = await sender.schedule_messages([parcel.message(with_time=False) for parcel in parcels], at)
        counters = self._wire.counters
        counters.sends += 1
        counters.messages_sent += len(parcels)
        counters.events_sent += len(parcels)
        counters.scheduled += len(parcels)
        for parcel, number in zip(parcels, numbers, strict=True):
            self._scheduled[parcel.id] = number
            self._scheduled.move_to_end(parcel.id)
        while len(self._scheduled) > self._wire.settings.scheduled_kept_max:
            self._scheduled.popitem(last=False)

    async def _cancel_now(self) -> None:
        """Cancel scheduled messages, one by one, since one that came already would spoil the call for the others."""
        numbers, self._cancels = self._cancels, []
        for number in numbers:
            try:
                async with asyncio.timeout(self._wire.settings.link_timeout_s):
                    await (await self._opened()).cancel_scheduled_messages(number)
                self._wire.counters.cancelled += 1
            except (ServiceBusError, TimeoutError) as error:
                # Only an economy: the timer comes, and is ignored.
                _log.info("a scheduled message could not be cancelled: %r", error)

    async def _opened(self) -> ServiceBusSender:
        if self._sender is None:
            self._sender = await self._wire.open_sender(self._queue)
        return self._sender

    async def _shut(self) -> None:
        sender, self._sender = self._sender, None
        if sender is not None:
            await self._wire.close_link(sender)


def _is_dead_link(error: BaseException) -> bool:
    """Whether an error means that the link or connection was gone, which a new one cures."""
    return isinstance(
        error, (ServiceBusConnectionError, ServiceBusCommunicationError, ValueError)
    ) and not isinstance(error, MessageSizeExceededError)
