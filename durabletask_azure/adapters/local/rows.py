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
from durabletask_azure.adapters.local.bulk import NULL, run_bulk
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
    "StoredWrites",
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
_replace = msgspec.structs.replace
_decode_instance = reader_of(InstanceRow)
decode_lock = reader_of(LockRow)
decode_outbox = reader_of(OutboxRow)
decode_tombstone = reader_of(Tombstone)

_COLUMNS = (
    "name, status, created_at, updated_at, completed_at, due_at, has_reason, body, tail, partition, id, etag"
)
_REPLACED = ", ".join(f"{column} = excluded.{column}" for column in _COLUMNS.split(", ")[:9])
_SET_ONE = ", ".join(f"{column} = ?" for column in _COLUMNS.split(", ")[:9])


def _insert_instances(rows: str) -> str:
    return f"INSERT INTO instances({_COLUMNS}) VALUES {rows} ON CONFLICT DO NOTHING"  # noqa: S608 - question marks


def _replace_instances(rows: str) -> str:
    # SQLite does this in one go, while UPDATE ... FROM copies all rows first. A row that is missing is inserted.
    return (
        f"INSERT INTO instances({_COLUMNS}) VALUES {rows} ON CONFLICT(partition, id)"  # noqa: S608
        f" DO UPDATE SET {_REPLACED}, etag = etag + 1 WHERE etag = excluded.etag"
    )


# OR FAIL: nothing is kept to undo such a statement alone. When one fails, all of its request is undone.
def _send_messages(rows: str) -> str:
    return f"INSERT OR FAIL INTO messages(partition, id, visible_at, body, seq) VALUES {rows}"  # noqa: S608


def _send_tasks(rows: str) -> str:
    columns = "seq, id, grp, body, enqueued_at, locked_by, deliveries"
    return f"INSERT OR FAIL INTO tasks({columns}) VALUES {rows}"  # noqa: S608


_REPLACE_ONE = (
    f"UPDATE instances SET {_SET_ONE}, etag = etag + 1"  # noqa: S608 - question marks
    " WHERE partition = ? AND id = ? AND etag = ?"
)
_BODY, _ID = 7, 10
_FIND_INSTANCE = "SELECT etag, body FROM instances WHERE partition = ? AND id = ?"
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
# Writes whose ETag condition, or the absence of the row, must hold.
_GUARDED = frozenset({_DELETE_INSTANCE, _PUT_OUTBOX})


class StoredWrites:
    """The writes of a transaction as SQL: instance rows by kind, for few statements, and what else there is."""

    __slots__ = ("inserted", "others", "replaced", "topics")

    def __init__(self) -> None:
        self.inserted: list[tuple[Any, ...]] = []
        """Rows of new instances; their ETag is given in the transaction."""
        self.replaced: list[tuple[Any, ...]] = []
        """Rows of known instances, with the ETag they must have so far."""
        self.others: list[tuple[RowWrite, str, tuple[object, ...]]] = []
        self.topics: list[Topic] = []


class StoredOutbound:
    """Messages and tasks as they are inserted, and the topics their readers wait for."""

    __slots__ = ("messages", "tasks", "topics")

    def __init__(self) -> None:
        self.messages: list[tuple[int, str, int | float, bytearray]] = []
        self.tasks: list[tuple[ActivityTask, str, bytearray]] = []
        self.topics: set[Topic] = set()


def decode_instance(body: bytes, tail: bytes) -> InstanceRow:
    """Return an instance row of its two stored parts."""
    row = _decode_instance(body)
    return msgspec.structs.replace(row, tail=tail) if tail else row


def etag_number(etag: str) -> int:
    """Return the stored form of an ETag; one that this adapter never gave matches nothing."""
    return int(etag) if etag.isdecimal() and len(etag) < 19 else -1


def stored_writes(partition: int, writes: Sequence[RowWrite]) -> StoredWrites:
    """Return the SQL of a transaction's writes.

    Raises:
        CommitRefusedError: a value has no stored form; names the row.
    """
    stored = StoredWrites()
    topics = stored.topics
    for write in writes:
        try:
            if isinstance(write, PutInstance):
                row, if_match = write.row, write.if_match
                if if_match is None:
                    stored.inserted.append(_columns(partition, row, 0))
                else:
                    stored.replaced.append(_columns(partition, row, etag_number(if_match)))
                topics.append(changed(row.instance_id))
                if row.status.is_terminal:
                    topics.append(ended(row.instance_id))
            else:
                stored.others.append((write, *_stored(partition, write)))
                if isinstance(write, DeleteInstance):
                    topics += (changed(write.instance_id), ended(write.instance_id))
        except (UnicodeEncodeError, TypeError, ValueError, msgspec.MsgspecError) as error:
            raise CommitRefusedError(f"the row cannot be stored: {error}", row_key=row_key(write)) from error
    return stored


def _stored(
    partition: int,
    write: DeleteInstance
    | PutSegment
    | DeleteSegments
    | PutOutbox
    | DeleteOutbox
    | PutTombstone
    | DeleteTombstone,
) -> tuple[str, tuple[object, ...]]:
    match write:
        case DeleteInstance():
            return _DELETE_INSTANCE, (partition, write.instance_id, etag_number(write.if_match))
        case PutSegment():
            return _PUT_SEGMENT, (
                partition,
                write.instance_id,
                write.execution_id,
                write.index,
                write.events,
            )
        case DeleteSegments(first=first, count=count):
            values = (partition, write.instance_id, write.execution_id, first, first + count)
            return _DELETE_SEGMENTS, values
        case PutOutbox(row=row):
            return _PUT_OUTBOX, (partition, row.n, row.index, _encode(row))
        case DeleteOutbox():
            return _DELETE_OUTBOX, (partition, write.n, write.index)
        case PutTombstone(tombstone=tombstone):
            values = (partition, tombstone.instance_id, to_us(tombstone.expires_at), _encode(tombstone))
            return _PUT_TOMBSTONE, values
        case DeleteTombstone():
            return _DELETE_TOMBSTONE, (partition, write.instance_id)
        case _:
            assert_never(write)


