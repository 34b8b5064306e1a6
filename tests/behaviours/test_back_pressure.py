"""Clients that are faster than the workers wait at the hub's door, and are told so; what works there is not held up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from durabletask_azure import (
    ActivityContext,
    BulkInterruptedError,
    NewOrchestration,
    OrchestrationContext,
    OrchestrationStatus,
    QueueFullError,
)
from durabletask_azure.emulator.faults import Fault, FaultKind, Operation
from tests.azure_services import AzureServices
from tests.behaviours.stage import WAIT_S, Stage

EMBEDDED = ["memory", "disk"]
MANY = 60
_FOREVER = 1_000_000


async def echo(ctx: OrchestrationContext, value: Any) -> Any:
    return value


async def one_event(ctx: OrchestrationContext, _: Any) -> Any:
    return await ctx.wait_for_external_event("go")


def double(ctx: ActivityContext, value: int) -> int:
    return 2 * value


async def fan_out(ctx: OrchestrationContext, count: int) -> int:
    calls = [ctx.call_activity(double, input=number) for number in range(count)]
    return sum([await call for call in calls])


async def children(ctx: OrchestrationContext, count: int) -> int:
    calls = [ctx.call_sub_orchestrator(echo, input=number) for number in range(count)]
    return sum([await call for call in calls])


@pytest.mark.parametrize("hub_kind", EMBEDDED, indirect=True)
def test_a_start_for_which_there_is_no_room_is_refused_and_nothing_of_it_is_there(
    open_stage: Callable[..., Stage],
) -> None:
    stage = open_stage(messages_waiting_max=5, queue_full_wait_s=0.2, payload_inline_bytes_max=100)
    for number in range(5):
        stage.client.schedule_new_orchestration(echo, input=number, instance_id=f"in-{number}")

    with pytest.raises(QueueFullError) as refused:
        stage.client.schedule_new_orchestration(echo, input="x" * 1_000, instance_id="out")

    said = str(refused.value)
    assert "an orchestration was not started" in said
    assert "no room within queue_full_wait_s (0.2 s)" in said
    assert "5 messages to orchestrations, messages_waiting_max (5)" in said
    assert stage.row("out") is None
    assert stage.blobs("out") == []
    stage.worker(echo)
    assert [stage.completed(f"in-{number}") for number in range(5)] == list(range(5))
    assert stage.result(echo, "there is room again", instance_id="out") == "there is room again"


@pytest.mark.parametrize("hub_kind", EMBEDDED, indirect=True)
def test_calls_wait_for_room_and_all_of_them_come_in(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage(messages_waiting_max=5)
    stage.client.schedule_new_orchestrations([NewOrchestration(echo, n, f"first-{n}") for n in range(5)])
    with ThreadPoolExecutor(1) as pool:
        requests = [NewOrchestration(echo, number, f"then-{number}") for number in range(MANY)]
        started = pool.submit(stage.client.schedule_new_orchestrations, requests)
        stage.worker(echo)
        assert len(started.result(WAIT_S).started) == MANY
    assert [stage.completed(f"then-{number}") for number in range(MANY)] == list(range(MANY))


@pytest.mark.parametrize("hub_kind", EMBEDDED, indirect=True)
def test_events_wait_for_room_and_orders_that_help_do_not(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage(messages_waiting_max=4, queue_full_wait_s=0.1)
    stage.client.schedule_new_orchestrations([NewOrchestration(one_event, None, f"{n}") for n in range(4)])

    with pytest.raises(QueueFullError, match=r"an event was not sent: .* 4 messages to orchestrations"):
        stage.client.raise_orchestration_event("0", "go", data="refused")
    stage.client.suspend_orchestration("1")
    stage.client.resume_orchestration("1")
    stage.client.terminate_orchestration("2")

    stage.worker(one_event)
    assert stage.end("2").runtime_status is OrchestrationStatus.TERMINATED
    stage.client.raise_orchestration_event("0", "go", data="taken")
    assert stage.completed("0") == "taken"


@pytest.mark.parametrize("hub_kind", EMBEDDED, indirect=True)
def test_activities_that_wait_hold_back_starts_but_no_events(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage(
        activities_waiting_max=3, activity_concurrency_max=1, activity_prefetch_max=0, queue_full_wait_s=0.1
    )
    release = threading.Event()

    def held(ctx: ActivityContext, value: int) -> int:
        assert release.wait(WAIT_S)
        return value

    async def at_once(ctx: OrchestrationContext, count: int) -> int:
        calls = [ctx.call_activity(held, input=number) for number in range(count)]
        return sum([await call for call in calls])

    stage.worker(one_event, at_once, activities=[held])
    waiting = stage.client.schedule_new_orchestration(one_event)
    stage.client.wait_for_orchestration_start(waiting)
    summed = stage.client.schedule_new_orchestration(at_once, input=MANY)
    stage.eventually(lambda: stage.client.get_hub_statistics().activities_waiting == MANY - 1)

    def more_starts() -> None:
        for _ in range(4):  # the room that an earlier look found may be given away first
            stage.client.schedule_new_orchestration(one_event)

    with pytest.raises(QueueFullError, match=rf"{MANY - 1} activities, activities_waiting_max \(3\)"):
        more_starts()
    stage.client.raise_orchestration_event(waiting, "go", data=1)
    assert stage.completed(waiting) == 1

    release.set()
    assert stage.completed(summed) == MANY * (MANY - 1) // 2
    stage.client.schedule_new_orchestration(one_event)


@pytest.mark.parametrize("hub_kind", EMBEDDED, indirect=True)
def test_what_orchestrations_send_is_never_held_back(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage(messages_waiting_max=1, activities_waiting_max=1, queue_full_wait_s=WAIT_S)
    stage.worker(fan_out, children, echo, activities=[double])
    assert stage.result(fan_out, MANY) == MANY * (MANY - 1)
    assert stage.result(children, MANY) == MANY * (MANY - 1) // 2


@pytest.mark.parametrize("hub_kind", EMBEDDED, indirect=True)
def test_a_bulk_start_that_no_room_is_left_for_says_what_was_started(
    open_stage: Callable[..., Stage],
) -> None:
    stage = open_stage(messages_waiting_max=7, queue_full_wait_s=0.2, bulk_portion_max=5)
    requests = [NewOrchestration(echo, number, f"{number}") for number in range(20)]
    with pytest.raises(BulkInterruptedError, match="the hub is full") as interrupted:
        stage.client.schedule_new_orchestrations(requests)
    result = interrupted.value.result
    # What is being written while it is counted comes on top: at most a portion.
    count = len(result.started)
    assert 7 <= count <= 12
    assert result.started == [f"{number}" for number in range(count)]
    assert all(isinstance(one.error, QueueFullError) for one in result.refused)
    assert [stage.row(f"{number}") is not None for number in range(20)] == [n < count for n in range(20)]


# ------------------------------------------------------------------ where the broker has the limit


def full(stage: Stage, services: AzureServices) -> None:
    """Let the emulator answer every send to the partitions' queue as a queue does that is at its size."""
    fault = Fault(
        FaultKind.REFUSE,
        Operation.SEND,
        services.names.orchestrations,
        count=_FOREVER,
        condition="amqp:resource-limit-exceeded",
    )
    services.emulator.call(lambda server: server.faults.add(fault))


