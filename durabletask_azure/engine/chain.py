"""The chain of commits of one partition in one tenure: every transaction replaces the fencing row (DESIGN 1 and 3).

It knows a commit of its own that landed although the reply was lost (F5, F7), repeats byte for byte what may not have
landed (F6), and believes in a rival only after reading the lock row (F8, F10).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from durabletask_azure.core.partitioning import partition_name, stable_id
from durabletask_azure.core.rows import LockRow, RowWrite
from durabletask_azure.engine.counters import Counters
from durabletask_azure.engine.retrying import patiently
from durabletask_azure.errors import (
    CommitRefusedError,
    HubUnavailableError,
    PartitionLostError,
    QueueFullError,
    ThrottledError,
)
from durabletask_azure.ports import Clock, PartitionStore, Receipt, StoredLock
from durabletask_azure.settings import Settings

__all__ = ["CommitChain"]

_log = logging.getLogger("durabletask_azure.engine.chain")
_TAKE_OVER_TRIES = 10

Transaction = Callable[[LockRow, str], Awaitable[Receipt]]


class CommitChain:
    """The lock row as this owner last wrote it, and the only way to write to the partition."""

    def __init__(
        self,
        store: PartitionStore,
        clock: Clock,
        settings: Settings,
        counters: Counters,
        *,
        partition: int,
        owner_id: str,
        keep_going: Callable[[], bool],
    ) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._counters = counters
        self._keep_going = keep_going
        self._transactions = 0
        self.partition = partition
        self.owner_id = owner_id
        self.row = LockRow()
        self.etag = ""

    async def take_over(self) -> LockRow:
        """Write this owner into the lock row, epoch + 1; return the row as the last owner left it.

        Raises:
            PartitionLostError: others kept taking it.
        """
        for _ in range(_TAKE_OVER_TRIES):
            stored = await self._read_lock()
            before = stored.row
            mine = msgspec.structs.replace(
                before,
                owner=self.owner_id,
                epoch=before.epoch + 1,
                vain=before.vain + 1,
                commit_id=stable_id(self.owner_id, "take-over"),
            )
            self.row, self.etag = before, stored.etag
            try:
                await self._transact(
                    mine, lambda lock, etag: self._store.commit(self.partition, lock, etag, ())
                )
            except (PartitionLostError, CommitRefusedError):
                continue
            return before
        raise PartitionLostError(f"{partition_name(self.partition)} is being taken by others")

    async def commit(self, writes: Sequence[RowWrite], **lock: Any) -> Receipt | None:
        """Apply ``writes`` with the lock row's fields changed as given, in one transaction.

        Returns the receipt, or ``None`` when the transaction landed but its reply was lost: the new ETags of instance
        rows are then unknown.

        Raises:
            PartitionLostError: somebody else owns the partition.
            CommitRefusedError: the fence was good, the writes were not.
        """
        return await self.execute(
            lambda row, etag: self._store.commit(self.partition, row, etag, writes), **lock
        )

    async def execute(self, transaction: Transaction, **lock: Any) -> Receipt | None:
        """As :meth:`commit`, for a transaction of the caller's that takes the new lock row and the ETag to match."""
        self._transactions += 1
        commit_id = stable_id(self.owner_id, self.row.epoch, self._transactions)
        row = msgspec.structs.replace(self.row, commit_id=commit_id, **lock)
        return await self._transact(row, transaction)

    async def _transact(self, row: LockRow, transaction: Transaction) -> Receipt | None:
        pause = 0.05
        while True:
            try:
                receipt = await transaction(row, self.etag)
            except ThrottledError as error:
                pause = max(pause, error.retry_after.total_seconds() if error.retry_after else 0.0)
            except QueueFullError as error:
                _log.warning("%s: %s", partition_name(self.partition), error)
            except HubUnavailableError as error:
                _log.warning("%s: a commit's outcome is unknown: %s", partition_name(self.partition), error)
                if await self._has_landed(row):
                    return None
            except (PartitionLostError, CommitRefusedError) as error:
                self._counters.refused_commits += 1
                if await self._has_landed(row):
                    return None
                if isinstance(error, CommitRefusedError):
                    raise
            else:
                self.row, self.etag = row, receipt.lock_etag
                return receipt
            if not self._keep_going():
                raise PartitionLostError(f"{partition_name(self.partition)} was given up during a commit")
            await self._clock.sleep(pause)
            pause = min(pause * 2, self._settings.send_retry_s_max)

    async def _has_landed(self, row: LockRow) -> bool:
        """Return whether a transaction took effect after all; raise if the partition is somebody else's."""
        stored = await self._read_lock()
        if stored.row.commit_id == row.commit_id:
            self._counters.own_commits_recognised += 1
            self.row, self.etag = stored.row, stored.etag
            return True
        if stored.etag != self.etag:
            raise PartitionLostError(f"{partition_name(self.partition)} was taken over by {stored.row.owner}")
        return False

    async def _read_lock(self) -> StoredLock:
        return await patiently(
            self._clock,
            self._settings,
            f"reading the lock row of {partition_name(self.partition)}",
            lambda: self._store.read_lock(self.partition),
            keep_going=self._keep_going,
        )
