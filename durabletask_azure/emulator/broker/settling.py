"""Settling: what a receiver says of a message it has locked, by the lock's token."""

from __future__ import annotations

from durabletask_azure.emulator.amqp.message import change_properties
from durabletask_azure.emulator.amqp.types import AmqpError, Value
from durabletask_azure.emulator.broker.errors import session_lock_lost
from durabletask_azure.emulator.broker.queue import Queue
from durabletask_azure.emulator.broker.store import Lock, MessageState


def find_lock(queue: Queue, token: bytes) -> Lock:
    """Return the lock of a token.

    Raises:
        AmqpError: it has ended.
    """
    lock = queue.locks.by_token.get(token)
    if lock is not None and lock.expires_at > queue.around.clock():
        return lock
    if lock is not None:
        queue.tick()
    if queue.settings.requires_sessions:
        raise session_lock_lost("")
    raise AmqpError(
        "com.microsoft:message-lock-lost",
        "The lock supplied is invalid. Either the lock expired, or the message has already been removed from the"
        " queue.",
    )


def complete(queue: Queue, token: bytes) -> None:
    """Remove a locked message.

    Raises:
        AmqpError: the lock has ended.
    """
    lock = find_lock(queue, token)
    queue.locks.release(lock)
    queue.remove(lock.message)


def abandon(queue: Queue, token: bytes, changes: dict[str, Value], *, counted: bool = True) -> None:
    """Give a locked message back, with properties changed; counted as a failed delivery unless told otherwise.

    Raises:
        AmqpError: the lock has ended.
    """
    lock = find_lock(queue, token)
    queue.change(lock.message, changes)
    queue.unlock(lock, counted=counted)
    _serve_again(queue, lock)


def defer(queue: Queue, token: bytes, changes: dict[str, Value]) -> None:
    """Put a locked message aside, to be had by its number only.

    Raises:
        AmqpError: the lock has ended.
    """
    lock = find_lock(queue, token)
    message = lock.message
    queue.change(message, changes)
    queue.locks.release(lock)
    message.state = MessageState.DEFERRED
    queue.around.journal.update(queue.path, message)


def dead_letter(
    queue: Queue, token: bytes, reason: str | None, description: str | None, changes: dict[str, Value]
) -> None:
    """Move a locked message to the dead-letter queue.

    Raises:
        AmqpError: the lock has ended.
    """
    lock = find_lock(queue, token)
    # A property that cannot be kept is found before anything is done.
    change_properties(lock.message.content, changes)
    queue.locks.release(lock)
    queue.move_to_dead_letters(lock.message, reason, description, changes)


def renew(queue: Queue, token: bytes) -> float:
    """Let the lock on a message last its full time from now; return its end.

    Raises:
        AmqpError: it has ended.
    """
    lock = find_lock(queue, token)
    if lock.session is not None:
        raise AmqpError("amqp:not-allowed", "a message of a session is locked with its session")
    until = queue.around.clock() + queue.settings.lock_s
    queue.locks.renew(lock, until)
    queue.around.alarm(queue, until)
    return until


def _serve_again(queue: Queue, lock: Lock) -> None:
    if lock.session is None:
        queue.serve()
    else:
        queue.serve_session(lock.session)
