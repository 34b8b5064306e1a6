"""Rows as the bare SDK for Tables writes and reads them, of the size and number of properties that were planned."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp
from azure.core import MatchConditions
from azure.core.pipeline.transport import AioHttpTransport
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableClient

from benchmarks.wire.counting import StorageRequests
from benchmarks.wire.plan import Plan
from benchmarks.wire.servers import Servers

__all__ = ["BareRows", "open_rows"]

_TABLE = "floor"
_KEEP_ALIVE_S = 2.0
"""Azurite closes a connection that was idle for 5 s, in the moment a request may be sent on it; the SDK repeats no
insert then."""


class BareRows:
    """A table; each method does one kind of operation. To be used on the loop it was opened on."""

    def __init__(self, plan: Plan, table: Any) -> None:
        self._plan = plan
        # Untyped: the SDK leaves most of its types open.
        self._table = table
        self._etags = [""] * plan.partitions
        self._count = 0
        self._row_bytes = plan.entity_bytes
        self._insert_bytes = plan.insert_bytes

    def _entity(self, partition: int, key: str, size: int) -> dict[str, Any]:
        entity: dict[str, Any] = {"PartitionKey": f"p{partition:03}", "RowKey": key}
        each = size // max(1, self._plan.row_properties)
        for index in range(self._plan.row_properties):
            entity[f"property{index}"] = "x" * each
        return entity

    async def insert(self, partition: int) -> None:
        """Insert a row, as a client that starts an orchestration does."""
        self._count += 1
        await self._table.create_entity(self._entity(partition, f"c!{self._count:08}", self._insert_bytes))

    async def read(self, partition: int) -> None:
        """Read a row."""
        await self._table.get_entity(f"p{partition:03}", "i!00000000")

    async def transact(self, partition: int, entities: int) -> None:
        """Commit rows of instances and the lock row, which is replaced with If-Match."""
        self._count += 1
        lock = {"PartitionKey": f"p{partition:03}", "RowKey": "lock", "n": self._count}
        condition = {"etag": self._etags[partition], "match_condition": MatchConditions.IfNotModified}
        replace = {"mode": UpdateMode.REPLACE}
        first = ("update", lock, replace | condition) if self._etags[partition] else ("upsert", lock, replace)
        rows = (
            self._entity(partition, f"i!{index:08}", self._row_bytes) for index in range(max(1, entities - 1))
        )
        answers = await self._table.submit_transaction([first, *(("upsert", row, replace) for row in rows)])
        self._etags[partition] = str(answers[0]["etag"])

    async def calibrate(self, counts: StorageRequests) -> None:
        """Find out what SDK and protocol add, so that rows on the wire are as large as planned."""
        plan = self._plan
        rows = max(2, round(plan.entities / plan.transactions))
        for partition in range(plan.partitions):
            await self.transact(partition, 2)
        counts.clear()
        await self.transact(0, rows)
        # The lock row is small: the others carry what it lacks.
        missing = (plan.entity_bytes - counts["transaction bytes"] / rows) * rows / (rows - 1)
        self._row_bytes = max(0, round(self._row_bytes + missing))
        await self.insert(0)
        self._insert_bytes = max(0, 2 * plan.insert_bytes - counts["insert bytes"])


@contextlib.asynccontextmanager
async def open_rows(plan: Plan, servers: Servers) -> AsyncGenerator[BareRows]:
    """Create a table, and close its client in the end."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(keepalive_timeout=_KEEP_ALIVE_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )
    async with TableClient.from_connection_string(
        servers.storage, table_name=_TABLE, transport=AioHttpTransport(session=session)
    ) as client:
        table: Any = client
        await table.create_table()
        yield BareRows(plan, table)
