"""The partition store on a table: reads, transactions and listings as the port has them.

The fence is the lock row's ETag, first in every transaction. Whether a transaction that was refused is one's own that
landed before is for the caller to find out, by the commit id in the lock row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from time import monotonic

import msgspec

from durabletask_azure.adapters.tables.changes import Room
from durabletask_azure.adapters.tables.direct import TransactionRefusedError
from durabletask_azure.adapters.tables.entities import (
    Row,
    bytes_of,
    decode_instance,
    decode_lock,
    decode_outbox,
    decode_tombstone,
    entity_of,
)
from durabletask_azure.adapters.tables.keys import (
    INSTANCES,
    LOCK,
    OUTBOX,
    TOMBSTONES,
    instance_id_of,
    instance_key,
    is_whole,
    key_after,
    segment_key,
    tombstone_key,
)
from durabletask_azure.adapters.tables.queries import Filter, fits, instance_filter, read_token, write_token
from durabletask_azure.adapters.tables.rings import CHANGED_MAX, ENDED_MAX, Ring, short_name
from durabletask_azure.adapters.tables.table import Table
from durabletask_azure.adapters.tables.writing import (
    BYTES_MAX,
    ROWS_MAX,
    Step,
    is_etag,
    lock_step,
    steps,
)
from durabletask_azure.core.history import RuntimeStatus
from durabletask_azure.core.partitioning import partition_name
from durabletask_azure.core.rows import InstanceRow, LockRow, OutboxRow, PutInstance, RowWrite, Tombstone
from durabletask_azure.core.stored_form import read_all
from durabletask_azure.errors import (
    CommitRefusedError,
    HistoryMissingError,
    HubUnavailableError,
    OrchestrationAlreadyExistsError,
    PartitionLostError,
)
from durabletask_azure.ports import (
    EndedInstance,
    InstanceFilter,
    InstancePage,
    Receipt,
    StoredInstance,
    StoredLock,
)
from durabletask_azure.settings import Settings

__all__ = ["TableStore"]

_READS_AT_ONCE = 16
_CONFLICTS = (404, 409, 412)
_WITHOUT_TAIL = ("RowKey", "body", "more")


class TableStore:
    """The :class:`~durabletask_azure.ports.PartitionStore` of an Azure hub."""

    def __init__(self, table: Table, room: Room, settings: Settings) -> None:
        self._table = table
        self._room = room
        self._settings = settings
        self._rings: dict[int, tuple[str, Ring, Ring]] = {}

    # ------------------------------------------------------------------ the lock row, and commits

    async def read_lock(self, partition: int) -> StoredLock:
        name = partition_name(partition)
        while True:
            row = await self._table.read(name, LOCK)
            if row is not None:
                etag = _etag(row)
                self._rings[partition] = (
                    etag,
                    Ring.decode(row.values.get("ended")),
                    Ring.decode(row.values.get("changed")),
                )
                return StoredLock(decode_lock(row), etag)
            # Whoever inserts it first: it is read again, so that all have the same ETag.
            await self._table.insert({"PartitionKey": name, "RowKey": LOCK, **entity_of(LockRow())})

    async def commit(
        self, partition: int, lock: LockRow, if_match: str, writes: Sequence[RowWrite]
    ) -> Receipt:
        name = partition_name(partition)
        first = lock_step(name, lock, if_match)
        rows = steps(name, writes)
        rings = self._with_rings(partition, first, rows, if_match)
        if len(rows) >= ROWS_MAX:
            raise CommitRefusedError(
                f"{len(rows) + 1:,} rows with the lock row are more than the {ROWS_MAX} of a transaction"
            )
        size = sum(step.size for step in rows) + first.size
        if size > BYTES_MAX:
            raise CommitRefusedError(f"about {size:,} bytes are more than the {BYTES_MAX:,} of a transaction")
        etags = await self._transact(name, [first, *rows], size)
        self._rings[partition] = (etags[LOCK], *rings)
        self._tell(partition, rows)
        return Receipt(
            etags[LOCK],
            {
                step.instance_id: etags[step.entity["RowKey"]]
                for step in rows
                if step.instance_id is not None and step.kind != "delete"
            },
        )

    async def _transact(self, partition: str, all_steps: list[Step], size: int) -> dict[str, str]:
        """Apply the steps, the lock row's first; return the new ETags by RowKey. Errors as :meth:`commit`."""
        while True:
            try:
                written = await self._table.transact(all_steps, size)
            except TransactionRefusedError as error:
                if error.index is None or error.index >= len(all_steps):
                    raise CommitRefusedError(
                        f"{partition}: the commit is refused: {error} ({error.code})"
                    ) from error
                step = all_steps[error.index]
                if not (error.status == 404 and step.may_be_missing):
                    raise _refusal(partition, step, error) from error
                # The service refuses all for a row that is already deleted: go on without such rows.
                missing = await self._missing(partition, all_steps, step)
                all_steps = [kept for kept in all_steps if kept.entity["RowKey"] not in missing]
                continue
            return {
                step.entity["RowKey"]: etag
                for step, etag in zip(all_steps, written, strict=True)
                if etag is not None
            }

    async def _missing(self, partition: str, all_steps: Sequence[Step], known: Step) -> set[str]:
        """Return the keys of rows to delete that are not there."""
        keys = [step.entity["RowKey"] for step in all_steps if step.may_be_missing]
        missing = {known.entity["RowKey"]}
        places = asyncio.Semaphore(_READS_AT_ONCE)

        async def look(key: str) -> None:
            async with places:
                if await self._table.read(partition, key, ("RowKey",)) is None:
                    missing.add(key)

        await asyncio.gather(*(look(key) for key in keys if key not in missing))
        return missing

    def _with_rings(
        self, partition: int, first: Step, rows: Sequence[Step], if_match: str
    ) -> tuple[Ring, Ring]:
        """Add to the lock row which instances this commit changes; return the new rings."""
        etag, ended, changed = self._rings.get(partition, ("", Ring(), Ring()))
        if etag != if_match:  # nothing is known of the row to be replaced: readers see that names are gone
            ended = changed = Ring()
        names, ends = _names(rows)
        ended, changed = ended.with_names(ends, ENDED_MAX), changed.with_names(names, CHANGED_MAX)
        first.entity["ended"], first.entity["changed"] = ended.encode(), changed.encode()
        first.size += 2 * (len(ended.names) + len(changed.names)) + 200
        return ended, changed

    def _tell(self, partition: int, rows: Sequence[Step]) -> None:
        self._room.committed_at[partition] = monotonic()
        changed, ended = _names(rows)
        if changed:
            self._room.tell(partition, changed, ended)

    # ------------------------------------------------------------------ single rows

    async def read_instance(self, partition: int, instance_id: str) -> StoredInstance | None:
        row = await self._table.read_values(partition_name(partition), instance_key(instance_id))
        return None if row is None else StoredInstance(decode_instance(row), _etag(row))

    async def read_tombstone(self, partition: int, instance_id: str) -> Tombstone | None:
        row = await self._table.read_values(partition_name(partition), tombstone_key(instance_id))
        return None if row is None else decode_tombstone(row)

    async def insert_instance(self, partition: int, row: InstanceRow) -> str:
        (step,) = steps(partition_name(partition), (PutInstance(row),))
        etag = await self._table.insert(step.entity)
        if etag is None:
            raise OrchestrationAlreadyExistsError(f"there is an orchestration instance {row.instance_id!r}")
        self._tell_of(partition, row)
        return etag

    async def replace_instance(self, partition: int, row: InstanceRow, if_match: str) -> str:
        (step,) = steps(partition_name(partition), (PutInstance(row, if_match),))
        etag = await self._table.replace(step.entity, if_match)
        if etag is None:
            raise CommitRefusedError(
                f"the row {step.name} is not as it was expected", row_key=step.name, conflict=True
            )
        self._tell_of(partition, row)
        return etag

    def _tell_of(self, partition: int, row: InstanceRow) -> None:
        name = (short_name(row.instance_id),)
        self._room.tell(partition, name, name if row.status.is_terminal else ())

    # ------------------------------------------------------------------ ranges of rows

    async def read_segments(self, partition: int, instance_id: str, execution_id: str, count: int) -> bytes:
        if count == 0:
            return b""
        first = segment_key(instance_id, execution_id, 0)
        wanted = Filter(partition, first, segment_key(instance_id, execution_id, count))
        found = [bytes_of(row, "body") async for row in self._table.rows(wanted.text, wanted.values)]
        if len(found) != count:
            raise HistoryMissingError(
                f"{len(found)} of {count} history segments of {instance_id!r}, execution {execution_id!r}, are there"
            )
        return b"".join(found)

    async def read_outbox(self, partition: int) -> Sequence[OutboxRow]:
        wanted = Filter(partition, OUTBOX, key_after(OUTBOX))
        return [decode_outbox(row) async for row in self._table.rows(wanted.text, wanted.values)]

    async def expired_tombstones(self, partition: int, now: datetime, count_max: int) -> Sequence[Tombstone]:
        wanted = Filter(partition, TOMBSTONES, key_after(TOMBSTONES))
        wanted.compare("expires_at", "le", now)
        found = await self._some(partition, wanted, _WITHOUT_TAIL, count_max)
        return read_all(decode_tombstone, ((row.key, row) for row in found))[0]

    async def ended_before(
        self, partition: int, status: RuntimeStatus, moment: datetime, count_max: int
    ) -> Sequence[EndedInstance]:
        wanted = Filter(partition, INSTANCES, key_after(INSTANCES))
        wanted.compare("status", "eq", status.value)
        wanted.compare("completed_at", "le", moment)
        asked = ("RowKey", "instance_id", "execution_id", "completed_at")
        found = await self._some(partition, wanted, asked, count_max)
        ended = read_all(_ended, ((row.key, row) for row in found))[0]
        ended.sort(key=lambda at_and_instance: at_and_instance[0])
        return [instance for _, instance in ended]

    async def _some(self, partition: int, wanted: Filter, select: Sequence[str], count_max: int) -> list[Row]:
        """Return the first rows of a query, at most ``count_max``."""
        found: list[Row] = []
        token = None
        while len(found) < count_max:
            page, token = await self._table.page(
                wanted.text, wanted.values, select=select, size=count_max - len(found), token=token
            )
            found += page
            if token is None:
                break
        return [await self._whole(partition, row) for row in found]

    async def _whole(self, partition: int, row: Row) -> Row:
        """Return a row with all parts of its values; what is gone by now comes as it was found."""
        if not row.values.get("more"):
            return row
        return await self._table.read(partition_name(partition), row.key) or row

    # ------------------------------------------------------------------ listings

    async def query(
        self, partition: int, where: InstanceFilter, *, count_max: int, token: str | None = None
    ) -> InstancePage:
        size = max(1, min(count_max, self._settings.page_size_max))
        place = None if token is None else read_token(partition, where, token)
        if where.ids:
            return await self._query_ids(partition, where, size, (place or {}).get("after") or "")
        wanted = instance_filter(partition, where)
        page, following = await self._table.page(
            wanted.text, wanted.values, select=_WITHOUT_TAIL, size=size, token=place
        )
        whole = [await self._whole(partition, row) for row in page]
        rows, unreadable = read_all(_without_tail, ((_name_of(row), row) for row in whole))
        return InstancePage(
            [row for row in rows if fits(row, where)],
            None if following is None else write_token(partition, where, dict(following)),
            unreadable,
        )

    async def _query_ids(self, partition: int, where: InstanceFilter, size: int, after: str) -> InstancePage:
        keys = sorted(key for key in set(map(instance_key, where.ids)) if key > after)
        rows: list[InstanceRow] = []
        unreadable: list[str] = []
        name = partition_name(partition)
        for start in range(0, len(keys), _READS_AT_ONCE):
            portion = keys[start : start + _READS_AT_ONCE]
            found = await asyncio.gather(*(self._table.read(name, key, _WITHOUT_TAIL) for key in portion))
            for key, read in zip(portion, found, strict=True):
                if read is None:
                    continue
                whole = await self._whole(partition, read)
                readable, others = read_all(_without_tail, [(_name_of(read), whole)])
                rows += [row for row in readable if fits(row, where)]
                unreadable += others
                if len(rows) == size and key != keys[-1]:
                    return InstancePage(rows, write_token(partition, where, {"after": key}), unreadable)
        return InstancePage(rows, None, unreadable)

    async def server_time(self) -> datetime:
        return await self._table.server_time()

    async def close(self) -> None:
        """The connections are closed with the table."""


