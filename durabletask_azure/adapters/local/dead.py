"""Dead letters of both queues: listed under a lock of limited time, and removed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from durabletask_azure.adapters.local.clock import from_us
from durabletask_azure.adapters.local.committer import Committer, Transaction
from durabletask_azure.core.messages import ActivityTask, Message, decode_messages, decode_task
from durabletask_azure.ports import DeadLetter

__all__ = ["lock_letters", "place_of", "remove_letter"]

_MESSAGES = (
    "SELECT seq FROM dead WHERE partition IS NOT NULL AND locked_until <= ? ORDER BY seq LIMIT ?",
    "UPDATE dead SET locked_until = ? WHERE seq = ?"
    " RETURNING seq, partition, id, reason, description, deliveries, enqueued_at, body",
)
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
