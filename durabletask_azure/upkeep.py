"""What people who look after a hub see: its statistics and its dead letters. Times are UTC without a time zone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from durabletask_azure.ports import ArchivedLetter, HubCounts, HubFinding, HubReport, WorkerRow
from durabletask_azure.query import OrchestrationStatus

__all__ = [
    "DeadLetterInfo",
    "HubFinding",
    "HubRepair",
    "HubReport",
    "HubStatistics",
    "PartitionStatistics",
    "WorkerStatistics",
    "dead_letter_of",
    "statistics_of",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class HubRepair:
    """What a repair did: parts of the hub it created again, instances it looked at, and what it sent again for them.

    ``unreadable`` instances could not be read, and were left as they are.
    """

    created: tuple[str, ...]
    instances: int
    activities: int
    timers: int
    starts: int
    children: int
    unreadable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionStatistics:
    """One partition: which worker says it holds it, and the messages to it.

    ``messages_waiting`` are to be delivered now, ``messages_scheduled`` later; ``oldest_message_at`` is when the first
    of the waiting was taken in. All three are ``None`` on a hub that does not count by partition.
    """

    partition: int
    owner: str | None
    messages_waiting: int | None
    messages_scheduled: int | None
    oldest_message_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatistics:
    """A living worker: the partitions it holds, whether it is stopping, and how many seconds ago it said so."""

    worker_id: str
    partitions: tuple[int, ...]
    is_stopping: bool
    seen_s_ago: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HubStatistics:
    """Counts of a whole hub; each is right by itself, all together are not of one moment.

    ``instances`` has every status. ``activities_running`` were taken by a worker, which runs them or has them next in
    line; ``None`` on a hub that counts them with those that wait. ``dead_letters_waiting`` no worker has dealt with
    yet; ``dead_letters_kept`` are those that can be listed. ``stored_bytes`` is the size of rows and messages, without
    values kept in files of their own; ``None`` where the store does not say.
    """

    instances: Mapping[OrchestrationStatus, int]
    partitions: tuple[PartitionStatistics, ...]
    workers: tuple[WorkerStatistics, ...]
    messages_waiting: int
    messages_scheduled: int
    activities_waiting: int
    activities_running: int | None
    dead_letters_waiting: int
    dead_letters_kept: int
    stored_bytes: int | None

    @property
    def instance_count(self) -> int:
        """How many instances there are, ended ones included."""
        return sum(self.instances.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterInfo:
    """A dead letter that was dealt with and is kept: ``instance_ids`` are those it names, none if it cannot be read.

    ``activity`` is the name of the activity if it is a call of one; ``kinds`` are the kinds of its messages otherwise.
    """

    letter_id: str
    reason: str
    description: str
    instance_ids: tuple[str, ...]
    activity: str | None
    kinds: tuple[str, ...]
    delivery_count: int
    enqueued_at: datetime

    @property
    def is_readable(self) -> bool:
        """Whether this version can read it, and so send it again."""
        return bool(self.instance_ids)


def statistics_of(counts: HubCounts, workers: Sequence[WorkerRow], partitions: int) -> HubStatistics:
    """Return what a client gets to see of a hub's counts."""
    owners = {held: worker.worker_id for worker in workers for held in worker.partitions}
    depths = {depth.partition: depth for depth in counts.partitions}
    parts: list[PartitionStatistics] = []
    for partition in range(partitions):
        depth = depths.get(partition)
        parts.append(
            PartitionStatistics(
                partition=partition,
                owner=owners.get(partition),
                messages_waiting=None if depth is None else depth.waiting,
                messages_scheduled=None if depth is None else depth.scheduled,
                oldest_message_at=None
                if depth is None or depth.oldest_at is None
                else _naive(depth.oldest_at),
            )
        )
    by_name = {status.name: count for status, count in counts.instances.items()}
    return HubStatistics(
        instances={status: by_name.get(status.name, 0) for status in OrchestrationStatus},
        partitions=tuple(parts),
        workers=tuple(
            WorkerStatistics(
                worker_id=worker.worker_id,
                partitions=worker.partitions,
                is_stopping=worker.stopping,
                seen_s_ago=worker.age_s,
            )
            for worker in workers
        ),
        messages_waiting=counts.messages_waiting,
        messages_scheduled=counts.messages_scheduled,
        activities_waiting=counts.tasks_waiting,
        activities_running=counts.tasks_running,
        dead_letters_waiting=counts.dead_waiting,
        dead_letters_kept=counts.dead_kept,
        stored_bytes=counts.stored_bytes,
    )


def dead_letter_of(kept: ArchivedLetter) -> DeadLetterInfo:
    """Return what a client gets to see of a kept dead letter."""
    letter = kept.letter
    names = [message.instance_id for message in letter.messages]
    if letter.task is not None:
        names.append(letter.task.instance_id)
    return DeadLetterInfo(
        letter_id=kept.id,
        reason=letter.reason,
        description=letter.description,
        instance_ids=tuple(dict.fromkeys(names)),
        activity=None if letter.task is None else letter.task.name,
        kinds=tuple(type(message.body).__name__ for message in letter.messages),
        delivery_count=letter.delivery_count,
        enqueued_at=_naive(letter.enqueued_at),
    )


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)
