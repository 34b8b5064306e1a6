"""Where activities run: threads for sync functions, an event loop for async ones, one loop for all in the simulator.

An executor takes units of work and hands each back, finished, on the loop it was opened on, many at a time: one wake-up
of the loop per batch is what makes ten thousand small activities a second possible. It never looks into a unit:
what came of it is the unit's own business. User code can cancel the task its unit runs in; such a unit has failed, and
is handed back like any other (B122).
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

from durabletask_azure.engine.switch_interval import LongUnits, SwitchInterval, switch_interval

__all__ = ["ActivityExecutor", "InlineExecutor", "ThreadExecutor", "Work"]

T = TypeVar("T")
_CANCEL_WAIT_S = 1.0
_GROW_S = 0.002
"""How long units wait before there are more threads: starting one takes as long as several small activities."""


class Work(Protocol):
    """One activity to run, once."""

    @property
    def is_async(self) -> bool:
        """Whether it belongs on an event loop."""
        ...

    def run(self) -> Awaitable[Any] | None:
        """Run a sync activity; an awaitable returned is to be given to :meth:`run_async`. Never raises."""
        ...

    async def run_async(self, awaitable: Awaitable[Any] | None) -> None:
        """Run an async activity, or what :meth:`run` returned, to its end. Raises only when cancelled or closed."""
        ...

    def fail(self, error: BaseException) -> None:
        """Take note that ``error``, not the executor, has ended :meth:`run_async`."""
        ...


Done = Callable[[Sequence[Work]], None]


class ActivityExecutor(Protocol):
    """Runs units of work; opened, used and closed on one event loop."""

    def open(self, done: Done) -> None:
        """Get ready; ``done`` is called on the running loop with finished units, in order of finishing."""
        ...

    def submit(self, *works: Work) -> None:
        """Begin units, in their order."""
        ...

    async def close(self) -> None:
        """Hand nothing back any more, cancel async units, and let threads go when their unit ends."""
        ...


class _Handover(Generic[T]):
    """Carries items to a loop, all that gathered since the last time in one call."""

    def __init__(self, loop: asyncio.AbstractEventLoop, deliver: Callable[[list[T]], None]) -> None:
        self._loop = loop
        self._deliver = deliver
        self._items: deque[T] = deque()
        self._signalled = False
        self.is_open = True

    def put(self, item: T) -> None:
        """Hand an item over, from any thread."""
        self._items.append(item)
        if not self._signalled:
            self._signalled = True
            try:
                self._loop.call_soon_threadsafe(self._arrived)
            except RuntimeError:  # the loop is closed: nobody waits for the item any more
                self.is_open = False

    def put_here(self, item: T) -> None:
        """Hand an item over, on the loop itself."""
        self._items.append(item)
        if not self._signalled:
            self._signalled = True
            self._loop.call_soon(self._arrived)

    def _arrived(self) -> None:
        # Lowered first: an item that comes from now on signals again, one that came before is taken below.
        self._signalled = False
        items: list[T] = []
        while self._items:
            items.append(self._items.popleft())
        if items and self.is_open:
            self._deliver(items)


Entry = tuple[Work, Awaitable[Any] | None]


class _LoopRunner:
    """Runs units as tasks of one loop; used on that loop only."""

    def __init__(self, loop: asyncio.AbstractEventLoop, finished: Callable[[Work], None]) -> None:
        self._loop = loop
        self._finished = finished
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._count = 0
        self._is_cancelled = False

    def begin(self, entries: Sequence[Entry]) -> None:
        """Start units, each in a context of its own."""
        for work, awaitable in entries:
            self._count += 1
            task = self._loop.create_task(self._run(self._count, work, awaitable))
            self._tasks[self._count] = task
            task.add_done_callback(partial(self._ended, self._count, work))

    async def _run(self, number: int, work: Work, awaitable: Awaitable[Any] | None) -> None:
        if awaitable is None and not work.is_async:
            awaitable = work.run()
        if awaitable is not None or work.is_async:
            await work.run_async(awaitable)
        del self._tasks[number]
        self._finished(work)

    def _ended(self, number: int, work: Work, task: asyncio.Task[None]) -> None:
        """Finish a unit whose task user code has ended, maybe before its first step."""
        if self._tasks.pop(number, None) is None or self._is_cancelled:
            return
        try:
            task.result()
        except BaseException as error:  # in most cases CancelledError, which is no Exception
            work.fail(error)
        self._finished(work)

    async def cancel(self) -> None:
        """Cancel what runs and wait a moment for it to end."""
        self._is_cancelled = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CANCEL_WAIT_S)


class InlineExecutor:
    """Runs every unit, sync ones too, as a task of the engine's loop: for the simulator, where time is virtual."""

    def __init__(self) -> None:
        self._finished: _Handover[Work] | None = None
        self._runner: _LoopRunner | None = None

    def open(self, done: Done) -> None:
        loop = asyncio.get_running_loop()
        self._finished = _Handover(loop, done)
        self._runner = _LoopRunner(loop, self._finished.put_here)

    def submit(self, *works: Work) -> None:
        assert self._runner is not None, "the executor is not open"
        self._runner.begin([(work, None) for work in works])

    async def close(self) -> None:
        if self._runner is not None and self._finished is not None:
            self._finished.is_open = False
            await self._runner.cancel()


