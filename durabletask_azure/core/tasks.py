"""Durable tasks: what an orchestrator awaits or yields.

A task completes at most once, when the history says so. It can be awaited any number of times and from several places;
each wait has a future of its own, so cancelling one wait does not disturb the others. Names and behaviour follow
``durabletask.task``; beyond it, tasks are awaitable and can be given to ``asyncio.wait`` and its siblings.
"""

from __future__ import annotations

import asyncio
from abc import ABC
from collections.abc import Callable, Generator
from datetime import datetime
from typing import Any, Generic, TypeVar, cast

from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.errors import TaskCancelledError, TaskFailedError

__all__ = ["CancellableTask", "CompletableTask", "Task", "TimerTask"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Task(ABC, Generic[T_co]):
    """Something an orchestrator can wait for."""

    __slots__ = ("_exception", "_hook", "_is_complete", "_observers", "_result", "_waiter", "expected_type")

    def __init__(self, expected_type: Any = None) -> None:
        self.expected_type = expected_type
        """What the result is rebuilt as, if it comes as text."""
        self._is_complete = False
        self._result: T_co | None = None
        self._exception: Exception | None = None
        self._hook: Callable[[], None] | None = None
        # Who waits, in order of arrival: the first wait, if nobody came before it; then futures of waits (no callback)
        # and composite tasks.
        self._waiter: asyncio.Future[None] | None = None
        self._observers: dict[Any, Callable[[Task[Any]], None] | None] | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the task has completed, failed or been cancelled."""
        return self._is_complete

    @property
    def is_failed(self) -> bool:
        """Whether the task has failed."""
        return self._exception is not None

    @property
    def result(self) -> T_co:
        """The result; the same as ``get_result()``."""
        return self.get_result()

    def get_result(self) -> T_co:
        """Return the result.

        Raises:
            ValueError: the task has not completed.
            TaskFailedError: it failed.
            TaskCancelledError: it was cancelled.
        """
        if not self._is_complete:
            raise ValueError("the task has not completed")
        if self._exception is not None:
            # Without its old traceback: that would grow with every wait, and tell of waits elsewhere.
            raise self._exception.with_traceback(None)
        return cast(T_co, self._result)

    def get_exception(self) -> Exception:
        """Return the error the task failed with.

        Raises:
            ValueError: the task has not failed.
        """
        if self._exception is None:
            raise ValueError("the task has not failed")
        return self._exception

    # ------------------------------------------------------------ as asyncio sees it

    def __await__(self) -> Generator[Any, Any, T_co]:
        if not self._is_complete:
            future: asyncio.Future[None] = asyncio.Future(loop=asyncio.get_running_loop())
            if self._waiter is None and self._observers is None:
                self._waiter = future
            else:
                self.subscribe(future, None)
            try:
                yield from future
            except asyncio.CancelledError:
                self.unsubscribe(future)
                self._wait_cancelled()
                raise
        return self.get_result()

    def done(self) -> bool:
        """Whether the task has completed, failed or been cancelled (for ``asyncio.wait``)."""
        return self._is_complete

    def cancelled(self) -> bool:
        """Whether the task was cancelled (for ``asyncio.wait``)."""
        return False

    def exception(self) -> Exception | None:
        """Return the error the task failed with, or ``None`` (for ``asyncio.wait``).

        Raises:
            asyncio.InvalidStateError: the task has not completed.
            asyncio.CancelledError: it was cancelled.
        """
        if not self._is_complete:
            raise asyncio.InvalidStateError("the task has not completed")
        if self.cancelled():
            raise asyncio.CancelledError
        return self._exception

    def add_done_callback(self, fn: Callable[[Task[T_co]], object], *, context: Any = None) -> None:
        """Have ``fn(task)`` called by the loop once the task is complete (for ``asyncio.wait``)."""
        loop = asyncio.get_running_loop()
        if self._is_complete:
            loop.call_soon(fn, self, context=context)
        else:

            def announce(task: Task[Any]) -> None:
                loop.call_soon(fn, task, context=context)

            self.subscribe(("done", fn), announce)

    def remove_done_callback(self, fn: Callable[[Task[T_co]], object]) -> int:
        """Forget a callback; return how many there were (for ``asyncio.wait``)."""
        return self.unsubscribe(("done", fn))

    # ------------------------------------------------------------ for those who complete and combine tasks

    def subscribe(self, key: Any, callback: Callable[[Task[Any]], None] | None) -> None:
        """Have ``callback(task)`` called at once on completion; without one, ``key`` is a future to wake."""
        if self._observers is None:
            self._observers = {}
        self._observers[key] = callback

    def unsubscribe(self, key: Any) -> int:
        """Take a subscription back; return how many there were."""
        if key is self._waiter:
            self._waiter = None
            return 1
        observers = self._observers
        if observers is None or key not in observers:
            return 0
        del observers[key]
        return 1

    def set_finish_hook(self, hook: Callable[[], None]) -> None:
        """Have ``hook()`` called on completion, before those who wait are told; it does not count as a wait."""
        self._hook = hook

    def _finish(self) -> None:
        self._is_complete = True
        if self._hook is not None:
            hook, self._hook = self._hook, None
            hook()
        waiter, observers = self._waiter, self._observers
        self._waiter = self._observers = None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        if observers is None:
            return
        for key, callback in observers.items():
            if callback is not None:
                callback(self)
            elif not key.done():
                key.set_result(None)

    def _wait_cancelled(self) -> None:
        """A wait was cancelled; tasks that can be cancelled follow when it was the last one."""


class CompletableTask(Task[T]):
    """A task that the history completes."""

    __slots__ = ()

    def complete(self, result: T) -> None:
        """Complete the task.

        Raises:
            ValueError: it has already completed.
        """
        if self._is_complete:
            raise ValueError("the task has already completed")
        self._result = result
        self._finish()

    def fail(self, message: str, details: FailureDetails | Exception) -> None:
        """Fail the task: with a recorded failure, or with an error of its own.

        Raises:
            ValueError: it has already completed.
        """
        if self._is_complete:
            raise ValueError("the task has already completed")
        self._exception = (
            TaskFailedError(message, details) if isinstance(details, FailureDetails) else details
        )
        self._finish()


class CancellableTask(CompletableTask[T]):
    """A task that can be cancelled before it completes, also by cancelling the last wait for it."""

    __slots__ = ("_cancel_handler", "_is_cancelled")

    def __init__(self, expected_type: Any = None) -> None:
        super().__init__(expected_type)
        self._is_cancelled = False
        self._cancel_handler: Callable[[], None] | None = None

    @property
    def is_cancelled(self) -> bool:
        """Whether the task was cancelled."""
        return self._is_cancelled

    def cancelled(self) -> bool:
        """Whether the task was cancelled."""
        return self._is_cancelled

    def get_result(self) -> T:
        """Return the result; errors as for every task."""
        if self._is_cancelled:
            raise TaskCancelledError("the task was cancelled")
        return super().get_result()

    def set_cancel_handler(self, cancel_handler: Callable[[], None]) -> None:
        """Have ``cancel_handler()`` called when the task is cancelled."""
        self._cancel_handler = cancel_handler

    def cancel(self) -> bool:
        """Cancel the task; return false if it had already completed."""
        if self._is_complete:
            return False
        if self._cancel_handler is not None:
            self._cancel_handler()
        self._is_cancelled = True
        self._finish()
        return True

    def _wait_cancelled(self) -> None:
        if not self._observers and self._waiter is None:
            self.cancel()


class TimerTask(CancellableTask[None]):
    """A durable timer; ``fire_at`` is when it is due, in UTC."""

    __slots__ = ("fire_at",)

    def __init__(self, fire_at: datetime | None = None) -> None:
        super().__init__()
        self.fire_at = fire_at
