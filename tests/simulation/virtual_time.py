"""An asyncio event loop in virtual time: nothing ever blocks, and when nothing is ready the time jumps ahead.

Everything that runs on it is deterministic: the selector does no I/O, tasks and futures hash by a running number (so
that a set of them iterates in the same order in every run), and the loop stops with an error instead of hanging:
:class:`Deadlock` when nothing is scheduled any more, :class:`Livelock` after too many turns of the loop,
:class:`OutOfTime` when virtual time passes its limit.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context
from typing import Any, TypeVar

__all__ = ["Deadlock", "Livelock", "OutOfTime", "VirtualTimeLoop", "pause", "pause_until", "run_virtual"]

T = TypeVar("T")


class Deadlock(BaseException):
    """Nothing is ready and nothing is scheduled: the program would wait for ever."""


class Livelock(BaseException):
    """The loop turned more often than allowed."""


class OutOfTime(BaseException):
    """Virtual time passed its limit."""


class _Clockwork(selectors.BaseSelector):
    """A selector that watches nothing; asked to wait, it moves the time of its loop instead."""

    def __init__(self, *, turns_max: int, time_max: float) -> None:
        self.now = 0.0
        self.turns = 0
        self._turns_max = turns_max
        self._time_max = time_max
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, 0, events, data)
        self._keys[fileobj] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self.register(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.turns += 1
        if self.turns > self._turns_max:
            raise Livelock(f"the loop turned {self.turns:,} times; virtual time is {self.now:.3f} s")
        if timeout is None:
            raise Deadlock(f"nothing is scheduled at virtual time {self.now:.3f} s")
        if timeout > 0:
            self.now += timeout
            if self.now > self._time_max:
                raise OutOfTime(f"virtual time passed {self._time_max:,.0f} s")
        return []


class _NumberedFuture(asyncio.Future[Any]):
    def __init__(self, *, loop: VirtualTimeLoop) -> None:
        self.number = loop.next_number()
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class _NumberedTask(asyncio.Task[Any]):
    def __init__(self, coro: Coroutine[Any, Any, Any], *, loop: VirtualTimeLoop, **options: Any) -> None:
        self.number = loop.next_number()
        super().__init__(coro, loop=loop, **options)

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """The loop; ``on_task`` is told every task as it is created, ``turns`` counts how often the loop turned."""

    def __init__(self, *, turns_max: int = 2_000_000, time_max: float = 1e9) -> None:
        self._clockwork = _Clockwork(turns_max=turns_max, time_max=time_max)
        self._numbers = 0
        self.on_task: Callable[[asyncio.Task[Any]], None] | None = None
        super().__init__(self._clockwork)
        self.set_task_factory(_new_task)

    @property
    def turns(self) -> int:
        """How often the loop turned."""
        return self._clockwork.turns

    def time(self) -> float:
        return self._clockwork.now

    def next_number(self) -> int:
        """Return the next running number for a task or future."""
        self._numbers += 1
        return self._numbers

    def create_future(self) -> asyncio.Future[Any]:
        return _NumberedFuture(loop=self)


def _new_task(
    loop: asyncio.AbstractEventLoop,
    coro: Any,
    *,
    name: str | None = None,
    context: Context | None = None,
    **options: Any,
) -> asyncio.Task[Any]:
    assert isinstance(loop, VirtualTimeLoop)
    task = _NumberedTask(
        coro, loop=loop, name=name or f"task-{loop.next_number()}", context=context, **options
    )
    if loop.on_task is not None:
        loop.on_task(task)
    return task


async def pause(seconds: float) -> None:
    """Let ``seconds`` of virtual time pass."""
    loop = asyncio.get_running_loop()
    await pause_until(loop.time() + seconds)


async def pause_until(when: float) -> None:
    """Return at virtual time ``when``, at once if it has passed."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    handle = loop.call_at(when, _wake, future)
    try:
        await future
    finally:
        handle.cancel()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def run_virtual(
    main: Callable[[], Coroutine[Any, Any, T]], *, turns_max: int = 2_000_000, time_max: float = 1e9
) -> T:
    """Run ``main()`` to its end in virtual time and return its result.

    Raises:
        Deadlock, Livelock, OutOfTime: it would not have ended.
    """
    loop = VirtualTimeLoop(turns_max=turns_max, time_max=time_max)
    try:
        return loop.run_until_complete(main())
    finally:
        _abandon_tasks(loop)
        loop.close()


def _abandon_tasks(loop: VirtualTimeLoop) -> None:
    """Cancel what still runs and let it end, a few turns at most: what hangs then is dropped without a warning."""
    left = sorted(asyncio.all_tasks(loop), key=hash)
    for task in left:
        task.cancel()
    loop.set_exception_handler(lambda _loop, _context: None)
    for _ in range(50):
        if all(task.done() for task in left):
            return
        loop.call_soon(loop.stop)
        try:
            loop.run_forever()
        except (Deadlock, Livelock, OutOfTime):
            return