class ThreadExecutor:
    """Runs sync units in daemon threads, at most ``threads_max``, and async ones on an event loop.

    ``async_loop`` is where async activities run: another thread's running loop, or (``None``) the engine's own, for an
    engine that shares its loop with user code. Threads are started while units wait for one, and stay. While a sync
    unit takes long, the process's threads are asked for the interpreter every ``switch_interval_s`` if others want it.
    """

    def __init__(
        self,
        threads_max: int,
        *,
        switch_interval_s: float,
        async_loop: asyncio.AbstractEventLoop | None = None,
        switching: SwitchInterval = switch_interval,
    ) -> None:
        self._threads_max = threads_max
        self._async_loop = async_loop
        self._switch_interval_s = switch_interval_s
        self._switching = switching
        self._running: list[Work | None] = [None] * threads_max
        """What each thread runs."""
        self._long: LongUnits | None = None
        self._waiting: deque[Work] = deque()
        self._calls: SimpleQueue[bool] = SimpleQueue()
        """Calls for one more thread, true if there is work, false to end; waking one costs more than a small activity,
        so the first that comes calls the next."""
        self._is_called = False
        self._threads = 0
        self._in_threads = 0
        self._is_growing = False
        self._done: Done | None = None
        self._finished: _Handover[Work] | None = None
        self._runner: _LoopRunner | None = None
        self._to_loop: _Handover[Entry] | None = None

    def open(self, done: Done) -> None:
        loop = asyncio.get_running_loop()
        self._done = done
        self._finished = _Handover(loop, self._deliver)
        self._long = LongUnits(
            self._running,
            lambda: self._in_threads > 0,
            self._switch_interval_s,
            loop.call_later,
            self._switching,
        )
        is_own = self._async_loop is None or self._async_loop is loop
        target = loop if self._async_loop is None else self._async_loop
        self._runner = _LoopRunner(target, self._finished.put_here if is_own else self._finished.put)
        self._to_loop = _Handover(target, self._runner.begin)
        self._async_loop = target

    def submit(self, *works: Work) -> None:
        assert self._long is not None, "the executor is not open"
        before = self._in_threads
        for work in works:
            if work.is_async:
                self._submit_async(work)
            else:
                self._waiting.append(work)
                self._in_threads += 1
        if self._in_threads > before and not self._is_called:
            self._is_called = True
            self._calls.put(True)
        if self._in_threads > self._threads and not self._is_growing:
            if not self._threads:
                self._start_threads(1)
            self._grow_later()
        if self._in_threads and not self._long.are_watched:
            self._long.watch()

    def _grow_later(self) -> None:
        self._is_growing = self._threads < self._threads_max
        if self._is_growing:
            asyncio.get_running_loop().call_later(_GROW_S, self._grow)

    def _grow(self) -> None:
        """Have twice as many threads, again and again as long as units wait for one."""
        self._is_growing = False
        if self._waiting:
            try:
                self._start_threads(min(len(self._waiting), self._threads, self._threads_max - self._threads))
            finally:  # there may be room for one more thread later
                self._grow_later()

    def _start_threads(self, count: int) -> None:
        for _ in range(count):
            name = f"durabletask-activity-{self._threads + 1}"
            threading.Thread(target=self._serve, args=(self._threads,), name=name, daemon=True).start()
            self._threads += 1

    async def close(self) -> None:
        if self._finished is None or self._runner is None or self._async_loop is None or self._long is None:
            return
        self._long.close()
        self._finished.is_open = False
        self._waiting.clear()  # what no thread has begun is not begun any more
        for _ in range(self._threads):
            self._calls.put(False)
        self._threads = 0
        loop = self._async_loop
        if loop is asyncio.get_running_loop():
            await self._runner.cancel()
        elif loop.is_running():
            ending = asyncio.run_coroutine_threadsafe(self._runner.cancel(), loop)
            await asyncio.wait([asyncio.wrap_future(ending)], timeout=2 * _CANCEL_WAIT_S)

    def _submit_async(self, work: Work) -> None:
        assert self._runner is not None and self._to_loop is not None, "the executor is not open"
        if self._async_loop is asyncio.get_running_loop():
            self._runner.begin(((work, None),))
        else:
            self._to_loop.put((work, None))

    def _deliver(self, works: list[Work]) -> None:
        assert self._done is not None
        self._in_threads -= [work.is_async for work in works].count(False)
        self._done(works)

    def _serve(self, place: int) -> None:
        """Be one thread of the pool."""
        finished, to_loop, waiting, running = self._finished, self._to_loop, self._waiting, self._running
        assert finished is not None and to_loop is not None
        context = Context()
        while self._calls.get():
            self._is_called = False
            while True:
                try:
                    work = waiting.popleft()
                except IndexError:
                    break
                if waiting and not self._is_called:  # this one may take long
                    self._is_called = True
                    self._calls.put(True)
                # An empty context each time: nothing an activity sets reaches the next one.
                if context:
                    context = Context()
                running[place] = work
                awaitable = context.run(work.run)
                running[place] = None
                if awaitable is None:
                    finished.put(work)
                else:
                    to_loop.put((work, awaitable))
                del work, awaitable
