"""A hub, a client, and the workers of one test; every wait is for a signal or a change of a row."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from durabletask_azure import OrchestrationState, OrchestrationStatus, TaskHub, TaskHubClient, TaskHubWorker
from durabletask_azure.core.partitioning import partition_of
from durabletask_azure.core.payloads import payload_prefix
from durabletask_azure.core.rows import InstanceRow

WAIT_S = 30.0


class Stage:
    """What most tests need of one hub."""

    def __init__(self, hub: TaskHub) -> None:
        self.hub = hub
        self.client = TaskHubClient(hub)
        self.workers: list[TaskHubWorker] = []

    def worker(self, *orchestrators: Any, activities: Iterable[Any] = (), **options: Any) -> TaskHubWorker:
        """Start a worker that knows these definitions."""
        worker = TaskHubWorker(self.hub, **options)
        for orchestrator in orchestrators:
            worker.add_orchestrator(orchestrator)
        for activity in activities:
            worker.add_activity(activity)
        worker.start()
        self.workers.append(worker)
        return worker

    def restart(self) -> None:
        """Stop all workers and start them again: everything warm is forgotten."""
        for worker in self.workers:
            worker.stop()
        for worker in self.workers:
            worker.start()

    def run(self, orchestrator: Any, input: Any = None, **options: Any) -> OrchestrationState:
        """Start an orchestration and wait for its end."""
        return self.end(self.client.schedule_new_orchestration(orchestrator, input=input, **options))

    def result(self, orchestrator: Any, input: Any = None, **options: Any) -> Any:
        """Return the output of an orchestration that completes."""
        state = self.run(orchestrator, input, **options)
        assert state.runtime_status is OrchestrationStatus.COMPLETED, state
        return state.get_output()

    def end(self, instance_id: str) -> OrchestrationState:
        """Wait for the end of an instance."""
        state = self.client.wait_for_orchestration_completion(instance_id, timeout=WAIT_S)
        assert state is not None
        return state

    def completed(self, instance_id: str) -> Any:
        """Wait for the end of an instance that completes, and return its output."""
        state = self.end(instance_id)
        assert state.runtime_status is OrchestrationStatus.COMPLETED, state
        return state.get_output()

    def state(self, instance_id: str) -> OrchestrationState:
        """Return the state of an instance that exists."""
        state = self.client.get_orchestration_state(instance_id)
        assert state is not None
        return state

    def events(self, instance_id: str, execution_id: str | None = None) -> list[str]:
        """Return the kinds of an instance's history events, in order, turns left out."""
        kinds = [
            type(event).__name__.removesuffix("Event")
            for event in self.client.get_orchestration_history(instance_id, execution_id=execution_id)
        ]
        return [kind for kind in kinds if kind not in ("OrchestratorStarted", "OrchestratorCompleted")]

    def row(self, instance_id: str) -> InstanceRow | None:
        """Return the stored row of an instance."""
        ports = self.hub.ports

        async def read() -> InstanceRow | None:
            stored = await ports.store.read_instance(self.partition(instance_id), instance_id)
            return None if stored is None else stored.row

        return self.hub.run(read)

    def existing_row(self, instance_id: str) -> InstanceRow:
        """Return the stored row of an instance that exists."""
        row = self.row(instance_id)
        assert row is not None
        return row

    def until(self, instance_id: str, fits: Callable[[InstanceRow | None], bool]) -> InstanceRow | None:
        """Wait until an instance's row fits, woken by its changes."""
        ports = self.hub.ports
        partition = self.partition(instance_id)

        async def wait() -> InstanceRow | None:
            watch = ports.changes.watch(partition, instance_id)
            try:
                while True:
                    stored = await ports.store.read_instance(partition, instance_id)
                    row = None if stored is None else stored.row
                    if fits(row):
                        return row
                    await watch.wait(0.05)
            finally:
                watch.close()

        return self.hub.run(lambda: asyncio.wait_for(wait(), WAIT_S))

    def until_status(self, instance_id: str, status: OrchestrationStatus) -> None:
        """Wait until an instance has a status."""
        self.until(instance_id, lambda row: row is not None and row.status.name == status.name)

    def eventually(self, fits: Callable[[], bool]) -> None:
        """Wait until something outside the rows is as it should be."""
        clock = self.hub.ports.clock
        deadline = clock.monotonic() + WAIT_S
        while not fits():
            assert clock.monotonic() < deadline, "it never came true"
            self.hub.run(lambda: clock.sleep(0.005))

    def partition(self, instance_id: str) -> int:
        """Return the partition that owns an instance."""
        return partition_of(instance_id, self.hub.ports.info.partitions)

    def blobs(self, instance_id: str) -> list[str]:
        """Return the names of an instance's spilled values."""
        payloads = self.hub.ports.payloads
        prefix = payload_prefix(self.partition(instance_id), instance_id)

        async def read() -> list[str]:
            return sorted([name async for name, _ in payloads.list(prefix)])

        return self.hub.run(read)

    def segments(self, instance_id: str, execution_id: str, count: int) -> bytes:
        """Return history segments 0 to ``count - 1`` of an execution."""
        store = self.hub.ports.store

        async def read() -> bytes:
            return await store.read_segments(self.partition(instance_id), instance_id, execution_id, count)

        return self.hub.run(read)
