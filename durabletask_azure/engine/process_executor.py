"""Runs CPU-bound activities in worker processes, the others where they always ran.

A worker process is one child of this one and runs one activity at a time, so one that dies takes nothing else with it:
its unit is *lost* (delivered, without a result) and the next unit gets a new process. Each child is kept by a thread
that only waits for it. Children are spawned, never forked (the hub has threads), by the first work that finds none
idle; they end with the executor, and with this process, however it ends.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import multiprocessing
import signal
import sys
import threading
from collections.abc import Iterable
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from multiprocessing.util import Finalize
from queue import Empty, SimpleQueue
from typing import Protocol, TypeGuard, runtime_checkable

from durabletask_azure.core.definitions import ActivityDefinition
from durabletask_azure.engine.executor import ActivityExecutor, Done, Work
from durabletask_azure.engine.process_child import ProcessSetup, find_target, serve
from durabletask_azure.errors import ConfigurationError, WorkerProcessError

__all__ = ["ProcessExecutor", "check_process_activities"]

_LOOK_S = 1.0
_END_S = 5.0
_EXIT_PRIORITY = 100
_MAIN = (
    "it imports the main module, which must start nothing by that: put what the program does under"
    ' `if __name__ == "__main__":`'
)
_SPAWNING = threading.Lock()
_context = multiprocessing.get_context("spawn")
_log = logging.getLogger("durabletask_azure.engine.processes")


@runtime_checkable
class ProcessWork(Work, Protocol):
    """A unit that can be run by a worker process."""

    @property
    def process_target(self) -> str | None:
        """The name its function is found by there, ``None`` if it does not run there."""
        ...

    def request(self) -> bytes:
        """Return what the process needs. May raise: the unit has failed then."""
        ...

    def answered(self, reply: bytes) -> None:
        """Take over what came of it. May raise: the unit has failed then."""
        ...

    def lost(self) -> None:
        """Take note that the process died before it answered."""
        ...


def check_process_activities(definitions: Iterable[ActivityDefinition], setup: ProcessSetup) -> None:
    """Make sure that worker processes can run these activities.

    Raises:
        ConfigurationError: one cannot be found by its name, or the data converter or the provider of exception
            properties cannot be sent to a process.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # as multiprocessing asks it itself
        raise ConfigurationError(f"this process is one for activities, and starts no worker; {_MAIN}")
    for definition in definitions:
        if definition.process is None:
            continue
        path, target = definition.process
        main = sys.modules.get("__main__")
        if path.startswith("__main__:") and getattr(main, "__file__", None) is None:
            raise ConfigurationError(
                f"activity {definition.name!r} runs in another process, which cannot find it: it stands in no file;"
                " move it to a module"
            )
        if find_target(path) is not target:
            raise ConfigurationError(
                f"activity {definition.name!r} runs in another process, which finds it by its name: {path} is something"
                " else than what was registered (has a decorator put another object there?)"
            )
    for what, value in (
        ("data_converter", setup.converter),
        ("exception_properties_provider", setup.properties_provider),
    ):
        try:
            ForkingPickler.dumps(value)
        except Exception as error:  # pickle raises many kinds
            raise ConfigurationError(
                f"{what} is needed in the processes of activities, and cannot be pickled: {error}; make it an object of"
                " a class of a module, without open files or locks"
            ) from error