def _columns(partition: int, row: InstanceRow, etag: int) -> tuple[Any, ...]:
    # Only what SQLite's module binds as it is (bulk.NULL).
    completed_at, due_at, tail = row.completed_at, row.due_at, row.tail
    return (
        row.name,
        row.status._value_,  # without the descriptor's detour
        to_us(row.created_at),
        to_us(row.updated_at),
        NULL if completed_at is None else to_us(completed_at),
        NULL if due_at is None else to_us(due_at),
        0 if row.reason is None else 1,
        bytearray(_encode(_replace(row, tail=b"") if tail else row)),
        bytearray(tail),
        partition,
        row.instance_id,
        etag,
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


def write_rows(transaction: Transaction, writes: StoredWrites) -> dict[str, str]:
    """Apply writes and return the new ETags of the instance rows by instance id.

    Raises:
        CommitRefusedError: a row's condition does not hold (``conflict``).
    """
    for write, sql, parameters in writes.others:
        if transaction.execute(sql, parameters).rowcount != 1 and sql in _GUARDED:
            raise _unexpected(row_key(write))
    etags: dict[str, str] = {}
    if writes.inserted:
        now_us = transaction.now_us
        rows: list[tuple[Any, ...]] = [(*row[: _ID + 1], now_us) for row in writes.inserted]
        if run_bulk(transaction, _insert_instances, rows) != len(rows):
            raise _unexpected(_culprit(transaction, rows, now_us))
        etag = str(now_us)
        for row in rows:
            etags[row[_ID]] = etag
    if writes.replaced:
        if not _replace_all(transaction, writes.replaced):
            raise _unexpected(_culprit(transaction, writes.replaced, None))
        for row in writes.replaced:
            etags[row[_ID]] = str(row[_ID + 1] + 1)
    transaction.topics += writes.topics
    return etags


def _replace_all(transaction: Transaction, rows: Sequence[tuple[Any, ...]]) -> bool:
    """Replace rows, each under its ETag; return whether all were."""
    if len(rows) == 1:
        return transaction.execute(_REPLACE_ONE, rows[0]).rowcount == 1
    last = _last_instance(transaction)
    count = run_bulk(transaction, _replace_instances, rows)
    return count == len(rows) and _last_instance(transaction) == last


def _last_instance(transaction: Transaction) -> int | None:
    """Return the highest row number of the instances, which every insertion raises."""
    return transaction.execute("SELECT max(rowid) FROM instances").fetchone()[0]


def _unexpected(key: str | None) -> CommitRefusedError:
    which = "a row" if key is None else f"the row {key}"
    return CommitRefusedError(f"{which} is not as it was expected", row_key=key, conflict=True)


def _culprit(transaction: Transaction, rows: Sequence[tuple[Any, ...]], inserted: int | None) -> str | None:
    """Return the key of the first row that was not written, as far as what is there tells."""
    for row in rows:
        body, partition, instance_id, etag = row[_BODY], *row[_ID - 1 :]
        found = transaction.execute(_FIND_INSTANCE, (partition, instance_id)).fetchone()
        if found != (etag + 1 if inserted is None else inserted, body):
            return f"i!{instance_id}"
    return f"i!{rows[0][_ID]}" if len(rows) == 1 else None


def stored_outbound(sends: Sequence[Outbound]) -> StoredOutbound:
    """Return the stored form of messages and tasks, in their order."""
    stored = StoredOutbound()
    for send in sends:
        if type(send) is ToPartition:
            due = NULL if send.deliver_at is None else to_us(send.deliver_at)
            body = bytearray(encode_messages((send.message,)))
            stored.messages.append((send.partition, send.message.id, due, body))
            stored.topics.add(send.partition)
        else:
            stored.tasks.append((send.task, send.group, bytearray(encode_task(send.task))))
    return stored


def write_outbound(transaction: Transaction, stored: StoredOutbound, handover: Handover) -> None:
    """Insert messages and tasks, and have their readers woken; tasks that a consumer of this process waits for are
    inserted as taken by it, and handed over after the commit."""
    if stored.messages:
        next_seq = transaction.next_seq
        run_bulk(transaction, _send_messages, [(*message, next_seq()) for message in stored.messages])
    if stored.tasks and _write_tasks(transaction, stored.tasks, handover):
        transaction.topics.append(ACTIVITIES)
    transaction.topics.extend(stored.topics)


def _write_tasks(
    transaction: Transaction, tasks: Sequence[tuple[ActivityTask, str, bytearray]], handover: Handover
) -> bool:
    """Insert tasks; return whether one is free to be taken by anybody."""
    now_us, process = transaction.now_us, handover.process
    claims = handover.claim(tasks)
    rows: list[tuple[Any, ...]] = []
    handed: dict[Consumer, list[ActivityDelivery]] = {}
    next_task = transaction.next_task
    for (task, group, body), consumer in zip(tasks, claims, strict=True):
        place, task_id = next_task(), task.id
        if consumer is None:
            rows.append((place, task_id, group, body, now_us, NULL, 0))
            continue
        rows.append((place, task_id, group, body, now_us, process, 1))
        if consumer not in handed:
            own = handed[consumer] = list[ActivityDelivery]()
            transaction.after.append(partial(consumer.settle, own))
        handed[consumer].append(ActivityDelivery(task_id, task, 1, place))
    run_bulk(transaction, _send_tasks, rows)
    return None in claims
