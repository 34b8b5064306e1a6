"""The event loop that orchestrators run on: deterministic, without a selector and without a clock.

Invariant: what runs, and in which order, depends only on the calls made on the loop. Ready callbacks run first in,
first out; time stands still except when the history moves it; a delay becomes a durable timer. Everything of asyncio
that is built on futures works unchanged (gather, wait, wait_for, timeout, TaskGroup, Event, Lock, Queue, as_completed,
shield, sleep). What would reach outside (I/O, threads, signals, subprocesses) is refused by name.

The loop runs nested inside the engine's loop, in the same thread: ``enter`` and ``leave`` swap asyncio's notion of the
running loop and current task.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any, NoReturn, Protocol

from durabletask_azure.errors import NonDeterminismError

__all__ = ["DeterministicLoop", "DurableTimer", "LoopTask", "drop_coroutine"]

LoopTask = asyncio.Task[Any]

_CLOSE_ATTEMPTS_MAX = 100


def _no_swap(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any] | None) -> None:
    """Python 3.11 keeps the current task per loop and needs no swap."""


_swap_current_task: Callable[..., Any] = getattr(asyncio.tasks, "_swap_current_task", _no_swap)
_get_asyncgen_hooks = sys.get_asyncgen_hooks
_set_asyncgen_hooks = sys.set_asyncgen_hooks
_get_running_loop: Callable[[], asyncio.AbstractEventLoop | None] = asyncio._get_running_loop
_set_running_loop: Callable[[asyncio.AbstractEventLoop | None], None] = asyncio._set_running_loop


class DurableTimer(Protocol):
    """What the loop holds of a durable timer it asked for."""

    def cancel(self) -> bool:
        """Cancel the timer."""
        ...


class _TimerHandle(asyncio.TimerHandle):
    """A delayed callback whose delay is a durable timer (``None`` once it fired, or when it was due at once)."""

    __slots__ = ("durable",)
    durable: DurableTimer | None


class DeterministicLoop(asyncio.AbstractEventLoop):
    """One orchestration execution's event loop.

    Args:
        now: seconds of the orchestration's clock, from any fixed point.
        start_timer: makes a durable timer that calls back after a delay.
        steps_max: callbacks one ``run_until_idle`` may run; an endless loop of ``sleep(0)`` never becomes idle.
    """

    def __init__(
        self,
        *,
        now: Callable[[], float],
        start_timer: Callable[[timedelta, Callable[[], None]], DurableTimer],
        steps_max: int,
    ) -> None:
        self._now = now
        self._start_timer = start_timer
        self._steps_max = steps_max
        self._ready: deque[asyncio.Handle] = deque()
        self._tasks: list[asyncio.Task[Any]] = []
        self._tasks_pruned_at = 64
        self._tasks_named = 0
        self._running = False
        self._closed = False
        self._outer: asyncio.AbstractEventLoop | None = None
        self._outer_task: Any = None
        self._outer_hooks: Any = None
        self.callback_error: BaseException | None = None

    # ------------------------------------------------------------ driven from outside

    def enter(self) -> None:
        """Make this the running loop of the thread until ``leave``."""
        outer = self._outer = _get_running_loop()
        if outer is not None:
            self._outer_task = _swap_current_task(outer, None)
        self._outer_hooks = _get_asyncgen_hooks()
        _set_asyncgen_hooks(None, self._finish_generator)
        _set_running_loop(self)
        self._running = True

    def leave(self) -> None:
        """Give the thread back to the loop that was running before ``enter``."""
        self._running = False
        _set_asyncgen_hooks(*self._outer_hooks)
        outer = self._outer
        _set_running_loop(outer)
        if outer is not None:
            _swap_current_task(outer, self._outer_task)
            self._outer_task = None
        self._outer = self._outer_hooks = None

    def begin(self, coroutine: Coroutine[Any, Any, Any]) -> LoopTask:
        """Start the first coroutine, in an empty context: nothing of the engine's context variables gets in."""
        return self.create_task(coroutine, name="orchestrator", context=contextvars.Context())

    def run_until_idle(self) -> None:
        """Run everything that is ready, and what becomes ready by it.

        Raises:
            RuntimeError: more than ``steps_max`` callbacks ran and still more are ready.
        """
        ready = self._ready
        steps_left = self._steps_max
        while ready:
            handle = ready.popleft()
            if handle._cancelled:
                continue
            if steps_left == 0:
                ready.clear()
                raise RuntimeError(f"the orchestrator did not come to rest within {self._steps_max:,} steps")
            steps_left -= 1
            try:
                handle._run()
            except SystemExit as error:  # of a task: it is its result already; of a callback: nobody else's
                self.callback_error = self.callback_error or error

    @property
    def has_open_tasks(self) -> bool:
        """Whether any coroutine still runs."""
        return not all(task.done() for task in self._tasks)

    def close(self) -> None:
        """Drop every coroutine that still runs; what they do about it has no effect and makes no noise."""
        self._closed = True
        self._ready.clear()
        for task in self._tasks:
            if not task.done():
                drop_coroutine(task.get_coro())
        self._ready.clear()
        self._tasks.clear()

    # ------------------------------------------------------------ what asyncio calls

    def time(self) -> float:
        return self._now()

    def get_debug(self) -> bool:
        return False

    def set_debug(self, enabled: bool) -> None:
        """Do nothing: debug mode measures real time."""

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return self._closed

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Any,
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
        **options: Any,
    ) -> asyncio.Task[Any]:
        """Run a coroutine, or await a durable task, beside the others."""
        coroutine = coro if inspect.iscoroutine(coro) else _wait_for(coro)
        if self._closed:
            coroutine.close()
            raise RuntimeError("the orchestration's event loop is closed")
        self._tasks_named += 1
        task = asyncio.Task(
            coroutine, loop=self, name=name or f"Task-{self._tasks_named}", context=context, **options
        )
        if len(self._tasks) >= self._tasks_pruned_at:
            self._tasks = [running for running in self._tasks if not running.done()]
            self._tasks_pruned_at = 64 + 2 * len(self._tasks)
        self._tasks.append(task)
        return task

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if not self._closed:
            self._ready.append(handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call back after ``delay`` seconds of the orchestration's clock, by a durable timer."""
        handle = _TimerHandle(self._now() + delay, callback, args, self, context)
        handle.durable = None
        if self._closed:
            return handle
        if delay <= 0:
            self._ready.append(handle)
            return handle

        def fire() -> None:
            handle.durable = None
            self._ready.append(handle)

        handle.durable = self._start_timer(_span(delay), fire)
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_later(when - self._now(), callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if isinstance(handle, _TimerHandle) and handle.durable is not None:
            durable, handle.durable = handle.durable, None
            durable.cancel()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep the first error of a callback; say nothing about results nobody asked for.

        Those are reported by the garbage collector, at another moment in each replay.
        """
        if "handle" in context and self.callback_error is None:
            self.callback_error = context.get("exception")

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    def get_exception_handler(self) -> None:
        return None

    def get_task_factory(self) -> None:
        return None

    async def shutdown_asyncgens(self) -> None:
        """Do nothing: there is no end of the program here."""

    def _finish_generator(self, generator: Any) -> None:
        if not self._closed and self._running:
            self.create_task(generator.aclose())


def _span(delay: float) -> timedelta:
    try:
        return timedelta(seconds=delay)
    except OverflowError:
        return timedelta.max


async def _wait_for(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def drop_coroutine(coroutine: Any) -> None:
    """Close a coroutine or generator and what it waits for, however much they resist.

    Innermost first: one that waits again while being closed is closed again, up to a limit, since whatever is left half
    closed would make the garbage collector complain later.
    """
    chain = [coroutine]
    while (inner := _awaited_by(chain[-1])) is not None:
        chain.append(inner)
    for link in reversed(chain):
        for _ in range(_CLOSE_ATTEMPTS_MAX):
            try:
                link.close()
            except RuntimeError as error:
                if "ignored GeneratorExit" in str(error):
                    again = _awaited_by(link)
                    if again is not None:
                        drop_coroutine(again)
                    continue
            except BaseException:  # its clean-up failed against the inert context: nobody is there to care
                break
            break


def _awaited_by(link: Any) -> Any:
    """Return the coroutine or generator that ``link`` waits for."""
    inner = getattr(link, "cr_await", None) or getattr(link, "gi_yieldfrom", None)
    return inner if inspect.iscoroutine(inner) or inspect.isgenerator(inner) else None


def _refuse(name: str) -> Callable[..., NoReturn]:
    def refused(self: DeterministicLoop, *args: Any, **kwargs: Any) -> NoReturn:
        raise NonDeterminismError(
            f"an orchestrator must not call {name}(): it would not replay the same. Do this in an activity"
        )

    refused.__name__ = name
    return refused


_REFUSED = """
    run_forever run_until_complete stop call_soon_threadsafe run_in_executor set_default_executor
    shutdown_default_executor set_task_factory set_exception_handler getaddrinfo getnameinfo create_connection
    create_server start_tls sendfile create_unix_connection create_unix_server create_datagram_endpoint
    connect_accepted_socket connect_read_pipe connect_write_pipe subprocess_shell subprocess_exec add_reader
    remove_reader add_writer remove_writer sock_recv sock_recv_into sock_recvfrom sock_recvfrom_into sock_sendall
    sock_sendto sock_connect sock_accept sock_sendfile add_signal_handler remove_signal_handler
"""
for _name in _REFUSED.split():
    setattr(DeterministicLoop, _name, _refuse(_name))
