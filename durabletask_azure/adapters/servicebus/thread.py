"""The thread and event loop that all links of an opened hub live in, and the way there and back.

User code cannot block it, so locks are renewed while an orchestrator blocks the engine's loop (B10). Whatever gathers
for a loop while it is busy is handed over with one wake-up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from durabletask_azure.errors import HubUnavailableError

__all__ = ["LinkThread", "Mailbox", "Reply"]

T = TypeVar("T")
_CLOSED = "the hub's queues are closed"
_JOIN_S_MAX = 5.0
_log = logging.getLogger("durabletask_azure.adapters.servicebus")


class Mailbox:
    """Calls for an event loop, from any thread, in order; those that gather are made together."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._is_woken = False

    def post(self, call: Callable[..., object], *args: Any) -> None:
        """Have ``call(*args)`` made in the loop; nothing happens if that is closed."""
        with self._lock:
            self._calls.append((call, args))
            if self._is_woken:
                return
            self._is_woken = True
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is there
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        with self._lock:
            calls = list(self._calls)
            self._calls.clear()
            self._is_woken = False
        for call, args in calls:
            try:
                call(*args)
            except Exception:
                _log.exception("a call between threads failed")


class Reply(Generic[T]):
    """The future of a call's result in the loop that made the call; answered once, from the links' thread."""

    def __init__(self, home: Mailbox, unclaimed: Callable[[T], object] | None = None) -> None:
        self._home = home
        self._unclaimed = unclaimed
        self.future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def set(self, value: T) -> None:
        """Answer; if the caller has gone, ``unclaimed`` gets the value."""
        self._home.post(self._resolve, value, None)

    def fail(self, error: BaseException) -> None:
        """Answer with an error."""
        self._home.post(self._resolve, None, error)

    def _resolve(self, value: T, error: BaseException | None) -> None:
        if self.future.done():
            if error is None and self._unclaimed is not None:
                self._unclaimed(value)
        elif error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(value)


class LinkThread:
    """A daemon thread with an event loop, started at the first use."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._mailbox: Mailbox | None = None
        self._homes: dict[asyncio.AbstractEventLoop, Mailbox] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._open: set[Reply[Any]] = set()
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._is_closed

    @property
    def is_started(self) -> bool:
        """Whether anything was ever asked of the links."""
        return self._thread is not None

    def home(self) -> Mailbox:
        """Return the mailbox of the running loop."""
        loop = asyncio.get_running_loop()
        box = self._homes.get(loop)
        if box is None:
            self._homes = {known: box for known, box in self._homes.items() if not known.is_closed()}
            box = self._homes[loop] = Mailbox(loop)
        return box

    def post(self, call: Callable[..., object], *args: Any) -> None:
        """Have ``call(*args)`` made in the links' loop.

        Raises:
            HubUnavailableError: the queues are closed.
        """
        self._started().post(call, *args)

    async def call(
        self, call: Callable[[], Coroutine[Any, Any, T]], unclaimed: Callable[[T], object] | None = None
    ) -> T:
        """Run a coroutine in the links' loop and return what it returns. Cancelling the caller does not cancel it.

        Raises:
            HubUnavailableError: the queues are closed, or get closed meanwhile.
        """
        reply = Reply[T](self.home(), unclaimed)
        self.post(self._begin, call, reply)
        return await reply.future

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task in the links' loop, from there."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def stop(self) -> None:
        """End the thread; what is still under way there is cancelled, and calls that wait for it fail."""
        with self._lock:
            self._is_closed = True
            thread, mailbox = self._thread, self._mailbox
        if thread is None or mailbox is None:
            return
        mailbox.post(self._end)
        await asyncio.get_running_loop().run_in_executor(None, thread.join, _JOIN_S_MAX)

    # ------------------------------------------------------------ in the links' thread

    def _begin(self, call: Callable[[], Coroutine[Any, Any, Any]], reply: Reply[Any]) -> None:
        self._open.add(reply)
        self.spawn(self._answer(call, reply))

    async def _answer(self, call: Callable[[], Coroutine[Any, Any, Any]], reply: Reply[Any]) -> None:
        try:
            reply.set(await call())
        except asyncio.CancelledError:
            reply.fail(HubUnavailableError(_CLOSED))
            raise
        except BaseException as error:
            reply.fail(error)
        finally:
            self._open.discard(reply)

    def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        asyncio.get_running_loop().stop()

    # ------------------------------------------------------------ from any thread

    def _started(self) -> Mailbox:
        mailbox = self._mailbox
        if mailbox is not None and not self._is_closed:
            return mailbox
        with self._lock:
            if self._is_closed:
                raise HubUnavailableError(_CLOSED)
            if self._mailbox is None:
                self._loop = asyncio.new_event_loop()
                self._mailbox = Mailbox(self._loop)
                self._thread = threading.Thread(
                    target=self._run, args=(self._loop,), name=self._name, daemon=True
                )
                self._thread.start()
            return self._mailbox

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            loop.run_until_complete(_ended(asyncio.all_tasks(loop)))
            loop.run_until_complete(loop.shutdown_asyncgens())
        except Exception:
            _log.exception("the links' thread did not end cleanly")
        finally:
            loop.close()
            for reply in self._open:
                reply.fail(HubUnavailableError(_CLOSED))


async def _ended(tasks: set[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have ended, not for ever."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_JOIN_S_MAX / 2)
