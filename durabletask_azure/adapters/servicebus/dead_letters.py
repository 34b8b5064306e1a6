"""The dead letters of all queues, read over one link at a time that is closed when it is not used.

A letter stays locked for its reader while its link is open; one whose lock has run out comes again. Settling goes over
any link of the same queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus.aio import ServiceBusReceiver
from azure.servicebus.exceptions import MessageAlreadySettled, MessageLockLostError, MessageNotFoundError

from durabletask_azure.adapters.servicebus.bodies import dead_letter
from durabletask_azure.adapters.servicebus.translation import translated
from durabletask_azure.adapters.servicebus.wire import Wire
from durabletask_azure.ports import DeadLetter

__all__ = ["DeadLetterDesk"]

T = TypeVar("T")

_LOOK_S = 0.5
"""How long a look at the dead letters waits for the first."""


class _Token:
    __slots__ = ("is_settled", "message", "queue")

    def __init__(self, message: ServiceBusReceivedMessage, queue: str) -> None:
        self.message = message
        self.queue = queue
        self.is_settled = False


class DeadLetterDesk:
    """Reads and settles dead letters."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._turn: asyncio.Lock | None = None
        self._queue = ""
        self._receiver: ServiceBusReceiver | None = None
        self._idle: asyncio.TimerHandle | None = None

    async def letters(self, queue: str, count_max: int, *, is_task: bool) -> Sequence[DeadLetter]:
        """Return up to ``count_max`` dead letters of a queue, locked for this reader; empty when there are none."""

        async def look() -> Sequence[DeadLetter]:
            async with self._its_turn():
                with translated("reading dead letters", self._wire.entity(queue)):
                    receiver = await self._opened(queue)
                    messages = await self._guarded(receiver.receive_messages(count_max, _LOOK_S))
                return [dead_letter(one, _Token(one, queue), is_task=is_task) for one in messages]

        return await self._wire.thread.call(look)

    async def settle(self, letter: DeadLetter) -> None:
        """Remove a dead letter; one that is gone, or locked by another reader by now, is no error."""
        token = letter.token
        if not isinstance(token, _Token):
            raise AssertionError(f"not a dead letter of a Service Bus hub: {token!r}")

        async def settle() -> None:
            async with self._its_turn():
                if token.is_settled:
                    return
                with translated("removing a dead letter", self._wire.entity(token.queue)):
                    receiver = await self._opened(token.queue)
                    try:
                        await self._guarded(receiver.complete_message(token.message))
                        self._wire.counters.completed += 1
                    except (MessageAlreadySettled, MessageLockLostError, MessageNotFoundError):
                        pass
                token.is_settled = True

        await self._wire.thread.call(settle)

    # ------------------------------------------------------------ in the links' thread

    async def close(self) -> None:
        """Close the link."""
        async with self._its_turn():
            await self._shut()

    def _its_turn(self) -> asyncio.Lock:
        if self._turn is None:
            self._turn = asyncio.Lock()
        return self._turn

    async def _guarded(self, call: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._wire.settings.link_timeout_s):
                return await call
        except (MessageAlreadySettled, MessageLockLostError, MessageNotFoundError):
            raise
        except BaseException:
            await self._shut()
            raise

    async def _opened(self, queue: str) -> ServiceBusReceiver:
        if self._receiver is not None and self._queue != queue:
            await self._shut()
        if self._receiver is None:
            self._receiver = await self._wire.open_dead_letters(queue)
            self._queue = queue
        if self._idle is not None:
            self._idle.cancel()
        loop = asyncio.get_running_loop()
        self._idle = loop.call_later(
            self._wire.settings.dead_letter_link_s, lambda: self._wire.thread.spawn(self.close())
        )
        return self._receiver

    async def _shut(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            await self._wire.close_link(receiver)
