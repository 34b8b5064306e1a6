"""Table, blobs, members, signal and clock as one worker sees them, and all ports of a worker together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import cast

import msgspec

from durabletask_azure.core.history import RuntimeStatus
from durabletask_azure.core.messages import Outbound, ToActivities, ToPartition
from durabletask_azure.core.rows import InstanceRow, LockRow, OutboxRow, RowWrite, Tombstone
from durabletask_azure.errors import (
    CommitRefusedError,
    HubUnavailableError,
    OrchestrationAlreadyExistsError,
    PartitionLostError,
    PayloadMissingError,
)
from durabletask_azure.ports import (
    Delivery,
    EndedInstance,
    HubPorts,
    InstanceFilter,
    InstancePage,
    PartitionSession,
    Receipt,
    StoredInstance,
    StoredLock,
    TransactionLimits,
    WorkerRow,
)
from tests.simulation.fakes.bookkeeping import SimArchive, SimStatistics
from tests.simulation.fakes.gate import Gate
from tests.simulation.fakes.queries import matches
from tests.simulation.fakes.queue_ports import SimActivityQueue, SimOrchestrationQueue, SimSession
from tests.simulation.fakes.table import TRANSACTION_BYTES_MAX

__all__ = ["SimAtomicPlans", "SimClock", "SimStore", "worker_ports"]

MEMBER_DEAD_S = 60.0


class SimClock:
    """A worker's own clock: skewed as its gate says; it stands still while the worker is frozen."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def now(self) -> datetime:
        return self._gate.now()

    def monotonic(self) -> float:
        return self._gate.world.time() + 1000.0

    async def sleep(self, delay_s: float) -> None:
        await self._gate.sleep(delay_s)


