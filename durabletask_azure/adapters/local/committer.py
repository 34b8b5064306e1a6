"""Writes to the hub's database: one writer per open hub, group commit, and word to everybody whom a commit concerns.

Invariants: a request takes effect entirely or not at all, and never because of what another request of its batch did;
its answer is given, and its bell rung, only after the commit. Whatever gathered while the last transaction ran makes
the next. A batch of requests that all may be lost with the power (they hold nothing that outlives a process) is
committed without waiting for the disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from durabletask_azure.adapters.local.bell import Bell, Topic, wake
from durabletask_azure.adapters.local.clock import HubClock
from durabletask_azure.errors import CommitRefusedError, HubUnavailableError

__all__ = [
    "After",
    "Committer",
    "InlineCommitter",
    "Neighbours",
    "ThreadCommitter",
    "Transaction",
    "Work",
    "last_seq",
]

T = TypeVar("T")
_REQUESTS_MAX = 1_000
_LAST_PLACES = (
    "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'messages'), 0),"
    " coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'tasks'), 0)"
)
_BUSY_S_MAX = 10.0
# What SQLite and its Python module raise for a value or statement of this one request.
_UNACCEPTABLE = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    UnicodeEncodeError,
    OverflowError,
)


class Transaction:
    """What a request writes through: SQL, the hub's time, and the topics its commit concerns."""

    def __init__(self, connection: sqlite3.Connection, now_us: int, last_task: int) -> None:
        self.execute = connection.execute
        self.executemany = connection.executemany
        self.now_us = now_us
        """The hub's time at the start of the batch: above that of every message taken in before."""
        self._seq = now_us
        self._task = last_task
        self.topics: list[Topic] = []
        self.after: list[After] = []
        """What is to be done in the event loop of whoever asked, once the request is committed, or has failed."""

    def next_seq(self) -> int:
        """Return the place, and time, of one more message."""
        self._seq += 1
        return self._seq

    def next_task(self) -> int:
        """Return the place of one more activity task."""
        self._task += 1
        return self._task


Work = Callable[[Transaction], T]
After = Callable[[bool], None]
"""Told whether the request it belongs to was committed."""


class _Request:
    __slots__ = ("after", "answer", "durable", "error", "future", "topics", "undone", "work")

    def __init__(self, work: Work[Any], durable: bool, future: asyncio.Future[Any] | None) -> None:
        self.work = work
        self.durable = durable
        self.future = future
        self.answer: Any = None
        self.error: Exception | None = None
        self.topics: Sequence[Topic] = ()
        self.after: Sequence[After] = ()
        self.undone: list[After] = []
        """What was to be done after an attempt that was undone."""

    def conclude(self) -> None:
        """Do what is to be done in the event loop of whoever asked."""
        for after in self.undone:
            after(False)
        for after in self.after:
            after(self.error is None)


class Neighbours(Protocol):
    """Other processes that have the same hub open."""

    @property
    def waiting(self) -> bool:
        """Whether a hint could not be handed over yet."""
        ...

    def tell(self, topics: Iterable[Topic]) -> None:
        """Hint at what a commit changed, and hand over what waits."""
        ...


class Committer(Protocol):
    """How the ports write."""

    clock: HubClock
    """The hub's time; each batch has it reach at least the newest message of any process."""
    commits: int
    durable_commits: int
    requests: int

    async def submit(self, work: Work[T], *, durable: bool = True) -> T:
        """Run ``work`` in a transaction and return its answer after the commit.

        Raises:
            HubUnavailableError: the database failed, or the hub is closed.
            DurableTaskError: what ``work`` raised; then nothing of it happened.
        """
        ...


def last_seq(connection: sqlite3.Connection) -> int:
    """Return the place, and time, of the newest message there ever was; 0 if there was none."""
    return connection.execute(_LAST_PLACES).fetchone()[0]


