"""Ten minutes without storage, without the bus, or without both, under load: all goes on within a minute after."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from durabletask_azure.core.context import OrchestrationContext
from durabletask_azure.core.history import RuntimeStatus
from durabletask_azure.core.partitioning import partition_of
from durabletask_azure.core.registry import Registry
from durabletask_azure.core.replay import RuntimeOptions
from durabletask_azure.engine.executor import InlineExecutor
from durabletask_azure.engine.operations import ClientOperations, StartRequest
from durabletask_azure.engine.worker import Engine
from durabletask_azure.errors import HubUnavailableError, TaskHubError, ThrottledError
from durabletask_azure.settings import Settings
from tests.simulation.fakes.gate import CURRENT_GATE, Gate, NoFaults
from tests.simulation.fakes.ports import worker_ports
from tests.simulation.fakes.world import World
from tests.simulation.virtual_time import pause, pause_until, run_virtual

PARTITIONS = 2
BEGIN, END = 60.0, 660.0
RECOVERY_S = 60.0
STEPS = 45
STORAGE = ("store.", "payloads.", "membership.", "atomic.")


class Outage:
    """Two workers, a client that starts an instance every ten seconds, and what each activity did when."""

    def __init__(self, away: str, atomic: bool) -> None:
        self.away = away
        self.world = World(partitions=PARTITIONS)
        self.atomic = atomic
        self.runs: dict[str, list[tuple[float, int]]] = {}
        self.tasks_at: dict[float, int] = {}
        self.refused = 0
        self.settings = Settings()
        self._numbers = iter(range(1_000_000))
        self.world.outages = self._outage
        self.client = ClientOperations(self._ports("c"), self.settings, self._new_id)

    def _new_id(self) -> str:
        return f"x{next(self._numbers)}"

    def _ports(self, name: str) -> Any:
        return worker_ports(Gate(self.world, name, NoFaults(), latency_s=0.01), atomic=self.atomic)

    def _outage(self, gate: str, op: str) -> BaseException | None:
        if not BEGIN <= self.world.time() < END:
            return None
        is_storage = op.startswith(STORAGE)
        if self.away == "throttled" and is_storage:
            return ThrottledError(f"{op}: 503", retry_after=timedelta(seconds=2))
        if self.away in ("storage", "both") and is_storage:
            return HubUnavailableError(f"{op}: storage cannot be reached")
        if self.away in ("bus", "both") and (not is_storage or op.startswith("atomic.")):
            return HubUnavailableError(f"{op}: the bus cannot be reached")
        return None

    async def worker(self, name: str) -> None:
        gate = Gate(self.world, name, NoFaults(), latency_s=0.01)
        registry = Registry()
        registry.add_orchestrator(self._steps, name="steps")
        registry.add_activity(self._step, name="step")
        token = CURRENT_GATE.set(gate)
        try:
            engine = Engine(
                worker_ports(gate, atomic=self.atomic),
                registry,
                self.settings,
                RuntimeOptions(),
                executor=InlineExecutor(),
                worker_id=name,
                id_source=self._new_id,
            )
            await engine.start()
        finally:
            CURRENT_GATE.reset(token)

    async def _steps(self, ctx: OrchestrationContext, steps: int) -> int:
        total = 0
        for index in range(steps):
            total += await ctx.call_activity("step", input=[ctx.instance_id, index])
            await ctx.create_timer(timedelta(seconds=20))
        return total

    async def _step(self, ctx: Any, call: Sequence[Any]) -> int:
        instance_id, index = call
        self.runs.setdefault(instance_id, []).append((self.world.time(), index))
        return index

    async def start(self, instance_id: str, steps: int) -> None:
        """Start an instance as a patient client does: until it is accepted."""
        while True:
            try:
                request = StartRequest(
                    name="steps", instance_id=instance_id, input=str(steps), ignore=tuple(RuntimeStatus)
                )
                await self.client.starting.start(request)
                return
            except TaskHubError:
                self.refused += 1
                await pause(5)

    def state(self, instance_id: str) -> tuple[RuntimeStatus, Any]:
        row = self.world.table.rows(partition_of(instance_id, PARTITIONS)).instances[instance_id].row
        return row.status, row.output

    async def count_tasks(self) -> None:
        for moment in (BEGIN + 120, END - 1):
            await pause_until(moment)
            self.tasks_at[moment] = len(asyncio.all_tasks())


@pytest.mark.parametrize("atomic", [False, True], ids=["in steps", "at once"])
@pytest.mark.parametrize("away", ["storage", "bus", "both", "throttled"])
def test_f25_after_ten_minutes_of_outage_all_instances_go_on_within_a_minute(away: str, atomic: bool) -> None:
    before = [f"before-{number}" for number in range(25)]
    during = [f"during-{number}" for number in range(10)]

    async def main() -> None:
        story = Outage(away, atomic)
        await story.worker("w0")
        await story.worker("w1")
        for instance_id in before:
            await story.start(instance_id, STEPS)
        await pause_until(BEGIN + 5)
        late = [asyncio.ensure_future(story.start(instance_id, 3)) for instance_id in during]
        await story.count_tasks()

        await pause_until(END + RECOVERY_S)
        for instance_id in before:
            progress = [at for at, _ in story.runs[instance_id] if at >= END]
            assert progress, f"{instance_id} has not gone on"
        await asyncio.gather(*late)
        await pause_until(END + RECOVERY_S + 60)
        assert [story.state(name) for name in during] == [(RuntimeStatus.COMPLETED, "3")] * len(during)

        await pause_until(END + 1_500)
        total = str(sum(range(STEPS)))
        assert [story.state(name) for name in before] == [(RuntimeStatus.COMPLETED, total)] * len(before)
        for runs in story.runs.values():
            indexes = [index for _, index in runs]
            assert set(indexes) == set(range(max(indexes) + 1))
        assert story.world.breaches == []
        early, late_count = story.tasks_at.values()
        assert late_count <= early, "what waits for the end of the outage grows with its length"

    run_virtual(main, turns_max=20_000_000)
