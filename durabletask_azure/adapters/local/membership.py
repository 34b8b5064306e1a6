"""The workers of a hub, in its own table; a worker whose process is gone is left out at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from durabletask_azure.adapters.local.bell import MEMBERS, Bell
from durabletask_azure.adapters.local.clock import wall_us
from durabletask_azure.adapters.local.committer import Committer, Transaction
from durabletask_azure.adapters.local.liveness import Locks
from durabletask_azure.adapters.local.reader import Reader
from durabletask_azure.ports import WorkerRow

__all__ = ["LocalMembership"]

_CHECK_S = 1.0
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(tuple[int, ...]).decode


class LocalMembership:
    """The :class:`~durabletask_azure.ports.Membership` of an embedded hub.

    Left out of :meth:`workers` is who is dead, and who has been silent for four heartbeats, by the wall clock: that one
    is the same in all processes, while one process may come to know the hub's time later than another.
    """

    def __init__(
        self, committer: Committer, reader: Reader, bell: Bell, locks: Locks, heartbeat_s: float
    ) -> None:
        self._committer = committer
        self._reader = reader
        self._bell = bell
        self._locks = locks
        self._silent_us = int(heartbeat_s * 4e6)

    async def announce(self, worker: WorkerRow) -> None:
        partitions = _encode(worker.partitions)
        process = self._locks.process

        def work(transaction: Transaction) -> None:
            before = transaction.execute(
                "SELECT stopping, partitions FROM workers WHERE id = ?", (worker.worker_id,)
            ).fetchone()
            transaction.execute(
                "INSERT OR REPLACE INTO workers(id, process, stopping, seen_at, partitions) VALUES(?, ?, ?, ?, ?)",
                (worker.worker_id, process, worker.stopping, wall_us(), partitions),
            )
            if (
                before is None
                or (worker.stopping and not before[0])
                or set(_decode(before[1])).difference(worker.partitions)
            ):
                transaction.topics.append(MEMBERS)

        await self._committer.submit(work, durable=False)

    async def workers(self) -> Sequence[WorkerRow]:
        found = self._reader.rows(
            "SELECT id, process, stopping, seen_at, partitions FROM workers ORDER BY id", ()
        )
        now_us = wall_us()
        alive: list[WorkerRow] = []
        dead: list[tuple[str]] = []
        for worker_id, process, stopping, seen_us, partitions in found:
            if self._locks.is_dead(process):
                dead.append((worker_id,))
            elif now_us - seen_us < self._silent_us:
                alive.append(
                    WorkerRow(
                        worker_id=worker_id,
                        partitions=_decode(partitions),
                        stopping=bool(stopping),
                        age_s=max(0.0, (now_us - seen_us) / 1e6),
                    )
                )
        if dead:
            await self._remove(dead)
        return alive

    async def withdraw(self, worker_id: str) -> None:
        await self._remove([(worker_id,)])

    async def _remove(self, doomed: Sequence[tuple[str]]) -> None:
        def work(transaction: Transaction) -> None:
            if transaction.executemany("DELETE FROM workers WHERE id = ?", doomed).rowcount:
                transaction.topics.append(MEMBERS)

        await self._committer.submit(work, durable=False)

    async def wait_changed(self, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            if self._somebody_died():
                # takes the dead off the list: a caller that comes back at once has to wait again
                await self.workers()
                return
            left_s = deadline - loop.time()
            if left_s <= 0:
                return
            seen = self._bell.count(MEMBERS)
            await self._bell.wait(MEMBERS, seen, min(left_s, _CHECK_S))
            if self._bell.count(MEMBERS) != seen:
                return

    def _somebody_died(self) -> bool:
        rows = self._reader.rows("SELECT DISTINCT process FROM workers", ())
        return any(self._locks.is_dead(process) for (process,) in rows)
