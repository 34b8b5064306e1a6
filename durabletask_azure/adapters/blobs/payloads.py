"""Spilled values as blobs: one request to write one, one to read it.

Names (core/payloads.py) are of letters, digits and ``-_./`` alone, so a blob has the name of its value. Whatever a
value says, it is bytes here: nothing in it is followed (B114). It is stored in the form that core/compression.py
defines, and checked by size and hash when it is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from typing import Protocol, TypeVar

from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError
from azure.storage.blob.aio import ContainerClient

from durabletask_azure.adapters.blobs.counters import BlobCounters
from durabletask_azure.core.compression import STORED_BYTES_MORE_MAX, pack, unpack
from durabletask_azure.core.payloads import check_name, check_value, is_name
from durabletask_azure.errors import PayloadMissingError

__all__ = ["BlobPayloads", "says"]

T = TypeVar("T")
_ON_THE_LOOP_BYTES_MAX = 64 * 1024
"""A smaller value is compressed (1 ms) where it is; a larger one goes to a thread."""

_DELETES_AT_ONCE = 16
"""Requests of one call under way. The service's batches of deletes cost as much, one operation each, and Azurite 3.35
refuses what the SDK sends of them."""

_EMPTY = 416
"""An empty blob has no range that begins at 0."""


def says(error: AzureError, code: str) -> bool:
    """Tell whether the service's own name of an error is ``code``."""
    return getattr(error, "error_code", None) == code


class InThread(Protocol):
    """Runs a function in a thread and returns its result."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]: ...


class BlobPayloads:
    """The :class:`~durabletask_azure.ports.PayloadStore` of a hub in Blob storage."""

    def __init__(
        self,
        client: Callable[[], ContainerClient],
        in_thread: InThread,
        counters: BlobCounters,
        *,
        compress_bytes_min: int,
        page_names_max: int,
        translated: Callable[[AzureError, str], Exception],
    ) -> None:
        """Use the container of ``client``; ``translated`` says what an error of the SDK is for those above."""
        self._client = client
        self._in_thread = in_thread
        self._counters = counters
        self._compress_bytes_min = compress_bytes_min
        self._page_names_max = page_names_max
        self._translated = translated

    async def put(self, name: str, data: bytes) -> None:
        check_name(name)
        stored = await self._worked(len(data), lambda: pack(data, self._compress_bytes_min))
        self._counters.written += 1
        self._counters.bytes_written += len(stored)
        try:
            await self._client().upload_blob(name, stored, length=len(stored), overwrite=True)
        except AzureError as error:
            raise self._translated(error, f"storing the payload {name}") from error

    async def get(self, name: str, size: int) -> bytes:
        check_name(name)
        stored = await self._downloaded(name, size)

        def checked() -> bytes:
            try:
                return check_value(name, size, unpack(stored, size))
            except ValueError as error:
                raise PayloadMissingError(f"the payload {name} is damaged: {error}") from error

        return await self._worked(size, checked)

    async def _downloaded(self, name: str, size: int) -> bytes:
        """Return the stored form, or as much of it as tells that it is too large."""
        self._counters.read += 1
        try:
            # Asking for a part leaves the rest of a blob that is not ours where it is.
            stream = await self._client().download_blob(
                name, offset=0, length=size + STORED_BYTES_MORE_MAX + 1
            )
            stored = await stream.readall()
        except ResourceNotFoundError as error:
            if says(error, "BlobNotFound"):
                raise PayloadMissingError(f"the payload {name} ({size:,} bytes) does not exist") from error
            raise self._translated(error, f"reading the payload {name}") from error
        except AzureError as error:
            if isinstance(error, HttpResponseError) and error.status_code == _EMPTY:
                return b""
            raise self._translated(error, f"reading the payload {name}") from error
        self._counters.bytes_read += len(stored)
        return stored

    async def delete(self, names: Sequence[str]) -> None:
        for name in names:
            check_name(name)
        # Whoever is free takes the next one; the same name twice would be two requests.
        left = iter(dict.fromkeys(names))

        async def work() -> None:
            for name in left:
                await self._delete(name)

        workers = [work() for _ in range(min(len(names), _DELETES_AT_ONCE))]
        for outcome in await asyncio.gather(*workers, return_exceptions=True):
            if outcome is not None:
                raise outcome

    async def _delete(self, name: str) -> None:
        self._counters.deleted += 1
        try:
            # Snapshots, if the account makes any, would otherwise forbid it.
            await self._client().delete_blob(name, delete_snapshots="include")
        except ResourceNotFoundError as error:
            if not says(error, "BlobNotFound"):
                raise self._translated(error, f"deleting the payload {name}") from error
        except AzureError as error:
            raise self._translated(error, f"deleting the payload {name}") from error

    async def list(self, prefix: str) -> AsyncIterator[tuple[str, datetime]]:
        pages = (
            self._client()
            .list_blobs(name_starts_with=prefix, results_per_page=self._page_names_max)
            .by_page()
        )
        while True:
            try:
                page = [blob async for blob in await anext(pages)]
            except StopAsyncIteration:
                return
            except AzureError as error:
                raise self._translated(error, "listing payloads") from error
            self._counters.pages_listed += 1
            for blob in page:
                # What somebody else put into the container is not ours to hand out, or to delete.
                if is_name(blob.name):
                    yield blob.name, blob.last_modified

    async def _worked(self, size: int, work: Callable[[], T]) -> T:
        return work() if size <= _ON_THE_LOOP_BYTES_MAX else await self._in_thread(work)