def run_batch(connection: sqlite3.Connection, requests: Sequence[_Request], clock: HubClock) -> None:
    """Run requests in one transaction; each is left with its answer or its error.

    In most batches no request fails, so each is undone for itself only if that has been tried and did not hold.
    """
    try:
        try:
            _run_all(connection, requests, clock, _run_bare)
        except _FailedError:
            connection.execute("ROLLBACK")
            for request in requests:
                request.undone += request.after
            _run_all(connection, requests, clock, _run_guarded)
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        failure = HubUnavailableError(f"the hub's database failed: {error}")
        failure.__cause__ = error
        for request in requests:
            request.topics = ()
            request.error = request.error or failure
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _run_all(
    connection: sqlite3.Connection,
    requests: Sequence[_Request],
    clock: HubClock,
    run: Callable[[Transaction, _Request], None],
) -> None:
    _begin(connection)
    reached_us, last_task = connection.execute(_LAST_PLACES).fetchone()
    transaction = Transaction(connection, clock.now_us(reached_us), last_task)
    for request in requests:
        transaction.topics = []
        request.after = transaction.after = []
        run(transaction, request)


def _begin(connection: sqlite3.Connection) -> None:
    """Begin to write, waiting while another process does.

    SQLite's own waiting grows to a tenth of a second a try, which starves one of two busy processes; a commit takes
    some milliseconds, and whoever looks too late has missed the moment between two of them.
    """
    deadline = 0.0
    pause_s = 0.0001
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            now = time.monotonic()
            deadline = deadline or now + _BUSY_S_MAX
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or now > deadline:
                raise
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.1, 0.001)


class _FailedError(Exception):
    """A request of a batch has failed, and all of the batch has to be undone."""


def _run_bare(transaction: Transaction, request: _Request) -> None:
    try:
        request.answer = request.work(transaction)
    except Exception as error:
        _check_cause(error)
        raise _FailedError from error
    request.topics = transaction.topics


def _run_guarded(transaction: Transaction, request: _Request) -> None:
    transaction.execute("SAVEPOINT request")
    try:
        request.answer = request.work(transaction)
    except Exception as error:
        _check_cause(error)
        transaction.execute("ROLLBACK TO request")
        request.topics = ()
        request.error = _refusal(error)
    else:
        request.topics = transaction.topics
    transaction.execute("RELEASE request")


def _check_cause(error: Exception) -> None:
    """Pass on what is not the request's fault: a full disk, I/O. SQLite may have rolled back everything by itself."""
    if isinstance(error, sqlite3.Error) and not isinstance(error, _UNACCEPTABLE):
        raise error


def _refusal(error: Exception) -> Exception:
    if isinstance(error, _UNACCEPTABLE):
        refusal = CommitRefusedError(f"the database does not take this: {error}")
        refusal.__cause__ = error
        return refusal
    return error


class InlineCommitter:
    """Commits in the caller's thread: for a hub in memory, where there is no disk to wait for."""

    def __init__(
        self, connection: sqlite3.Connection, lock: threading.Lock, bell: Bell, clock: HubClock | None = None
    ) -> None:
        self.clock = HubClock() if clock is None else clock
        self._connection = connection
        self._lock = lock
        self._bell = bell
        self._closed = False
        self.commits = 0
        self.durable_commits = 0
        self.requests = 0

    async def submit(self, work: Work[T], *, durable: bool = True) -> T:
        # Others get their turn, as they do while a disk is waited for; before, so that a cancelled call did nothing.
        await asyncio.sleep(0)
        request = _Request(work, durable, None)
        with self._lock:
            if self._closed:
                raise HubUnavailableError("the hub is closed")
            run_batch(self._connection, (request,), self.clock)
            self.commits += 1
            self.requests += 1
        request.conclude()
        wake(self._bell.ring(request.topics))
        if request.error is not None:
            raise request.error
        return request.answer

    def close(self) -> None:
        """Refuse everything from now on."""
        with self._lock:
            self._closed = True


class _Answers:
    """What one event loop gets from a batch, in one call: its answers, and its waiters to wake."""

    __slots__ = ("requests", "waiters")

    def __init__(self) -> None:
        self.requests: list[_Request] = []
        self.waiters: list[asyncio.Future[None]] = []

    def give(self) -> None:
        for request in self.requests:
            request.conclude()
            future = request.future
            if future is None or future.done():
                continue
            if request.error is None:
                future.set_result(request.answer)
            else:
                future.set_exception(request.error)
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)


