"""The simulated table: rows with ETags, and transactions with the limits of the real one.

It refuses what the Table service refuses (a stale ETag, an insert over a row, two operations on one row, more than 100
operations or 4 MiB in a transaction, an entity over 1 MiB, a string over 32,767 UTF-16 units), and keeps every accepted
transaction, in order, for the checks after the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from durabletask_azure.core.payloads import BlobRef
from durabletask_azure.core.rows import (
    DeleteInstance,
    DeleteOutbox,
    DeleteSegments,
    DeleteTombstone,
    InstanceRow,
    LockRow,
    OutboxRow,
    PutInstance,
    PutOutbox,
    PutSegment,
    PutTombstone,
    RowWrite,
    Tombstone,
    row_key,
)
from durabletask_azure.errors import (
    CommitRefusedError,
    OrchestrationAlreadyExistsError,
    PartitionLostError,
)
from durabletask_azure.ports import Receipt, StoredInstance, StoredLock

if TYPE_CHECKING:
    from tests.simulation.fakes.world import World

__all__ = ["ROWS_MAX", "ClientWrite", "CommitRecord", "PartitionRows", "Table"]

ROWS_MAX = 100
TRANSACTION_BYTES_MAX = 4 * 1024 * 1024
ENTITY_BYTES_MAX = 1024 * 1024
STRING_UNITS_MAX = 32_767
_ENTITY_BYTES = 300

_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class CommitRecord:
    """One accepted transaction: when (true time), by which gate, and what."""

    at: datetime
    gate: str
    partition: int
    lock: LockRow
    writes: Sequence[RowWrite]


@dataclass(frozen=True, slots=True)
class ClientWrite:
    """One row a client inserted (or, with ``replaced``, put in the place of another) beside the chain."""

    at: datetime
    gate: str
    partition: int
    row: InstanceRow
    replaced: bool


@dataclass(slots=True)
class PartitionRows:
    """The rows of one partition."""

    lock: StoredLock
    instances: dict[str, StoredInstance] = field(default_factory=dict[str, StoredInstance])
    segments: dict[tuple[str, str, int], bytes] = field(default_factory=dict[tuple[str, str, int], bytes])
    outbox: dict[tuple[int, int], OutboxRow] = field(default_factory=dict[tuple[int, int], OutboxRow])
    tombstones: dict[str, Tombstone] = field(default_factory=dict[str, Tombstone])


class Table:
    """The hub's table; ``log`` holds every accepted write in order, over all partitions."""

    def __init__(self, world: World, rows_max: int = ROWS_MAX) -> None:
        self._world = world
        self.rows_max = rows_max
        self._etags = 0
        self.partitions: dict[int, PartitionRows] = {}
        self.log: list[CommitRecord | ClientWrite] = []

    def rows(self, partition: int) -> PartitionRows:
        """Return a partition's rows, making an empty lock row if there is none."""
        rows = self.partitions.get(partition)
        if rows is None:
            rows = self.partitions[partition] = PartitionRows(StoredLock(LockRow(), self._etag()))
        return rows

    def _etag(self) -> str:
        self._etags += 1
        return f'W/"{self._etags}"'

    def commit(
        self, gate: str, partition: int, lock: LockRow, if_match: str, writes: Sequence[RowWrite]
    ) -> Receipt:
        """Apply all writes and replace the lock row, or do nothing."""
        rows = self.rows(partition)
        _check_limits(lock, writes, self.rows_max)
        if rows.lock.etag != if_match:
            raise PartitionLostError(f"the lock row of partition {partition} is not {if_match}")
        for write in writes:
            _check_condition(rows, write)
        etags: dict[str, str] = {}
        rows.lock = StoredLock(lock, self._etag())
        for write in writes:
            self._apply(rows, write, etags)
        self.log.append(CommitRecord(self._world.now(), gate, partition, lock, tuple(writes)))
        self._world.trace("commit", gate, partition, lock.epoch, lock.n, len(writes))
        for instance_id in etags:
            self._world.notify(("instance", instance_id))
        return Receipt(rows.lock.etag, etags)

    def _apply(self, rows: PartitionRows, write: RowWrite, etags: dict[str, str]) -> None:
        match write:
            case PutInstance(row=row):
                etags[row.instance_id] = self._etag()
                rows.instances[row.instance_id] = StoredInstance(row, etags[row.instance_id])
            case DeleteInstance(instance_id=instance_id):
                del rows.instances[instance_id]
                self._world.notify(("instance", instance_id))
            case PutSegment():
                rows.segments[write.instance_id, write.execution_id, write.index] = bytes(write.events)
            case DeleteSegments():
                for index in range(write.first, write.first + write.count):
                    rows.segments.pop((write.instance_id, write.execution_id, index), None)
            case PutOutbox(row=row):
                rows.outbox[row.n, row.index] = row
            case DeleteOutbox():
                rows.outbox.pop((write.n, write.index), None)
            case PutTombstone(tombstone=tombstone):
                rows.tombstones[tombstone.instance_id] = tombstone
            case DeleteTombstone():
                rows.tombstones.pop(write.instance_id, None)

    def insert_instance(self, gate: str, partition: int, row: InstanceRow) -> str:
        """Insert a client's row."""
        rows = self.rows(partition)
        if row.instance_id in rows.instances:
            raise OrchestrationAlreadyExistsError(f"there is an instance {row.instance_id!r}")
        return self._client_write(gate, partition, rows, row, replaced=False)

    def replace_instance(self, gate: str, partition: int, row: InstanceRow, if_match: str) -> str:
        """Replace a row by a client's."""
        rows = self.rows(partition)
        found = rows.instances.get(row.instance_id)
        if found is None or found.etag != if_match:
            raise CommitRefusedError(
                "the row is not as it was", row_key=f"i!{row.instance_id}", conflict=True
            )
        return self._client_write(gate, partition, rows, row, replaced=True)

    def _client_write(
        self, gate: str, partition: int, rows: PartitionRows, row: InstanceRow, *, replaced: bool
    ) -> str:
        _check_entity(PutInstance(row), f"i!{row.instance_id}")
        etag = self._etag()
        rows.instances[row.instance_id] = StoredInstance(row, etag)
        self.log.append(ClientWrite(self._world.now(), gate, partition, row, replaced))
        self._world.trace("client row", gate, row.instance_id, replaced)
        self._world.notify(("instance", row.instance_id))
        return etag


