"""B128 in virtual time: instances go when they were kept for hours, days or months, whatever happens to their owner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
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
from durabletask_azure.settings import Settings
from tests.simulation.fakes.gate import CURRENT_GATE, Fault, FaultSource, Gate, NoFaults
from tests.simulation.fakes.ports import worker_ports
from tests.simulation.fakes.world import World
from tests.simulation.virtual_time import pause, pause_until, run_virtual

HOUR = 3600.0


async def echo(ctx: OrchestrationContext, value: Any) -> Any:
    return value


async def breaks(ctx: OrchestrationContext, _: Any) -> None:
    raise ValueError("broken")


async def waits(ctx: OrchestrationContext, _: Any) -> Any:
    return await ctx.wait_for_external_event("go")


class Flaky:
    """Lets every fifth call fail, before or after its effect."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def draw(self, gate: str, number: int, op: str, now: float) -> Fault | None:
        if self._random.random() < 0.8:
            return None
        return Fault(self._random.choice(("unavailable", "reply_lost", "landed")))


class Hub:
    """A world, a client, and workers that run until they are killed."""

    def __init__(self, settings: Settings, atomic: bool) -> None:
        self.world = World(partitions=2)
        self.settings = settings
        self.atomic = atomic
        self._numbers = iter(range(1_000_000))
        ports = worker_ports(Gate(self.world, "c", NoFaults(), latency_s=0.001), atomic=atomic)
        self.client = ClientOperations(ports, settings, lambda: f"x{next(self._numbers)}")

    async def worker(self, name: str, faults: FaultSource | None = None) -> Gate:
        """Start a worker; crashing its gate kills it."""
        gate = Gate(self.world, name, faults or NoFaults(), latency_s=0.001)
        registry = Registry()
        for orchestrator in (echo, breaks, waits):
            registry.add_orchestrator(orchestrator)
        token = CURRENT_GATE.set(gate)
        try:
            engine = Engine(
                worker_ports(gate, atomic=self.atomic),
                registry,
                self.settings,
                RuntimeOptions(),
                executor=InlineExecutor(),
                worker_id=name,
                id_source=lambda: f"{name}{next(self._numbers)}",
            )
            await engine.start()
        finally:
            CURRENT_GATE.reset(token)
        return gate

    async def start(self, name: str, *instance_ids: str) -> None:
        for instance_id in instance_ids:
            await self.client.starting.start(StartRequest(name=name, instance_id=instance_id))

    def left(self) -> list[str]:
        """Return the ids of all instances there are."""
        return sorted(name for rows in self.world.table.partitions.values() for name in rows.instances)

    def graves(self) -> list[str]:
        return sorted(name for rows in self.world.table.partitions.values() for name in rows.tombstones)

    def status(self, instance_id: str) -> RuntimeStatus:
        rows = self.world.table.rows(partition_of(instance_id, 2))
        return rows.instances[instance_id].row.status


@pytest.fixture(params=[False, True], ids=["in steps", "at once"])
def play(
    request: pytest.FixtureRequest,
) -> Callable[[Settings, Callable[[Hub], Coroutine[Any, Any, None]]], None]:
    """Run a story in virtual time."""

    def run(settings: Settings, story: Callable[[Hub], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            hub = Hub(settings, request.param)
            await story(hub)
            assert hub.world.breaches == []

        run_virtual(main, turns_max=20_000_000)

    return run


Play = Callable[[Settings, Callable[[Hub], Coroutine[Any, Any, None]]], None]


def test_b128_an_ended_instance_goes_when_its_time_is_over_and_not_before(play: Play) -> None:
    async def story(hub: Hub) -> None:
        await hub.worker("w0")
        await hub.start("echo", "a", "b", "c")
        await hub.start("breaks", "broken")
        await hub.start("waits", "living")
        await pause(10)
        assert hub.status("a") is RuntimeStatus.COMPLETED
        await pause_until(HOUR - 10)
        assert hub.left() == ["a", "b", "broken", "c", "living"]
        await pause_until(HOUR + 90)
        assert hub.left() == ["broken", "living"]
        assert hub.graves() == ["a", "b", "c"]
        await pause_until(2 * HOUR - 10)
        assert hub.left() == ["broken", "living"]
        await pause_until(2 * HOUR + 90)
        assert hub.left() == ["living"]

    play(Settings(retention_s=2 * HOUR, retention_completed_s=HOUR), story)


def test_b128_all_that_waits_goes_in_portions_and_its_tombstones_after_it(play: Play) -> None:
    names = [f"i{number:03}" for number in range(150)]

    async def story(hub: Hub) -> None:
        await hub.worker("w0")
        await hub.start("echo", *names)
        await pause_until(HOUR)
        assert hub.left() == []
        assert hub.graves() == names
        # The first sweep after their end removes all tombstones, though they are more than one portion.
        await pause_until(HOUR + 700)
        assert hub.graves() == []

    play(Settings(retention_s=60.0, retention_purges_max=7, tombstone_s=HOUR, sweep_s=600.0), story)


def test_b128_what_a_dead_owner_left_the_next_one_purges(play: Play) -> None:
    names = [f"i{number:02}" for number in range(60)]

    async def story(hub: Hub) -> None:
        first = await hub.worker("w0")
        await hub.start("echo", *names)
        await pause(10)
        # Half of the first portions is purged when the owner dies.
        while len(hub.left()) > 40:
            await pause(0.1)
        first.crash()
        await pause(5)
        assert 0 < len(hub.left()) <= 40
        await hub.worker("w1")
        await pause(300)
        assert hub.left() == []
        assert hub.graves() == names

    play(Settings(retention_s=30.0, retention_purges_max=5, retention_sweep_s=20.0), story)


@pytest.mark.parametrize("seed", range(2))
def test_b128_calls_that_fail_or_lose_their_reply_change_nothing(play: Play, seed: int) -> None:
    names = [f"i{number:02}" for number in range(25)]

    async def story(hub: Hub) -> None:
        first = await hub.worker("w0", Flaky(seed))
        await hub.start("echo", *names)
        await hub.start("waits", "living")
        await pause(300)
        assert set(hub.left()) == {*names, "living"}
        assert {hub.status(name) for name in names} == {RuntimeStatus.COMPLETED}
        await pause_until(1_000)
        first.crash()
        await hub.worker("w1")
        await pause(120)
        assert hub.left() == ["living"]
        assert hub.graves() == names

    play(Settings(retention_s=600, retention_purges_max=4), story)


def test_b128_a_new_run_under_the_same_id_is_left_alone(play: Play) -> None:
    async def story(hub: Hub) -> None:
        await hub.worker("w0")
        await hub.start("echo", "again")
        await pause_until(HOUR - 30)
        await hub.start("waits", "again")
        await pause(HOUR)
        assert hub.status("again") is RuntimeStatus.RUNNING

    play(Settings(retention_s=HOUR), story)


def test_b128_a_retention_longer_than_time_itself_keeps_everything(play: Play) -> None:
    async def story(hub: Hub) -> None:
        await hub.worker("w0")
        await hub.start("echo", "kept")
        await pause(HOUR)
        assert hub.left() == ["kept"]
        await asyncio.sleep(0)

    play(Settings(retention_s=1e300), story)
