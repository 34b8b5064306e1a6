"""Where the rows of the partitions are kept: history, instance state, and the fencing row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable

import msgspec

from durabletask_azure.core.history import RuntimeStatus
from durabletask_azure.core.messages import Outbound
from durabletask_azure.core.rows import InstanceRow, LockRow, OutboxRow, RowWrite, Tombstone
from durabletask_azure.ports.queues import Delivery, PartitionSession

__all__ = [
    "AtomicPlans",
    "ChangeSignal",
    "EndedInstance",
    "InstanceFilter",
    "InstancePage",
    "InstanceWatch",
    "PartitionStore",
    "ReadsTogether",
    "Receipt",
    "StoredInstance",
    "StoredLock",
]


class StoredLock(msgspec.Struct, frozen=True, gc=False):
    """A lock row and its ETag."""

    row: LockRow
    etag: str


class StoredInstance(msgspec.Struct, frozen=True, gc=False):
    """An instance row and its ETag."""

    row: InstanceRow
    etag: str


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """What a transaction left: the lock row's new ETag, and the new ETag of each instance row by instance id."""

    lock_etag: str
    etags: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceFilter:
    """Which instances a query returns; unset fields do not restrict. Times are aware, ranges include both ends.

    Each field is a property a store can compare by itself. Tags are not among them: the reader compares those, page by
    page (``engine/instances.py``). ``versions`` may hold ``None``, for instances without one. ``ids`` are at most
    ``Settings.page_size_max``; an adapter that cannot compare with that many asks in portions.
    """

    ids: Sequence[str] = ()
    id_prefix: str | None = None
    statuses: Sequence[RuntimeStatus] = ()
    names: Sequence[str] = ()
    versions: Sequence[str | None] = ()
    created_from: datetime | None = None
    created_to: datetime | None = None
    updated_from: datetime | None = None
    updated_to: datetime | None = None
    completed_from: datetime | None = None
    completed_to: datetime | None = None
    due_before: datetime | None = None
    with_reason: bool | None = None


@dataclass(frozen=True, slots=True)
class EndedInstance:
    """A run that has ended: what an order to purge it has to name."""

    instance_id: str
    execution_id: str


@dataclass(frozen=True, slots=True)
class InstancePage:
    """Rows without history (``tail`` is empty), and a token for the next page (``None``: that was the last).

    A page may be short, or empty, and still have a token: the adapter has looked at as many rows as one call may.
    """

    rows: Sequence[InstanceRow] = field(default_factory=tuple[InstanceRow, ...])
    token: str | None = None


