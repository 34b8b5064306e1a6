"""The workers of a hub: rows whose age is told by the service's own times.

A worker looks at them about once a second to balance partitions; the same look tells whoever waits for a change. Rows
of workers that are long silent are removed by whoever sees them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic

import msgspec

from durabletask_azure.adapters.tables.entities import Entity, Row, bytes_of, put_bytes
from durabletask_azure.adapters.tables.keys import WORKERS, escaped
from durabletask_azure.adapters.tables.table import Table
from durabletask_azure.ports import WorkerRow
from durabletask_azure.settings import Settings

__all__ = ["TableMembership"]

_SILENT_HEARTBEATS = 4
_DEAD_HEARTBEATS = 24
_LATE = 1.25
"""By how much a look at the workers is late before who waits for a change takes one."""
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(WorkerRow).decode


class TableMembership:
    """The :class:`~durabletask_azure.ports.Membership` of an Azure hub; one per opening, on its loop.

    Left out of :meth:`workers` is who has been silent for four heartbeats.
    """

    def __init__(self, table: Table, settings: Settings) -> None:
        self._table = table
        self._settings = settings
        self._seen: dict[str, WorkerRow] = {}
        self._looked_at: float | None = None
        self._changes = 0
        self._changed = asyncio.Condition()

    async def announce(self, worker: WorkerRow) -> None:
        entity: Entity = {
            "PartitionKey": WORKERS,
            "RowKey": escaped(worker.worker_id),
            "stopping": worker.stopping,
            "partitions": ",".join(map(str, worker.partitions)),
        }
        put_bytes(entity, "body", _encode(worker))
        await self._table.put(entity)

    async def workers(self) -> Sequence[WorkerRow]:
        rows, now = await self._table.rows_and_time("PartitionKey eq @p", {"p": WORKERS})
        alive: dict[str, WorkerRow] = {}
        for row in rows:
            age_s = 0.0 if row.written_at is None else max(0.0, (now - row.written_at).total_seconds())
            if age_s < self._settings.heartbeat_s * _SILENT_HEARTBEATS:
                worker = msgspec.structs.replace(_decode(bytes_of(row, "body")), age_s=age_s)
                alive[worker.worker_id] = worker
            elif age_s > self._settings.heartbeat_s * _DEAD_HEARTBEATS:
                await self._bury(row)
        await self._note(alive)
        return [alive[worker_id] for worker_id in sorted(alive)]

    async def _bury(self, row: Row) -> None:
        # It may come back to life in this moment: only this very row is removed.
        await self._table.delete(WORKERS, row.key, row.etag)

    async def withdraw(self, worker_id: str) -> None:
        await self._table.delete(WORKERS, escaped(worker_id))

    async def wait_changed(self, timeout_s: float) -> None:
        deadline = monotonic() + timeout_s
        seen = self._changes
        if self._looked_at is None and timeout_s > self._settings.balance_s:
            await self.workers()  # whoever is there now may have come since the caller looked
        while self._changes == seen:
            now = monotonic()
            if now >= deadline:
                return
            # A worker that balances looks by itself; who does not, looks here.
            due = (self._looked_at or now) + self._settings.balance_s * _LATE
            if now >= due:
                await self.workers()
                continue
            try:
                async with asyncio.timeout(min(due, deadline) - now), self._changed:
                    await self._changed.wait_for(lambda: self._changes != seen)
            except TimeoutError:
                pass

    async def _note(self, alive: dict[str, WorkerRow]) -> None:
        """Wake who waits if somebody came, left, stops, or let go of a partition."""
        before, self._seen = self._seen, alive
        self._looked_at = monotonic()
        if set(before) == set(alive) and not any(
            _lets_go(before[worker_id], worker) for worker_id, worker in alive.items()
        ):
            return
        async with self._changed:
            self._changes += 1
            self._changed.notify_all()


def _lets_go(before: WorkerRow, now: WorkerRow) -> bool:
    return (now.stopping and not before.stopping) or bool(set(before.partitions).difference(now.partitions))
