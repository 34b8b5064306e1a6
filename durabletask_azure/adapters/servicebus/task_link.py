"""The receiving link of one activity queue: receives on demand, renews what is held, settles.

One task uses the link. It receives only as much as is asked for. What the SDK has prefetched beyond that is locked
without being renewed, so when nothing has been asked for during a third of a lock, and before a task is given back for
another worker, the link is closed, which returns what it had prefetched, uncounted; a new one asks for nothing until
there is demand. Tasks outlive the link they came by: their locks are the broker's, and any link of the queue settles
and renews them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from azure.servicebus.aio import ServiceBusReceiver
from azure.servicebus.exceptions import (
    MessageAlreadySettled,
    MessageLockLostError,
    MessageNotFoundError,
    ServiceBusServerBusyError,
)
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from durabletask_azure.adapters.servicebus.bodies import task_delivery
from durabletask_azure.adapters.servicebus.held_task import HeldTask, Settling, TaskSettlement
from durabletask_azure.adapters.servicebus.lock_time import lock_left_s, unclocked
from durabletask_azure.adapters.servicebus.thread import Mailbox, Reply
from durabletask_azure.adapters.servicebus.translation import THROTTLED_S, translate
from durabletask_azure.adapters.servicebus.wire import NO_WAIT_S, Wire
from durabletask_azure.errors import HubUnavailableError, TaskHubError
from durabletask_azure.ports import ActivityDelivery

__all__ = ["TaskLink"]

_AT_ONCE_MAX: Final = 32
"""Tasks settled at once, between two looks at what has arrived."""
_RENEWED_MAX: Final = 16
"""Locks renewed between two looks at what has arrived."""
_BUSY_S: Final = 1.0
_IDLE_WAIT_S: Final = 0.25
_REOPEN_S_MIN: Final = 0.2
_log = logging.getLogger("durabletask_azure.adapters.servicebus")


class TaskLink:
    """One activity queue's link. Everything runs in the links' thread; ``progress_at`` is written outside."""

    def __init__(
        self,
        wire: Wire,
        queue: str,
        home: Mailbox,
        *,
        arrived: Callable[[ActivityDelivery], object],
        failed: Callable[[TaskHubError], object],
    ) -> None:
        self._wire = wire
        self._queue = queue
        self._home = home
        self._arrived = arrived
        self._failed = failed
        self._entity = wire.entity(queue)
        self._receiver: ServiceBusReceiver | None = None
        self._asks = False
        """Whether the open link has asked the broker for tasks."""
        self._fetched_max = 0
        """How many tasks the open link fetches ahead."""
        self._heard_at = 0.0
        """When the open link last brought something."""
        self._is_held_back = False
        self._to_hold_back: list[Reply[None]] = []
        self._wanted = 0
        self._wanted_at = time.monotonic()
        self._to_settle: deque[tuple[TaskSettlement, HeldTask]] = deque()
        self._settle_from = 0.0
        self._held: dict[HeldTask, None] = {}
        self._busy_until = 0.0
        self._quiet_until = 0.0
        self._woken = asyncio.Event()
        self._is_closing = False
        self._task: asyncio.Task[None] | None = None
        self._lock_s = wire.options.lock_s
        self.progress_at = time.monotonic()
        self.backlog = 0
        """Tasks waiting to be settled."""

    # ------------------------------------------------------------ what is asked of it

    def demand(self, count: int) -> None:
        """Take up to so many tasks from now on."""
        self._wanted = count
        if count:
            self._wanted_at = time.monotonic()
        if count > 1:
            self._is_held_back = False
        self._wake()

    def hold_back(self, reply: Reply[None]) -> None:
        """Give back what was fetched ahead, and fetch nothing ahead until more than one task is asked for."""
        self._is_held_back = True
        self._to_hold_back.append(reply)
        if self._is_closing:
            self._drop_all()
        else:
            self._wake()

    def settle(self, settlement: TaskSettlement) -> None:
        """Settle tasks."""
        self.backlog += settlement.open
        self._to_settle.extend((settlement, held) for held in settlement.tasks)
        if self._is_closing:
            self._drop_all()
        else:
            self._wake()

    async def close(self) -> None:
        """Settle what is still to be settled, as far as that is possible in short time, and close the link."""
        self._is_closing = True
        self._woken.set()
        if self._task is not None:
            done, _ = await asyncio.wait((self._task,), timeout=self._wire.settings.link_close_s)
            if not done:
                self._task.cancel()
                await asyncio.wait((self._task,))
        self._drop_all()
        await self._shut()

    def _drop_all(self) -> None:
        for settlement in {settlement: None for settlement, _ in self._to_settle}:
            if settlement.reply is not None:
                settlement.reply.fail(HubUnavailableError("the hub's queues are closed"))
        self._to_settle.clear()
        self.backlog = 0
        while self._to_hold_back:
            self._to_hold_back.pop().fail(HubUnavailableError("the hub's queues are closed"))

    def _wake(self) -> None:
        self._woken.set()
        if self._task is None and not self._is_closing:
            self._task = self._wire.thread.spawn(self._run())

    # ------------------------------------------------------------ the actor

    async def _run(self) -> None:
        while not self._is_closing or (self._to_settle and time.monotonic() >= self._settle_from):
            try:
                await self._turn()
            except asyncio.CancelledError:
                raise
            except ServiceBusServerBusyError as error:
                self._tell(error, "receiving activity tasks")
                await self._rest(THROTTLED_S)
            except Exception as error:
                self._tell(error, "receiving activity tasks")
                await self._shut()
                if self._is_closing:
                    return

    async def _turn(self) -> None:
        """Settle some, renew some, then receive or wait for something to do."""
        if self._to_hold_back:
            if self._fetched_max:
                await self._shut()  # which gives it back, uncounted
            while self._to_hold_back:
                self._to_hold_back.pop().set(None)
        await self._settle_some()
        await self._renew_some()
        if self._is_closing:
            return
        if self._wanted > 0:
            await self._receive()
        elif not self._to_settle or time.monotonic() < self._settle_from:
            await self._idle()

    async def _receive(self) -> None:
        now = time.monotonic()
        if now < self._quiet_until:  # the last attempt failed just now
            await self._rest(self._quiet_until - now)
            return
        if not (self._fetched_max or self._is_held_back):
            await self._shut()  # to open one that fetches ahead
        receiver = self._receiver
        if receiver is None:
            try:
                receiver = await self._open_once(min(self._wire.options.prefetch_max, self._wanted))
            except Exception as error:
                self._quiet_until = time.monotonic() + _REOPEN_S_MIN
                self._wanted = 0
                self._tell(error, "opening the link to activity tasks")
                return
        self._asks = True
        wait_s = self._wire.settings.link_poll_s if now < self._busy_until else _IDLE_WAIT_S
        if await self._take(receiver, wait_s):
            self._busy_until = time.monotonic() + _BUSY_S
            while self._wanted > 0 and await self._take(receiver, NO_WAIT_S):
                pass
        elif time.monotonic() - self._heard_at > self._lock_s:
            await self._probe(receiver)

    async def _probe(self, receiver: ServiceBusReceiver) -> None:
        """Ask for an answer where nothing came for the time of a lock.

        A connection that is half-open brings nothing and says nothing, while the broker hands tasks out to it. (Links
        of sessions find it out by renewing their locks.)
        """
        async with asyncio.timeout(self._wire.settings.link_timeout_s):
            await receiver.peek_messages(1)
        self._heard_at = time.monotonic()

    async def _take(self, receiver: ServiceBusReceiver, wait_s: float) -> bool:
        if wait_s > NO_WAIT_S:
            async with asyncio.timeout(wait_s + self._wire.settings.link_timeout_s):  # as in a session's link
                messages = await receiver.receive_messages(1, wait_s)
        else:
            messages = await receiver.receive_messages(1, wait_s)
        if messages:
            self._heard_at = time.monotonic()
        for message in messages:
            left_s = lock_left_s(message.locked_until_utc, self._lock_s, least_s=0.0)
            unclocked(message)
            held = HeldTask(message, receiver, self, left_s)
            self._held[held] = None
            self._wanted = max(0, self._wanted - 1)
            self._wire.counters.messages_received += 1
            self._home.post(self._arrived, task_delivery(message, held))
        return bool(messages)

    async def _idle(self) -> None:
        """Wait for something to do; a link that nobody has asked for a while is closed, what it prefetched returned."""
        now = time.monotonic()
        pause_s = self._lock_s
        if self._to_settle:
            pause_s = max(0.0, self._settle_from - now)
        if self._held:
            pause_s = min(pause_s, max(0.0, min(held.renew_at for held in self._held) - now))
        if self._asks:
            unused_s = self._wanted_at + self._lock_s / 3 - now
            if unused_s <= 0:
                await self._shut()
                return
            pause_s = min(pause_s, unused_s)
        self._woken.clear()
        if (
            self._wanted > 0
            or self._is_closing
            or self._to_hold_back
            or (self._to_settle and now >= self._settle_from)
        ):
            return
        try:
            async with asyncio.timeout(pause_s):
                await self._woken.wait()
        except TimeoutError:
            pass

    async def _rest(self, delay_s: float) -> None:
        """Wait, but not for what is closing."""
        self._woken.clear()
        if not self._is_closing:
            try:
                async with asyncio.timeout(delay_s):
                    while not self._is_closing:
                        await self._woken.wait()
                        self._woken.clear()
            except TimeoutError:
                pass

    def _tell(self, error: BaseException, what: str) -> None:
        translation = translate(error, what, self._entity)
        translation.__cause__ = error if translation is not error else error.__cause__
        self._home.post(self._failed, translation)

    # ------------------------------------------------------------ settling and renewing

    async def _settle_some(self) -> None:
        """Settle some tasks at once, as :meth:`SessionLink._settle_some` does; one by one if they came by another link.

        What fails for another reason than its own lock is tried again over a new link, as long as the lock lasts.
        """
        if not self._to_settle or time.monotonic() < self._settle_from:
            return
        if self._to_settle[0][0].kind is Settling.ABANDON and self._asks and self._wanted == 0:
            await self._shut()  # or the task would come back here
        receiver = await self._opened()
        batch = [self._to_settle.popleft()]
        if batch[0][1].receiver is receiver:
            while self._to_settle and len(batch) < _AT_ONCE_MAX and self._goes_with(batch[0], receiver):
                batch.append(self._to_settle.popleft())
        try:
            async with asyncio.timeout(self._wire.settings.link_timeout_s):
                outcomes = await asyncio.gather(
                    *(self._settle_one(receiver, *one) for one in batch), return_exceptions=True
                )
        except TimeoutError as error:
            outcomes = [error] * len(batch)
        except BaseException:
            self._to_settle.extendleft(reversed(batch))
            raise
        await self._judge(batch, outcomes)
        self._busy_until = time.monotonic() + _BUSY_S

    def _goes_with(self, first: tuple[TaskSettlement, HeldTask], receiver: ServiceBusReceiver) -> bool:
        settlement, held = self._to_settle[0]
        return held.receiver is receiver and settlement.kind is first[0].kind

    async def _judge(
        self, batch: Sequence[tuple[TaskSettlement, HeldTask]], outcomes: Sequence[BaseException | None]
    ) -> None:
        """Note what is settled, and queue again what is not and still can be."""
        again: list[tuple[TaskSettlement, HeldTask]] = []
        failure: BaseException | None = None
        for one, outcome in zip(batch, outcomes, strict=True):
            settlement, held = one
            if outcome is not None and not held.is_lost:
                if not isinstance(outcome, ServiceBusServerBusyError):
                    failure = outcome
                if time.monotonic() < held.locked_until:
                    again.append(one)
                    continue
                held.is_lost = True
            if held.is_lost:
                _log.info("the lock of an activity task was lost before it was settled; it may run again")
            self._held.pop(held, None)
            self.backlog -= 1
            settlement.open -= 1
            if not settlement.open and settlement.reply is not None:
                settlement.reply.set(None)
        if again:
            self._to_settle.extendleft(reversed(again))
            if failure is None:
                self._settle_from = time.monotonic() + THROTTLED_S
        if failure is not None:
            raise failure

    async def _settle_one(
        self, receiver: ServiceBusReceiver, settlement: TaskSettlement, held: HeldTask
    ) -> None:
        if held.is_lost:
            return
        counters = self._wire.counters
        try:
            match settlement.kind:
                case Settling.COMPLETE:
                    await receiver.complete_message(held.message)
                    counters.completed += 1
                case Settling.ABANDON:
                    await receiver.abandon_message(held.message)
                    counters.abandoned += 1
                case Settling.DEAD_LETTER:
                    await receiver.dead_letter_message(
                        held.message, settlement.reason, settlement.description
                    )
                    counters.dead_lettered += 1
        except MessageAlreadySettled:
            pass
        except (MessageLockLostError, MessageNotFoundError):
            held.is_lost = True

    async def _renew_some(self) -> None:
        """Renew the locks whose turn it is, a few at a time; none while the engine's loop does not move."""
        now = time.monotonic()
        if not self._held or self._is_closing:
            return
        if now - self.progress_at > max(self._wire.settings.wedged_s, 2 * self._lock_s):
            for held in self._held:
                held.is_lost = True
            self._held.clear()
            _log.error("the activity loop made no progress for long: its tasks are given up")
            return
        due = [held for held in self._held if held.renew_at <= now][:_RENEWED_MAX]
        for held in due:
            await self._renew_one(held)

    async def _renew_one(self, held: HeldTask) -> None:
        if time.monotonic() >= held.locked_until:
            self._lose(held)
            return
        receiver = await self._opened()
        try:
            async with asyncio.timeout(min(self._wire.settings.link_timeout_s, self._lock_s / 2)):
                until = await receiver.renew_message_lock(held.message)
            unclocked(held.message)
            held.extend(lock_left_s(until, self._lock_s))
            self._wire.counters.renewed += 1
        except (MessageLockLostError, MessageAlreadySettled, MessageNotFoundError):
            self._lose(held)
        except ServiceBusServerBusyError:
            held.renew_at = time.monotonic() + THROTTLED_S

    def _lose(self, held: HeldTask) -> None:
        held.is_lost = True
        self._held.pop(held, None)

    # ------------------------------------------------------------ the link

    async def _opened(self) -> ServiceBusReceiver:
        """Return the link, opened if need be, however long that takes, with growing pauses."""
        if self._receiver is not None:
            return self._receiver
        attempts = AsyncRetrying(
            wait=wait_random_exponential(multiplier=_REOPEN_S_MIN, max=self._wire.settings.send_retry_s_max),
            retry=retry_if_exception_type(Exception),
            stop=lambda _: self._is_closing,
            sleep=self._rest,
            before_sleep=self._tell_attempt,
            reraise=True,
        )
        async for attempt in attempts:
            with attempt:
                return await self._open_once(self._wire.options.prefetch_max)
        raise AssertionError("opening ended without a result")

    async def _open_once(self, prefetch: int) -> ServiceBusReceiver:
        fetched_max = 0 if self._is_held_back else max(1, prefetch)
        self._receiver = await self._wire.open_receiver(self._queue, fetched_max)
        self._asks = False
        self._fetched_max = fetched_max
        self._heard_at = time.monotonic()
        return self._receiver

    def _tell_attempt(self, state: RetryCallState) -> None:
        error = None if state.outcome is None else state.outcome.exception()
        if error is not None:
            self._tell(error, "opening the link to activity tasks")

    async def _shut(self) -> None:
        receiver, self._receiver = self._receiver, None
        self._asks = False
        self._fetched_max = 0
        if receiver is not None:
            await self._wire.close_link(receiver)
