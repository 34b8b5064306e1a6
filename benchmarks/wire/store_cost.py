"""A transaction as the hub's own store makes it, and the same as the bare SDK does: the one thing done differently."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from azurite.start import ACCOUNT, KEY
from benchmarks.wire.bare_rows import BareRows
from benchmarks.wire.servers import Servers
from durabletask_azure.adapters.tables.hub_table import HubTable
from durabletask_azure.core.history import RuntimeStatus
from durabletask_azure.core.rows import InstanceRow, LockRow, PutInstance
from durabletask_azure.ports import Receipt
from durabletask_azure.settings import Settings
from durabletask_azure.targets import HubNames, StorageTarget

__all__ = ["ROWS", "transaction_costs"]

ROWS = 14
"""Rows of the transaction, the lock row among them."""
_TIMES = 20
_TABLE = "storecost"


async def transaction_costs(rows: BareRows, servers: Servers, tail_bytes: int) -> dict[str, float]:
    """Return microseconds of this process's processor time for a transaction by either; ``tail_bytes`` is the size of
    the history in each row of the hub's."""
    target = StorageTarget(
        account_name=ACCOUNT, account_key=KEY, table_url=servers.table_url, blob_url=servers.table_url
    )
    table = HubTable(target, HubNames(hub=_TABLE), Settings())
    try:
        await table.create_table()
        lock = await table.store.read_lock(0)
        receipt = Receipt(lock.etag, {})

        async def commit() -> None:
            nonlocal receipt
            writes = [
                PutInstance(row, receipt.etags.get(row.instance_id)) for row in _instance_rows(tail_bytes)
            ]
            lock = LockRow(owner="benchmark", commit_id=str(time.monotonic_ns()))
            receipt = await table.store.commit(0, lock, receipt.lock_etag, writes)

        await commit()
        return {"own store": await _cost(commit), "bare SDK": await _cost(lambda: rows.transact(0, ROWS))}
    finally:
        await table.close()


def _instance_rows(tail_bytes: int) -> list[InstanceRow]:
    now = datetime.now(UTC)
    return [
        InstanceRow(
            instance_id=f"{index:032}",
            execution_id="e" * 32,
            name="chain",
            status=RuntimeStatus.RUNNING,
            created_at=now,
            updated_at=now,
            input="5",
            tail=b"x" * tail_bytes,
        )
        for index in range(ROWS - 1)
    ]


async def _cost(work: Callable[[], Awaitable[None]]) -> float:
    begun = time.process_time()
    for _ in range(_TIMES):
        await work()
    return (time.process_time() - begun) / _TIMES * 1e6
