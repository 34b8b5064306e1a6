"""Links as the bare SDK for Service Bus has them: three senders, a receiver for each session and one for tasks."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any, TypeVar

from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver, ServiceBusSender

from benchmarks.wire.plan import Plan
from benchmarks.wire.servers import FLOOR_SESSIONS, FLOOR_TASKS, Servers, clear_traffic, read_traffic

__all__ = ["BareLinks", "LinkLoop", "link_loop", "open_links"]

T = TypeVar("T")
_WAIT_S = 10.0
_TURN_S = 0.1
_SOCKET_S = 0.02


class BareLinks:
    """Open links; each method does one kind of operation. To be used on the loop they were opened on."""

    def __init__(
        self,
        plan: Plan,
        senders: dict[str, ServiceBusSender],
        tasks: ServiceBusReceiver,
        sessions: list[ServiceBusReceiver],
    ) -> None:
        self._plan = plan
        self._senders = senders
        self._tasks = tasks
        self._sessions = sessions
        self._count = 0
        self._session_bytes = plan.to_partition_bytes
        self._task_bytes = plan.task_bytes

    async def send(self, sender: str, count: int, session: str | None = None) -> None:
        """Send messages in one batch."""
        body = b"x" * (self._task_bytes if session is None else self._session_bytes)
        self._count += 1
        await self._senders[sender].send_messages(
            [
                ServiceBusMessage(body, session_id=session, message_id=f"{sender}-{self._count}-{index}")
                for index in range(count)
            ]
        )

    async def receive_tasks(self, count: int, done: Callable[[], None] = lambda: None) -> None:
        """Receive and complete so many tasks."""
        left = count
        while left:
            for message in await self._tasks.receive_messages(max_message_count=1, max_wait_time=_WAIT_S):
                await self._tasks.complete_message(message)
                left -= 1
                done()

    async def receive_in_sessions(self, count: int) -> None:
        """Receive and complete so many messages in all sessions together."""
        left = count

        async def session(receiver: ServiceBusReceiver) -> None:
            nonlocal left
            while left > 0:
                for message in await receiver.receive_messages(max_message_count=1, max_wait_time=_TURN_S):
                    await receiver.complete_message(message)
                    left -= 1

        await asyncio.gather(*(session(receiver) for receiver in self._sessions))

    async def calibrate(self, admin_url: str) -> None:
        """Find out what SDK and protocol add, so that messages on the wire are as large as planned."""
        clear_traffic(admin_url)
        await self.send("client", 10, "p000")
        await self.send("tasks", 10)
        sent = read_traffic(admin_url)
        self._session_bytes = max(1, round(2 * self._session_bytes - sent[FLOOR_SESSIONS]["bytes"] / 10))
        self._task_bytes = max(1, round(2 * self._task_bytes - sent[FLOOR_TASKS]["bytes"] / 10))
        await self.receive_in_sessions(10)
        await self.receive_tasks(10)


@contextlib.asynccontextmanager
async def open_links(plan: Plan, servers: Servers) -> AsyncGenerator[BareLinks]:
    """Open all links, and close them in the end."""
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            # One context for all links: each would read the system's certificates otherwise, TLS or not.
            ServiceBusClient.from_connection_string(
                servers.service_bus, ssl_context=ssl.create_default_context()
            )
        )
        senders = {
            "client": client.get_queue_sender(FLOOR_SESSIONS),
            "results": client.get_queue_sender(FLOOR_SESSIONS),
            "tasks": client.get_queue_sender(FLOOR_TASKS),
        }
        options: dict[str, Any] = {"prefetch_count": plan.prefetch, "socket_timeout": _SOCKET_S}
        tasks = client.get_queue_receiver(FLOOR_TASKS, **options)
        sessions = [
            client.get_queue_receiver(FLOOR_SESSIONS, session_id=f"p{partition:03}", **options)
            for partition in range(plan.partitions)
        ]
        for link in (*senders.values(), tasks, *sessions):
            await stack.enter_async_context(link)
        yield BareLinks(plan, senders, tasks, sessions)


class LinkLoop:
    """The loop that links live in, which may be the caller's own."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and return its result."""
        if self._loop is None:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def soon(self, call: Callable[..., None], *arguments: Any) -> None:
        """Call something there."""
        if self._loop is None:
            call(*arguments)
        else:
            self._loop.call_soon_threadsafe(call, *arguments)


@contextlib.contextmanager
def link_loop(*, own_thread: bool) -> Generator[LinkLoop]:
    """Give links a thread and loop of their own, as the hub does, or none."""
    if not own_thread:
        yield LinkLoop(None)
        return
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="links")
    thread.start()
    try:
        yield LinkLoop(loop)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
