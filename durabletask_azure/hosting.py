"""Where a hub lives in this process: one background thread with an event loop, shared by its workers and clients.

User code never runs on that thread, so it cannot block locks or queues. Synchronous calls wait for a coroutine there,
asynchronous ones await it from the caller's own loop. The thread starts with the first call and ends with ``close``,
with the ``with`` block, when the hub is collected, or with the interpreter. Which ports a hub has is ``hub.py``'s
business; they are opened before the first call that needs them, on that thread.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from durabletask_azure.core.payload_codec import NO_CODECS, PayloadCodecs
from durabletask_azure.crossing import Blocking, Call, Crossing
from durabletask_azure.errors import ArgumentTypeError, ConfigurationError, TaskHubError
from durabletask_azure.opening import OpenedPorts, OpenPorts
from durabletask_azure.ports import HubPorts
from durabletask_azure.settings import Settings

__all__ = ["EngineThread", "HubHost", "checked_host", "checked_logger"]

T = TypeVar("T")
_log = logging.getLogger("durabletask_azure.hub")
Stop = Callable[[bool], None]
"""Ends a tenant of the hub and waits for it; hurried if true."""

_JOIN_S = 10.0


class EngineThread:
    """A daemon thread that runs an event loop; started by the first call.

    It belongs to the process that made it or, with ``is_lazy``, to the one that makes the first call.
    """

    def __init__(self, name: str, *, is_lazy: bool = False) -> None:
        self._name = name
        self._pid = None if is_lazy else os.getpid()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._blocking: set[Blocking[Any]] = set()

    @property
    def is_forked(self) -> bool:
        """Whether this is another process than the one that made the thread."""
        return self._pid is not None and os.getpid() != self._pid

    @property
    def is_closed(self) -> bool:
        """Whether the thread takes no more calls."""
        return self._closed

    @property
    def is_started(self) -> bool:
        """Whether a call has started the thread."""
        return self._loop is not None

    @property
    def is_current(self) -> bool:
        """Whether the caller runs on this thread."""
        return self._thread is threading.current_thread()

    def submit(self, call: Call[T]) -> concurrent.futures.Future[T]:
        """Start a coroutine on the thread and return the future of its result.

        Raises:
            ConfigurationError: the hub is closed, or belongs to the process this one was forked from.
        """
        self._check_not_forked()
        with self._lock:
            loop = self._started()
            return asyncio.run_coroutine_threadsafe(call(), loop)

    def wait(self, call: Call[T]) -> T:
        """Have a call run on the thread and wait for its result; errors as :meth:`submit`."""
        self._check_not_forked()
        with self._lock:
            blocking = Blocking(self._started(), call)
            self._blocking.add(blocking)
        try:
            return blocking.wait()
        finally:
            with self._lock:
                self._blocking.discard(blocking)

    def cross(self, crossing: Crossing, call: Call[T]) -> asyncio.Future[T]:
        """Have a call run on the thread as :meth:`wait` does, for a caller with an event loop of its own."""
        self._check_not_forked()
        with self._lock:
            self._started()
            return crossing.call(call)

    def abandon(self) -> None:
        """Fail what still waits for the thread, which has ended."""
        with self._lock:
            left, self._blocking = self._blocking, set()
        for blocking in left:
            blocking.abandon()

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the thread's running loop. Raises ``ConfigurationError`` as :meth:`submit`."""
        self._check_not_forked()
        with self._lock:
            return self._started()

    def _check_not_forked(self) -> None:
        if self.is_forked:
            raise ConfigurationError(
                f"this task hub was opened by process {self._pid}, of which process {os.getpid()} was forked; open it"
                " only after the fork, or start processes with multiprocessing's 'spawn': threads and locks do not"
                " survive a fork"
            )

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._closed:
            raise ConfigurationError("this task hub is closed; open it again")
        if self._loop is None:
            self._pid = os.getpid()
            self._loop = _new_loop()
            self._thread = threading.Thread(target=_serve, args=(self._loop,), name=self._name, daemon=True)
            self._thread.start()
        return self._loop

    def close(self) -> None:
        """Cancel what still runs, end the thread and wait for it; closing twice is harmless."""
        with self._lock:
            self._closed = True
            loop, thread = self._loop, self._thread
        if loop is None or thread is None or self.is_forked:
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            loop.call_soon_threadsafe(loop.stop)
        if not self.is_current:
            thread.join(_JOIN_S)


