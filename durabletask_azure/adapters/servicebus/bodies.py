"""What is in a broker message: packs of messages to a partition, or one activity task, and back again.

Neighbours to one partition are packed into one broker message, since each costs a round trip to complete. A message
with a time of its own is never packed, so that it can be cancelled. Whatever arrives and cannot be read becomes a
delivery that says so, never an exception.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

import msgspec
from azure.servicebus import ServiceBusMessage, ServiceBusReceivedMessage

from durabletask_azure.core.messages import (
    ToActivities,
    ToPartition,
    decode_messages,
    decode_task,
    encode_messages,
    encode_task,
)
from durabletask_azure.core.partitioning import partition_name, stable_id
from durabletask_azure.ports import ActivityDelivery, DeadLetter, Delivery

__all__ = ["Parcel", "dead_letter", "delivery", "packed", "task_delivery", "task_parcels"]

ID_CHARS_MAX: Final = 128
"""Longest message id that Service Bus takes."""
_MESSAGE_BYTES: Final = 200
"""A generous guess of what a message's headers weigh."""
_EXHAUSTED: Final = "MaxDeliveryCountExceeded"
_ENQUEUED: Final = b"x-opt-enqueued-time"
_SCHEDULED: Final = b"x-opt-scheduled-enqueue-time"
_NUMBER: Final = b"x-opt-sequence-number"
_EPOCH: Final = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Parcel:
    """A broker message to be sent: its id, body and session, when it is to come, and the messages it carries."""

    id: str
    body: bytes
    session: str | None
    deliver_at: datetime | None
    events: int

    @property
    def size(self) -> int:
        """About how many bytes it takes in a batch."""
        return len(self.body) + _MESSAGE_BYTES

    def message(self, *, with_time: bool = True) -> ServiceBusMessage:
        """Return it as the SDK wants it, its time left out where a call of its own says it."""
        return ServiceBusMessage(
            self.body,
            message_id=self.id,
            session_id=self.session,
            scheduled_enqueue_time_utc=self.deliver_at if with_time else None,
        )


def packed(messages: Sequence[ToPartition], *, events_max: int, bytes_max: int) -> list[Parcel]:
    """Return the broker messages that carry ``messages`` in order, each with up to ``events_max`` of one partition."""
    parcels: list[Parcel] = []
    ids: list[str] = []
    parts: list[bytes] = []
    size, partition = 0, -1

    def close() -> None:
        nonlocal size
        if parts:
            pack_id = _broker_id(ids[0]) if len(ids) == 1 else stable_id(*ids)
            body = b"[" + b",".join(parts) + b"]"
            parcels.append(Parcel(pack_id, body, partition_name(partition), None, len(ids)))
        ids.clear()
        parts.clear()
        size = 0

    for out in messages:
        part = encode_messages((out.message,))[1:-1]
        is_full = len(parts) >= events_max or size + len(part) > bytes_max
        if is_full or out.partition != partition or out.deliver_at is not None:
            close()
        partition = out.partition
        if out.deliver_at is not None:
            at = _whole_ms(out.deliver_at)
            parcels.append(
                Parcel(_broker_id(out.message.id), b"[" + part + b"]", partition_name(partition), at, 1)
            )
            continue
        ids.append(out.message.id)
        parts.append(part)
        size += len(part) + 1
    close()
    return parcels


def task_parcels(tasks: Iterable[ToActivities]) -> list[Parcel]:
    """Return the broker messages of activity tasks, one each."""
    return [Parcel(_broker_id(out.task.id), encode_task(out.task), None, None, 1) for out in tasks]


def _broker_id(message_id: str) -> str:
    return message_id if 0 < len(message_id) <= ID_CHARS_MAX else stable_id(message_id)


def _whole_ms(at: datetime) -> datetime:
    """Return the first whole millisecond, which is what travels, that is not before ``at``: nothing comes early."""
    rest = at.microsecond % 1000
    return at + timedelta(microseconds=1000 - rest) if rest else at


# ------------------------------------------------------------ back again


class _Facts:
    """What is said beside the body, read once each: the SDK's properties look it up anew at every access."""

    __slots__ = ("delivery_count", "enqueued_at", "id")

    def __init__(self, message: ServiceBusReceivedMessage) -> None:
        raw = message.raw_amqp_message
        annotations = raw.annotations or {}
        enqueued_ms = int(annotations.get(_ENQUEUED) or 0)
        # A scheduled message never counts as taken in before its time.
        scheduled_ms = int(annotations.get(_SCHEDULED) or 0)
        self.enqueued_at = _EPOCH + timedelta(milliseconds=max(enqueued_ms, scheduled_ms))
        self.delivery_count = 1 + (0 if raw.header is None else raw.header.delivery_count or 0)
        message_id: Any = None if raw.properties is None else raw.properties.message_id
        if message_id is None:
            message_id = annotations.get(_NUMBER)
        self.id = message_id.decode("utf-8", "replace") if isinstance(message_id, bytes) else str(message_id)


def _body(message: ServiceBusReceivedMessage) -> bytes:
    body: Any = message.body
    return body if isinstance(body, bytes) else b"".join(cast("Iterable[bytes]", body))


def _raw(message: ServiceBusReceivedMessage) -> bytes:
    """Return a body to be kept as it came; empty if it is of a kind that this package never sends."""
    try:
        return _body(message)
    except (TypeError, ValueError, AttributeError):
        return b""


def _unreadable(what: str, error: Exception) -> str:
    return f"{what} cannot be read: {error or type(error).__name__}"


def delivery(message: ServiceBusReceivedMessage, token: object) -> Delivery:
    """Return a message to a partition as the engine wants it."""
    error: str | None = None
    try:
        messages = decode_messages(_body(message))
    except (msgspec.MsgspecError, UnicodeDecodeError, TypeError, ValueError, AttributeError) as problem:
        messages, error = (), _unreadable("the message", problem)
    facts = _Facts(message)
    return Delivery(facts.id, messages, facts.enqueued_at, facts.delivery_count, token, error)


def task_delivery(message: ServiceBusReceivedMessage, token: object) -> ActivityDelivery:
    """Return an activity task as the engine wants it."""
    task, error = None, None
    try:
        task = decode_task(_body(message))
    except (msgspec.MsgspecError, UnicodeDecodeError, TypeError, ValueError, AttributeError) as problem:
        error = _unreadable("the task", problem)
    facts = _Facts(message)
    return ActivityDelivery(facts.id, task, facts.delivery_count, token, error)


def dead_letter(message: ServiceBusReceivedMessage, token: object, *, is_task: bool) -> DeadLetter:
    """Return what could be read of a dead letter, and why it is one."""
    read = task_delivery(message, token) if is_task else delivery(message, token)
    reason = message.dead_letter_reason or ""
    description = message.dead_letter_error_description or ""
    if read.error is not None:
        description = f"{description} (unreadable: {read.error})"
    return DeadLetter(
        id=read.id,
        partition=None if is_task else _partition(message.session_id),
        messages=read.messages if isinstance(read, Delivery) else (),
        task=read.task if isinstance(read, ActivityDelivery) else None,
        reason=reason,
        description=description,
        # What the broker gave up on, it has counted in full; what was put aside is being handled once more.
        delivery_count=read.delivery_count - 1 if reason == _EXHAUSTED else read.delivery_count,
        enqueued_at=_Facts(message).enqueued_at,
        token=token,
        body=_raw(message),
    )


def _partition(session_id: str | None) -> int | None:
    digits = (session_id or "")[1:]
    return int(digits) if digits.isdecimal() and digits.isascii() else None