def _check_condition(rows: PartitionRows, write: RowWrite) -> None:
    match write:
        case PutInstance(row=row, if_match=if_match):
            found = rows.instances.get(row.instance_id)
            good = (found.etag if found is not None else None) == if_match
        case DeleteInstance(instance_id=instance_id, if_match=if_match):
            found = rows.instances.get(instance_id)
            good = found is not None and found.etag == if_match
        case PutOutbox(row=row):
            good = (row.n, row.index) not in rows.outbox
        case _:
            good = True
    if not good:
        key = row_key(write)
        raise CommitRefusedError(f"the condition of row {key} failed", row_key=key, conflict=True)


def _check_limits(lock: LockRow, writes: Sequence[RowWrite], rows_max: int) -> None:
    """Refuse what the Table service would refuse, by an estimate of our own."""
    keys: set[str] = {"lock"}
    count = 1
    total = len(_encoder.encode(lock)) + _ENTITY_BYTES
    if total > ENTITY_BYTES_MAX:
        raise CommitRefusedError(f"EntityTooLarge: the lock row has {total:,} bytes", row_key="lock")
    for write in writes:
        key = row_key(write)
        touched = _keys(write, key)
        if not keys.isdisjoint(touched):
            raise CommitRefusedError(f"InvalidDuplicateRow: {key}", row_key=key)
        keys.update(touched)
        count += len(touched)
        total += _check_entity(write, key) * len(touched)
    if count > rows_max:
        raise CommitRefusedError(f"a transaction takes {rows_max} operations, not {count}")
    if total > TRANSACTION_BYTES_MAX:
        raise CommitRefusedError(f"RequestBodyTooLarge: {total:,} bytes")


def _keys(write: RowWrite, key: str) -> Sequence[str]:
    """Return the keys of all rows a write touches."""
    if not isinstance(write, DeleteSegments):
        return (key,)
    numbers = range(write.first, write.first + write.count)
    return [f"h!{write.instance_id}!{write.execution_id}!{number}" for number in numbers]


def _check_entity(write: RowWrite, key: str) -> int:
    """Return the least size an entity has in the table; refuse what is too large for one."""
    match write:
        case PutInstance(row=row):
            for name in ("input", "output", "custom_status", "tags"):
                _check_text(getattr(row, name), name, key)
            size = len(row.tail) + len(_encoder.encode(msgspec.structs.replace(row, tail=b"")))
        case PutSegment(events=events):
            size = len(events)
        case PutOutbox(row=row):
            size = len(_encoder.encode(row))
        case _:
            size = 0
    if size > ENTITY_BYTES_MAX:
        raise CommitRefusedError(f"EntityTooLarge: {key} has {size:,} bytes", row_key=key)
    return size + _ENTITY_BYTES


def _check_text(value: str | BlobRef | None, name: str, key: str) -> None:
    if isinstance(value, str) and len(value.encode("utf-16-le")) > 2 * STRING_UNITS_MAX:
        raise CommitRefusedError(f"PropertyValueTooLarge: {name} of {key}", row_key=key)
