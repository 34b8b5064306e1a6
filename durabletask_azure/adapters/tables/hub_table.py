"""The table of a hub as a whole: made and removed, what the hub is, and the ports on it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec
from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError, ResourceNotFoundError

from durabletask_azure.adapters.tables.archive import TableArchive
from durabletask_azure.adapters.tables.changes import LockRowSignal, room_of
from durabletask_azure.adapters.tables.counters import TableCounters
from durabletask_azure.adapters.tables.entities import Entity, bytes_of, put_bytes, queryable_time
from durabletask_azure.adapters.tables.keys import HUB, INSTANCES, key_after
from durabletask_azure.adapters.tables.membership import TableMembership
from durabletask_azure.adapters.tables.queries import Filter
from durabletask_azure.adapters.tables.store import TableStore
from durabletask_azure.adapters.tables.table import Table, is_about_the_table
from durabletask_azure.core.history import RuntimeStatus
from durabletask_azure.errors import HubUnavailableError
from durabletask_azure.ports import HubInfo, TransactionLimits
from durabletask_azure.settings import Settings
from durabletask_azure.targets import HubNames, StorageTarget

__all__ = ["LIMITS", "HubTable"]

LIMITS = TransactionLimits(rows_max=100, bytes_max=4 * 1024 * 1024 - 768 * 1024)
"""What a transaction takes, less what a lock row full of long ids may need."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(HubInfo).decode


class HubTable:
    """The table of one hub, and the ports on it. The first call opens the connections, on the loop that makes it."""

    def __init__(self, target: StorageTarget, names: HubNames, settings: Settings) -> None:
        self._table = Table(target, names.table, settings)
        room = room_of(self._table)
        self.store = TableStore(self._table, room, settings)
        self.membership = TableMembership(self._table, settings)
        self.archive = TableArchive(self._table, settings.dead_letters_kept_max)
        self.changes = LockRowSignal(self._table, room, settings)
        self.limits = LIMITS

    @property
    def counters(self) -> TableCounters:
        """What was asked of the service so far."""
        return self._table.counters

    async def create_table(self) -> bool:
        """Create the table; return whether it was not there.

        Raises:
            HubUnavailableError: among the rest, the table is still being deleted.
        """
        try:
            await self._table.client.create_table()
        except HttpResponseError as error:
            if is_about_the_table(error):
                raise HubUnavailableError(
                    f"table {self._table.name!r} is being deleted: the service needs about a minute for that;"
                    " try again, or choose another name for the hub"
                ) from error
            if isinstance(error, ResourceExistsError):
                return False
            raise self._table.failure(error, "creating") from error
        except AzureError as error:
            raise self._table.failure(error, "creating") from error
        return True

    async def delete_table(self) -> None:
        """Delete the table with all rows; a missing one is no error."""
        try:
            await self._table.client.delete_table()
        except AzureError as error:
            raise self._table.failure(error, "deleting") from error

    async def table_exists(self) -> bool:
        """Return whether there is a table, also an empty one."""
        try:
            await self._table.client.get_entity(HUB, HUB, select=["RowKey"])
        except ResourceNotFoundError as error:
            return not is_about_the_table(error)
        except AzureError as error:
            raise self._table.failure(error, "looking for") from error
        return True

    async def read_hub(self) -> HubInfo | None:
        """Return what the hub is, ``None`` if nobody has said so yet."""
        row = await self._table.read(HUB, HUB)
        return None if row is None else _decode(bytes_of(row, "body"))

    async def insert_hub(self, info: HubInfo) -> HubInfo:
        """Say what the hub is, once and for all; return what the first to say so has said."""
        if await self._table.insert(_entity(info)) is not None:
            return info
        return await self._found_hub()

    async def replace_hub(self, old: HubInfo, new: HubInfo) -> HubInfo:
        """Say anew what the hub is, if it still is what it was; return what is said of it in the end."""
        row = await self._table.read(HUB, HUB)
        is_old = row is not None and _decode(bytes_of(row, "body")) == old
        if row is not None and is_old and await self._table.replace(_entity(new), row.etag) is not None:
            return new
        return await self._found_hub()

    async def _found_hub(self) -> HubInfo:
        found = await self.read_hub()
        if found is None:
            raise HubUnavailableError(f"the row of the hub in table {self._table.name!r} went away")
        return found

    async def count_instances(self) -> Mapping[RuntimeStatus, int]:
        """Return how many instances there are of each status that any has; reads the status of every one."""
        info = await self.read_hub()
        if info is None:
            return {}
        counts: dict[RuntimeStatus, int] = {}

        async def count(partition: int) -> None:
            wanted = Filter(partition, INSTANCES, key_after(INSTANCES))
            async for row in self._table.rows(wanted.text, wanted.values, select=("status",)):
                status = RuntimeStatus(row.values["status"])
                counts[status] = counts.get(status, 0) + 1

        await asyncio.gather(*map(count, range(info.partitions)))
        return counts

    async def count_kept_letters(self) -> int:
        """Return how many dead letters are kept."""
        return await self.archive.count()

    async def close(self) -> None:
        """Close all connections."""
        await self.changes.close()
        await self._table.close()


def _entity(info: HubInfo) -> Entity:
    entity: Entity = {
        "PartitionKey": HUB,
        "RowKey": HUB,
        "schema_version": info.schema_version,
        "partitions": info.partitions,
        "incarnation": info.incarnation,
        "created_at": queryable_time(info.created_at),
    }
    put_bytes(entity, "body", _encode(info))
    return entity
