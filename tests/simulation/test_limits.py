"""Limits in virtual time: receiving waits for no queue that takes nothing (F26), and memory stays bounded."""

from __future__ import annotations

import logging
from collections import Counter

from durabletask_azure.core.history import RuntimeStatus
from durabletask_azure.errors import QueueFullError
from durabletask_azure.settings import Settings
from tests.simulation.fakes.gate import CURRENT_GATE, Gate, NoFaults
from tests.simulation.fakes.ports import worker_ports
from tests.simulation.fakes.world import World
from tests.simulation.interpreter import Harness
from tests.simulation.product import DurableTaskProduct
from tests.simulation.programs import Call, Case, Program, RaiseEvent, Start, Suspend, WaitEvents
from tests.simulation.virtual_time import pause, run_virtual

INSTANCES = 40
EVENTS = 5
_STEPS = (Call(site=1, arg=1, cost_ms=10), WaitEvents(site=2, name="news", count=EVENTS), Call(site=3, arg=3))
CASE = Case(programs=(Program(steps=_STEPS),), client=())
SETTINGS = Settings(
    unsent_names_max=3, unsent_tasks_max=5, activity_concurrency_max=4, activity_prefetch_max=4
)


async def with_both_queues_full() -> None:
    world = World(partitions=1)
    product = DurableTaskProduct()
    harness = Harness(CASE, product.tools(), pause, lambda: "w", lambda _instance: None, world.time)
    full = False

    def outage(gate: str, op: str) -> BaseException | None:
        sends = ("queue.send", "activities.send", "activities.finish.send")
        return QueueFullError(f"{op}: full") if full and op in sends and gate == "w" else None

    world.outages = outage
    gate = Gate(world, "w", NoFaults())
    token = CURRENT_GATE.set(gate)
    try:
        worker = await product.start_worker(worker_ports(gate), harness, SETTINGS, "w")
    finally:
        CURRENT_GATE.reset(token)
    client = worker_ports(Gate(world, "client", NoFaults()))
    full = True
    for number in range(INSTANCES):
        await product.act(client, CASE, Start(at=0, instance=f"i{number}", program=0), SETTINGS)
        for event in range(EVENTS):
            raised = RaiseEvent(at=0, instance=f"i{number}", name="news", value=1, key=f"{number}-{event}")
            await product.act(client, CASE, raised, SETTINGS)
    await pause(60)
    # All is received and committed, although nothing could be sent; the lock row names few, the rest is in rows.
    rows = world.table.rows(0)
    assert not world.sessions.waiting(0)
    assert {stored.row.status for stored in rows.instances.values()} == {RuntimeStatus.RUNNING}
    assert rows.lock.row.sent < rows.lock.row.n
    assert len(rows.lock.row.unsent) <= SETTINGS.unsent_names_max
    named = {*rows.lock.row.unsent, *(name for row in rows.outbox.values() for name in row.unsent)}
    assert named == set(rows.instances)
    assert world.activities.sent == 0
    full = False
    await pause(120)
    assert {stored.row.status for stored in rows.instances.values()} == {RuntimeStatus.COMPLETED}
    assert rows.lock.row.sent == rows.lock.row.n
    assert not rows.outbox
    ran = Counter((done.instance, done.site) for done in harness.executions if done.finished)
    assert ran == {(f"i{number}", site): 1 for number in range(INSTANCES) for site in (1, 3)}
    await worker.stop()


def test_receiving_never_waits_for_sending() -> None:
    logging.getLogger("durabletask_azure").setLevel(logging.ERROR)
    run_virtual(with_both_queues_full)


async def with_results_that_cannot_be_sent() -> None:
    world = World(partitions=1)
    product = DurableTaskProduct()
    harness = Harness(CASE, product.tools(), pause, lambda: "w", lambda _instance: None, world.time)
    full = False

    def outage(gate: str, op: str) -> BaseException | None:
        return QueueFullError(f"{op}: full") if full and op == "activities.finish.send" else None

    world.outages = outage
    gate = Gate(world, "w", NoFaults())
    token = CURRENT_GATE.set(gate)
    try:
        worker = await product.start_worker(worker_ports(gate), harness, SETTINGS, "w")
    finally:
        CURRENT_GATE.reset(token)
    client = worker_ports(Gate(world, "client", NoFaults()))
    full = True
    for number in range(INSTANCES):
        await product.act(client, CASE, Start(at=0, instance=f"i{number}", program=0), SETTINGS)
    await pause(60)
    taken = SETTINGS.activity_concurrency_max + SETTINGS.activity_prefetch_max
    assert len({execution.instance for execution in harness.executions}) == taken
    assert len(world.activities.waiting()) == INSTANCES
    await product.act(client, CASE, Suspend(at=0, instance="i0"), SETTINGS)
    await pause(10)
    assert world.table.rows(0).instances["i0"].row.status is RuntimeStatus.SUSPENDED
    full = False
    await pause(120)
    assert not world.activities.waiting()
    await worker.stop()


def test_results_that_cannot_be_sent_bound_what_a_worker_takes() -> None:
    logging.getLogger("durabletask_azure").setLevel(logging.ERROR)
    run_virtual(with_results_that_cannot_be_sent)
