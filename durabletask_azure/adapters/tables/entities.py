"""Rows as entities of a table, and back.

A row is stored whole, as JSON in binary properties (``body``, ``body1``, …); an instance's tail of history likewise
(``tail``, ``tail1``, …), beside properties that queries compare. JSON in binary takes half of what it would as a string
(Tables count two bytes a character) and has no limit in UTF-16 units. ``more`` is set when a value has more than its
first property.

The service's limits are checked here, so that they hold on every emulator too.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from azure.data.tables import EdmType

from durabletask_azure.adapters.tables.keys import instance_key, is_whole
from durabletask_azure.core.rows import InstanceRow, LockRow, OutboxRow, Tombstone
from durabletask_azure.core.stored_form import reader_of
from durabletask_azure.errors import CommitRefusedError

__all__ = [
    "ENTITY_BYTES_MAX",
    "FIRST_PARTS",
    "PART_BYTES_MAX",
    "STRING_UNITS_MAX",
    "Entity",
    "Row",
    "bytes_of",
    "check_entity",
    "decode_instance",
    "decode_lock",
    "decode_outbox",
    "decode_tombstone",
    "entity_of",
    "instance_entity",
    "put_bytes",
    "queryable_time",
]

Entity = dict[str, Any]
"""A row as it is written: keys and properties."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """A row as it was read, or some of its properties, with the service's ETag and time of writing (if asked for)."""

    values: Mapping[str, Any]
    etag: str
    written_at: datetime | None

    @property
    def key(self) -> str:
        """The RowKey."""
        return self.values["RowKey"]


ENTITY_BYTES_MAX = 1024 * 1024
PART_BYTES_MAX = 64 * 1024
STRING_UNITS_MAX = 32 * 1024
FIRST_PARTS = ("body", "tail", "more")
"""The properties of nearly every row; ``more`` says that there are others."""

_OLDEST = datetime(1601, 1, 1, tzinfo=UTC)
_PROPERTY_OVERHEAD = 8
_WIRE_OVERHEAD = 900
"""An operation's own headers and address in a transaction, its key left out."""

_encode = msgspec.json.Encoder().encode
_decode_instance = reader_of(InstanceRow)
_decode_lock = reader_of(LockRow)
_decode_outbox = reader_of(OutboxRow)
_decode_tombstone = reader_of(Tombstone)


def entity_of(row: LockRow | OutboxRow | Tombstone) -> Entity:
    """Return a row without properties to query by, its keys left out."""
    entity: Entity = {}
    put_bytes(entity, "body", _encode(row))
    return entity


def instance_entity(row: InstanceRow) -> Entity:
    """Return an instance row, with its RowKey."""
    key = instance_key(row.instance_id)
    entity: Entity = {
        "RowKey": key,
        "name": row.name,
        "status": row.status.value,
        "execution_id": row.execution_id,
        "created_at": queryable_time(row.created_at),
        "updated_at": queryable_time(row.updated_at),
        "has_version": row.version is not None,
        "has_reason": row.reason is not None,
    }
    if row.version is not None:
        entity["version"] = row.version
    if row.completed_at is not None:
        entity["completed_at"] = queryable_time(row.completed_at)
    if row.due_at is not None:
        entity["due_at"] = queryable_time(row.due_at)
    if not is_whole(key):
        put_bytes(entity, "instance_id", row.instance_id.encode())
    put_bytes(entity, "body", _encode(msgspec.structs.replace(row, tail=b"") if row.tail else row))
    if row.tail:
        put_bytes(entity, "tail", row.tail)
    return entity


def queryable_time(moment: datetime) -> tuple[str, EdmType]:
    """Return a time as a property to compare with; the service knows none before 1601."""
    utc = max(moment.astimezone(UTC), _OLDEST)
    return f"{utc.replace(tzinfo=None).isoformat(timespec='microseconds')}Z", EdmType.DATETIME


def put_bytes(entity: Entity, name: str, data: bytes) -> None:
    """Put a value into as many properties as it needs."""
    entity[name] = data[:PART_BYTES_MAX]
    if len(data) > PART_BYTES_MAX:
        entity["more"] = True
        for place, start in enumerate(range(PART_BYTES_MAX, len(data), PART_BYTES_MAX), 1):
            entity[f"{name}{place}"] = data[start : start + PART_BYTES_MAX]


def bytes_of(row: Row, name: str) -> bytes:
    """Return a value of one or more properties; empty if it is not there.

    Raises:
        msgspec.DecodeError: one of them is of another type: this package did not write it.
    """
    values = row.values
    first = values.get(name)
    if first is None:
        return b""
    if not values.get("more"):
        return _binary(name, first)
    parts = [_binary(name, first)]
    while (part := values.get(f"{name}{len(parts)}")) is not None:
        parts.append(_binary(name, part))
    return b"".join(parts)


def _binary(name: str, value: object) -> bytes:
    if not isinstance(value, bytes):
        raise msgspec.DecodeError(f"the property {name!r} is not binary but {type(value).__name__}")
    return value


def decode_instance(row: Row, *, with_tail: bool = True) -> InstanceRow:
    """Return an instance row, with its tail if that was read."""
    instance = _decode_instance(bytes_of(row, "body"))
    tail = bytes_of(row, "tail") if with_tail else b""
    return msgspec.structs.replace(instance, tail=tail) if tail else instance


def decode_lock(row: Row) -> LockRow:
    """Return a lock row."""
    return _decode_lock(bytes_of(row, "body"))


def decode_outbox(row: Row) -> OutboxRow:
    """Return an outbox row."""
    return _decode_outbox(bytes_of(row, "body"))


def decode_tombstone(row: Row) -> Tombstone:
    """Return a tombstone."""
    return _decode_tombstone(bytes_of(row, "body"))


def check_entity(entity: Entity, row_key: str) -> int:
    """Return about how many bytes an entity adds to a transaction, never fewer than it does.

    Raises:
        CommitRefusedError: the service would not take the entity; names the row.
    """
    stored = 4
    sent = _WIRE_OVERHEAD + 3 * len(entity["RowKey"])
    for name, value in entity.items():
        stored += _PROPERTY_OVERHEAD + 2 * len(name)
        sent += 2 * len(name) + 40
        if isinstance(value, bytes):
            stored += len(value) + 4
            sent += (len(value) + 2) // 3 * 4
        elif isinstance(value, str):
            units = len(value) if value.isascii() else len(value.encode("utf-16-le")) // 2
            if units > STRING_UNITS_MAX:
                raise CommitRefusedError(
                    f"the row {row_key} cannot be stored: {name!r} has {units:,} UTF-16 units,"
                    f" more than the {STRING_UNITS_MAX:,} a property takes",
                    row_key=row_key,
                )
            stored += 2 * units + 4
            sent += 6 * units
        else:
            stored += 8
            sent += 30
    if stored > ENTITY_BYTES_MAX:
        raise CommitRefusedError(
            f"the row {row_key} cannot be stored: it takes {stored:,} bytes, more than the"
            f" {ENTITY_BYTES_MAX:,} of an entity",
            row_key=row_key,
        )
    return sent
