"""A message as a receiver gets it: the sender's content with what the broker says of it."""

from __future__ import annotations

from typing import Final

from durabletask_azure.emulator.amqp.message import (
    SCHEDULED_FOR,
    annotation,
    annotation_time,
    build_delivery,
)
from durabletask_azure.emulator.amqp.types import Int
from durabletask_azure.emulator.broker.store import Lock, Message, MessageState

# .NET counts time in steps of 100 nanoseconds since year 1.
TICKS_OF_1970: Final = 621_355_968_000_000_000
TICKS_PER_SECOND: Final = 10_000_000


def encode_message(message: Message, lock: Lock | None) -> bytes:
    """Put a message together for a receiver."""
    own = [
        annotation("x-opt-sequence-number", message.seq),
        annotation_time("x-opt-enqueued-time", message.enqueued_at),
    ]
    if message.state is not MessageState.ACTIVE:
        own.append(annotation("x-opt-message-state", Int(message.state)))
    if message.enqueued_seq:
        own.append(annotation("x-opt-enqueue-sequence-number", message.enqueued_seq))
    if message.scheduled_at is not None:
        own.append(annotation_time(SCHEDULED_FOR, message.scheduled_at))
    if lock is not None:
        own.append(annotation_time("x-opt-locked-until", lock.expires_at))
    token = None if lock is None else lock.token
    return build_delivery(message.content, message.delivery_count, own, token)


def ticks(seconds: float) -> int:
    """Return .NET ticks of a time in seconds since 1970."""
    return TICKS_OF_1970 + round(seconds * TICKS_PER_SECOND)
