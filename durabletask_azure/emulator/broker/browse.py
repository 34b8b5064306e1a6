"""What is asked of a queue by number or without receiving: peek, receive by number, cancel, list, count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from durabletask_azure.emulator.amqp.types import AmqpError
from durabletask_azure.emulator.broker.queue import Queue
from durabletask_azure.emulator.broker.store import Lock, Message, MessageState


@dataclass(frozen=True, slots=True)
class Counts:
    """How many messages a queue has. Deferred ones count as active, as they do in Azure."""

    active: int
    scheduled: int
    dead_letters: int


def peek(queue: Queue, from_seq: int, count: int, session_id: str | None) -> Iterator[Message]:
    """Yield messages from a sequence number on, whatever their state, and of one session if it is given.

    The order of the numbers is the order in the table: numbers only grow.
    """
    if count <= 0:
        return
    for seq, message in queue.messages.items():
        if seq >= from_seq and (session_id is None or message.content.session_id == session_id):
            yield message
            count -= 1
            if count <= 0:
                return


def receive_by_number(
    queue: Queue, numbers: list[int], session_id: str | None, *, peek_lock: bool
) -> list[tuple[Message, Lock | None]]:
    """Take deferred messages by their numbers, locked or removed; all or none.

    Raises:
        AmqpError: one is not there, not deferred, or locked.
    """
    found: list[Message] = []
    # A number named twice would be locked twice.
    for number in dict.fromkeys(numbers):
        message = queue.messages.get(number)
        wrong_session = queue.settings.requires_sessions and message is not None
        wrong_session = wrong_session and message is not None and message.content.session_id != session_id
        if message is None or message.state is not MessageState.DEFERRED or message.lock or wrong_session:
            raise AmqpError(
                "com.microsoft:message-not-found",
                f"Failed to find the deferred message with the sequence number {number}.",
            )
        found.append(message)
    taken: list[tuple[Message, Lock | None]] = []
    for message in found:
        if peek_lock:
            taken.append((message, queue.lock_by_number(message)))
        else:
            queue.remove(message)
            taken.append((message, None))
    return taken


def cancel_scheduled(queue: Queue, numbers: list[int]) -> None:
    """Remove scheduled messages by their numbers; all or none.

    Raises:
        AmqpError: one is not there or no longer scheduled.
    """
    found: list[Message] = []
    for number in numbers:
        message = queue.messages.get(number)
        if message is None or message.state is not MessageState.SCHEDULED:
            raise AmqpError(
                "com.microsoft:message-not-found",
                f"The scheduled message with the sequence number {number} was not found.",
            )
        found.append(message)
    for message in found:
        queue.remove(message)


def list_sessions(queue: Queue, updated_after_s: float | None, skip: int, top: int) -> list[str]:
    """Return ids of sessions: those with messages or a state, or those whose state was set after a time."""
    ids: list[str] = []
    for session in queue.sessions.all():
        if updated_after_s is None:
            wanted = session.size > 0 or session.state is not None
        else:
            wanted = session.state is not None and session.state_at > updated_after_s
        if wanted:
            ids.append(session.session_id)
    return sorted(ids)[max(skip, 0) : max(skip, 0) + max(top, 0)]


def count(queue: Queue) -> Counts:
    """Count the messages of a queue."""
    scheduled = sum(1 for message in queue.messages.values() if message.state is MessageState.SCHEDULED)
    dead = 0 if queue.dead_letters is None else len(queue.dead_letters.messages)
    return Counts(len(queue.messages) - scheduled, scheduled, dead)
