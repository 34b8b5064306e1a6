"""What one orchestration may grow to: over it, it fails visibly, and says which setting allows more."""

from __future__ import annotations

from typing import Any

from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.replay import RuntimeOptions
from tests.unit.bench import Bench, after

LIMIT = "durabletask_azure.errors.OrchestrationLimitError"


def failure(bench: Bench) -> FailureDetails:
    row = bench.rows["i1"]
    assert row.status == "FAILED"
    assert isinstance(row.failure, FailureDetails)
    return row.failure


async def gathers(ctx: Any, width: int) -> Any:
    tasks = [ctx.call_activity("work", input=number) for number in range(width)]
    return [await task for task in tasks]


async def forever(ctx: Any, _: Any) -> None:
    while True:
        ctx.call_activity("work")


async def listens(ctx: Any, _: Any) -> Any:
    return await ctx.wait_for_external_event("never")


async def generations(ctx: Any, count: int) -> Any:
    await ctx.wait_for_external_event("go")
    ctx.continue_as_new(count + 1)


def test_a_history_over_its_limit_fails_the_instance() -> None:
    bench = Bench(listens, history_events_max=20)
    bench.begin("listens")
    while bench.rows["i1"].status == "RUNNING":
        bench.turn(bench.raised("news", 1), bench.raised("news", 2))
    assert 20 < bench.rows["i1"].events <= 30
    assert failure(bench).error_type == LIMIT
    assert (
        "more than history_events_max allows (20); continue_as_new begins a new one" in failure(bench).message
    )


def test_generations_begin_a_new_history() -> None:
    bench = Bench(generations, history_events_max=10)
    bench.begin("generations", 0)
    for _ in range(10):
        bench.turn(bench.raised("go"))
        bench.turn()
    assert bench.rows["i1"].status == "RUNNING"


def test_a_fan_out_up_to_its_limit_runs_and_over_it_fails_the_instance() -> None:
    bench = Bench(gathers, open_tasks_max=5)
    bench.begin("gathers", 5)
    bench.turn(*(bench.task_done(number, number) for number in range(1, 6)))
    assert bench.rows["i1"].output == "[1,2,3,4,5]"
    bench = Bench(gathers, open_tasks_max=5)
    bench.begin("gathers", 6)
    bench.turn(bench.task_done(1, 1), at=after(1))
    assert failure(bench).error_type == LIMIT
    assert "6 tasks are open at once, more than open_tasks_max allows (5)" in failure(bench).message


def test_acting_for_ever_after_a_result_is_as_bad() -> None:
    async def later(ctx: Any, value: Any) -> None:
        await ctx.call_activity("work")
        while True:
            ctx.call_activity("work")

    bench = Bench(later)
    bench.options = RuntimeOptions(actions_max=100)
    bench.begin("later")
    bench.turn(bench.task_done(1, 1))
    assert failure(bench).error_type == LIMIT
    assert bench.kinds().count("TaskScheduled") == 1


def test_an_orchestrator_that_acts_for_ever_fails_before_it_takes_all_memory() -> None:
    bench = Bench(forever)
    bench.options = RuntimeOptions(actions_max=100, steps_max=1_000)
    bench.insert("forever")
    bench.turn(bench.wake_up())
    assert failure(bench).error_type == LIMIT
    assert "more than 100 actions without waiting" in failure(bench).message
    assert "TaskScheduled" not in bench.kinds()
