"""What the tests of an Azure hub's table share."""

from __future__ import annotations

import uuid

import msgspec

from durabletask_azure.adapters.tables import HubTable
from durabletask_azure.core.rows import RowWrite
from durabletask_azure.ports import HubInfo, Receipt
from tests.contract.builders import NOON

SOME_ETAG = "W/\"datetime'2026-01-01T00%3A00%3A00.0000000Z'\""
"""Of the right form, and no row's."""


def hub_info(partitions: int = 4) -> HubInfo:
    return HubInfo(schema_version=1, incarnation=uuid.uuid4().hex, partitions=partitions, created_at=NOON)


async def commit(table: HubTable, *writes: RowWrite, partition: int = 0, commit_id: str = "") -> Receipt:
    """Commit writes under the lock row as it is now."""
    before = await table.store.read_lock(partition)
    row = msgspec.structs.replace(before.row, n=before.row.n + 1, commit_id=commit_id)
    return await table.store.commit(partition, row, before.etag, writes)