class SimStore:
    """The table."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._table = gate.world.table

    async def read_lock(self, partition: int) -> StoredLock:
        return await self._gate.call("store.read_lock", lambda: self._table.rows(partition).lock)

    async def commit(
        self, partition: int, lock: LockRow, if_match: str, writes: Sequence[RowWrite]
    ) -> Receipt:
        return await self._gate.call(
            "store.commit",
            lambda: self._table.commit(self._gate.name, partition, lock, if_match, writes),
            landed=lambda _receipt: PartitionLostError("412 UpdateConditionNotSatisfied"),
        )

    async def read_instance(self, partition: int, instance_id: str) -> StoredInstance | None:
        def effect() -> StoredInstance | None:
            world = self._gate.world
            if instance_id in world.unreadable and self._gate.name.startswith("w"):
                world.counts["F28"] += 1
                raise msgspec.ValidationError(f"the row of {instance_id!r} is of an unknown version")
            return self._table.rows(partition).instances.get(instance_id)

        return await self._gate.call("store.read_instance", effect)

    async def read_tombstone(self, partition: int, instance_id: str) -> Tombstone | None:
        return await self._gate.call(
            "store.read_tombstone", lambda: self._table.rows(partition).tombstones.get(instance_id)
        )

    async def read_segments(self, partition: int, instance_id: str, execution_id: str, count: int) -> bytes:
        def effect() -> bytes:
            segments = self._table.rows(partition).segments
            parts = [segments.get((instance_id, execution_id, index)) for index in range(count)]
            if None in parts:
                raise HubUnavailableError(f"a segment of {instance_id!r} is missing")
            return b"".join(cast("list[bytes]", parts))

        return await self._gate.call("store.read_segments", effect)

    async def read_outbox(self, partition: int) -> Sequence[OutboxRow]:
        def effect() -> Sequence[OutboxRow]:
            outbox = self._table.rows(partition).outbox
            return [outbox[key] for key in sorted(outbox)]

        return await self._gate.call("store.read_outbox", effect)

    async def insert_instance(self, partition: int, row: InstanceRow) -> str:
        return await self._gate.call(
            "store.insert_instance",
            lambda: self._table.insert_instance(self._gate.name, partition, row),
            landed=lambda _etag: OrchestrationAlreadyExistsError(f"409 {row.instance_id!r}"),
        )

    async def replace_instance(self, partition: int, row: InstanceRow, if_match: str) -> str:
        return await self._gate.call(
            "store.replace_instance",
            lambda: self._table.replace_instance(self._gate.name, partition, row, if_match),
            landed=lambda _etag: CommitRefusedError("412", row_key=f"i!{row.instance_id}", conflict=True),
        )

    async def query(
        self, partition: int, where: InstanceFilter, *, count_max: int, token: str | None = None
    ) -> InstancePage:
        def effect() -> InstancePage:
            rows = self._table.rows(partition).instances
            found = [
                msgspec.structs.replace(rows[name].row, tail=b"")
                for name in sorted(rows)
                if (token is None or name > token) and matches(rows[name].row, where)
            ]
            more = len(found) > count_max
            return InstancePage(found[:count_max], found[count_max - 1].instance_id if more else None)

        return await self._gate.call("store.query", effect)

    async def ended_before(
        self, partition: int, status: RuntimeStatus, moment: datetime, count_max: int
    ) -> Sequence[EndedInstance]:
        def effect() -> Sequence[EndedInstance]:
            rows = [stored.row for stored in self._table.rows(partition).instances.values()]
            ended = [
                EndedInstance(row.instance_id, row.execution_id)
                for row in rows
                if row.status is status and row.completed_at is not None and row.completed_at <= moment
            ]
            return ended[:count_max]

        return await self._gate.call("store.ended_before", effect)

    async def expired_tombstones(self, partition: int, now: datetime, count_max: int) -> Sequence[Tombstone]:
        def effect() -> Sequence[Tombstone]:
            tombstones = self._table.rows(partition).tombstones
            expired = [tombstones[name] for name in sorted(tombstones) if tombstones[name].expires_at <= now]
            return expired[:count_max]

        return await self._gate.call("store.expired_tombstones", effect)

    async def delete_tombstones(self, partition: int, instance_ids: Sequence[str]) -> None:
        def effect() -> None:
            for instance_id in instance_ids:
                self._table.rows(partition).tombstones.pop(instance_id, None)

        await self._gate.call("store.delete_tombstones", effect)

    async def server_time(self) -> datetime:
        return await self._gate.call("store.server_time", self._gate.world.now)

    async def close(self) -> None:
        await self._gate.thaw()


class SimPayloads:
    """The blobs."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def put(self, name: str, data: bytes) -> None:
        def effect() -> None:
            world = self._gate.world
            world.blobs[name] = (bytes(data), world.now())
            world.blob_names_written.add(name)

        await self._gate.call("payloads.put", effect)

    async def get(self, name: str, size: int) -> bytes:
        def effect() -> bytes:
            found = self._gate.world.blobs.get(name)
            if found is None or len(found[0]) != size:
                raise PayloadMissingError(f"the payload {name} is missing or damaged")
            return found[0]

        return await self._gate.call("payloads.get", effect)

    async def delete(self, names: Sequence[str]) -> None:
        def effect() -> None:
            for name in names:
                self._gate.world.blobs.pop(name, None)

        await self._gate.call("payloads.delete", effect)

    async def list(self, prefix: str) -> AsyncIterator[tuple[str, datetime]]:
        blobs = self._gate.world.blobs
        names = await self._gate.call(
            "payloads.list", lambda: sorted(name for name in blobs if name.startswith(prefix))
        )
        for name in names:
            found = blobs.get(name)
            if found is not None:
                yield name, found[1]


