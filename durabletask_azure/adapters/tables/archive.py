"""The archive of dead letters: rows of the hub's table, each with the body as it came."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

import msgspec

from durabletask_azure.adapters.tables.entities import Entity, Row, bytes_of, check_entity, put_bytes
from durabletask_azure.adapters.tables.keys import DEAD, escaped
from durabletask_azure.adapters.tables.table import Table
from durabletask_azure.core.messages import (
    ActivityTask,
    Message,
    decode_messages,
    decode_task,
    encode_messages,
    encode_task,
)
from durabletask_azure.core.partitioning import stable_id
from durabletask_azure.errors import CommitRefusedError
from durabletask_azure.ports import ArchivedLetter, DeadLetter

__all__ = ["TableArchive"]

Settle = Callable[[DeadLetter], Awaitable[None]]

_EVERYTHING = "PartitionKey eq @p"
_TEXT_MAX = 30_000


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a dead letter beside its body."""

    id: str
    partition: int | None
    reason: str
    description: str
    delivery_count: int
    enqueued_at: datetime


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Kept).decode


class TableArchive:
    """The :class:`~durabletask_azure.ports.DeadLetterArchive` of an Azure hub.

    The letters come in the order of the service's own times of writing.
    """

    def __init__(self, table: Table, kept_max: int) -> None:
        self._table = table
        self._kept_max = kept_max
        self._settle: Settle | None = None
        self._trimming = asyncio.Lock()

    def take_from(self, settle: Settle) -> None:
        """Have ``settle`` called for each letter once it is kept: it removes the letter from its queue."""
        self._settle = settle

    async def keep(self, letter: DeadLetter) -> None:
        kept = _Kept(
            id=letter.id,
            partition=letter.partition,
            reason=letter.reason[:_TEXT_MAX],
            description=letter.description[:_TEXT_MAX],
            delivery_count=letter.delivery_count,
            enqueued_at=letter.enqueued_at,
        )
        entity: Entity = {"PartitionKey": DEAD, "RowKey": _key(letter)}
        put_bytes(entity, "body", _encode(kept))
        put_bytes(entity, "message", _body(letter))
        try:
            check_entity(entity, f"dead!{letter.id}")
        except CommitRefusedError:
            # It was too large for a row when it came, so it was none of this package's: what it is, is kept.
            entity = {name: value for name, value in entity.items() if not name.startswith("message")}
        await self._table.insert(entity)  # one that is there has been kept before
        await self._trim()
        if self._settle is not None:
            await self._settle(letter)

    async def kept(self) -> Sequence[ArchivedLetter]:
        rows = [row async for row in self._table.rows(_EVERYTHING, {"p": DEAD})]
        return [_archived(row) for row in sorted(rows, key=_age)]

    async def find(self, letter_id: str) -> ArchivedLetter | None:
        row = await self._table.read(DEAD, escaped(letter_id)) if _is_key(letter_id) else None
        return None if row is None else _archived(row)

    async def remove(self, letter_id: str) -> None:
        if _is_key(letter_id):
            await self._table.delete(DEAD, letter_id)

    async def count(self) -> int:
        """Return how many letters are kept."""
        return len([row async for row in self._table.rows(_EVERYTHING, {"p": DEAD}, select=("RowKey",))])

    async def _trim(self) -> None:
        """Remove the letters kept longest, beyond those that are to be kept."""
        async with self._trimming:
            asked = ("RowKey", "Timestamp")
            rows = [row async for row in self._table.rows(_EVERYTHING, {"p": DEAD}, select=asked)]
            for row in sorted(rows, key=_age)[: max(0, len(rows) - self._kept_max)]:
                await self._table.delete(DEAD, row.key)


def _key(letter: DeadLetter) -> str:
    """Return a key that is the same whenever a letter is kept, and different for different letters."""
    return stable_id(letter.id, letter.partition, letter.enqueued_at.isoformat(), letter.reason)


def _is_key(letter_id: str) -> bool:
    return len(letter_id) == 32 and letter_id.isascii() and letter_id.isalnum()


def _age(row: Row) -> tuple[datetime, str]:
    return row.written_at or datetime.min.replace(tzinfo=UTC), row.key


def _body(letter: DeadLetter) -> bytes:
    if letter.body:
        return letter.body
    if letter.task is not None:
        return encode_task(letter.task)
    return encode_messages(letter.messages)


def _archived(row: Row) -> ArchivedLetter:
    kept = _decode(bytes_of(row, "body"))
    body = bytes_of(row, "message")
    messages: Sequence[Message] = ()
    task: ActivityTask | None = None
    description = kept.description
    try:
        if kept.partition is None:
            task = decode_task(body)
        else:
            messages = decode_messages(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        if "unreadable" not in description:
            description = f"{description} (unreadable: {error})"
    letter = DeadLetter(
        id=kept.id,
        partition=kept.partition,
        messages=tuple(messages),
        task=task,
        reason=kept.reason,
        description=description,
        delivery_count=kept.delivery_count,
        enqueued_at=kept.enqueued_at,
        token=None,
        body=body,
    )
    return ArchivedLetter(row.key, letter)
