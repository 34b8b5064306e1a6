"""An activity inside the worker's middleware (B125).

The middleware runs on the loop of async activities. An async activity is awaited there; a sync one, or one that runs in
a worker process, is a unit of its own that the executor runs like any other, and the middleware waits for it. So the
limits of threads and processes hold, and the loop is never blocked.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, InvalidStateError
from contextvars import copy_context
from functools import partial
from typing import Any

import msgspec

from durabletask_azure.core.activity_context import ActivityContext
from durabletask_azure.core.codec import rebuilt_as_declared
from durabletask_azure.core.definitions import ActivityDefinition
from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.messages import ActivityTask
from durabletask_azure.core.middleware import surround
from durabletask_azure.core.replay import RuntimeOptions
from durabletask_azure.engine.activity_work import ActivityWork
from durabletask_azure.engine.executor import ActivityExecutor
from durabletask_azure.errors import TaskFailedError, WorkerProcessError

__all__ = ["SurroundedWork", "UnitOf", "unit_of"]

_NOBODYS_KEY = 0
"""Key of a unit that is no task of the activity loop; its keys begin with 1."""


UnitOf = Callable[[int, ActivityDefinition, ActivityTask, str | None, int, RuntimeOptions], ActivityWork]


def unit_of(options: RuntimeOptions, executor: ActivityExecutor) -> UnitOf:
    """Return what makes units of work of tasks, inside the middleware if there is any."""
    return partial(SurroundedWork, executor=executor) if options.activity_middleware else ActivityWork


class SurroundedWork(ActivityWork, eq=False, kw_only=True):
    """A unit of work whose activity runs inside ``RuntimeOptions.activity_middleware``.

    It is made on the loop that ``executor`` is used on; sync code goes to it.
    """

    executor: ActivityExecutor
    home: asyncio.AbstractEventLoop = msgspec.field(default_factory=asyncio.get_running_loop)

    @property
    def is_async(self) -> bool:
        """Always: middleware is async, whatever is inside of it."""
        return True

    @property
    def process_target(self) -> str | None:
        """None: middleware runs in this process, whatever is inside of it."""
        return None

    def fail(self, error: BaseException) -> None:
        if isinstance(error, _ProcessDiedError):
            self.lost()
        elif isinstance(error, _ProcessFailedError):
            self.failure = error.recorded  # as it is without middleware
        else:
            super().fail(error)

    def _call(self) -> Awaitable[Any]:
        context = self._context()
        inner = partial(self._activity, context)
        return surround(self.options.activity_middleware, context, inner)(self._input())

    async def _activity(self, context: ActivityContext, value: Any) -> Any:
        if self.definition.process is not None:
            outcome = await self._in_process(value)
        elif self.definition.is_async:
            outcome = self.definition.fn(context, value)
        else:
            outcome = await self._in_thread(partial(self.definition.fn, context, value))
        return await outcome if inspect.isawaitable(outcome) else outcome

    async def _in_thread(self, function: Callable[[], Any]) -> Any:
        call = _SyncCall(function)
        self.home.call_soon_threadsafe(self.executor.submit, call)
        await asyncio.wrap_future(call.ended)
        return call.outcome()

    async def _in_process(self, value: Any) -> Any:
        options = self.options
        text = options.codec.serialize(value)
        call = _ProcessCall(_NOBODYS_KEY, self.definition, self.task, text, self.delivery_count, options)
        self.home.call_soon_threadsafe(self.executor.submit, call)
        await asyncio.wrap_future(call.ended)
        if call.is_lost:
            raise _ProcessDiedError(
                f"the process of activity {self.definition.name!r} died before it answered"
            )
        if call.failure is not None:
            raise _ProcessFailedError(call.failure, options.codecs.decode_failure(call.failure))
        return rebuilt_as_declared(options.codec, call.result, self.definition.output_type)


class _ProcessDiedError(WorkerProcessError):
    """The task has no outcome: if nobody handles this, it runs again."""


class _ProcessFailedError(TaskFailedError):
    """What an activity raised in a worker process, as it was recorded there."""

    def __init__(self, recorded: FailureDetails, details: FailureDetails) -> None:
        super().__init__(f"{details.error_type}: {details.message}", details)
        self.recorded = recorded


class _ProcessCall(ActivityWork, eq=False, kw_only=True):
    """An activity in a worker process, for somebody who waits for it on another loop.

    When they stop waiting before it began, it never begins.
    """

    ended: Future[None] = msgspec.field(default_factory=Future[None])

    def request(self) -> bytes:
        if not self.ended.set_running_or_notify_cancel():
            raise RuntimeError("nobody waits for it any more")
        return super().request()

    def answered(self, reply: bytes) -> None:
        super().answered(reply)
        self._tell()

    def lost(self) -> None:
        super().lost()
        self._tell()

    def fail(self, error: BaseException) -> None:
        super().fail(error)
        self._tell()

    def _tell(self) -> None:
        with contextlib.suppress(InvalidStateError):  # they have stopped waiting
            self.ended.set_result(None)


class _SyncCall:
    """A unit of work of the executor: one sync call, for somebody who waits for it on another loop.

    It runs in a copy of the context of whoever makes it. When they stop waiting before it began, it never begins.
    """

    is_async = False

    def __init__(self, function: Callable[[], Any]) -> None:
        self.ended: Future[None] = Future()
        self._run: Callable[[], Any] = partial(copy_context().run, function)
        self._value: Any = None
        self._error: BaseException | None = None

    def run(self) -> Awaitable[Any] | None:
        if self.ended.set_running_or_notify_cancel():
            try:
                self._value = self._run()
            except BaseException as error:  # also SystemExit: it is the activity's failure, elsewhere
                self._error = error
            self.ended.set_result(None)
        return None

    async def run_async(self, awaitable: Awaitable[Any] | None) -> None:
        self.run()

    def fail(self, error: BaseException) -> None:
        self._error = error
        if not self.ended.done():
            self.ended.set_result(None)

    def outcome(self) -> Any:
        """Return what the call returned, or raise what it raised."""
        # Not through the future: that refuses some exceptions (StopIteration).
        if self._error is not None:
            raise self._error
        return self._value
