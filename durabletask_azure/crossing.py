"""Calls from other threads to a hub's: those that gather are handed over together, and so are their answers.

Waking another loop costs a system call and, in Python, often a wait for the interpreter's lock; two hundred calls made
at once wake the hub's thread once, and their answers come back a batch at a time. Over there a call is a coroutine in a
task of its own, or less: an :class:`Errand` is usually answered without either.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from durabletask_azure.engine.operations import Asked
from durabletask_azure.errors import HubUnavailableError

__all__ = ["Blocking", "Call", "Crossing", "Errand"]

T = TypeVar("T")
Call = Callable[[], Coroutine[Any, Any, T]]
"""Makes the coroutine to run on the hub's thread; a call that is refused makes none."""

_CLOSED = "the task hub was closed while a call was under way"


class Errand(ABC, Generic[T]):
    """A call that usually takes no coroutine; called, it makes the one that does all of it."""

    __slots__ = ()

    @abstractmethod
    def __call__(self) -> Coroutine[Any, Any, T]:
        """Make the coroutine."""

    @abstractmethod
    def at_once(self, asked: Asked[T]) -> bool:
        """Begin, on the hub's thread, and have ``asked`` told later; return false if it takes the coroutine."""


class _Asking(ABC, Generic[T]):
    """A call as the hub's thread sees it: the :class:`Asked` of both classes below.

    It runs in its caller's context. ``error`` or else ``given`` is its outcome once :meth:`conclude` is called.
    """

    __slots__ = ()
    call: Call[T]
    context: contextvars.Context
    hub: asyncio.AbstractEventLoop
    quit: Callable[[], object] | None
    given: T | None
    error: BaseException | None

    def begin(self) -> None:
        """Begin; a call that cannot be made fails alone."""
        call = self.call
        try:
            if not isinstance(call, Errand) or not call.at_once(self):  # pyright: ignore[reportUnknownMemberType]
                self.go_on(call)  # pyright: ignore[reportUnknownArgumentType] - it knows no type of a narrowed errand
        except Exception as error:
            self.fail(error)

    def go_on(self, call: Call[T]) -> None:
        task = self.hub.create_task(call(), context=self.context)
        self.quit = task.cancel
        task.add_done_callback(self._ran, context=self.context)

    def _ran(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self.fail(HubUnavailableError(_CLOSED))
            return
        error = task.exception()
        if error is None:
            self.answer(task.result())
        else:
            self.fail(error)

    def answer(self, result: T) -> None:
        self.quit = None
        self.given = result
        self.conclude()

    def fail(self, error: BaseException) -> None:
        """Take an error for the result."""
        self.quit = None
        self.error = error
        self.conclude()

    def leave(self) -> None:
        """Stop what is under way: nobody waits for it any more."""
        quit, self.quit = self.quit, None
        if quit is not None:
            quit()

    @abstractmethod
    def conclude(self) -> None:
        """Tell whoever waits."""


class Blocking(_Asking[T]):
    """A call of a thread that waits for the answer and does nothing else."""

    __slots__ = ("_concluded", "call", "context", "error", "given", "hub", "quit")

    def __init__(self, hub: asyncio.AbstractEventLoop, call: Call[T]) -> None:
        self.hub = hub
        self.call = call
        self.context = contextvars.copy_context()
        self.quit = None
        self.given = None
        self.error = None
        self._concluded = threading.Lock()
        self._concluded.acquire()
        hub.call_soon_threadsafe(self.begin, context=self.context)

    def wait(self) -> T:
        """Return the result, or raise what the call raised; whoever is interrupted here stops the call."""
        try:
            self._concluded.acquire()
        except BaseException:
            with contextlib.suppress(RuntimeError):  # the hub's loop is closed: nothing runs there
                self.hub.call_soon_threadsafe(self.leave)
            raise
        if self.error is None:
            return self.given  # pyright: ignore[reportReturnType] - the result of a call that gives T
        try:
            raise self.error
        finally:
            self.error = None  # whose traceback refers to this frame

    def conclude(self) -> None:
        """Let the thread go on."""
        with contextlib.suppress(RuntimeError):  # abandoned, and answered all the same
            self._concluded.release()

    def abandon(self) -> None:
        """Fail: the other thread has ended."""
        self.fail(HubUnavailableError(_CLOSED))


class _Crossed(_Asking[T], asyncio.Future[T]):
    """A call of a coroutine in another loop, which awaits this future; cancelling it cancels the call."""

    __slots__ = ("call", "context", "crossing", "error", "given", "hub", "quit")

    def __init__(self, crossing: Crossing, call: Call[T]) -> None:
        super().__init__(loop=crossing.home)
        self.crossing = crossing
        self.hub = crossing.hub
        self.call = call
        self.context = contextvars.copy_context()
        self.quit = None
        self.given = None
        self.error = None

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the future, and stop the call."""
        if not super().cancel(msg):
            return False
        self.crossing.left(self)
        return True

    def conclude(self) -> None:
        """Have the future resolved at home."""
        self.crossing.concluded(self)

    def settle(self) -> None:
        """Resolve the future, at home, if the caller still waits."""
        error, self.error = self.error, None
        if self.done():
            return
        if error is None:
            self.set_result(self.given)  # pyright: ignore[reportArgumentType] - the result of a call that gives T
        else:
            self.set_exception(error)


class Crossing:
    """The way from the event loop ``home`` to the loop of a hub's thread and back."""

    def __init__(self, home: asyncio.AbstractEventLoop, hub: asyncio.AbstractEventLoop) -> None:
        self.home = home
        self.hub = hub
        self._lock = threading.Lock()
        self._under_way: set[_Crossed[Any]] = set()
        self._calls: list[_Crossed[Any]] = []
        """Of those under way, what the hub's thread has not seen yet."""
        self._answers: list[_Crossed[Any]] = []

    def call(self, call: Call[T]) -> asyncio.Future[T]:
        """Have a call run over there; return the future of its result. Cancelling that stops the call."""
        asked = _Crossed(self, call)
        with self._lock:
            is_first = not self._calls
            self._calls.append(asked)
            self._under_way.add(asked)
        if is_first:
            # Once all that this round of the loop asks for is there: they are begun, and written, together.
            self.home.call_soon(self._go)
        return asked

    def _go(self) -> None:
        try:
            self.hub.call_soon_threadsafe(self._begin)
        except RuntimeError:  # the other loop was closed meanwhile
            self.abandon()

    def abandon(self) -> None:
        """Fail everything under way: the other thread has ended. From any thread."""
        with self._lock:
            left = [*self._under_way.difference(self._answers)]
            self._under_way.difference_update(left)
            self._calls.clear()
        with contextlib.suppress(RuntimeError):  # the caller's loop is closed: nobody waits
            self.home.call_soon_threadsafe(self._settle)
            self.home.call_soon_threadsafe(_fail, left)

    # ------------------------------------------------------------ over there

    def _begin(self) -> None:
        with self._lock:
            calls, self._calls = self._calls, []
        for asked in calls:
            if not asked.cancelled():  # else its caller went before it began: it never does
                asked.begin()

    def concluded(self, asked: _Crossed[Any]) -> None:
        """Take the outcome of a call home."""
        with self._lock:
            is_first = not self._answers
            self._answers.append(asked)
        if is_first:
            with contextlib.suppress(RuntimeError):  # the caller's loop is closed: nobody waits
                self.home.call_soon_threadsafe(self._settle)

    # ------------------------------------------------------------ at home

    def left(self, asked: _Crossed[Any]) -> None:
        """Stop a call whose caller does not wait any more."""
        with self._lock:
            self._under_way.discard(asked)
        with contextlib.suppress(RuntimeError):  # the hub's loop is closed: nothing runs there
            self.hub.call_soon_threadsafe(asked.leave)

    def _settle(self) -> None:
        with self._lock:
            answers, self._answers = self._answers, []
            self._under_way.difference_update(answers)
        for asked in answers:
            asked.settle()


def _fail(left: list[_Crossed[Any]]) -> None:
    for asked in left:
        asked.error = HubUnavailableError(_CLOSED)
        asked.settle()