class ProcessExecutor:
    """Runs units with a ``process_target`` in at most ``processes_max`` worker processes, all others in ``inner``."""

    def __init__(self, inner: ActivityExecutor, processes_max: int, setup: ProcessSetup) -> None:
        self._inner = inner
        self._processes_max = processes_max
        self._setup = setup
        self._queue: SimpleQueue[ProcessWork | None] = SimpleQueue()
        self._threads: list[concurrent.futures.Future[None]] = []
        self._inside = 0
        self._children: set[_Child] = set()
        self._done: Done | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_open = False
        # Children are no daemons, which could not start processes of their own; so they must be gone before the
        # interpreter waits for its children.
        self._finalizer = Finalize(self, _kill_all, args=(self._children,), exitpriority=_EXIT_PRIORITY)

    def open(self, done: Done) -> None:
        self._loop = asyncio.get_running_loop()
        self._done = done
        self._is_open = True
        self._inner.open(done)

    def submit(self, *works: Work) -> None:
        others: list[Work] = []
        for work in works:
            if _runs_in_process(work):
                self._inside += 1
                self._queue.put(work)
            else:
                others.append(work)
        if others:
            self._inner.submit(*others)
        while self._inside > len(self._threads) and len(self._threads) < self._processes_max:
            ended: concurrent.futures.Future[None] = concurrent.futures.Future()
            self._threads.append(ended)
            name = f"durabletask-process-{len(self._threads)}"
            threading.Thread(target=self._serve, args=(ended,), name=name, daemon=True).start()

    async def close(self) -> None:
        self._is_open = False
        with contextlib.suppress(Empty):
            while True:  # what no process has begun is not begun any more
                self._queue.get_nowait()
        for _ in self._threads:
            self._queue.put(None)
        for child in list(self._children):
            if child.is_busy:
                child.kill()
        await self._inner.close()
        if self._threads:
            await asyncio.wait([asyncio.wrap_future(ended) for ended in self._threads], timeout=_END_S)
        self._finalizer()

    def _serve(self, ended: concurrent.futures.Future[None]) -> None:
        """Keep one worker process, in a thread of its own."""
        child: _Child | None = None
        try:
            while (work := self._queue.get()) is not None:
                if child is None or not child.is_alive:
                    self._forget(child)
                    child = self._begin(work)
                if child is not None:
                    self._run(child, work)
                self._hand_back(work)
                del work
        finally:
            self._forget(child)
            ended.set_result(None)

    def _begin(self, work: ProcessWork) -> _Child | None:
        child = _Child()
        self._children.add(child)
        try:
            child.start(self._setup)
        except Exception as error:  # WorkerProcessError, or what the system says about a process too many
            self._forget(child)
            if (
                child.exit_code or 0
            ) < 0:  # ended by the system (a signal, no memory): not the program's fault
                work.lost()
            else:
                work.fail(error)
            return None
        return child

    def _run(self, child: _Child, work: ProcessWork) -> None:
        try:
            reply = child.ask(work.request())
            work.answered(reply)
        except _DiedError:
            work.lost()
            if self._is_open:
                _log.warning(
                    "the process of activity %s ended (exit code %s) before it answered; it will run again",
                    work.process_target,
                    child.exit_code,
                )
        except Exception as error:  # the text cannot be sent
            work.fail(error)

    def _hand_back(self, work: ProcessWork) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for it any more
            self._loop.call_soon_threadsafe(self._finished, work)

    def _finished(self, work: ProcessWork) -> None:
        self._inside -= 1
        if self._is_open and self._done is not None:
            self._done([work])

    def _forget(self, child: _Child | None) -> None:
        if child is not None:
            child.end()
            self._children.discard(child)


class _DiedError(Exception):
    """The process ended before it answered."""


class _Child:
    """One worker process, as the thread that keeps it sees it; ``kill`` may be called from any thread."""

    def __init__(self) -> None:
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._is_killed = False
        self.is_busy = True

    @property
    def is_alive(self) -> bool:
        """Whether it can take another unit."""
        return self._process is not None and not self._is_killed and self._process.is_alive()

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; ``None`` while it is alive."""
        return None if self._process is None else self._process.exitcode

    def start(self, setup: ProcessSetup) -> None:
        """Start the process and wait until it is ready.

        Raises:
            WorkerProcessError: it ended before.
        """
        self._pipe, theirs = _context.Pipe()
        with _SPAWNING:
            _block_signals()
            self._process = _context.Process(
                target=serve, args=(theirs, setup), name="durabletask activities"
            )
            self._process.start()
        theirs.close()
        if self._is_killed:
            self.kill()
        try:
            self._receive()
        except _DiedError as error:
            raise WorkerProcessError(
                f"a process for activities ended (exit code {self.exit_code}) before it was ready; {_MAIN}"
            ) from error

    def ask(self, request: bytes) -> bytes:
        """Have a unit run and return the reply.

        Raises:
            _DiedError: the process ended before.
        """
        assert self._pipe is not None
        self.is_busy = True
        try:
            self._pipe.send_bytes(request)
        except OSError as error:
            self._reap()
            raise _DiedError from error
        reply = self._receive()
        self.is_busy = False
        return reply

    def _receive(self) -> bytes:
        assert self._pipe is not None and self._process is not None
        while True:
            # A process it has left behind may keep the pipe open: so look whether it is alive itself now and then.
            connection.wait([self._pipe, self._process.sentinel], _LOOK_S)
            is_alive = self._process.is_alive()
            if self._pipe.poll():
                try:
                    return self._pipe.recv_bytes()
                except (EOFError, OSError) as error:
                    self._reap()
                    raise _DiedError from error
            if not is_alive:
                raise _DiedError

    def _reap(self) -> None:
        """Wait for the end of a process that has closed its pipe."""
        assert self._process is not None
        # Not only join: it waits without end for a process that has closed its sentinel too, and lives.
        connection.wait([self._process.sentinel], _LOOK_S)
        self.kill()
        self._process.join(_LOOK_S)

    def kill(self) -> None:
        """End the process at once."""
        self._is_killed = True
        if self._process is not None and self._process.is_alive():
            self._process.kill()

    def end(self) -> None:
        """Let the process end by itself if it is idle, and wait for its end."""
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            if not self.is_busy:
                self._process.join(_END_S / 2)
            self.kill()
            self._process.join(_END_S / 2)


def _block_signals() -> None:
    """Make sure that a child begun by this thread does not die of a Ctrl-C meant for us before it has handlers."""
    if hasattr(signal, "pthread_sigmask"):
        # First, for starting the tracker ends in unblocking both.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})


def _runs_in_process(work: Work) -> TypeGuard[ProcessWork]:
    return isinstance(work, ProcessWork) and work.process_target is not None


def _kill_all(children: set[_Child]) -> None:
    for child in list(children):
        child.kill()
