"""One table of a storage account: the requests the rest of this adapter is made of, counted, with errors translated."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from azure.core import MatchConditions
from azure.core.exceptions import AzureError, HttpResponseError, ResourceModifiedError
from azure.data.tables import TableErrorCode, UpdateMode
from azure.data.tables.aio import TableClient

from durabletask_azure.adapters.storage import client_options, credential_of, error_code, translated
from durabletask_azure.adapters.tables.counters import TableCounters
from durabletask_azure.adapters.tables.direct import DirectRequests
from durabletask_azure.adapters.tables.entities import FIRST_PARTS, Entity, Row
from durabletask_azure.adapters.tables.keys import HUB
from durabletask_azure.adapters.tables.writing import Step
from durabletask_azure.errors import HubUnavailableError, TaskHubError
from durabletask_azure.settings import Settings
from durabletask_azure.targets import StorageTarget

__all__ = ["Table", "Token", "is_about_the_table"]

Token = Mapping[str, str | None]

_ROWS_PER_PAGE_MAX = 1_000


class Table:
    """A table; its connections are opened by the first request, on the loop that makes it."""

    def __init__(self, target: StorageTarget, name: str, settings: Settings) -> None:
        self._target = target
        self._settings = settings
        self._opened: tuple[TableClient, DirectRequests] | None = None
        self.name = name
        self.counters = TableCounters()

    @property
    def address(self) -> tuple[str, str]:
        """What tells this table from all others."""
        return self._target.table_url, self.name

    @property
    def client(self) -> Any:  # the SDK's own types leave much open
        """The SDK's client."""
        return self._connected()[0]

    @property
    def _direct(self) -> DirectRequests:
        return self._connected()[1]

    def _connected(self) -> tuple[TableClient, DirectRequests]:
        if self._opened is None:
            url, credential = self._target.table_url, credential_of(self._target)
            options = client_options(self._target, self._settings)
            client = TableClient(url, self.name, credential=credential, **options)
            self._opened = client, DirectRequests(url, self.name, credential, options)
        return self._opened

    async def close(self) -> None:
        """Close the connections; the next request would open new ones."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened[0].close()

    def failure(self, error: AzureError, doing: str) -> TaskHubError:
        """Return what to raise for an error that says nothing about a row."""
        return translated(error, f"{doing} table {self.name!r}", self._target)

    @contextmanager
    def _translating(self, doing: str) -> Generator[None]:
        try:
            yield
        except AzureError as error:
            raise self.failure(error, doing) from error
        except ValueError as error:
            raise HubUnavailableError(
                f"{doing} table {self.name!r}: the answer cannot be read: {error}"
            ) from error

    # ------------------------------------------------------------------ reading

    async def read(self, partition: str, key: str, select: Sequence[str] | None = None) -> Row | None:
        """Return a row, or some properties of it; ``None`` if there is none. It says no time of writing."""
        self.counters.point_reads += 1
        with self._translating("reading"):
            return await self._direct.read(partition, key, select)

    async def read_values(self, partition: str, key: str) -> Row | None:
        """Return a row without the properties it is queried by, ``None`` if there is none."""
        row = await self.read(partition, key, FIRST_PARTS)
        if row is not None and row.values.get("more"):
            return await self.read(partition, key)
        return row

    async def server_time(self) -> datetime:
        """Return the service's time, in whole seconds."""
        self.counters.point_reads += 1
        with self._translating("reading"):
            return await self._direct.server_time(HUB, HUB)

    async def page(
        self,
        where: str,
        values: Mapping[str, Any],
        *,
        select: Sequence[str] | None = None,
        size: int = _ROWS_PER_PAGE_MAX,
        token: Token | None = None,
    ) -> tuple[list[Row], Token | None]:
        """Return rows in order of their keys, at most ``size``, and the token of what follows, if anything does.

        A page may be short or empty and still have a token.
        """
        self.counters.queries += 1
        found = self.client.query_entities(
            where,
            parameters=dict(values),
            select=None if select is None else list(select),
            results_per_page=min(size, _ROWS_PER_PAGE_MAX),
        )
        pages: Any = found.by_page(continuation_token=token)
        with self._translating("querying"):
            rows = [_row(entity) async for entity in await anext(pages)]
        self.counters.query_rows += len(rows)
        return rows, pages.continuation_token or None

    async def rows(
        self, where: str, values: Mapping[str, Any], *, select: Sequence[str] | None = None
    ) -> AsyncIterator[Row]:
        """Yield all rows of a query, page by page."""
        token: Token | None = None
        while True:
            page, token = await self.page(where, values, select=select, token=token)
            for row in page:
                yield row
            if token is None:
                return

    async def rows_and_time(self, where: str, values: Mapping[str, Any]) -> tuple[list[Row], datetime]:
        """Return all rows of a small query, and the service's time, in whole seconds."""
        self.counters.queries += 1
        dates: list[str] = []
        found = self.client.query_entities(
            where, parameters=dict(values), raw_response_hook=_noting_date(dates)
        )
        with self._translating("querying"):
            rows = [_row(entity) async for entity in found]
        self.counters.query_rows += len(rows)
        return rows, parsedate_to_datetime(dates[-1])

    # ------------------------------------------------------------------ writing

    async def insert(self, entity: Entity) -> str | None:
        """Insert a row and return its ETag; ``None`` if there is one of that key."""
        self.counters.inserts += 1
        with self._translating("writing to"):
            return await self._direct.insert(entity)

    async def replace(self, entity: Entity, etag: str) -> str | None:
        """Replace a row and return its new ETag; ``None`` if its ETag is another by now, or there is no row."""
        self.counters.replaces += 1
        with self._translating("writing to"):
            return await self._direct.replace(entity, etag)

    async def put(self, entity: Entity) -> None:
        """Write a row whether there is one of that key or not."""
        self.counters.replaces += 1
        with self._translating("writing to"):
            await self.client.upsert_entity(entity, UpdateMode.REPLACE)

    async def delete(self, partition: str, key: str, etag: str | None = None) -> None:
        """Delete a row, with ``etag`` only as long as it is that one; a missing one is no error."""
        self.counters.deletes += 1
        guard: dict[str, Any] = {}
        if etag is not None:
            guard = {"etag": etag, "match_condition": MatchConditions.IfNotModified}
        with self._translating("deleting from"):
            try:
                await self.client.delete_entity(partition, key, **guard)
            except ResourceModifiedError:
                return

    async def transact(self, steps: Sequence[Step], size: int) -> list[str | None]:
        """Apply steps on one partition, all or none; return the new ETag of each row, ``None`` of a deleted one.

        Raises:
            TransactionRefusedError: one of them cannot be applied; nothing happened.
        """
        self.counters.transactions += 1
        self.counters.transaction_rows += len(steps)
        self.counters.transaction_bytes += size
        with self._translating("committing to"):
            return await self._direct.submit(steps)


def _row(entity: Any) -> Row:
    metadata = entity.metadata
    return Row(entity, metadata["etag"] or "", metadata["timestamp"])


def _noting_date(dates: list[str]) -> Callable[[Any], None]:
    """Return a hook that notes an answer's time."""

    def note(answer: Any) -> None:
        dates.append(answer.http_response.headers["Date"])

    return note


def is_about_the_table(error: HttpResponseError) -> bool:
    """Return whether a refusal is for the table and not for a row of it."""
    return error_code(error) in (
        TableErrorCode.TABLE_NOT_FOUND.value,
        TableErrorCode.TABLE_BEING_DELETED.value,
    )
