"""The link of a session: receives, settles and renews for one partition, in the links' thread.

One task (:meth:`SessionLink.run`) uses the link: it receives and settles in turn, so neither waits for the other's
reads, and renews the lock. A receive is never cancelled, and any error of the link ends the session: the SDK's
receiver is dead then, and the broker gives the partition to whoever asks next. While the partition's loop makes
progress, which ``renew`` says, the lock is renewed, however long the engine's loop is blocked meanwhile; after
``Settings.wedged_s`` without, the session is let go of (F37).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus.aio import ServiceBusReceiver
from azure.servicebus.exceptions import (
    MessageAlreadySettled,
    ServiceBusServerBusyError,
)

from durabletask_azure.adapters.servicebus.bodies import delivery
from durabletask_azure.adapters.servicebus.thread import Mailbox, Reply
from durabletask_azure.adapters.servicebus.translation import THROTTLED_S
from durabletask_azure.adapters.servicebus.wire import NO_WAIT_S, Wire
from durabletask_azure.core.partitioning import partition_name
from durabletask_azure.errors import PartitionLostError
from durabletask_azure.ports import Delivery

__all__ = ["SessionLink", "Settlement", "Token"]

_AT_ONCE_MAX: Final = 32
"""Messages settled at once, between two looks at what has arrived."""
_BUSY_S: Final = 1.0
"""For so long after the last message a link is read in short turns, so that what is to be completed waits less."""
_IDLE_WAIT_S: Final = 0.25
_LOCK_S_MIN: Final = 5.0
_log = logging.getLogger("durabletask_azure.adapters.servicebus")


class Token:
    """A delivery's message, and whether it is settled."""

    __slots__ = ("is_settled", "link", "message")

    def __init__(self, message: ServiceBusReceivedMessage, link: SessionLink) -> None:
        self.message = message
        self.link = link
        self.is_settled = False


class Settlement:
    """Messages to complete, or one to put aside with a reason; answered when all of it is done."""

    __slots__ = ("description", "open", "reason", "reply", "tokens")

    def __init__(
        self, tokens: Sequence[Token], reply: Reply[None], reason: str | None = None, description: str = ""
    ) -> None:
        self.tokens = tokens
        self.open = len(tokens)
        self.reply = reply
        self.reason = reason
        self.description = description


