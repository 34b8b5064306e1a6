"""B60 to B68: orchestrations that begin anew and so never end."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from durabletask_azure import (
    ActivityContext,
    OrchestrationContext,
    OrchestrationNotFoundError,
    OrchestrationStatus,
    TaskHubWorker,
    history,
)
from tests.behaviours.stage import WAIT_S, Stage


async def count_up(ctx: OrchestrationContext, goal: list[int]) -> int | None:
    done, wanted = goal
    if done == wanted:
        return done
    ctx.continue_as_new([done + 1, wanted])
    return None


def past_executions(stage: Stage, instance_id: str) -> list[str]:
    return [past.execution_id for past in stage.existing_row(instance_id).past]


def test_b60_many_generations(stage: Stage) -> None:
    stage.worker(count_up)
    assert stage.result(count_up, [0, 50], instance_id="generations") == 50
    assert stage.existing_row("generations").generation == 50
    assert stage.state("generations").get_input() == [50, 50]


def test_b60_each_generation_runs_its_activities_once(stage: Stage) -> None:
    calls: list[int] = []

    def note(ctx: ActivityContext, number: int) -> None:
        calls.append(number)

    async def step(ctx: OrchestrationContext, number: int) -> str | None:
        await ctx.call_activity(note, input=number)
        if number == 9:
            return "done"
        ctx.continue_as_new(number + 1)
        return None

    stage.worker(step, activities=[note])
    assert stage.result(step, 0) == "done"
    assert calls == list(range(10))


@pytest.mark.parametrize("save_events", [True, False], ids=["kept", "dropped"])
def test_b61_events_are_carried_over_or_dropped(stage: Stage, save_events: bool) -> None:
    async def flow(ctx: OrchestrationContext, generation: int) -> list[Any] | None:
        if generation == 0:
            await ctx.wait_for_external_event("go")
            ctx.continue_as_new(1, save_events=save_events)
            return None
        try:
            extra = await ctx.wait_for_external_event("extra", timeout=timedelta(seconds=0.1))
        except TimeoutError:
            extra = None
        return [generation, extra]

    stage.worker(flow)
    instance_id = stage.client.schedule_new_orchestration(flow, input=0, raise_event=("extra", "saved"))
    stage.client.wait_for_orchestration_start(instance_id)
    stage.client.raise_orchestration_event(instance_id, "go")
    assert stage.completed(instance_id) == [1, "saved" if save_events else None]


def test_b62_the_version_grows_with_the_generations(stage: Stage) -> None:
    worker = TaskHubWorker(stage.hub)
    seen: list[str | None] = []

    @worker.orchestrator(name="growing", version="v1")
    async def first(ctx: OrchestrationContext, _: Any) -> None:
        seen.append(ctx.version)
        ctx.continue_as_new(["v1"], new_version="v2")

    @worker.orchestrator(name="growing", version="v2")
    async def second(ctx: OrchestrationContext, past: list[str]) -> None:
        seen.append(ctx.version)
        ctx.continue_as_new([*past, "v2"], new_version="v3")

    @worker.orchestrator(name="growing", version="v3")
    async def third(ctx: OrchestrationContext, past: list[str]) -> list[str]:
        seen.append(ctx.version)
        return [*past, "v3"]

    assert {first.__name__, second.__name__, third.__name__} == {"first", "second", "third"}
    with worker:
        worker.start()
        assert stage.result("growing", version="v1", instance_id="g") == ["v1", "v2", "v3"]
    assert seen == ["v1", "v2", "v3"]
    assert stage.state("g").version == "v3"


def test_b63_a_timer_after_continue_as_new(stage: Stage) -> None:
    async def pulse(ctx: OrchestrationContext, beats: int) -> str | None:
        # A timer of the generation before may not wake this one.
        ctx.create_timer(timedelta(seconds=0.02))
        before = ctx.current_utc_datetime
        await ctx.create_timer(timedelta(seconds=0.06))
        assert ctx.current_utc_datetime - before >= timedelta(seconds=0.06)
        if beats == 0:
            return "done"
        ctx.continue_as_new(beats - 1)
        return None

    stage.worker(pulse)
    assert stage.result(pulse, 3) == "done"


def test_b64_an_actor_keeps_the_latest_count(stage: Stage) -> None:
    async def counter(ctx: OrchestrationContext, value: int) -> int | None:
        ctx.set_custom_status(value)
        operation = await ctx.wait_for_external_event("operation")
        if operation == "end":
            return value
        ctx.continue_as_new(value + 1 if operation == "incr" else value - 1, save_events=True)
        return None

    stage.worker(counter)
    instance_id = stage.client.schedule_new_orchestration(counter, input=0)
    for operation in ("incr", "incr", "decr", "incr", "incr"):
        stage.client.raise_orchestration_event(instance_id, "operation", data=operation)
    stage.until(instance_id, lambda row: row is not None and row.generation == 5)
    assert stage.state(instance_id).get_input() == 3
    stage.client.raise_orchestration_event(instance_id, "operation", data="end")
    assert stage.completed(instance_id) == 3


def test_b65_all_executions_can_be_queried(stage: Stage) -> None:
    stage.worker(count_up)
    stage.result(count_up, [0, 4], instance_id="generations")
    past = past_executions(stage, "generations")
    assert len(past) == 4
    inputs: list[str | None] = []
    for execution_id in past:
        events = stage.client.get_orchestration_history("generations", execution_id=execution_id)
        started = next(event for event in events if isinstance(event, history.ExecutionStartedEvent))
        assert started.orchestration_instance is not None
        assert started.orchestration_instance.execution_id == execution_id
        inputs.append(started.input)
        assert isinstance(events[-2], history.ContinueAsNewEvent)
    assert inputs == ["[0,4]", "[1,4]", "[2,4]", "[3,4]"]
    assert stage.events("generations", stage.state("generations").execution_id)[-1] == "ExecutionCompleted"
    with pytest.raises(OrchestrationNotFoundError, match="no history of an execution 'other'"):
        stage.client.get_orchestration_history("generations", execution_id="other")


def test_b66_rows_and_blobs_of_old_generations_go(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage(executions_kept=2, payload_inline_bytes_max=200)

    async def heavy(ctx: OrchestrationContext, state: list[Any]) -> int | None:
        number, _ = state
        if number == 8:
            return number
        ctx.continue_as_new([number + 1, f"{number}" * 1_000])
        return None

    stage.worker(heavy)
    assert stage.result(heavy, [0, "x" * 1_000], instance_id="heavy") == 8
    row = stage.existing_row("heavy")
    assert len(row.past) <= 3
    alive = {past.execution_id for past in row.past} | {row.execution_id}
    stage.eventually(lambda: {name.split("/")[2] for name in stage.blobs("heavy")} <= alive)
    assert stage.blobs("heavy")
    for past in row.past:
        assert stage.segments("heavy", past.execution_id, past.segments)


def test_b67_the_last_call_wins(stage: Stage) -> None:
    async def undecided(ctx: OrchestrationContext, choice: str | None) -> str | None:
        if choice is not None:
            return choice
        ctx.continue_as_new("first")
        ctx.continue_as_new("second")
        return None

    stage.worker(undecided)
    assert stage.result(undecided, instance_id="undecided") == "second"
    assert stage.existing_row("undecided").generation == 1


def test_b67_continue_as_new_is_ignored_on_failure(stage: Stage) -> None:
    async def falls(ctx: OrchestrationContext, _: Any) -> None:
        ctx.continue_as_new("again")
        raise RuntimeError("no")

    stage.worker(falls)
    state = stage.run(falls, instance_id="falls")
    assert state.runtime_status is OrchestrationStatus.FAILED
    assert stage.existing_row("falls").generation == 0


@pytest.mark.timeout(300)
def test_b68_a_thousand_generations_leave_storage_and_memory_flat(
    open_stage: Callable[..., Stage], pace: float
) -> None:
    stage = open_stage(executions_kept=3, seen_ids_s=0.001)
    stage.worker(count_up)
    assert stage.result(count_up, [0, 200], instance_id="warm up") == 200
    gc.collect()
    tracemalloc.start()
    try:
        stage.client.schedule_new_orchestration(count_up, input=[0, 1_000], instance_id="long")
        # Under tracemalloc a step over the wire takes some 40 ms.
        state = stage.client.wait_for_orchestration_completion("long", timeout=WAIT_S * min(pace, 8))
        assert state is not None
        assert state.get_output() == 1_000
        gc.collect()
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 1_000_000
    row = stage.existing_row("long")
    assert row.generation == 1_000
    assert len(row.past) <= 4
    assert row.segments == 0
    assert len(row.tail) < 4_000