class ThreadCommitter:
    """Commits in a thread of its own, which also looks for other processes' commits when nothing is to be done."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        synchronous: str,
        bell: Bell,
        neighbours: Neighbours,
        poll_s: float,
        clock: HubClock,
    ) -> None:
        self.clock = clock
        self._connection = connection
        self._connection.execute("PRAGMA busy_timeout=0")
        self._synchronous = synchronous
        self._current = synchronous
        self._relaxed = "OFF" if synchronous == "OFF" else "NORMAL"
        self._bell = bell
        self._neighbours = neighbours
        self._poll_s = poll_s
        self._ready = threading.Condition(threading.Lock())
        self._queue: deque[_Request] = deque()
        self._closed = False
        self._data_version = 0
        self._looked_at = time.monotonic()
        self.commits = 0
        self.durable_commits = 0
        self.requests = 0
        self._thread = threading.Thread(target=self._work, name="durabletask-hub-writer", daemon=True)
        self._thread.start()

    async def submit(self, work: Work[T], *, durable: bool = True) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        request = _Request(work, durable, future)
        with self._ready:
            if self._closed:
                raise HubUnavailableError("the hub is closed")
            self._queue.append(request)
            if len(self._queue) == 1:
                self._ready.notify()
        return await future

    def close(self) -> None:
        """Finish what was submitted, refuse everything else, end the thread. Blocks."""
        with self._ready:
            self._closed = True
            self._ready.notify()
        self._thread.join()

    def _work(self) -> None:
        try:
            while self._turn():
                continue
        finally:
            # Only our own mistake ends the thread with requests waiting; they must not wait for ever.
            with self._ready:
                self._closed = True
                left = [*self._queue]
                self._queue.clear()
            for request in left:
                request.error = HubUnavailableError("the hub's writer has stopped")
            self._answer(left, ())

    def _turn(self) -> bool:
        """Commit what gathered, or look round; return whether there is more to come."""
        with self._ready:
            if not self._queue and not self._closed:
                self._ready.wait(0.005 if self._neighbours.waiting else self._poll_s)
            if not self._queue and self._closed:
                return False
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), _REQUESTS_MAX))]
        if batch:
            self._commit(batch)
        if not batch or time.monotonic() - self._looked_at > self._poll_s:
            self._look_round()
        return True

    def _commit(self, batch: Sequence[_Request]) -> None:
        durable = any(request.durable for request in batch)
        # NORMAL still syncs around a checkpoint, so the file cannot be damaged; the next durable commit covers it.
        mode = self._synchronous if durable else self._relaxed
        try:
            if mode != self._current:
                self._connection.execute(f"PRAGMA synchronous={mode}")
                self._current = mode
            run_batch(self._connection, batch, self.clock)
        except sqlite3.Error as error:
            for request in batch:
                request.error = request.error or HubUnavailableError(f"the hub's database failed: {error}")
        self.commits += 1
        self.durable_commits += durable
        self.requests += len(batch)
        topics = [topic for request in batch for topic in request.topics]
        self._answer(batch, self._bell.ring(topics))
        if topics or self._neighbours.waiting:
            self._neighbours.tell(topics)

    def _answer(self, requests: Sequence[_Request], waiters: Sequence[asyncio.Future[None]]) -> None:
        answers: defaultdict[asyncio.AbstractEventLoop, _Answers] = defaultdict(_Answers)
        for request in requests:
            if request.future is not None:
                answers[request.future.get_loop()].requests.append(request)
        for waiter in waiters:
            answers[waiter.get_loop()].waiters.append(waiter)
        for loop, own in answers.items():
            try:
                loop.call_soon_threadsafe(own.give)
            except RuntimeError:
                # The loop is closed: whoever asked is gone.
                continue

    def _look_round(self) -> None:
        self._looked_at = time.monotonic()
        if self._neighbours.waiting:
            self._neighbours.tell(())
        try:
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error:
            # Busy with recovery in another process: the next look is soon enough.
            return
        if version != self._data_version:
            self._data_version = version
            wake(self._bell.ring_all())