class SessionLink:
    """A session's link; all of it runs in the links' thread, but ``taken`` and ``progress_at`` are written outside."""

    def __init__(
        self,
        wire: Wire,
        partition: int,
        receiver: ServiceBusReceiver,
        home: Mailbox,
        *,
        arrived: Callable[[Delivery], object],
        lost: Callable[[PartitionLostError], object],
    ) -> None:
        self._wire = wire
        self._receiver = receiver
        self._home = home
        self._arrived = arrived
        self._lost = lost
        self._entity = wire.entity(wire.names.orchestrations)
        self.name = partition_name(partition)
        self._settlements: dict[Settlement, None] = {}
        self._to_settle: deque[tuple[Settlement, Token]] = deque()
        self._settle_from = 0.0
        self._out: dict[Token, None] = {}
        self._posted = 0
        self.taken = 0
        self.progress_at = time.monotonic()
        self.is_paused = False
        self._busy_until = 0.0
        self._woken = asyncio.Event()
        self._closing: Reply[None] | None = None
        self._untaken = 0
        self._is_over = False
        self._over = asyncio.Event()
        self._lock_s = self._real_lock_s()
        self._renew_at = time.monotonic() + self._lock_s / 3
        self._wedged_s = max(wire.settings.wedged_s, 2 * self._lock_s)
        self._ahead_max = max(wire.settings.receive_messages_max, 1)

    # ------------------------------------------------------------ what is asked of it

    def settle(self, settlement: Settlement) -> None:
        """Complete messages, or put one aside."""
        if self._is_over:
            settlement.reply.fail(self._gone("closed"))
            return
        if not settlement.open:
            settlement.reply.set(None)
            return
        self._settlements[settlement] = None
        self._to_settle.extend((settlement, token) for token in settlement.tokens)
        self._woken.set()

    def resume(self) -> None:
        """Look again whether there is room for more messages."""
        self._woken.set()

    def close(self, reply: Reply[None] | None, untaken: int) -> None:
        """Give the session back; ``untaken`` of the newest messages were never received by the engine."""
        if self._is_over or self._closing is not None:
            if reply is not None:
                reply.set(None)
            return
        self._untaken = untaken
        self._closing = reply or Reply[None](self._home)
        self._woken.set()

    async def ended(self) -> None:
        """Wait until the link is closed."""
        await self._over.wait()

    # ------------------------------------------------------------ the actor

    async def run(self) -> None:
        """Use the link until the session is closed or lost; close it."""
        error: BaseException | None = None
        try:
            while self._closing is None:
                await self._settle_some()
                await self._renew_if_due()
                if self._posted - self.taken >= self._ahead_max:
                    await self._pause()
                else:
                    await self._receive()
            await self._give_back()
        except asyncio.CancelledError as cancelled:
            error = cancelled
            raise
        except PartitionLostError as lost:
            error = lost
        except Exception as failure:
            error = failure
        finally:
            await self._end(error)

    async def _end(self, error: BaseException | None) -> None:
        self._is_over = True
        gone = error if isinstance(error, PartitionLostError) else self._gone(_why(error), error)
        if self._closing is None:
            self._wire.counters.sessions_lost += 1
            self._home.post(self._lost, gone)
        try:
            await self._wire.close_link(self._receiver)
        finally:
            for settlement in self._settlements:
                settlement.reply.fail(gone)
            self._settlements.clear()
            if self._closing is not None:
                self._closing.set(None)
            self._over.set()

    def _gone(self, why: str, cause: BaseException | None = None) -> PartitionLostError:
        error = PartitionLostError(f"the session of {self.name} ({self._entity}) is gone: {why}")
        error.__cause__ = cause
        return error

    async def _receive(self) -> None:
        """Wait shortly for a message, and take all that have arrived."""
        now = time.monotonic()
        wait_s = self._wire.settings.link_poll_s if now < self._busy_until else _IDLE_WAIT_S
        room = self._ahead_max - (self._posted - self.taken)
        if await self._take(wait_s) and room > 1:
            self._busy_until = time.monotonic() + _BUSY_S
            await self._take_buffered(room - 1)

    async def _take_buffered(self, count_max: int) -> None:
        for _ in range(count_max):
            if not await self._take(NO_WAIT_S):
                return

    async def _take(self, wait_s: float) -> bool:
        messages = await self._receiver.receive_messages(1, wait_s)
        for message in messages:
            token = Token(message, self)
            self._out[token] = None
            self._posted += 1
            self._wire.counters.messages_received += 1
            self._home.post(self._arrived, delivery(message, token))
        return bool(messages)

    async def _pause(self) -> None:
        """Wait until there is room, or something else to do."""
        self.is_paused = True
        self._woken.clear()
        if self._posted - self.taken >= self._ahead_max and not self._to_settle and self._closing is None:
            try:
                async with asyncio.timeout(max(self._renew_at - time.monotonic(), 0.01)):
                    await self._woken.wait()
            except TimeoutError:
                pass
        self.is_paused = False

    async def _settle_some(self) -> None:
        """Settle some messages at once: each waits for its own answer, and together they wait for one round trip.

        Nothing else uses the link meanwhile. Frames that arrive are taken off the socket one at a time and in order, by
        whichever of them waits, so messages that come in between keep their order.
        """
        if not self._to_settle or time.monotonic() < self._settle_from:
            return
        batch = [self._to_settle.popleft() for _ in range(min(_AT_ONCE_MAX, len(self._to_settle)))]
        async with asyncio.timeout(self._wire.settings.link_timeout_s):
            outcomes = await asyncio.gather(
                *(self._settle_one(*one) for one in batch), return_exceptions=True
            )
        again: list[tuple[Settlement, Token]] = []
        for one, outcome in zip(batch, outcomes, strict=True):
            if outcome is None:
                self._settled(one[0])
            elif isinstance(outcome, ServiceBusServerBusyError):
                again.append(one)
            else:
                raise outcome
        if again:
            self._to_settle.extendleft(reversed(again))
            self._settle_from = time.monotonic() + THROTTLED_S
        self._busy_until = time.monotonic() + _BUSY_S

    def _settled(self, settlement: Settlement) -> None:
        settlement.open -= 1
        if not settlement.open:
            del self._settlements[settlement]
            settlement.reply.set(None)

    async def _settle_one(self, settlement: Settlement, token: Token) -> None:
        if token.is_settled or token.link is not self:
            return
        counters = self._wire.counters
        try:
            if settlement.reason is None:
                await self._receiver.complete_message(token.message)
                counters.completed += 1
            else:
                await self._receiver.dead_letter_message(
                    token.message, settlement.reason, settlement.description
                )
                counters.dead_lettered += 1
        except MessageAlreadySettled:
            pass
        token.is_settled = True
        self._out.pop(token, None)

    async def _renew_if_due(self) -> None:
        now = time.monotonic()
        if now - self.progress_at > self._wedged_s:
            raise self._gone(f"its loop made no progress for {now - self.progress_at:.0f} s")
        if now < self._renew_at:
            return
        try:
            async with asyncio.timeout(min(self._wire.settings.link_timeout_s, self._lock_s / 2)):
                await self._receiver.session.renew_lock()
        except ServiceBusServerBusyError:
            self._renew_at = now + min(THROTTLED_S, self._lock_s / 6)
            return
        self._wire.counters.renewed += 1
        self._renew_at = time.monotonic() + self._lock_s / 3

    def _real_lock_s(self) -> float:
        """Return how long the lock really lasts, as far as this machine's clock can be trusted; rather less."""
        asked_s = self._wire.options.lock_s
        until = self._receiver.session.locked_until_utc
        if until is None:
            return asked_s
        return min(asked_s, max(_LOCK_S_MIN, (until - datetime.now(UTC)).total_seconds()))

    async def _give_back(self) -> None:
        """Settle what is still to be settled, and have the broker count what was received in vain (bounded in time)."""
        received = list(self._out)
        if self._untaken:
            del received[-self._untaken :]
        try:
            async with asyncio.timeout(self._wire.settings.link_close_s / 2):
                while self._to_settle:
                    await self._settle_some()
                left = [token for token in received if not token.is_settled]
                for begin in range(0, len(left), _AT_ONCE_MAX):
                    batch = left[begin : begin + _AT_ONCE_MAX]
                    await asyncio.gather(*(self._receiver.abandon_message(token.message) for token in batch))
                    self._wire.counters.abandoned += len(batch)
        except Exception as error:
            _log.debug("%s: not everything was given back one by one: %r", self.name, error)


def _why(error: BaseException | None) -> str:
    return "closed" if error is None else " ".join(str(error).split())[:300] or type(error).__name__
