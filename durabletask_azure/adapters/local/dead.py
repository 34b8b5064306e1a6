"""Dead letters of both queues: given to readers under a lock of limited time, removed, or kept for people to look at.

A kept letter is one that is locked for ever; so an earlier version, which knows no kept letters, leaves it alone too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from durabletask_azure.adapters.local.clock import from_us
from durabletask_azure.adapters.local.committer import Committer, Transaction
from durabletask_azure.adapters.local.reader import Reader
from durabletask_azure.core.messages import ActivityTask, Message, decode_messages, decode_task
from durabletask_azure.ports import ArchivedLetter, DeadLetter

__all__ = ["KEPT_US", "LocalArchive", "lock_letters", "place_of", "remove_letter"]

KEPT_US = 2**62
"""``locked_until`` of a kept letter."""
_COLUMNS = "seq, partition, id, reason, description, deliveries, enqueued_at, body"

_MESSAGES = (
    "SELECT seq FROM dead WHERE partition IS NOT NULL AND locked_until <= ? ORDER BY seq LIMIT ?",
    f"UPDATE dead SET locked_until = ? WHERE seq = ? RETURNING {_COLUMNS}",  # noqa: S608
)
_KEEP = "UPDATE dead SET locked_until = ? WHERE seq = ?"
_DROP_OLDEST = (
    "DELETE FROM dead WHERE seq IN"
    " (SELECT seq FROM dead WHERE locked_until = ? ORDER BY seq DESC LIMIT -1 OFFSET ?)"
)
_KEPT = f"SELECT {_COLUMNS} FROM dead WHERE locked_until = ? ORDER BY seq"  # noqa: S608
_FIND = f"SELECT {_COLUMNS} FROM dead WHERE locked_until = ? AND seq = ?"  # noqa: S608
_REMOVE = "DELETE FROM dead WHERE locked_until = ? AND seq = ?"
_TASKS = (_MESSAGES[0].replace("IS NOT NULL", "IS NULL"), _MESSAGES[1])


def place_of(token: object) -> int:
    """Return the row that a delivery or dead letter of this adapter stands for."""
    if not isinstance(token, int):
        raise AssertionError(f"not a token of an embedded hub: {token!r}")
    return token


async def lock_letters(
    committer: Committer, *, tasks: bool, count_max: int, lock_s: float
) -> list[DeadLetter]:
    """Return dead letters of one queue, oldest first; nobody else gets them for ``lock_s`` seconds."""
    choose, lock = _TASKS if tasks else _MESSAGES

    def work(transaction: Transaction) -> list[tuple[Any, ...]]:
        now_us = transaction.now_us
        chosen = transaction.execute(choose, (now_us, count_max)).fetchall()
        until = now_us + int(lock_s * 1e6)
        return [transaction.execute(lock, (until, seq)).fetchall()[0] for (seq,) in chosen]

    return [_letter(row) for row in await committer.submit(work, durable=False)]


async def remove_letter(committer: Committer, letter: DeadLetter) -> None:
    """Remove a dead letter; one that is gone is no error."""
    place = place_of(letter.token)

    def work(transaction: Transaction) -> None:
        transaction.execute("DELETE FROM dead WHERE seq = ?", (place,))

    await committer.submit(work)


def _letter(row: tuple[Any, ...]) -> DeadLetter:
    seq, partition, letter_id, reason, description, deliveries, enqueued_us, body = row
    messages: Sequence[Message] = ()
    task: ActivityTask | None = None
    try:
        if partition is None:
            task = decode_task(body)
        else:
            messages = decode_messages(body)
    except msgspec.MsgspecError as error:
        description = f"{description} (unreadable: {error})"
    return DeadLetter(
        id=letter_id,
        partition=partition,
        messages=tuple(messages),
        task=task,
        reason=reason,
        description=description,
        delivery_count=deliveries,
        enqueued_at=from_us(enqueued_us),
        token=seq,
    )


class LocalArchive:
    """The :class:`~durabletask_azure.ports.DeadLetterArchive` of an embedded hub."""

    def __init__(self, committer: Committer, reader: Reader, kept_max: int) -> None:
        self._committer = committer
        self._reader = reader
        self._kept_max = kept_max

    async def keep(self, letter: DeadLetter) -> None:
        place = place_of(letter.token)

        def work(transaction: Transaction) -> None:
            transaction.execute(_KEEP, (KEPT_US, place))
            transaction.execute(_DROP_OLDEST, (KEPT_US, self._kept_max))

        await self._committer.submit(work)

    async def kept(self) -> Sequence[ArchivedLetter]:
        return [_archived(row) for row in await self._reader.long_rows(_KEPT, (KEPT_US,))]

    async def find(self, letter_id: str) -> ArchivedLetter | None:
        place = _place(letter_id)
        found = None if place is None else self._reader.row(_FIND, (KEPT_US, place))
        return None if found is None else _archived(found)

    async def remove(self, letter_id: str) -> None:
        place = _place(letter_id)
        if place is not None:
            await self._committer.submit(
                lambda transaction: transaction.execute(_REMOVE, (KEPT_US, place)).rowcount
            )


def _place(letter_id: str) -> int | None:
    """Return the row of a kept letter's id, ``None`` for what is no such id."""
    known = letter_id.isascii() and letter_id.isdecimal() and len(letter_id) < 19
    return int(letter_id) if known else None


def _archived(row: tuple[Any, ...]) -> ArchivedLetter:
    return ArchivedLetter(str(row[0]), _letter(row))
