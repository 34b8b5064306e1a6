"""What a broker tells whoever keeps it on disk.

Every change that must outlive the process is told before it is acknowledged. Locks are not: after a restart a message
that was locked is free again.
"""

from __future__ import annotations

from typing import Protocol

from durabletask_azure.emulator.broker.settings import QueueSettings
from durabletask_azure.emulator.broker.store import Message


class Journal(Protocol):
    """The changes of a broker. `path` names a queue or sub-queue."""

    def put(self, path: str, message: Message) -> None:
        """A message is new."""
        ...

    def update(self, path: str, message: Message) -> None:
        """Its state or delivery count has changed."""
        ...

    def remove(self, path: str, seq: int) -> None:
        """It is gone."""
        ...

    def session_state(self, path: str, session_id: str, state: bytes | None, at: float) -> None:
        """The state of a session was set."""
        ...

    def seen(self, path: str, message_id: str, until: float) -> None:
        """A message id is in the duplicate window."""
        ...

    def forget(self, path: str, message_ids: list[str]) -> None:
        """Message ids have left it."""
        ...

    def queue(self, settings: QueueSettings, created_at: float, updated_at: float) -> None:
        """A queue is new or has other settings."""
        ...

    def drop_queue(self, name: str) -> None:
        """A queue and all in it are gone."""
        ...


class NoJournal:
    """Keeps nothing."""

    def put(self, path: str, message: Message) -> None:
        """Keep nothing."""

    def update(self, path: str, message: Message) -> None:
        """Keep nothing."""

    def remove(self, path: str, seq: int) -> None:
        """Keep nothing."""

    def session_state(self, path: str, session_id: str, state: bytes | None, at: float) -> None:
        """Keep nothing."""

    def seen(self, path: str, message_id: str, until: float) -> None:
        """Keep nothing."""

    def forget(self, path: str, message_ids: list[str]) -> None:
        """Keep nothing."""

    def queue(self, settings: QueueSettings, created_at: float, updated_at: float) -> None:
        """Keep nothing."""

    def drop_queue(self, name: str) -> None:
        """Keep nothing."""
