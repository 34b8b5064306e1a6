"""The partition store, the atomic plans and the change signal on the hub's database.

The fence is the lock row's ETag, compared in the same transaction as every write; all else is SQL of ``rows.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from durabletask_azure.adapters.local.bell import Bell, Topic
from durabletask_azure.adapters.local.bell import changed as topic_of_change
from durabletask_azure.adapters.local.bell import ended as topic_of_end
from durabletask_azure.adapters.local.clock import from_us, to_us
from durabletask_azure.adapters.local.committer import After, Committer, Transaction
from durabletask_azure.adapters.local.ends import Ends
from durabletask_azure.adapters.local.handover import Handover
from durabletask_azure.adapters.local.queries import query_page
from durabletask_azure.adapters.local.reader import Reader
from durabletask_azure.adapters.local.rows import (
    StoredOutbound,
    decode_instance,
    decode_lock,
    decode_outbox,
    decode_tombstone,
    stored_outbound,
    stored_writes,
    swap_lock,
    write_outbound,
    write_rows,
)
from durabletask_azure.adapters.local.sessions import LocalSession, Places
from durabletask_azure.adapters.local.starts import Starts
from durabletask_azure.core.history import RuntimeStatus
from durabletask_azure.core.messages import Outbound
from durabletask_azure.core.rows import InstanceRow, LockRow, OutboxRow, RowWrite, Tombstone
from durabletask_azure.core.stored_form import read_all
from durabletask_azure.errors import (
    CommitRefusedError,
    ConfigurationError,
    HistoryMissingError,
)
from durabletask_azure.ports import (
    Delivery,
    EndedInstance,
    InstanceFilter,
    InstancePage,
    PartitionSession,
    Receipt,
    StoredInstance,
    StoredLock,
    TransactionLimits,
)

__all__ = ["LocalChangeSignal", "LocalPlans", "LocalStore"]

_encode = msgspec.json.Encoder().encode
_NOTHING = StoredOutbound()
_NO_PLACES = Places(())


class LocalStore:
    """The :class:`~durabletask_azure.ports.PartitionStore` of an embedded hub."""

    def __init__(
        self,
        committer: Committer,
        reader: Reader,
        limits: TransactionLimits,
        page_size_max: int,
        handover: Handover,
        bell: Bell,
    ) -> None:
        self._handover = handover
        self._committer = committer
        self.starts = Starts(committer, handover, bell)
        self.ends = Ends(bell, self.found)
        self._reader = reader
        self._limits = limits
        self._page_size_max = page_size_max

    async def read_lock(self, partition: int) -> StoredLock:
        found = self._reader.row("SELECT etag, body FROM locks WHERE partition = ?", (partition,))
        if found is None:
            raise ConfigurationError(f"the hub has no partition {partition}")
        return StoredLock(decode_lock(found[1]), str(found[0]))

    async def commit(
        self, partition: int, lock: LockRow, if_match: str, writes: Sequence[RowWrite]
    ) -> Receipt:
        return await self.transact(partition, lock, if_match, writes, _NOTHING, _NO_PLACES)

    async def transact(
        self,
        partition: int,
        lock: LockRow,
        if_match: str,
        writes: Sequence[RowWrite],
        outbound: StoredOutbound,
        completed: Places,
        *,
        after: After | None = None,
    ) -> Receipt:
        """Do :meth:`commit`, insert ``outbound`` and delete the messages ``completed``, all at once.

        ``after`` is told whether it was committed, also when the caller waits no more.
        """
        if len(writes) >= self._limits.rows_max:
            raise CommitRefusedError(f"{len(writes):,} rows are more than a transaction takes")
        stored = stored_writes(partition, writes)
        body = _encode(lock)

        def work(transaction: Transaction) -> Receipt:
            lock_etag = swap_lock(transaction, partition, body, if_match)
            etags = write_rows(transaction, stored)
            write_outbound(transaction, outbound, self._handover)
            completed.delete(transaction)
            if after is not None:
                transaction.after.append(after)
            told = self.ends.handed_over(writes, stored.topics)
            if told is not None:
                transaction.after.append(told)
            return Receipt(lock_etag, etags)

        return await self._committer.submit(work)

    async def read_instance(self, partition: int, instance_id: str) -> StoredInstance | None:
        found = self._reader.row(
            "SELECT etag, body, tail FROM instances WHERE partition = ? AND id = ?", (partition, instance_id)
        )
        if found is None:
            return None
        etag, body, tail = found
        return StoredInstance(decode_instance(body, tail), str(etag))

    async def read_instances(
        self, partition: int, instance_ids: Sequence[str]
    ) -> Mapping[str, StoredInstance]:
        return self.found(partition, instance_ids)

    def found(self, partition: int, instance_ids: Sequence[str]) -> Mapping[str, StoredInstance]:
        """Return :meth:`read_instances`, which takes no waiting."""
        found: dict[str, StoredInstance] = {}
        for instance_id, etag, body, tail in self._reader.rows(
            "SELECT id, etag, body, tail FROM instances"
            " WHERE partition = ? AND id IN (SELECT value FROM json_each(?))",
            (partition, _encode(instance_ids).decode()),
        ):
            try:
                found[instance_id] = StoredInstance(decode_instance(body, tail), str(etag))
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue  # left out: who asks for it alone is told
        return found

    async def read_tombstone(self, partition: int, instance_id: str) -> Tombstone | None:
        found = self._reader.row(
            "SELECT body FROM tombstones WHERE partition = ? AND id = ?", (partition, instance_id)
        )
        return None if found is None else decode_tombstone(found[0])

    async def read_segments(self, partition: int, instance_id: str, execution_id: str, count: int) -> bytes:
        found = await self._reader.long_rows(
            "SELECT events FROM segments WHERE partition = ? AND id = ? AND execution_id = ? AND idx < ?"
            " ORDER BY idx",
            (partition, instance_id, execution_id, count),
        )
        if len(found) != count:
            raise HistoryMissingError(
                f"{len(found)} of {count} history segments of {instance_id!r}, execution {execution_id!r}, are there"
            )
        return b"".join(row[0] for row in found)

    async def read_outbox(self, partition: int) -> Sequence[OutboxRow]:
        found = await self._reader.long_rows(
            "SELECT body FROM outbox WHERE partition = ? ORDER BY n, idx", (partition,)
        )
        return [decode_outbox(body) for (body,) in found]

    async def insert_instance(self, partition: int, row: InstanceRow) -> str:
        return await self.starts.put(partition, row, None)

    async def replace_instance(self, partition: int, row: InstanceRow, if_match: str) -> str:
        return await self.starts.put(partition, row, if_match)

    async def query(
        self, partition: int, where: InstanceFilter, *, count_max: int, token: str | None = None
    ) -> InstancePage:
        size = max(1, min(count_max, self._page_size_max))
        found, following = await query_page(self._reader, partition, where, size, token)
        rows, unreadable = read_all(_without_tail, ((name, (name, body)) for name, body in found))
        return InstancePage(rows, following, unreadable)

    async def ended_before(
        self, partition: int, status: RuntimeStatus, moment: datetime, count_max: int
    ) -> Sequence[EndedInstance]:
        found = await self._reader.long_rows(
            "SELECT id, json_extract(CAST(body AS TEXT), '$.execution_id')"
            " FROM instances INDEXED BY instances_by_status"
            " WHERE partition = ? AND status = ? AND completed_at <= ? AND json_valid(CAST(body AS TEXT))"
            " ORDER BY completed_at LIMIT ?",
            (partition, status.value, to_us(moment), count_max),
        )
        return [EndedInstance(*row) for row in found]

    async def expired_tombstones(self, partition: int, now: datetime, count_max: int) -> Sequence[Tombstone]:
        found = self._reader.rows(
            "SELECT id, body FROM tombstones WHERE partition = ? AND expires_at <= ? ORDER BY expires_at LIMIT ?",
            (partition, to_us(now), count_max),
        )
        return read_all(decode_tombstone, found)[0]

    async def server_time(self) -> datetime:
        return from_us(self._committer.clock.now_us())

    async def close(self) -> None:
        """The database is closed with the hub."""


class LocalPlans:
    """The :class:`~durabletask_azure.ports.AtomicPlans` of an embedded hub."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store

    async def execute(
        self,
        partition: int,
        lock: LockRow,
        if_match: str,
        writes: Sequence[RowWrite],
        *,
        sends: Sequence[Outbound],
        session: PartitionSession,
        completes: Sequence[Delivery],
    ) -> Receipt:
        if not isinstance(session, LocalSession):
            raise AssertionError(f"a session of another hub: {session!r}")
        completed = Places(completes)
        return await self._store.transact(
            partition,
            lock,
            if_match,
            writes,
            stored_outbound(sends),
            completed,
            after=session.completed(completed),
        )

    async def start(self, partition: int, row: InstanceRow, wake_up: Outbound, if_match: str | None) -> str:
        return await self._store.starts.put(partition, row, if_match, (wake_up,))


class LocalChangeSignal:
    """The :class:`~durabletask_azure.ports.ChangeSignal` of an embedded hub."""

    is_prompt = True

    def __init__(self, bell: Bell) -> None:
        self._bell = bell

    def watch(self, partition: int, instance_id: str, *, ended: bool = False) -> LocalWatch:
        return LocalWatch(self._bell, topic_of_end(instance_id) if ended else topic_of_change(instance_id))


class LocalWatch:
    """The :class:`~durabletask_azure.ports.InstanceWatch` of an embedded hub: it listens also between two waits."""

    def __init__(self, bell: Bell, topic: Topic) -> None:
        self._bell = bell
        self._topic = topic
        self._waiter = bell.attend(topic)

    async def wait(self, timeout_s: float) -> None:
        await self._bell.until(self._topic, self._waiter, timeout_s)
        self._waiter = self._bell.attend(self._topic)

    def close(self) -> None:
        self._bell.leave(self._topic, self._waiter)


def _without_tail(found: tuple[str, bytes]) -> InstanceRow:
    name, body = found
    row = decode_instance(body, b"")
    if row.instance_id != name:
        raise msgspec.DecodeError(f"the row of {name!r} is of {row.instance_id!r}")
    return row
