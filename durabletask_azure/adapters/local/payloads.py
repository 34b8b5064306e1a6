"""Payloads of an embedded hub: files in a folder beside it, or a dictionary.

Names are ``p007/<hex>/<execution>/<hash of the content>`` (core/payloads.py). A file appears whole or not at all, and
is on the disk when ``put`` returns; ``get`` checks size and hash. Files hold values compressed where that helps
(core/compression.py). A name that could leave the folder is refused.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from durabletask_azure.adapters.local.clock import HubClock, from_us
from durabletask_azure.core.compression import STORED_BYTES_MORE_MAX, pack, unpack
from durabletask_azure.core.payloads import check_name, check_value, is_name
from durabletask_azure.errors import HubUnavailableError, PayloadMissingError

__all__ = ["FilePayloads", "MemoryPayloads"]

T = TypeVar("T")
_THREADS = 4
_TRIES_MAX = 100


class MemoryPayloads:
    """The :class:`~durabletask_azure.ports.PayloadStore` of a hub in memory."""

    def __init__(self, clock: HubClock) -> None:
        self._clock = clock
        self._values: dict[str, tuple[bytes, datetime]] = {}

    async def put(self, name: str, data: bytes) -> None:
        check_name(name)
        self._values[name] = (data, from_us(self._clock.now_us()))

    async def get(self, name: str, size: int) -> bytes:
        check_name(name)
        found = self._values.get(name)
        if found is None:
            raise PayloadMissingError(f"the payload {name} ({size:,} bytes) does not exist")
        return check_value(name, size, found[0])

    async def delete(self, names: Sequence[str]) -> None:
        for name in names:
            check_name(name)
            self._values.pop(name, None)

    async def list(self, prefix: str) -> AsyncIterator[tuple[str, datetime]]:
        for name, (_, written_at) in sorted(self._values.items()):
            if name.startswith(prefix):
                yield name, written_at

    def close(self) -> None:
        """Nothing is held."""


class FilePayloads:
    """The :class:`~durabletask_azure.ports.PayloadStore` of a hub on disk."""

    def __init__(self, folder: Path, clock: HubClock, compress_bytes_min: int) -> None:
        """Use ``folder``, which exists."""
        self._folder = folder
        self._compress_bytes_min = compress_bytes_min
        self._clock = clock
        self._threads = ThreadPoolExecutor(_THREADS, "durabletask-hub-payloads")

    async def put(self, name: str, data: bytes) -> None:
        check_name(name)
        await self._in_thread(lambda: self._write(name, pack(data, self._compress_bytes_min)))

    async def get(self, name: str, size: int) -> bytes:
        check_name(name)

        def read() -> bytes:
            try:
                with (self._folder / name).open("rb") as file:
                    stored = file.read(size + STORED_BYTES_MORE_MAX + 1)
                return check_value(name, size, unpack(stored, size))
            except FileNotFoundError as error:
                raise PayloadMissingError(f"the payload {name} ({size:,} bytes) does not exist") from error
            except ValueError as error:
                raise PayloadMissingError(f"the payload {name} is damaged: {error}") from error

        return await self._in_thread(read)

    async def delete(self, names: Sequence[str]) -> None:
        for name in names:
            check_name(name)
        await self._in_thread(lambda: self._delete(names))

    async def list(self, prefix: str) -> AsyncIterator[tuple[str, datetime]]:
        for name, written_at in await self._in_thread(lambda: self._names(prefix)):
            yield name, written_at

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except OSError as error:
            raise HubUnavailableError(f"the hub's payload folder failed: {error}") from error
        except RuntimeError as error:
            raise HubUnavailableError("the hub is closed") from error

    def _write(self, name: str, data: bytes) -> None:
        path = self._folder / name
        # Named like a value of the same instance: what a killed process leaves goes with a purge, or with the orphans.
        draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
        try:
            for tries_left in reversed(range(_TRIES_MAX)):
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with draft.open("xb") as file:
                        file.write(data)
                        file.flush()
                        os.fsync(file.fileno())
                    draft.replace(path)
                    break
                except (FileNotFoundError, FileExistsError):
                    # A delete has just removed the folder as empty, or the draft.
                    if not tries_left:
                        raise
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        for folder in (path.parent, *list(path.parent.parents)[:3]):
            _sync_folder(folder)

    def _delete(self, names: Sequence[str]) -> None:
        for name in names:
            path = self._folder / name
            path.unlink(missing_ok=True)
            for folder in (path.parent, path.parent.parent):
                try:
                    folder.rmdir()
                except OSError:
                    # Not empty, or gone already.
                    break

    def _names(self, prefix: str) -> list[tuple[str, datetime]]:
        found: list[tuple[str, datetime]] = []
        # The files have the wall clock's times; in the hub's, one just written must not look old.
        ahead = timedelta(microseconds=self._clock.ahead_us())
        # Only the folders a prefix reaches into are walked.
        whole = [part for part in prefix.split("/")[:-1] if part not in ("", ".", "..")]
        # Unlike a glob, a walk passes over folders that a delete removes under its feet.
        walked = os.walk(self._folder.joinpath(*whole))
        for path in sorted(Path(folder, file) for folder, _, files in walked for file in files):
            name = path.relative_to(self._folder).as_posix()
            if not name.startswith(prefix) or not is_name(name):
                continue
            try:
                written_at = datetime.fromtimestamp(path.stat().st_mtime, UTC) + ahead
            except FileNotFoundError:
                continue
            found.append((name, written_at))
        return found

    def close(self) -> None:
        """Finish what was begun and end the threads. Blocks."""
        self._threads.shutdown(wait=True)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        # Windows neither needs nor knows how to sync a folder.
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
