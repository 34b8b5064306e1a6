"""An embedded hub, opened: all ports of it on one SQLite file and two folders beside it, or all in memory.

``hub.db`` holds rows, messages and tasks, ``hub.db-payloads/`` large values, ``hub.db-locks/`` the OS locks of
partitions and processes. Several processes may have a file open at once, several workers and clients of one process
share what :func:`open_local` returned.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from durabletask_azure.adapters.local.activities import LocalActivityQueue
from durabletask_azure.adapters.local.bell import Bell, wake
from durabletask_azure.adapters.local.clock import HubClock
from durabletask_azure.adapters.local.committer import (
    InlineCommitter,
    ThreadCommitter,
    Transaction,
    last_seq,
)
from durabletask_azure.adapters.local.dead import LocalArchive
from durabletask_azure.adapters.local.express import LocalExpress
from durabletask_azure.adapters.local.handover import Handover
from durabletask_azure.adapters.local.hints import NoNeighbours, SocketNeighbours, open_neighbours
from durabletask_azure.adapters.local.intake import LocalIntake
from durabletask_azure.adapters.local.liveness import FileLocks, Locks, MemoryLocks
from durabletask_azure.adapters.local.membership import LocalMembership
from durabletask_azure.adapters.local.payloads import FilePayloads, MemoryPayloads
from durabletask_azure.adapters.local.reader import Reader
from durabletask_azure.adapters.local.schema import (
    SYNCHRONOUS,
    check_arguments,
    check_file,
    connect,
    create_or_check,
    folders_of,
)
from durabletask_azure.adapters.local.sessions import LocalOrchestrationQueue
from durabletask_azure.adapters.local.statistics import LocalStatistics
from durabletask_azure.adapters.local.store import LocalChangeSignal, LocalPlans, LocalStore
from durabletask_azure.adapters.system_clock import SystemClock
from durabletask_azure.errors import ConfigurationError
from durabletask_azure.ports import HubInfo, HubPorts, TransactionLimits
from durabletask_azure.settings import Settings

__all__ = ["LocalHub", "LocalStats", "open_hub", "open_local"]

_LIMITS = TransactionLimits(rows_max=10_000, bytes_max=None)
_POLL_S = 0.5
_POLL_WITHOUT_HINTS_S = 0.05


class _Opening:
    """Notes that this process has a hub file open, so that a fork of it does not open the file a second time.

    SQLite's locks on a file belong to the process, its account of them is memory: in a fork that account claims locks
    which the fork does not have, and the next process to close the hub would delete the log the fork commits to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pid = os.getpid()
        for other in list(_openings):
            if other.path == path and other.pid != self.pid:
                raise ConfigurationError(
                    f"the hub file {path} is open in process {other.pid}, of which this process was forked; open it"
                    " only after the fork, or start processes with multiprocessing's 'spawn'"
                )
        _openings.add(self)

    def close(self) -> None:
        _openings.discard(self)