class PartitionStore(Protocol):
    """Rows by partition, with transactions inside one partition.

    Only the owner of a partition writes to it through :meth:`commit`; clients insert and replace instance rows beside
    the chain, guarded by the row's own ETag.
    """

    async def read_lock(self, partition: int) -> StoredLock:
        """Return the lock row; the adapter creates an empty one when there is none."""
        ...

    async def commit(
        self, partition: int, lock: LockRow, if_match: str, writes: Sequence[RowWrite]
    ) -> Receipt:
        """Apply all ``writes`` and replace the lock row, or do nothing.

        Raises:
            PartitionLostError: the lock row's ETag is not ``if_match``. It may be one's own commit that landed:
                compare ``commit_id`` (F5, F7).
            CommitRefusedError: a row's own condition failed (``conflict``), or the transaction is not acceptable.
        """
        ...

    async def read_instance(self, partition: int, instance_id: str) -> StoredInstance | None:
        """Return an instance row, or ``None``."""
        ...

    async def read_tombstone(self, partition: int, instance_id: str) -> Tombstone | None:
        """Return a tombstone, or ``None``."""
        ...

    async def read_segments(self, partition: int, instance_id: str, execution_id: str, count: int) -> bytes:
        """Return segments 0 to ``count - 1`` of an execution's history, joined.

        Raises:
            HubUnavailableError: one is missing (a purge or a newer execution may be under way: read the row again).
        """
        ...

    async def read_outbox(self, partition: int) -> Sequence[OutboxRow]:
        """Return all outbox rows of a partition, oldest first."""
        ...

    async def insert_instance(self, partition: int, row: InstanceRow) -> str:
        """Insert a client's PENDING row; return its ETag.

        Raises:
            OrchestrationAlreadyExistsError: there is a row of that id (it may be one's own, when a reply was lost:
                compare ``execution_id``).
        """
        ...

    async def replace_instance(self, partition: int, row: InstanceRow, if_match: str) -> str:
        """Replace a terminal row by a client's PENDING row; return the new ETag.

        Raises:
            CommitRefusedError: the row is not as it was (``conflict``).
        """
        ...

    async def query(
        self, partition: int, where: InstanceFilter, *, count_max: int, token: str | None = None
    ) -> InstancePage:
        """Return a page of instances in order of their id, without history.

        Raises:
            ConfigurationError: the token is not one of this query's.
        """
        ...

    async def ended_before(
        self, partition: int, status: RuntimeStatus, moment: datetime, count_max: int
    ) -> Sequence[EndedInstance]:
        """Return up to ``count_max`` runs that ended with ``status`` at ``moment`` or before, the longest ended first;
        where there are more, which of them is up to the store. Rows that cannot be decoded are among them: no row is
        decoded for it."""
        ...

    async def expired_tombstones(self, partition: int, now: datetime, count_max: int) -> Sequence[Tombstone]:
        """Return tombstones that have expired."""
        ...

    async def server_time(self) -> datetime:
        """Return the store's own time, aware, in UTC: what overdue starts and timers are judged by."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


@runtime_checkable
class ReadsTogether(Protocol):
    """Offered by a store that reads many rows as cheaply as one."""

    async def read_instances(
        self, partition: int, instance_ids: Sequence[str]
    ) -> Mapping[str, StoredInstance]:
        """Return the rows of these instances that are there and can be read, by instance id.

        What is wrong with a row that is missing here :meth:`PartitionStore.read_instance` says.
        """
        ...


class AtomicPlans(Protocol):
    """Offered by a hub whose store and queues share one transaction: a whole plan is executed at once."""

    async def execute(
        self,
        partition: int,
        lock: LockRow,
        if_match: str,
        writes: Sequence[RowWrite],
        *,
        sends: Sequence[Outbound],
        session: PartitionSession,
        completes: Sequence[Delivery],
    ) -> Receipt:
        """Commit, send and complete in one transaction; errors as :meth:`PartitionStore.commit`."""
        ...

    async def start(self, partition: int, row: InstanceRow, wake_up: Outbound, if_match: str | None) -> str:
        """Insert (or, with ``if_match``, replace) a client's row and send its wake-up at once; return the ETag.

        Raises:
            OrchestrationAlreadyExistsError: an inserted row exists.
            CommitRefusedError: a replaced row is not as it was (``conflict``).
        """
        ...


class InstanceWatch(Protocol):
    """Looks out for changes of one instance, from the moment it is made until closed."""

    async def wait(self, timeout_s: float) -> None:
        """Return when the instance may have changed since the watch was made, or since the last wait returned.

        At the latest after ``timeout_s`` seconds; early is allowed. Whoever reads the row after making the watch, or
        after a wait, and then waits, misses nothing.
        """
        ...

    def close(self) -> None:
        """Look out no more."""
        ...


class ChangeSignal(Protocol):
    """Wakes waiting clients."""

    @property
    def is_prompt(self) -> bool:
        """Whether changes are told at once, or looked for by the signal itself: waiting needs no quick poll then."""
        ...

    def watch(self, partition: int, instance_id: str, *, ended: bool = False) -> InstanceWatch:
        """Return a watch of an instance: of every change, or, with ``ended``, of its end and of its row's removal."""
        ...