class SimMembership:
    """The workers' announcements."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def announce(self, worker: WorkerRow) -> None:
        def effect() -> None:
            world = self._gate.world
            before = world.members.get(worker.worker_id)
            world.members[worker.worker_id] = (worker, world.time())
            let_go = before is not None and not set(before[0].partitions) <= set(worker.partitions)
            if before is None or worker.stopping or let_go:
                world.notify("members")

        await self._gate.call("membership.announce", effect)

    async def workers(self) -> Sequence[WorkerRow]:
        def effect() -> Sequence[WorkerRow]:
            now = self._gate.world.time()
            alive = [
                msgspec.structs.replace(row, age_s=now - at)
                for row, at in self._gate.world.members.values()
                if now - at <= MEMBER_DEAD_S
            ]
            return sorted(alive, key=lambda row: row.worker_id)

        return await self._gate.call("membership.workers", effect)

    async def withdraw(self, worker_id: str) -> None:
        def effect() -> None:
            self._gate.world.members.pop(worker_id, None)
            self._gate.world.notify("members")

        await self._gate.call("membership.withdraw", effect)

    async def wait_changed(self, timeout_s: float) -> None:
        await self._gate.thaw()
        await self._gate.world.wait("members", self._gate.world.time() + timeout_s)
        await self._gate.thaw()


class SimChanges:
    """Wakes a waiting client."""

    is_prompt = False

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def watch(self, partition: int, instance_id: str, *, ended: bool = False) -> SimWatch:
        return SimWatch(self._gate, instance_id)


class SimWatch:
    """Looks out for changes of one instance."""

    def __init__(self, gate: Gate, instance_id: str) -> None:
        self._gate = gate
        self._instance_id = instance_id

    async def wait(self, timeout_s: float) -> None:
        await self._gate.thaw()
        await self._gate.world.wait(("instance", self._instance_id), self._gate.world.time() + timeout_s)
        await self._gate.thaw()

    def close(self) -> None:
        """Nothing is held."""


class SimAtomicPlans:
    """Whole plans at once, as a hub offers whose store and queues share transactions."""

    def __init__(self, gate: Gate, queue: SimOrchestrationQueue, activities: SimActivityQueue) -> None:
        self._gate = gate
        self._queue = queue
        self._activities = activities

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
        assert isinstance(session, SimSession)
        numbers = [getattr(delivery.token, "number", 0) for delivery in completes]

        def effect() -> Receipt:
            world = self._gate.world
            world.sessions.check(session.lock)
            receipt = world.table.commit(self._gate.name, partition, lock, if_match, writes)
            self._send(sends)
            world.sessions.complete(session.lock, numbers)
            return receipt

        return await self._gate.call(
            "atomic.execute", effect, landed=lambda _receipt: HubUnavailableError("the reply was lost")
        )

    def _send(self, sends: Sequence[Outbound]) -> None:
        for item in sends:
            match item:
                case ToPartition():
                    self._queue.put([[item]])
                case ToActivities():
                    self._activities.put([item])

    async def start(self, partition: int, row: InstanceRow, wake_up: Outbound, if_match: str | None) -> str:
        def effect() -> str:
            table = self._gate.world.table
            if if_match is None:
                etag = table.insert_instance(self._gate.name, partition, row)
            else:
                etag = table.replace_instance(self._gate.name, partition, row, if_match)
            self._send([wake_up])
            return etag

        return await self._gate.call("atomic.start", effect)


def worker_ports(gate: Gate, *, groups: Sequence[str] = ("",), atomic: bool = False) -> HubPorts:
    """Return all ports of one worker or client, each call passing ``gate``."""
    queue = SimOrchestrationQueue(gate)
    activities = SimActivityQueue(gate, queue, groups)
    return HubPorts(
        info=gate.world.info,
        orchestrations=queue,
        activities=activities,
        store=SimStore(gate),
        payloads=SimPayloads(gate),
        membership=SimMembership(gate),
        changes=SimChanges(gate),
        clock=SimClock(gate),
        limits=TransactionLimits(rows_max=gate.world.table.rows_max, bytes_max=TRANSACTION_BYTES_MAX),
        archive=SimArchive(gate),
        statistics=SimStatistics(gate),
        atomic=SimAtomicPlans(gate, queue, activities) if atomic else None,
    )
