"""Who works for a hub: used to balance partitions, never for safety."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

__all__ = ["Membership", "WorkerRow"]


class WorkerRow(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's announcement. ``age_s`` is filled in by the adapter, by the server's clock."""

    worker_id: str
    partitions: tuple[int, ...] = ()
    stopping: bool = False
    age_s: float = 0.0


class Membership(Protocol):
    """The workers of a hub, as they announce themselves."""

    async def announce(self, worker: WorkerRow) -> None:
        """Insert or refresh this worker's row, and wake the others if it is new, stopping, or let go of a partition."""
        ...

    async def workers(self) -> Sequence[WorkerRow]:
        """Return all workers believed alive, dead ones left out as far as the adapter knows, in order of their id."""
        ...

    async def withdraw(self, worker_id: str) -> None:
        """Remove this worker's row and wake the others; a missing one is no error."""
        ...

    async def wait_changed(self, timeout_s: float) -> None:
        """Return when the workers or the partitions they hold may have changed, at the latest after ``timeout_s``."""
        ...