def _new_loop() -> asyncio.AbstractEventLoop:
    """Return a loop for the thread: uvloop's, which takes a fifth less of the processor a step, where it can be had."""
    if sys.platform == "win32" or sys.implementation.name != "cpython":
        return asyncio.new_event_loop()
    # Not before a hub is used: importing it takes as long as all of this package's own modules.
    import uvloop

    return uvloop.new_event_loop()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        while True:
            try:
                loop.run_forever()
                break
            except (KeyboardInterrupt, SystemExit):
                # No signal is ever raised on this thread: user code raised it, and its task has it as its result. What
                # else runs on this loop must not end for that.
                _log.exception("user code tried to end the thread %s", threading.current_thread().name)
    finally:
        try:
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
            # RuntimeError: the interpreter is ending, and starts no thread any more to wait for the pool's
            with contextlib.suppress(RuntimeError):
                loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


class HubHost:
    """A hub in this process: its ports, its settings, and the thread they are used on.

    ``ports`` are open already, or ``open_ports`` opens them for the first call. ``at_end`` is called
    on the hub's thread when the hub was closed for good.
    """

    def __init__(
        self,
        ports: HubPorts | None,
        settings: Settings,
        name: str,
        payload_codecs: PayloadCodecs = NO_CODECS,
        *,
        open_ports: OpenPorts | None = None,
        at_end: Callable[[], None] | None = None,
    ) -> None:
        self._opened = OpenedPorts(ports, _never if open_ports is None else open_ports, at_end)
        self._payload_codecs = payload_codecs
        self._settings = settings
        self._name = name
        self._thread = EngineThread(f"durabletask-azure {name}", is_lazy=ports is None)
        self._tenants: dict[object, Stop] = {}
        self._crossings: dict[asyncio.AbstractEventLoop, Crossing] = {}
        self._crossings_lock = threading.Lock()
        self._finalizer = weakref.finalize(
            self, _close_quietly, self._thread, self._opened, self._tenants, self._crossings
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name}>"

    @property
    def ports(self) -> HubPorts:
        """The hub's ports, once it is open; only for use on the hub's own thread.

        Raises:
            HubUnavailableError: it is not open.
        """
        return self._opened.get()

    @property
    def name(self) -> str:
        """What the hub is called in messages: its path or name."""
        return self._name

    @property
    def has_tenants(self) -> bool:
        """Whether a worker of this process is running."""
        return bool(self._tenants)

    @property
    def settings(self) -> Settings:
        """The hub's limits and defaults."""
        return self._settings

    @property
    def payload_codecs(self) -> PayloadCodecs:
        """What values are encoded with before they are stored."""
        return self._payload_codecs

    @property
    def is_closed(self) -> bool:
        """Whether the hub was closed."""
        return self._thread.is_closed

    @property
    def is_open(self) -> bool:
        """Whether the hub's ports are open."""
        return self._opened.is_open

    def open(self) -> None:
        """Open the hub if it is not open yet; the first call does so by itself. Use it to hear of mistakes early.

        Raises:
            DurableTaskError: it cannot be opened; says what to do. The next call tries again.
        """
        if not self._opened.is_open:
            self.run_unopened(self._opened.open)

    async def aopen(self) -> None:
        """Open the hub as :meth:`open` does, without blocking the caller's event loop."""
        if not self._opened.is_open:
            await self.arun_unopened(self._opened.open)

    def run(self, call: Call[T]) -> T:
        """Run a coroutine on the hub's thread, once the hub is open, and wait for its result.

        Raises:
            DurableTaskError: the hub cannot be opened.
            RuntimeError: called on the hub's own thread, which would wait for itself.
            ConfigurationError: the hub is closed or was forked. HubUnavailableError: it was closed meanwhile.
        """
        return self.run_unopened(call if self._opened.is_open else lambda: self._once_open(call))

    def arun(self, call: Call[T]) -> asyncio.Future[T]:
        """Run a coroutine on the hub's thread, once the hub is open, and return the future of its result, to be
        awaited; cancelling it cancels the coroutine. Errors as :meth:`run`."""
        return self.arun_unopened(call if self._opened.is_open else lambda: self._once_open(call))

    async def _once_open(self, call: Call[T]) -> T:
        await self._opened.open()
        return await call()

    def run_unopened(self, call: Call[T]) -> T:
        """Run a coroutine that needs no open hub on the hub's thread, and wait for its result.

        Raises:
            RuntimeError: called on the hub's own thread, which would wait for itself.
            ConfigurationError: the hub is closed or was forked. HubUnavailableError: it was closed meanwhile.
        """
        if self._thread.is_current:
            raise RuntimeError("a synchronous call on the hub's own thread would wait for itself for ever")
        return self._thread.wait(call)

    def arun_unopened(self, call: Call[T]) -> asyncio.Future[T]:
        """Run a coroutine that needs no open hub on the hub's thread, and return the future of its result, to be
        awaited; cancelling it cancels the coroutine. Errors as :meth:`run_unopened`."""
        home = asyncio.get_running_loop()
        return self._thread.cross(self._crossings.get(home) or self._new_crossing(home), call)

    def _new_crossing(self, home: asyncio.AbstractEventLoop) -> Crossing:
        with self._crossings_lock:
            crossing = self._crossings.get(home)
            if crossing is None:
                for loop in [loop for loop in self._crossings if loop.is_closed()]:
                    del self._crossings[loop]
                crossing = self._crossings[home] = Crossing(home, self._thread.loop())
            return crossing

    def enter(self, tenant: object, stop: Stop) -> None:
        """Have ``stop(False)`` called before the hub closes, ``stop(True)`` when the interpreter ends: a worker stops,
        with and without time for its running activities."""
        self._tenants[tenant] = stop

    def leave(self, tenant: object) -> None:
        """Forget a tenant."""
        self._tenants.pop(tenant, None)

    def close(self) -> None:
        """Stop the hub's workers in this process, close its files and end its thread. Closing twice is harmless."""
        if not self.is_closed and not self._thread.is_forked:
            for stop in list(self._tenants.values()):
                stop(False)
        self._finalizer()

    async def aclose(self) -> None:
        """Close without blocking the caller's event loop."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


async def _never() -> HubPorts:
    raise ConfigurationError("this task hub is closed; open it again")


def checked_host(hub: object) -> HubHost:
    """Return ``hub`` if it is one. Raises ``ArgumentTypeError``."""
    if not isinstance(hub, HubHost):
        raise ArgumentTypeError(
            f"hub must be a TaskHub, such as TaskHub.local(...) returns, not {type(hub).__name__}"
        )
    return hub


def checked_logger(logger: object, name: str) -> logging.Logger:
    """Return ``logger``, or the one of that name for ``None``. Raises ``ArgumentTypeError``."""
    if logger is None:
        return logging.getLogger(name)
    if isinstance(logger, logging.LoggerAdapter):
        return cast(logging.Logger, logger)  # it has the methods of one
    if not isinstance(logger, logging.Logger):
        raise ArgumentTypeError(f"logger must be a logging.Logger, not {type(logger).__name__}")
    return logger


def _close_quietly(
    thread: EngineThread,
    opened: OpenedPorts,
    tenants: dict[object, Stop],
    crossings: Mapping[asyncio.AbstractEventLoop, Crossing],
) -> None:
    """Close ports and thread; runs once, possibly when the interpreter ends or on any thread that collects garbage."""
    if thread.is_forked:
        return
    for stop in list(tenants.values()):
        stop(True)
    if (opened.is_open or thread.is_started) and not thread.is_current:
        # RuntimeError: once the interpreter is ending no new work is taken by thread pools; the files close with it.
        try:
            with contextlib.suppress(
                ConfigurationError, concurrent.futures.CancelledError, TimeoutError, RuntimeError
            ):
                thread.submit(opened.close).result(_JOIN_S)
        except TaskHubError as error:
            # Such as a full disk: tasks stay marked as taken until others see that this process let go of the hub.
            _log.warning("the task hub was closed, but could not give everything back: %s", error)
        finally:
            _end(thread, crossings)
        return
    _end(thread, crossings)


def _end(thread: EngineThread, crossings: Mapping[asyncio.AbstractEventLoop, Crossing]) -> None:
    thread.close()
    thread.abandon()
    for crossing in list(crossings.values()):
        crossing.abandon()