_openings: set[_Opening] = set()
"""The hub files that are open here, or were in the process this one was forked from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalStats:
    """How an open hub writes: SQLite's modes, transactions so far (durable ones waited for the disk), and requests."""

    journal_mode: str
    synchronous: str
    commits: int
    durable_commits: int
    requests: int
    waiting: int
    """How many wait for changes or ends of instances."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    info: HubInfo
    synchronous: str
    bell: Bell
    locks: Locks
    reader: Reader
    committer: InlineCommitter | ThreadCommitter
    neighbours: SocketNeighbours | NoNeighbours
    payloads: FilePayloads | MemoryPayloads
    writer: sqlite3.Connection
    opening: _Opening | None


class LocalHub:
    """One open embedded hub; ``ports`` is what engine and clients get."""

    def __init__(self, parts: _Parts, settings: Settings) -> None:
        self._parts = parts
        self._settings = settings
        self._closed = False
        self._handover = Handover(
            parts.locks.process,
            lambda: not parts.neighbours.any,
            # Two receives of a worker wait: together they take what it can begin at once. Whatever is left others may
            # take; and what is taken here is one transaction a step, without a word to another process.
            max(1, settings.activity_concurrency_max // 2),
        )
        store = LocalStore(
            parts.committer, parts.reader, _LIMITS, settings.page_size_max, self._handover, parts.bell
        )
        intake = LocalIntake(parts.reader, settings)
        self._orchestrations = LocalOrchestrationQueue(
            parts.committer,
            parts.reader,
            parts.bell,
            parts.locks,
            partitions=parts.info.partitions,
            delivery_count_max=settings.delivery_count_max,
            lock_s=settings.lock_s,
            handover=self._handover,
        )
        self._activities = [self._activity_queue(("",))]
        self.ports = HubPorts(
            info=parts.info,
            orchestrations=self._orchestrations,
            activities=self._activities[0],
            store=store,
            payloads=parts.payloads,
            membership=LocalMembership(
                parts.committer, parts.reader, parts.bell, parts.locks, settings.heartbeat_s
            ),
            changes=LocalChangeSignal(parts.bell),
            clock=SystemClock(),
            limits=_LIMITS,
            archive=LocalArchive(parts.committer, parts.reader, settings.dead_letters_kept_max),
            statistics=LocalStatistics(parts.reader, parts.committer.clock, parts.info.partitions),
            atomic=LocalPlans(store),
            intake=intake,
            express=LocalExpress(intake, store.starts, store.ends),
            close=self.close,
        )

    def activities_of(self, groups: Sequence[str]) -> LocalActivityQueue:
        """Return a queue that receives the tasks of these activity groups, the first group first."""
        queue = self._activity_queue(groups)
        self._activities.append(queue)
        return queue

    def _activity_queue(self, groups: Sequence[str]) -> LocalActivityQueue:
        parts = self._parts
        return LocalActivityQueue(
            parts.committer,
            parts.reader,
            parts.bell,
            parts.locks,
            groups=groups,
            delivery_count_max=self._settings.delivery_count_max,
            lock_s=self._settings.lock_s,
            handover=self._handover,
        )

    def stats(self) -> LocalStats:
        """Return how this open hub writes, and how much it wrote so far."""
        committer = self._parts.committer
        return LocalStats(
            journal_mode="memory" if isinstance(committer, InlineCommitter) else "wal",
            synchronous=self._parts.synchronous,
            commits=committer.commits,
            durable_commits=committer.durable_commits,
            requests=committer.requests,
            waiting=self._parts.bell.waiting_for_instances(),
        )

    async def read_modes(self) -> tuple[str, str]:
        """Return SQLite's journal mode and synchronous setting, as the connection that commits has them while it makes
        a durable commit."""

        def read(transaction: Transaction) -> tuple[str, str]:
            journal_mode: str = transaction.execute("PRAGMA journal_mode").fetchone()[0]
            level: int = transaction.execute("PRAGMA synchronous").fetchone()[0]
            return journal_mode, SYNCHRONOUS[level]

        return await self._parts.committer.submit(read)

    async def close(self) -> None:
        """Give everything back and close the files; pending receives end empty. Closing twice is harmless."""
        if self._closed:
            return
        self._closed = True
        await self._orchestrations.close()
        for queue in self._activities:
            await queue.close()
        try:
            await self._activities[0].release()
        finally:
            wake(self._parts.bell.ring_all())
            try:
                closing = asyncio.get_running_loop().run_in_executor(None, self._close_files)
            except RuntimeError:  # the interpreter is ending: thread pools take nothing any more
                self._close_files()
            else:
                await closing

    def _close_files(self) -> None:
        parts = self._parts
        parts.committer.close()
        parts.neighbours.close()
        parts.payloads.close()
        parts.reader.close()
        parts.writer.close()
        parts.locks.close()
        if parts.opening is not None:
            parts.opening.close()


def open_local(
    path: str | os.PathLike[str] | None,
    *,
    partitions: int | None = None,
    settings: Settings | None = None,
    synchronous: str = "FULL",
) -> HubPorts:
    """Open the hub of a file, creating it if there is none, or with ``None`` a new hub in memory.

    ``partitions`` counts only when the hub is created (4 if not given). ``synchronous`` is SQLite's: with ``"FULL"``
    a commit survives a loss of power. Blocks for some milliseconds. Call ``ports.close()`` at the end.

    Raises:
        ConfigurationError: the path cannot hold a hub, another application's file is there, or the hub has another
            number of partitions; says what is needed.
        SchemaVersionError: a newer version wrote it.
    """
    return open_hub(path, partitions=partitions, settings=settings, synchronous=synchronous).ports


def open_hub(
    path: str | os.PathLike[str] | None,
    *,
    partitions: int | None = None,
    settings: Settings | None = None,
    synchronous: str = "FULL",
    clock: HubClock | None = None,
) -> LocalHub:
    """Open a hub as :func:`open_local` does, and return it with its statistics; ``clock`` keeps its time."""
    check_arguments(partitions, synchronous)
    clock = HubClock() if clock is None else clock
    chosen = Settings() if settings is None else settings
    parts = (
        _open_memory(partitions, clock)
        if path is None
        else _open_file(Path(path), partitions, synchronous, clock, chosen.payload_compress_bytes_min)
    )
    return LocalHub(parts, chosen)


def _open_memory(partitions: int | None, clock: HubClock) -> _Parts:
    connection = connect(":memory:", "OFF")
    try:
        info = create_or_check(connection, ":memory:", partitions)
    except BaseException:
        connection.close()
        raise
    bell = Bell()
    lock = threading.Lock()
    return _Parts(
        info=info,
        synchronous="OFF",
        bell=bell,
        locks=MemoryLocks(),
        reader=Reader(connection, lock),
        committer=InlineCommitter(connection, lock, bell, clock),
        neighbours=NoNeighbours(),
        payloads=MemoryPayloads(clock),
        writer=connection,
        opening=None,
    )


def _open_file(
    given: Path, partitions: int | None, synchronous: str, clock: HubClock, compress_bytes_min: int
) -> _Parts:
    check_file(given)
    # One hub, one set of locks: by whatever link it was opened, and wherever this process changes its folder to.
    path = Path(os.path.realpath(given))
    is_new = not path.exists()
    with contextlib.ExitStack() as undo:
        opening = _Opening(path)
        undo.callback(opening.close)
        try:
            writer = connect(str(path), synchronous)
            undo.callback(writer.close)
            if is_new:
                # For this user only, as its two folders are; SQLite gives the files beside it the same mode.
                path.chmod(0o600)
            info = create_or_check(writer, str(path), partitions)
            clock.now_us(last_seq(writer))
            reader = connect(str(path), synchronous)
            undo.callback(reader.close)
            long_reader = connect(str(path), synchronous)
            undo.callback(long_reader.close)
            folders = folders_of(path)
            for folder in folders:
                folder.mkdir(mode=0o700, exist_ok=True)
            locks = FileLocks(folders[0])
            undo.callback(locks.close)
            payloads = FilePayloads(folders[1], clock, compress_bytes_min)
        except (sqlite3.Error, OSError) as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
                raise ConfigurationError(
                    f"{path} is not a task hub, nor any SQLite file; name another one"
                ) from error
            raise ConfigurationError(
                f"the hub file {path} cannot be opened ({error}); it needs an SQLite file that this process may write,"
                " in a folder where it may create others"
            ) from error
        undo.callback(payloads.close)
        bell = Bell()
        neighbours = open_neighbours(path, bell)
        undo.callback(neighbours.close)
        committer = ThreadCommitter(
            writer,
            synchronous=synchronous,
            bell=bell,
            neighbours=neighbours,
            poll_s=_POLL_S if isinstance(neighbours, SocketNeighbours) else _POLL_WITHOUT_HINTS_S,
            clock=clock,
        )
        undo.pop_all()
    return _Parts(
        info=info,
        synchronous=synchronous,
        bell=bell,
        locks=locks,
        reader=Reader(reader, threading.Lock(), (long_reader, threading.Lock())),
        committer=committer,
        neighbours=neighbours,
        payloads=payloads,
        writer=writer,
        opening=opening,
    )
