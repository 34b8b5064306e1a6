"""Calls from one event loop to another thread's: those that gather are handed over together, and so are their answers.

Waking another loop costs a system call and, in Python, often a wait for the interpreter's lock; two hundred calls made
at once wake the hub's thread once, and their answers come back a batch at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from durabletask_azure.errors import HubUnavailableError

__all__ = ["Crossing"]

T = TypeVar("T")
Call = Callable[[], Coroutine[Any, Any, T]]
_CLOSED = "the task hub was closed while a call was under way"


class Crossing:
    """The way from the event loop ``home`` to the loop of a hub's thread and back."""

    def __init__(self, home: asyncio.AbstractEventLoop, hub: asyncio.AbstractEventLoop) -> None:
        self._home = home
        self._hub = hub
        self._lock = threading.Lock()
        self._calls: deque[tuple[Call[Any], contextvars.Context, asyncio.Future[Any]]] = deque()
        self._answers: deque[tuple[asyncio.Future[Any], asyncio.Task[Any]]] = deque()
        self._is_calling = False
        self._is_answering = False
        self._tasks: dict[asyncio.Future[Any], asyncio.Task[Any] | None] = {}
        """What is under way, by the future its caller awaits; without a task it has not begun."""

    def call(self, call: Call[T]) -> asyncio.Future[T]:
        """Have a coroutine run over there; return the future of its result. Cancelling that cancels the coroutine.

        Raises:
            RuntimeError: the other loop is closed.
        """
        future: asyncio.Future[T] = self._home.create_future()
        with self._lock:
            self._tasks[future] = None
            self._calls.append((call, contextvars.copy_context(), future))
            is_first = not self._is_calling
            self._is_calling = True
        future.add_done_callback(self._left)
        if is_first:
            self._hub.call_soon_threadsafe(self._begin)
        return future

    def abandon(self) -> None:
        """Fail everything under way: the other thread has ended. From any thread."""
        with self._lock:
            left = list(self._tasks)
            self._tasks.clear()
        if left:
            with contextlib.suppress(RuntimeError):  # the caller's loop is closed: nobody waits
                self._home.call_soon_threadsafe(_fail, left)

    # ------------------------------------------------------------ over there

    def _begin(self) -> None:
        with self._lock:
            self._is_calling = False
            calls = list(self._calls)
            self._calls.clear()
        for call, context, future in calls:
            # Each in its caller's context, as if it had come alone; made inside its task, so that it fails alone.
            task = self._hub.create_task(_made(call), context=context)
            with self._lock:
                is_wanted = future in self._tasks
                if is_wanted:
                    self._tasks[future] = task
            if is_wanted:
                task.add_done_callback(partial(self._ended, future))
            else:  # its caller went before it began: it never takes its first step
                task.cancel()

    def _ended(self, future: asyncio.Future[Any], task: asyncio.Task[Any]) -> None:
        with self._lock:
            self._answers.append((future, task))
            is_first = not self._is_answering
            self._is_answering = True
        if is_first:
            with contextlib.suppress(RuntimeError):  # the caller's loop is closed: nobody waits
                self._home.call_soon_threadsafe(self._answer)

    # ------------------------------------------------------------ at home

    def _left(self, future: asyncio.Future[Any]) -> None:
        """Forget a call that is answered; cancel one whose caller does not wait any more."""
        with self._lock:
            task = self._tasks.pop(future, None)
        if future.cancelled() and task is not None:
            with contextlib.suppress(RuntimeError):  # the hub's loop is closed: nothing runs there
                self._hub.call_soon_threadsafe(task.cancel)

    def _answer(self) -> None:
        with self._lock:
            self._is_answering = False
            answers = list(self._answers)
            self._answers.clear()
        for future, task in answers:
            if task.cancelled():
                if not future.done():
                    future.set_exception(HubUnavailableError(_CLOSED))
                continue
            error = task.exception()
            if future.done():
                continue
            if error is None:
                future.set_result(task.result())
            else:
                future.set_exception(error)


async def _made(call: Call[T]) -> T:
    return await call()


def _fail(futures: list[asyncio.Future[Any]]) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(HubUnavailableError(_CLOSED))
