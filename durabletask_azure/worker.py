"""The worker: what a program registers, and the life cycle of the engine that runs it.

A worker takes its share of the hub's partitions and activity tasks between ``start`` and ``stop``; stopping drains what
runs. User code runs in threads and on loops of its own, never on the hub's thread: synchronous activities in a pool,
async ones on the caller's loop (``async with``, ``run``) or on a thread that the worker keeps for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import platform
import signal
import threading
import uuid
from collections.abc import Callable, Generator, Mapping
from datetime import timedelta
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, overload

from durabletask_azure.calls.arguments import check_flag
from durabletask_azure.concurrency import ConcurrencyOptions, with_concurrency
from durabletask_azure.core.codec import DataConverter, checked_converter
from durabletask_azure.core.filters import (
    ActivityWorkItemFilter,
    EntityWorkItemFilter,
    OrchestrationWorkItemFilter,
    WorkItemFilters,
)
from durabletask_azure.core.middleware import ActivityMiddleware, CallNext, OrchestrationMiddleware
from durabletask_azure.core.replay import RuntimeOptions
from durabletask_azure.core.versioning import (
    VersionFailureStrategy,
    VersioningOptions,
    VersionMatchStrategy,
)
from durabletask_azure.engine.activity_work import properties_function
from durabletask_azure.engine.executor import ThreadExecutor
from durabletask_azure.engine.worker import Engine
from durabletask_azure.engine.worker_processes import worker_processes
from durabletask_azure.errors import (
    ActivityNotRegisteredError,
    ArgumentTypeError,
    ConfigurationError,
    OrchestratorNotRegisteredError,
    TaskHubError,
    WorkerStateError,
)
from durabletask_azure.hosting import EngineThread, HubHost, checked_host, checked_logger
from durabletask_azure.options import known_options
from durabletask_azure.work_policies import WorkPolicies

__all__ = [
    "ActivityMiddleware",
    "ActivityNotRegisteredError",
    "ActivityWorkItemFilter",
    "CallNext",
    "ConcurrencyOptions",
    "EntityWorkItemFilter",
    "ExceptionPropertiesProvider",
    "OrchestrationMiddleware",
    "OrchestrationWorkItemFilter",
    "OrchestratorNotRegisteredError",
    "TaskHubWorker",
    "VersionFailureStrategy",
    "VersionMatchStrategy",
    "VersioningOptions",
    "WorkItemFilters",
]

F = TypeVar("F")


class ExceptionPropertiesProvider(Protocol):
    """Takes custom properties out of an exception, to be kept with the failure."""

    def get_exception_properties(self, exception: Exception) -> Mapping[str, Any] | None:
        """Return the properties to keep, JSON-like values by name, or ``None``."""
        ...


class TaskHubWorker(WorkPolicies):
    """Runs orchestrations and activities of a task hub.

    Args:
        hub: the task hub; several workers and clients may share it.
        concurrency_options: how much is done at once; the hub's settings if not given.
        maximum_timer_interval: makes durable timers longer than this of several, one after the other; a durable timer
            may be of any length if not given.
        data_converter: how values become text; it must be the same on all workers and clients of a hub.
        logger: where the worker reports starting and stopping; ``durabletask_azure.worker`` if not given.
        exception_properties_provider: takes custom properties out of exceptions, to be kept with failures.

    Raises:
        ArgumentTypeError: an argument is of the wrong type. ConfigurationError: ``maximum_timer_interval`` is less
            than a second.
    """

    @known_options("TaskHubWorker")
    def __init__(
        self,
        hub: HubHost,
        *,
        concurrency_options: ConcurrencyOptions | None = None,
        maximum_timer_interval: timedelta | None = None,
        data_converter: DataConverter | None = None,
        logger: logging.Logger | None = None,
        exception_properties_provider: ExceptionPropertiesProvider | None = None,
    ) -> None:
        super().__init__(maximum_timer_interval=maximum_timer_interval)
        self._hub = checked_host(hub)
        self._concurrency_options = concurrency_options
        self._settings = with_concurrency(self._hub.settings, concurrency_options)
        self._converter = checked_converter(data_converter)
        self._logger = checked_logger(logger, "durabletask_azure.worker")
        self._properties = _checked_provider(exception_properties_provider)
        self._lock = threading.RLock()
        self._engine: Engine | None = None
        self._activity_thread: EngineThread | None = None
        self._user_loop: asyncio.AbstractEventLoop | None = None

    @property
    def concurrency_options(self) -> ConcurrencyOptions:
        """How much the worker does at once."""
        return self._concurrency_options if self._concurrency_options is not None else ConcurrencyOptions()

    @property
    def is_running(self) -> bool:
        """Whether the worker is started."""
        return self._engine is not None

    # ------------------------------------------------------------------ registration

    def add_orchestrator(
        self,
        fn: Any = None,
        *,
        name: str | None = None,
        version: str | None = None,
        factory: Callable[[], Any] | None = None,
    ) -> str:
        """Register an orchestrator and return its name.

        ``fn`` is a function ``(ctx, input)`` or ``(ctx)``, or a class or instance with such a method ``run``;
        ``factory`` instead makes one such object for each execution, with whatever it depends on. A name may be
        registered in several versions; the one without a version stands in for those that are not.

        Raises:
            WorkerStateError: (a ``RuntimeError``) the worker is running.
            ConfigurationError: the name is taken or not allowed. ArgumentTypeError: nothing that can be run.
        """
        self._check_stopped("Orchestrators cannot be added")
        return self._registry.add_orchestrator(fn, name=name, version=version, factory=factory)

    def add_activity(
        self,
        fn: Any = None,
        *,
        name: str | None = None,
        factory: Callable[[], Any] | None = None,
        process: bool = False,
    ) -> str:
        """Register an activity, sync or async, and return its name; arguments and errors as for orchestrators.

        With ``process`` it runs in one of ``Settings.activity_processes_max`` processes of its own, for code that keeps
        a processor busy: ``fn`` must be a function or class at the top of a module, which those processes import (the
        main module too: put what it starts under ``if __name__ == "__main__":``).
        """
        self._check_stopped("Activities cannot be added")
        check_flag(process, "process")
        return self._registry.add_activity(fn, name=name, factory=factory, process=process)

    def add_activities_from(self, obj: Any, *, interface: type | None = None) -> list[str]:
        """Register every public method of an object as an activity of the method's name; return the names.

        With ``interface`` (a class, abstract class or protocol) only the methods that it declares.

        Raises:
            WorkerStateError: the worker is running. ConfigurationError: a name is taken, there is no public method, or
                the object lacks one of the interface; then none was registered.
        """
        self._check_stopped("Activities cannot be added")
        return self._registry.add_activities_from(obj, interface=interface)

    @overload
    def orchestrator(self, fn: F, /) -> F: ...

    @overload
    def orchestrator(
        self, fn: None = None, /, *, name: str | None = ..., version: str | None = ...
    ) -> Callable[[F], F]: ...

    def orchestrator(self, fn: Any = None, /, *, name: str | None = None, version: str | None = None) -> Any:
        """Register the decorated function or class as an orchestrator; with or without arguments."""

        def register(target: F) -> F:
            self.add_orchestrator(target, name=name, version=version)
            return target

        return register if fn is None else register(fn)

    @overload
    def activity(self, fn: F, /) -> F: ...

    @overload
    def activity(
        self, fn: None = None, /, *, name: str | None = ..., process: bool = ...
    ) -> Callable[[F], F]: ...

    def activity(self, fn: Any = None, /, *, name: str | None = None, process: bool = False) -> Any:
        """Register the decorated function or class as an activity; with or without arguments."""

        def register(target: F) -> F:
            self.add_activity(target, name=name, process=process)
            return target

        return register if fn is None else register(fn)

    # ------------------------------------------------------------------ life cycle

    def start(self) -> None:
        """Start working in the background.

        Raises:
            WorkerStateError: the worker is running. ConfigurationError: the hub is closed, or a process cannot run an
                activity that was registered with ``process=True``. DurableTaskError: the hub cannot be opened.
        """
        with self._lock:
            if self._engine is not None:
                raise WorkerStateError("The worker is already running.")
            self._hub.open()
            worker_id = f"{platform.node() or 'worker'}-{os.getpid()}-{_new_id()[:8]}"
            with_processes = worker_processes(
                self._registry.activities, self._settings, self._converter, self._properties
            )
            executor = with_processes(
                ThreadExecutor(
                    self._settings.activity_threads_max,
                    switch_interval_s=self._settings.switch_interval_s,
                    async_loop=self._loop_for_activities(),
                )
            )
            filters = self._registry.filters = self._filters()
            engine = Engine(
                self._hub.ports,
                self._registry,
                self._settings,
                self._options(),
                executor=executor,
                worker_id=worker_id,
                id_source=_new_id,
                activities=filters is None or bool(filters.activities),
                orchestrations=filters is None or bool(filters.orchestrations),
                log=self._logger,
            )
            try:
                self._hub.run(engine.start)
            except BaseException:
                # Ctrl-C while waiting: the engine may have started all the same, and nobody else knows of it.
                with contextlib.suppress(ConfigurationError, TaskHubError):
                    self._hub.run(lambda: engine.stop(0.0))
                self._end_activity_thread()
                raise
            self._engine = engine
            self._hub.enter(self, self._stop)

    def stop(self) -> None:
        """Stop working: wait for running activities, commit and send what is under way, give the partitions back.

        Waits at most ``Settings.stop_grace_s`` for activities; what does not end in time is run again by another
        worker. Stopping a stopped worker does nothing.
        """
        self._stop(hurried=False)

    def _stop(self, hurried: bool) -> None:
        with self._lock:
            engine = self._engine
            if engine is None:
                return
            try:
                if not self._hub.is_closed:
                    self._hub.run(lambda: engine.stop(0.0 if hurried else None))
            finally:
                self._hub.leave(self)
                self._engine = None
                self._end_activity_thread()

    async def run(self) -> None:
        """Start, work until cancelled or told to end by SIGTERM or SIGINT, then drain as :meth:`stop` does.

        A second signal ends the draining: what still runs is left to be run again. Async activities run on the caller's
        loop. Signals are handled if this is the main thread; the handlers that were there before are put back. What the
        program has loaded by then is out of the garbage collector's sight (``gc.freeze``): a worker under load
        would look through all of it again and again, and stand still for that.
        """
        told, again = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        self._user_loop = loop
        with _signals_handled(loop, lambda: (again if told.is_set() else told).set()):
            try:
                if not self.is_running:
                    await asyncio.to_thread(self.start)
                with _frozen_heap():
                    await told.wait()
            finally:
                await self._drain(again)
                self._user_loop = None

    async def _drain(self, hurried: asyncio.Event) -> None:
        """Stop gracefully; at once when ``hurried`` is set."""
        stopping = asyncio.create_task(asyncio.to_thread(self.stop))
        hurry = asyncio.create_task(hurried.wait())
        try:
            await asyncio.wait((stopping, hurry), return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurry.cancel()
        engine = self._engine
        if not stopping.done() and engine is not None:
            # Beside `stop`, which holds the lock: an engine told twice waits for nothing any more.
            with contextlib.suppress(ConfigurationError, TaskHubError):
                await asyncio.to_thread(self._hub.run, lambda: engine.stop(0.0))
        await stopping

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        self._user_loop = asyncio.get_running_loop()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # In a thread: async activities that are still running need this loop to end.
        await asyncio.to_thread(self.stop)
        self._user_loop = None

    def _loop_for_activities(self) -> asyncio.AbstractEventLoop:
        if self._user_loop is not None:
            return self._user_loop
        self._activity_thread = EngineThread("durabletask-azure async activities")
        return self._activity_thread.loop()

    def _end_activity_thread(self) -> None:
        if self._activity_thread is not None:
            self._activity_thread.close()
            self._activity_thread = None

    def _options(self) -> RuntimeOptions:
        settings, versioning = self._settings, self._registry.versioning
        return RuntimeOptions(
            codec=self._hub.payload_codecs.converter(self._converter),
            codecs=self._hub.payload_codecs,
            failure_text_bytes_max=settings.failure_text_bytes_max,
            name_chars_max=settings.name_chars_max,
            instance_id_chars_max=settings.instance_id_chars_max,
            actions_max=settings.open_tasks_max,
            default_version=None if versioning is None else versioning.default_version,
            maximum_timer_interval=self._maximum_timer_interval,
            orchestration_middleware=tuple(self._orchestration_middleware),
            activity_middleware=tuple(self._activity_middleware),
            exception_properties=properties_function(self._properties),
        )


def _new_id() -> str:
    return uuid.uuid4().hex


def _checked_provider(provider: Any) -> ExceptionPropertiesProvider | None:
    if provider is not None and not callable(getattr(provider, "get_exception_properties", None)):
        raise ArgumentTypeError(
            "exception_properties_provider must have a method get_exception_properties(exception);"
            f" {type(provider).__name__} has none"
        )
    return provider


@contextlib.contextmanager
def _frozen_heap() -> Generator[None]:
    """Keep what there is now from the garbage collector, unless the program does so by itself."""
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextlib.contextmanager
def _signals_handled(loop: asyncio.AbstractEventLoop, tell: Callable[[], object]) -> Generator[None]:
    """Have SIGTERM and SIGINT call ``tell`` on the loop, where that is possible, and put back what was there."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle(_number: int, _frame: object) -> None:
        loop.call_soon_threadsafe(tell)

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
