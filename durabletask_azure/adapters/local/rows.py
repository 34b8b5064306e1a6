"""The rows of a partition as SQLite holds them, and the writes of a transaction as SQL.

Values are turned into their stored form before the transaction (``stored_...``), so that an error there is the
caller's and the writer only runs SQL. An instance row's ETag is a number that grows with each write and starts above
every earlier one of the same id, so an ETag is never given twice, also after a deletion.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, assert_never

import msgspec

from durabletask_azure.adapters.local.bell import ACTIVITIES, Topic, changed, ended
from durabletask_azure.adapters.local.clock import to_us
from durabletask_azure.adapters.local.committer import Transaction
from durabletask_azure.adapters.local.handover import Consumer, Handover
from durabletask_azure.core.messages import ActivityTask, Outbound, ToPartition, encode_messages, encode_task
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
from durabletask_azure.core.stored_form import reader_of
from durabletask_azure.errors import CommitRefusedError, PartitionLostError
from durabletask_azure.ports import ActivityDelivery

__all__ = [
    "StoredOutbound",
    "StoredWrite",
    "decode_instance",
    "decode_lock",
    "decode_outbox",
    "decode_tombstone",
    "etag_number",
    "stored_outbound",
    "stored_writes",
    "swap_lock",
    "write_outbound",
    "write_rows",
]

_encode = msgspec.json.Encoder().encode
_decode_instance = reader_of(InstanceRow)
decode_lock = reader_of(LockRow)
decode_outbox = reader_of(OutboxRow)
decode_tombstone = reader_of(Tombstone)

_INSERT_INSTANCE = (
    "INSERT INTO instances(name, status, created_at, updated_at, completed_at, due_at, has_reason, body, tail,"
    " partition, id, etag) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)
_REPLACE_INSTANCE = (
    "UPDATE instances SET name = ?, status = ?, created_at = ?, updated_at = ?, completed_at = ?, due_at = ?,"
    " has_reason = ?, body = ?, tail = ?, etag = etag + 1 WHERE partition = ? AND id = ? AND etag = ?"
)
_DELETE_INSTANCE = "DELETE FROM instances WHERE partition = ? AND id = ? AND etag = ?"
_PUT_SEGMENT = (
    "INSERT INTO segments(partition, id, execution_id, idx, events) VALUES(?, ?, ?, ?, ?)"
    " ON CONFLICT(partition, id, execution_id, idx) DO UPDATE SET events = excluded.events"
)
_DELETE_SEGMENTS = (
    "DELETE FROM segments WHERE partition = ? AND id = ? AND execution_id = ? AND idx >= ? AND idx < ?"
)
_PUT_OUTBOX = "INSERT INTO outbox(partition, n, idx, body) VALUES(?, ?, ?, ?) ON CONFLICT DO NOTHING"
_DELETE_OUTBOX = "DELETE FROM outbox WHERE partition = ? AND n = ? AND idx = ?"
_PUT_TOMBSTONE = (
    "INSERT INTO tombstones(partition, id, expires_at, body) VALUES(?, ?, ?, ?)"
    " ON CONFLICT(partition, id) DO UPDATE SET expires_at = excluded.expires_at, body = excluded.body"
)
_DELETE_TOMBSTONE = "DELETE FROM tombstones WHERE partition = ? AND id = ?"
_SWAP_LOCK = "UPDATE locks SET body = ?, etag = etag + 1 WHERE partition = ? AND etag = ?"
_SEND_MESSAGE = "INSERT INTO messages(partition, id, visible_at, body, seq) VALUES(?, ?, ?, ?, ?)"
_SEND_TASK = "INSERT INTO tasks(id, grp, body, enqueued_at) VALUES(?, ?, ?, ?)"
_HAND_TASK = "INSERT INTO tasks(id, grp, body, enqueued_at, locked_by, deliveries) VALUES(?, ?, ?, ?, ?, 1)"

# Writes whose ETag condition, or the absence of the row, must hold.
_GUARDED = frozenset({_INSERT_INSTANCE, _REPLACE_INSTANCE, _DELETE_INSTANCE, _PUT_OUTBOX})


class StoredWrite:
    """One write as SQL: statement and parameters (an inserted row's ETag is added in the transaction)."""

    __slots__ = ("instance_id", "parameters", "sql", "topics", "write")

    def __init__(
        self, write: RowWrite, sql: str, parameters: tuple[object, ...], instance_id: str | None = None
    ) -> None:
        self.write = write
        self.sql = sql
        self.parameters = parameters
        self.instance_id = instance_id
        self.topics: Sequence[Topic] = ()
        if instance_id is not None:
            self.topics = (changed(instance_id),)
            if not isinstance(write, PutInstance) or write.row.status.is_terminal:
                self.topics = (changed(instance_id), ended(instance_id))


class StoredOutbound:
    """Messages and tasks as they are inserted, and the topics their readers wait for."""

    __slots__ = ("messages", "tasks", "topics")

    def __init__(self) -> None:
        self.messages: list[tuple[int, str, int | None, bytes]] = []
        self.tasks: list[tuple[ActivityTask, str, bytes]] = []
        self.topics: set[Topic] = set()


def decode_instance(body: bytes, tail: bytes) -> InstanceRow:
    """Return an instance row of its two stored parts."""
    row = _decode_instance(body)
    return msgspec.structs.replace(row, tail=tail) if tail else row


def etag_number(etag: str) -> int:
    """Return the stored form of an ETag; one that this adapter never gave matches nothing."""
    return int(etag) if etag.isdecimal() and len(etag) < 19 else -1


def stored_writes(partition: int, writes: Sequence[RowWrite]) -> list[StoredWrite]:
    """Return the SQL of a transaction's writes.

    Raises:
        CommitRefusedError: a value has no stored form; names the row.
    """
    stored: list[StoredWrite] = []
    for write in writes:
        try:
            stored.append(_stored(partition, write))
        except (UnicodeEncodeError, TypeError, ValueError, msgspec.MsgspecError) as error:
            raise CommitRefusedError(f"the row cannot be stored: {error}", row_key=row_key(write)) from error
    return stored


def _stored(partition: int, write: RowWrite) -> StoredWrite:
    match write:
        case PutInstance(row=row, if_match=if_match):
            if if_match is None:
                return StoredWrite(write, _INSERT_INSTANCE, _columns(partition, row), row.instance_id)
            values = (*_columns(partition, row), etag_number(if_match))
            return StoredWrite(write, _REPLACE_INSTANCE, values, row.instance_id)
        case DeleteInstance():
            values = (partition, write.instance_id, etag_number(write.if_match))
            return StoredWrite(write, _DELETE_INSTANCE, values, write.instance_id)
        case PutSegment():
            values = (partition, write.instance_id, write.execution_id, write.index, write.events)
            return StoredWrite(write, _PUT_SEGMENT, values)
        case DeleteSegments(first=first, count=count):
            values = (partition, write.instance_id, write.execution_id, first, first + count)
            return StoredWrite(write, _DELETE_SEGMENTS, values)
        case PutOutbox(row=row):
            return StoredWrite(write, _PUT_OUTBOX, (partition, row.n, row.index, _encode(row)))
        case DeleteOutbox():
            return StoredWrite(write, _DELETE_OUTBOX, (partition, write.n, write.index))
        case PutTombstone(tombstone=tombstone):
            values = (partition, tombstone.instance_id, to_us(tombstone.expires_at), _encode(tombstone))
            return StoredWrite(write, _PUT_TOMBSTONE, values)
        case DeleteTombstone():
            return StoredWrite(write, _DELETE_TOMBSTONE, (partition, write.instance_id))
        case _:
            assert_never(write)


def _columns(partition: int, row: InstanceRow) -> tuple[Any, ...]:
    return (
        row.name,
        row.status.value,
        to_us(row.created_at),
        to_us(row.updated_at),
        None if row.completed_at is None else to_us(row.completed_at),
        None if row.due_at is None else to_us(row.due_at),
        row.reason is not None,
        _encode(msgspec.structs.replace(row, tail=b"") if row.tail else row),
        row.tail,
        partition,
        row.instance_id,
    )


def swap_lock(transaction: Transaction, partition: int, body: bytes, if_match: str) -> str:
    """Replace the lock row of a partition and return its new ETag.

    Raises:
        PartitionLostError: its ETag is another.
    """
    number = etag_number(if_match)
    if transaction.execute(_SWAP_LOCK, (body, partition, number)).rowcount != 1:
        raise PartitionLostError(f"partition {partition} has been written by another owner")
    return str(number + 1)


def write_rows(transaction: Transaction, writes: Sequence[StoredWrite]) -> dict[str, str]:
    """Apply writes and return the new ETags of the instance rows by instance id.

    Raises:
        CommitRefusedError: a row's condition does not hold (``conflict``).
    """
    etags: dict[str, str] = {}
    for write in writes:
        sql, parameters = write.sql, write.parameters
        if sql is _INSERT_INSTANCE:
            parameters = (*parameters, transaction.now_us)
        if transaction.execute(sql, parameters).rowcount != 1 and sql in _GUARDED:
            key = row_key(write.write)
            raise CommitRefusedError(f"the row {key} is not as it was expected", row_key=key, conflict=True)
        if write.instance_id is not None:
            transaction.topics.extend(write.topics)
            if sql is _INSERT_INSTANCE:
                etags[write.instance_id] = str(transaction.now_us)
            elif isinstance(write.write, PutInstance):
                etags[write.instance_id] = str(etag_number(write.write.if_match or "") + 1)
    return etags


def stored_outbound(sends: Sequence[Outbound]) -> StoredOutbound:
    """Return the stored form of messages and tasks, in their order."""
    stored = StoredOutbound()
    for send in sends:
        if isinstance(send, ToPartition):
            due = None if send.deliver_at is None else to_us(send.deliver_at)
            stored.messages.append((send.partition, send.message.id, due, encode_messages((send.message,))))
            stored.topics.add(send.partition)
        else:
            stored.tasks.append((send.task, send.group, encode_task(send.task)))
    return stored


def write_outbound(transaction: Transaction, stored: StoredOutbound, handover: Handover) -> None:
    """Insert messages and tasks, and have their readers woken; tasks that a consumer of this process waits for are
    inserted as taken by it, and handed over after the commit."""
    if stored.messages:
        next_seq = transaction.next_seq
        transaction.executemany(_SEND_MESSAGE, [(*message, next_seq()) for message in stored.messages])
    if stored.tasks and _write_tasks(transaction, stored.tasks, handover):
        transaction.topics.append(ACTIVITIES)
    transaction.topics.extend(stored.topics)


def _write_tasks(
    transaction: Transaction, tasks: Sequence[tuple[ActivityTask, str, bytes]], handover: Handover
) -> bool:
    """Insert tasks; return whether one is free to be taken by anybody."""
    now_us = transaction.now_us
    free: list[tuple[str, str, bytes, int]] = []
    free_names: set[str] = set()
    handed: dict[Consumer, list[ActivityDelivery]] = {}
    for task, group, body in tasks:
        # Once one of an activity is free, so are all behind it: they are taken in their order.
        consumer = None if task.name in free_names else handover.claim(group, task.name)
        if consumer is None:
            free_names.add(task.name)
            free.append((task.id, group, body, now_us))
            continue
        own = handed.get(consumer)
        if own is None:
            own = handed[consumer] = []
            transaction.after.append(partial(consumer.settle, own))
        own.append(ActivityDelivery(task.id, task, 1, None))
        place = transaction.execute(_HAND_TASK, (task.id, group, body, now_us, handover.process)).lastrowid
        own[-1] = ActivityDelivery(task.id, task, 1, place)
    if free:
        transaction.executemany(_SEND_TASK, free)
    return bool(free)