def _etag(row: Row) -> str:
    if not is_etag(row.etag):
        raise HubUnavailableError(f"the table service gave no usable ETag: {row.etag!r}")
    return row.etag


def _refusal(
    partition: str, step: Step, error: TransactionRefusedError
) -> PartitionLostError | CommitRefusedError:
    if step.name == LOCK and error.status in _CONFLICTS:
        return PartitionLostError(f"{partition} has been written by another owner")
    if error.status in _CONFLICTS:
        return CommitRefusedError(
            f"the row {step.name} is not as it was expected ({error.code})", row_key=step.name, conflict=True
        )
    return CommitRefusedError(
        f"the row {step.name} cannot be stored: {error} ({error.code})", row_key=step.name
    )


def _names(rows: Sequence[Step]) -> tuple[list[bytes], list[bytes]]:
    """Return which instances a commit changes, and which of them end or go."""
    changed: list[bytes] = []
    ended: list[bytes] = []
    for step in rows:
        if step.instance_id is not None:
            name = short_name(step.instance_id)
            changed.append(name)
            if step.ends:
                ended.append(name)
    return changed, ended


def _ended(row: Row) -> tuple[datetime, EndedInstance]:
    """Return when an instance ended, and which it is."""
    at, execution_id = row.values.get("completed_at"), row.values.get("execution_id")
    if not isinstance(at, datetime) or not isinstance(execution_id, str):
        raise msgspec.DecodeError(f"the row {row.key!r} does not say which run ended when")
    return at, EndedInstance(_instance_id(row), execution_id)


def _instance_id(row: Row) -> str:
    if is_whole(row.key):
        return instance_id_of(row.key)
    try:
        return bytes_of(row, "instance_id").decode()
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"the id in the row {row.key!r} cannot be read: {error}") from error


def _name_of(row: Row) -> str:
    """Return an instance's id, or the key of its row where the id is not in it."""
    return instance_id_of(row.key) if is_whole(row.key) else row.key


def _without_tail(row: Row) -> InstanceRow:
    instance = decode_instance(row, with_tail=False)
    if instance_key(instance.instance_id) != row.key:
        raise msgspec.DecodeError(f"the row {row.key!r} is of {instance.instance_id!r}")
    return instance
