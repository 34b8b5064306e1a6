"""Errors of a broker that several of its parts raise."""

from __future__ import annotations

from durabletask_azure.emulator.amqp.types import AmqpError


def session_lock_lost(session_id: str) -> AmqpError:
    """Return the error for a session whose lock has ended."""
    return AmqpError(
        "com.microsoft:session-lock-lost",
        f"The session lock has expired on the MessageSession '{session_id}'. Accept a new MessageSession.",
    )


def no_session_id() -> AmqpError:
    """Return the error for a message without a session id."""
    return AmqpError(
        "amqp:not-allowed",
        "The SessionId was not set on a message, and it cannot be sent to an entity that requires sessions.",
    )


def queue_full(path: str, size_bytes: int, allowed_bytes: int) -> AmqpError:
    """Return the error for a message that has no room."""
    return AmqpError(
        "amqp:resource-limit-exceeded",
        f"The maximum entity size has been reached or exceeded for Queue: '{path}'. Size of entity in bytes:"
        f" {size_bytes}, max entity size in bytes: {allowed_bytes}.",
    )
