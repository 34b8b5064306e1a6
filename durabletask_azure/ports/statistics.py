"""What a hub can count about itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from durabletask_azure.core.history import RuntimeStatus

__all__ = ["HubCounts", "PartitionDepth", "Statistics"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionDepth:
    """Messages to one partition: those to be delivered now (received and not completed ones included) and those
    scheduled for later; ``oldest_at`` is when the first of the former was taken in, ``None`` if there is none."""

    partition: int
    waiting: int
    scheduled: int
    oldest_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HubCounts:
    """Counts of one look at a hub; each is right by itself, all together are not of one moment.

    ``instances`` holds statuses with at least one instance. ``tasks_running`` is ``None`` where the broker counts tasks
    that were received with those that wait. ``partitions`` has every partition in order, or none where
    the broker counts only whole queues (Service Bus does not count by session). ``dead_waiting`` are dead letters no
    worker has dealt with yet, ``dead_kept`` those in the archive. ``stored_bytes`` is what rows and messages take,
    ``None`` where the store does not say; values kept outside the rows are not in it.
    """

    instances: Mapping[RuntimeStatus, int]
    partitions: Sequence[PartitionDepth]
    messages_waiting: int
    messages_scheduled: int
    tasks_waiting: int
    tasks_running: int | None
    dead_waiting: int
    dead_kept: int
    stored_bytes: int | None


class Statistics(Protocol):
    """Counts for people and monitoring; nothing is decided by them."""

    async def count(self) -> HubCounts:
        """Count everything now.

        May read an index entry per instance, message and task (Tables: the status of every instance, 1,000 in a
        request): for a look every some seconds, not for every step."""
        ...