@pytest.mark.azure
@pytest.mark.parametrize("hub_kind", ["azure"], indirect=True)
def test_a_full_queue_of_service_bus_refuses_events_and_starts_with_nothing_written(
    open_stage: Callable[..., Stage], azure_services: AzureServices, caplog: pytest.LogCaptureFixture
) -> None:
    stage = open_stage(queue_full_wait_s=1.0)
    stage.worker(one_event)
    waiting = stage.client.schedule_new_orchestration(one_event)
    stage.client.wait_for_orchestration_start(waiting)
    full(stage, azure_services)

    with pytest.raises(QueueFullError, match="the queue is full; its size is a setting of the hub"):
        stage.client.raise_orchestration_event(waiting, "go", data="refused")
    # The first start finds out: its row is there when its wake-up is refused, so it counts.
    found_out = stage.client.schedule_new_orchestration(one_event, instance_id="found out")
    assert "'found out' is started, but its wake-up could not be sent" in caplog.text
    with pytest.raises(QueueFullError, match="the queue is full; its size is a setting of the hub"):
        stage.client.schedule_new_orchestration(one_event, instance_id="refused")
    assert stage.row("refused") is None

    azure_services.emulator.call(lambda server: server.faults.clear())
    stage.client.schedule_new_orchestration(one_event, instance_id="refused")
    for instance_id in (waiting, found_out, "refused"):
        stage.client.raise_orchestration_event(instance_id, "go", data="taken")
        assert stage.completed(instance_id) == "taken"


@pytest.mark.azure
@pytest.mark.parametrize("hub_kind", ["azure"], indirect=True)
def test_workers_wait_while_a_queue_of_service_bus_is_full_and_go_on_when_there_is_room(
    open_stage: Callable[..., Stage], azure_services: AzureServices
) -> None:
    stage = open_stage()
    release, started = threading.Event(), threading.Event()

    def held(ctx: ActivityContext, value: int) -> int:
        started.set()
        assert release.wait(WAIT_S)
        return 2 * value

    async def calls(ctx: OrchestrationContext, value: int) -> int:
        return await ctx.call_activity(held, input=value)

    stage.worker(calls, activities=[held])
    instance_id = stage.client.schedule_new_orchestration(calls, input=21)
    assert started.wait(WAIT_S)
    full(stage, azure_services)
    release.set()
    faults = azure_services.emulator
    stage.eventually(lambda: faults.call(lambda server: server.faults.waiting)[0].count < _FOREVER - 3)
    assert stage.state(instance_id).runtime_status is OrchestrationStatus.RUNNING

    faults.call(lambda server: server.faults.clear())
    assert stage.completed(instance_id) == 42
