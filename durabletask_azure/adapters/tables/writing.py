"""The writes of a commit as one entity group transaction: the lock row first, then each row once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, assert_never

import msgspec

from durabletask_azure.adapters.tables.entities import (
    Entity,
    check_entity,
    entity_of,
    instance_entity,
    put_bytes,
    queryable_time,
)
from durabletask_azure.adapters.tables.keys import (
    LOCK,
    instance_key,
    outbox_key,
    segment_key,
    tombstone_key,
)
from durabletask_azure.core.rows import (
    DeleteInstance,
    DeleteOutbox,
    DeleteSegments,
    DeleteTombstone,
    LockRow,
    PutInstance,
    PutOutbox,
    PutSegment,
    PutTombstone,
    RowWrite,
    row_key,
)
from durabletask_azure.errors import CommitRefusedError, PartitionLostError

__all__ = ["BYTES_MAX", "ROWS_MAX", "Step", "is_etag", "lock_step", "steps"]

ROWS_MAX = 100
BYTES_MAX = 4 * 1024 * 1024

Kind = Literal["create", "update", "upsert", "delete"]


@dataclass(slots=True)
class Step:
    """One operation on one row: what it is, what errors call the row, and whether the row may be missing."""

    kind: Kind
    entity: Entity
    name: str
    size: int
    if_match: str | None = None
    instance_id: str | None = None
    ends: bool = False
    """Whether a waiting client has nothing more to wait for: the instance ends, or its row goes."""
    may_be_missing: bool = False


def is_etag(text: str) -> bool:
    """Return whether a text can be an ETag of the service; it answers others with a complaint of its own."""
    return text.startswith('W/"') and text.endswith('"') and text.isascii() and text.isprintable()


def lock_step(partition: str, lock: LockRow, if_match: str) -> Step:
    """Return the replacing of the lock row.

    Raises:
        PartitionLostError: the ETag was never given.
        CommitRefusedError: it takes more than an entity may.
    """
    if not is_etag(if_match):
        raise PartitionLostError(f"{partition}: {if_match!r} is no ETag of its lock row")
    entity = {"PartitionKey": partition, "RowKey": LOCK, **entity_of(lock)}
    return Step("update", entity, LOCK, check_entity(entity, LOCK), if_match=if_match)


def steps(partition: str, writes: Sequence[RowWrite]) -> list[Step]:
    """Return the operations of a commit's writes; of several on one row only the last.

    Raises:
        CommitRefusedError: one has no stored form, takes more than an entity may, or is sure to be refused; names it.
    """
    made: dict[str, Step] = {}
    for write in writes:
        name = row_key(write)
        try:
            if isinstance(write, DeleteSegments):
                for index in range(write.first, write.first + write.count):
                    key = segment_key(write.instance_id, write.execution_id, index)
                    made[key] = _deletion(partition, key, name)
                continue
            step = _step(partition, write, name)
        except (UnicodeEncodeError, TypeError, ValueError, msgspec.MsgspecError) as error:
            raise CommitRefusedError(f"the row {name} cannot be stored: {error}", row_key=name) from error
        key = step.entity["RowKey"]
        before = made.pop(key, None)
        if before is not None and before.kind == "create" and step.kind == "delete":
            continue  # put and taken away again
        made[key] = step
    return list(made.values())


def _step(partition: str, write: RowWrite, name: str) -> Step:
    match write:
        case PutInstance(row=row, if_match=if_match):
            entity = {"PartitionKey": partition, **instance_entity(row)}
            kind: Kind = "create" if if_match is None else "update"
            step = Step(kind, entity, name, 0, if_match=if_match, instance_id=row.instance_id)
            step.ends = row.status.is_terminal
        case DeleteInstance(instance_id=instance_id, if_match=if_match):
            entity = {"PartitionKey": partition, "RowKey": instance_key(instance_id)}
            step = Step("delete", entity, name, 0, if_match=if_match, instance_id=instance_id, ends=True)
        case PutSegment():
            key = segment_key(write.instance_id, write.execution_id, write.index)
            entity = {"PartitionKey": partition, "RowKey": key}
            put_bytes(entity, "body", write.events)
            step = Step("upsert", entity, name, 0)
        case PutOutbox(row=row):
            entity = {"PartitionKey": partition, "RowKey": outbox_key(row.n, row.index), **entity_of(row)}
            step = Step("create", entity, name, 0)
        case DeleteOutbox():
            return _deletion(partition, outbox_key(write.n, write.index), name)
        case PutTombstone(tombstone=tombstone):
            entity = {
                "PartitionKey": partition,
                "RowKey": tombstone_key(tombstone.instance_id),
                "expires_at": queryable_time(tombstone.expires_at),
                **entity_of(tombstone),
            }
            step = Step("upsert", entity, name, 0)
        case DeleteTombstone():
            return _deletion(partition, tombstone_key(write.instance_id), name)
        case DeleteSegments():
            raise AssertionError("a write of several rows")
        case _:
            assert_never(write)
    if step.if_match is not None and not is_etag(step.if_match):
        raise CommitRefusedError(
            f"the row {name} is not as it was expected: {step.if_match!r} is no ETag of it",
            row_key=name,
            conflict=True,
        )
    step.size = check_entity(step.entity, name)
    return step


def _deletion(partition: str, key: str, name: str) -> Step:
    entity = {"PartitionKey": partition, "RowKey": key}
    return Step("delete", entity, name, check_entity(entity, name), may_be_missing=True)
