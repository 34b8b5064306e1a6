"""A hub's container: created and deleted with the hub, and the :class:`PayloadStore` in it.

The client belongs to the loop that makes the first call, which makes it; all later calls come from there too. Values
are compressed and checked here or, from a size on, in threads, so that a large one does not hold up the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.storage.blob.aio import ContainerClient

from durabletask_azure.adapters.blobs.counters import BlobCounters
from durabletask_azure.adapters.blobs.payloads import BlobPayloads, says
from durabletask_azure.adapters.storage import client_options, credential_of, translated
from durabletask_azure.errors import HubUnavailableError
from durabletask_azure.settings import Settings
from durabletask_azure.targets import HubNames, StorageTarget

__all__ = ["HubBlobs"]

T = TypeVar("T")
_ONE_REQUEST_BYTES_MAX = 256 * 1024 * 1024
_PAGE_NAMES_MAX = 5_000
"""The service's own limit."""

_THREADS = 2


class HubBlobs:
    """The container of one hub; ``payloads`` is what engine and clients get, ``counters`` what it did."""

    def __init__(
        self,
        target: StorageTarget,
        names: HubNames,
        settings: Settings,
        *,
        page_names_max: int = _PAGE_NAMES_MAX,
    ) -> None:
        """Use the account of ``target``; ``page_names_max`` names come in one page of a listing."""
        self._target = target
        self._names = names
        self._settings = settings
        self._client: ContainerClient | None = None
        self._closed = False
        self._threads = ThreadPoolExecutor(_THREADS, "durabletask-hub-blobs")
        self.counters = BlobCounters()
        self.payloads = BlobPayloads(
            self.client,
            self._in_thread,
            self.counters,
            compress_bytes_min=settings.payload_compress_bytes_min,
            page_names_max=page_names_max,
            translated=self._translated,
        )

    def client(self) -> ContainerClient:
        """Return the container's client; the first call makes it, for the running loop.

        Raises:
            HubUnavailableError: the hub is closed.
        """
        if self._closed:
            raise HubUnavailableError("the hub is closed")
        if self._client is None:
            self._client = ContainerClient(
                self._target.blob_url,
                self._names.container,
                credential=credential_of(self._target),
                # A value goes and comes in one request, whatever the cap on payloads is.
                max_single_put_size=_ONE_REQUEST_BYTES_MAX,
                max_single_get_size=_ONE_REQUEST_BYTES_MAX,
                **client_options(self._target, self._settings),
            )
        return self._client

    async def create(self) -> bool:
        """Create the container; return whether it was not there before.

        Raises:
            HubUnavailableError: it could not be created, or one of its name is still being deleted, which takes Azure
                half a minute and more.
            ThrottledError: the account is busy.
        """
        try:
            await self.client().create_container()
        except ResourceExistsError as error:
            if says(error, "ContainerAlreadyExists"):
                return False
            raise self._translated(error, f"creating {self._container}") from error
        except AzureError as error:
            raise self._translated(error, f"creating {self._container}") from error
        return True

    async def exists(self) -> bool:
        """Tell whether the container is there.

        Raises:
            HubUnavailableError: the account could not be asked.
            ThrottledError: the account is busy.
        """
        try:
            return await self.client().exists()
        except AzureError as error:
            raise self._translated(error, f"looking for {self._container}") from error

    async def delete(self) -> bool:
        """Delete the container and all values; return whether it was there.

        Raises:
            HubUnavailableError: it could not be deleted.
            ThrottledError: the account is busy.
        """
        try:
            await self.client().delete_container()
        except ResourceNotFoundError:
            return False
        except AzureError as error:
            raise self._translated(error, f"deleting {self._container}") from error
        return True

    async def close(self) -> None:
        """Close the connections and end the threads; closing twice is harmless."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            await client.close()
        self._threads.shutdown(wait=False)

    @property
    def _container(self) -> str:
        return f"the container {self._names.container!r}"

    def _translated(self, error: AzureError, doing: str) -> Exception:
        return translated(error, doing, self._target)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except RuntimeError as error:
            raise HubUnavailableError("the hub is closed") from error
