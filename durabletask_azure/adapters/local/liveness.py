"""OS locks on files beside the hub: who holds a partition, and which processes live.

The operating system lets go of a dead process's locks at once, so nothing here rests on time. A process that stands
still keeps its locks; it does no harm meanwhile, since every write is fenced. A hub in memory is used by one process:
there the locks are names in a set.
"""

from __future__ import annotations

import contextlib
import mmap
import struct
import threading
import time
import uuid
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from durabletask_azure.errors import HubUnavailableError

__all__ = ["FileLocks", "HeldLock", "Locks", "Mark", "MemoryLocks"]

_MARK = struct.Struct("<qqq")
_LEFT_BEHIND_S = 3600.0
Mark = tuple[int, int, int]
"""How far a session's deliveries went: the last message's place; and of scheduled ones the last due time and place."""


class HeldLock(Protocol):
    """A lock this process holds."""

    def release(self) -> None:
        """Let go of it; twice is harmless."""
        ...

    def read_mark(self) -> Mark:
        """Return the mark that was last written under this lock, by whichever process."""
        ...

    def write_mark(self, mark: Mark) -> None:
        """Write the mark, so that it outlives this process (not: a loss of power)."""
        ...


class Locks(Protocol):
    """The locks of one hub, as one open hub sees them."""

    process: str
    """This open hub's own name, under which it is seen as alive by all others."""

    def hold(self, partition: int) -> HeldLock | None:
        """Return the lock of a partition, or ``None`` while somebody holds it.

        Raises:
            HubUnavailableError: it cannot be found out.
        """
        ...

    def is_dead(self, process: str) -> bool:
        """Return whether the open hub of that name is gone for good."""
        ...

    def close(self) -> None:
        """Be seen as gone."""
        ...


class _MarkedFileLock:
    def __init__(self, lock: FileLock, mark_path: Path) -> None:
        self._lock = lock
        mark_path.touch()
        with mark_path.open("r+b") as file:
            if file.seek(0, 2) < _MARK.size:
                file.write(bytes(_MARK.size))
                file.flush()
            # A write to the map costs no system call, and stays when the process is killed.
            self._map = mmap.mmap(file.fileno(), _MARK.size)

    def release(self) -> None:
        if self._lock.is_locked:
            self._map.close()
            self._lock.release()

    def read_mark(self) -> Mark:
        place, due_us, due_place = _MARK.unpack_from(self._map)
        return place, due_us, due_place

    def write_mark(self, mark: Mark) -> None:
        _MARK.pack_into(self._map, 0, *mark)


class FileLocks:
    """Locks in a folder beside the hub's file."""

    def __init__(self, folder: Path) -> None:
        """Announce this open hub as alive, and remove what killed ones left behind.

        Raises:
            OSError: the folder cannot be written to.
        """
        self._folder = folder
        self.process = uuid.uuid4().hex
        self._alive = _lock(self._path(self.process))
        self._alive.acquire(blocking=False)
        self._remove_left_behind()

    def _remove_left_behind(self) -> None:
        """Remove the files of open hubs that were killed; most are in no row that would have anybody look at them."""
        for path in self._folder.glob("w-*.lock"):
            with contextlib.suppress(OSError):
                # A younger one may be about to be locked by who has just made it.
                if time.time() - path.stat().st_mtime > _LEFT_BEHIND_S:
                    self.is_dead(path.stem.removeprefix("w-"))

    def hold(self, partition: int) -> HeldLock | None:
        name = f"p{partition:03d}"
        lock = _lock(self._folder / f"{name}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return None
        except OSError as error:
            raise HubUnavailableError(
                f"the lock of partition {partition} cannot be tried: {error}"
            ) from error
        try:
            return _MarkedFileLock(lock, self._folder / f"{name}.mark")
        except OSError as error:  # the disk is full, or no more files may be opened
            lock.release()
            raise HubUnavailableError(f"the mark of partition {partition} cannot be made: {error}") from error
        except BaseException:
            lock.release()
            raise

    def is_dead(self, process: str) -> bool:
        if process == self.process:
            return False
        path = self._path(process)
        if not path.exists():
            return True
        lock = _lock(path)
        try:
            lock.acquire(blocking=False)
        except OSError:  # held (a Timeout is one, too), or it cannot be known: then nobody is declared dead
            return False
        # Names are never used again, so the file can go.
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()
        return True

    def close(self) -> None:
        if self._alive.is_locked:
            with contextlib.suppress(OSError):
                self._path(self.process).unlink()
            self._alive.release()

    def _path(self, process: str) -> Path:
        return self._folder / f"w-{process}.lock"


def _lock(path: Path) -> FileLock:
    return FileLock(path, timeout=0, thread_local=False)


class _MemoryLock:
    def __init__(self, locks: MemoryLocks, partition: int) -> None:
        self._locks = locks
        self._partition = partition
        self._held = True

    def release(self) -> None:
        if self._held:
            self._held = False
            self._locks.free(self._partition)

    def read_mark(self) -> Mark:
        return self._locks.marks.get(self._partition, (0, 0, 0))

    def write_mark(self, mark: Mark) -> None:
        self._locks.marks[self._partition] = mark


class MemoryLocks:
    """Locks of a hub in memory."""

    def __init__(self) -> None:
        self.process = uuid.uuid4().hex
        self.marks: dict[int, Mark] = {}
        self._guard = threading.Lock()
        self._held: set[int] = set()

    def hold(self, partition: int) -> HeldLock | None:
        with self._guard:
            if partition in self._held:
                return None
            self._held.add(partition)
        return _MemoryLock(self, partition)

    def free(self, partition: int) -> None:
        """Take back a lock."""
        with self._guard:
            self._held.discard(partition)

    def is_dead(self, process: str) -> bool:
        return process != self.process

    def close(self) -> None:
        """Nobody else could see it."""
