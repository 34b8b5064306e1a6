"""B98: an instance runs again from any point of its history on."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest

from durabletask_azure import (
    ActivityContext,
    ConfigurationError,
    OrchestrationContext,
    OrchestrationNotFoundError,
    OrchestrationStateError,
    OrchestrationStatus,
    history,
)
from tests.behaviours.shop import Shop, chain, failed, index_of, work
from tests.behaviours.stage import WAIT_S, Stage


def test_b98_what_follows_the_point_runs_again_under_a_new_execution(stage: Stage) -> None:
    shop = Shop()
    stage.worker(chain, activities=[shop.work])
    assert stage.result(chain, ["a", "b", "c"], instance_id="i") == ["A", "B", "C"]
    before = stage.existing_row("i").execution_id
    point = index_of(stage, "i", history.TaskCompletedEvent, 1)
    execution = stage.client.reset_orchestration("i", event_index=point, reason="b was wrong")
    assert stage.completed("i") == ["A", "B", "C"]
    assert shop.calls == {"a": 1, "b": 2, "c": 2}
    assert stage.existing_row("i").execution_id == execution != before
    assert stage.events("i") == [
        *("ExecutionStarted", "TaskScheduled", "TaskCompleted", "TaskScheduled", "ExecutionRewound"),
        *("TaskCompleted", "TaskScheduled", "TaskCompleted", "ExecutionCompleted"),
    ]
    assert "ExecutionRewound" not in stage.events("i", before)


@pytest.mark.parametrize("status", ["RUNNING", "FAILED", "TERMINATED", "SUSPENDED"])
def test_b98_reset_takes_an_instance_of_any_status(stage: Stage, status: str) -> None:
    async def flow(ctx: OrchestrationContext, _: Any) -> list[str]:
        return [await work(ctx, "a"), await work(ctx, "b"), await ctx.wait_for_external_event("go")]

    shop = Shop()
    if status == "FAILED":
        shop.broken.add("b")
    stage.worker(flow, activities=[shop.work])
    stage.client.schedule_new_orchestration(flow, instance_id="i")
    if status == "FAILED":
        failed(stage, "i")
        shop.broken.clear()
    else:
        stage.eventually(lambda: stage.events("i").count("TaskCompleted") == 2)
    if status == "TERMINATED":
        stage.client.terminate_orchestration("i")
        stage.end("i")
    elif status == "SUSPENDED":
        stage.client.suspend_orchestration("i")
        stage.until_status("i", OrchestrationStatus.SUSPENDED)
    stage.client.reset_orchestration("i", event_index=0)
    if status == "SUSPENDED":
        # It stays suspended, and nothing runs, until it is resumed.
        assert stage.state("i").runtime_status is OrchestrationStatus.SUSPENDED
        stage.client.resume_orchestration("i")
    stage.client.raise_orchestration_event("i", "go", data="c")
    assert stage.completed("i") == ["A", "B", "c"]
    assert shop.calls == {"a": 2, "b": 2}


def test_b98_old_results_do_not_reach_the_new_execution(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    gates = [threading.Event(), threading.Event()]
    entered = [threading.Event(), threading.Event()]
    count = iter(range(2))

    def slow(ctx: ActivityContext, _: Any) -> int:
        number = next(count)
        entered[number].set()
        assert gates[number].wait(WAIT_S)
        return number

    async def flow(ctx: OrchestrationContext, _: Any) -> int:
        return await ctx.call_activity(slow)

    stage.worker(flow, activities=[slow])
    stage.client.schedule_new_orchestration(flow, instance_id="i")
    assert entered[0].wait(WAIT_S)
    stage.client.reset_orchestration("i", event_index=index_of(stage, "i", history.TaskScheduledEvent))
    assert entered[1].wait(WAIT_S)
    gates[0].set()
    gates[1].set()
    assert stage.completed("i") == 1
    # The history of an instance that is in memory is fetched for it, without an error on the way.
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("keep_events", [True, False], ids=["kept", "dropped"])
def test_b98_events_that_came_later_are_given_again_or_dropped(stage: Stage, keep_events: bool) -> None:
    async def flow(ctx: OrchestrationContext, _: Any) -> list[str]:
        await work(ctx, "a")
        return [await ctx.wait_for_external_event("word") for _ in range(2)]

    shop = Shop()
    stage.worker(flow, activities=[shop.work])
    stage.client.schedule_new_orchestration(flow, instance_id="i")
    for number, word in enumerate(("x", "y")):
        stage.client.raise_orchestration_event("i", "word", data=word, event_id=f"e{number}")
    assert stage.completed("i") == ["x", "y"]
    stage.client.reset_orchestration("i", event_index=0, keep_events=keep_events)
    if not keep_events:
        # Their ids are remembered: a late copy of one is still a copy.
        stage.client.raise_orchestration_event("i", "word", data="x", event_id="e0")
        for number, word in enumerate(("v", "w")):
            stage.client.raise_orchestration_event("i", "word", data=word, event_id=f"f{number}")
    assert stage.completed("i") == (["x", "y"] if keep_events else ["v", "w"])
    assert shop.calls == {"a": 2}


def test_b98_open_timers_of_the_prefix_run_on(stage: Stage) -> None:
    async def flow(ctx: OrchestrationContext, _: Any) -> list[str]:
        short = ctx.create_timer(timedelta(milliseconds=200))
        far = ctx.create_timer(timedelta(days=300))
        first = await work(ctx, "a")
        await short
        far.cancel()
        return [first, await work(ctx, "b")]

    shop = Shop()
    stage.worker(flow, activities=[shop.work])
    assert stage.result(flow, instance_id="i") == ["A", "B"]
    fire_at = [
        e.fire_at
        for e in stage.client.get_orchestration_history("i")
        if isinstance(e, history.TimerCreatedEvent)
    ]
    stage.client.reset_orchestration("i", event_index=index_of(stage, "i", history.TaskCompletedEvent))
    assert stage.completed("i") == ["A", "B"]
    assert shop.calls == {"a": 2, "b": 2}
    again = [
        e.fire_at
        for e in stage.client.get_orchestration_history("i")
        if isinstance(e, history.TimerCreatedEvent)
    ]
    assert again == fire_at


@pytest.mark.parametrize("child_has", ["answered", "not answered"])
def test_b98_a_child_of_the_prefix_answers_the_new_execution(stage: Stage, child_has: str) -> None:
    async def child(ctx: OrchestrationContext, _: Any) -> str:
        await work(ctx, "c")
        return await ctx.wait_for_external_event("go")

    async def parent(ctx: OrchestrationContext, _: Any) -> list[str]:
        waiting = ctx.call_sub_orchestrator(child, instance_id="child")
        first = await work(ctx, "a")
        return [first, await waiting, await work(ctx, "b")]

    shop = Shop()
    stage.worker(parent, child, activities=[shop.work])
    stage.client.schedule_new_orchestration(parent, instance_id="p")
    stage.eventually(lambda: "TaskCompleted" in stage.events("p"))
    if child_has == "answered":
        stage.client.raise_orchestration_event("child", "go", data="answer")
        assert stage.completed("p") == ["A", "answer", "B"]
    before = stage.existing_row("child").execution_id
    stage.client.reset_orchestration("p", event_index=index_of(stage, "p", history.TaskCompletedEvent))
    if child_has != "answered":
        stage.restart()
        stage.client.raise_orchestration_event("child", "go", data="answer")
    assert stage.completed("p") == ["A", "answer", "B"]
    assert shop.calls == {"a": 2, "b": 2 if child_has == "answered" else 1, "c": 1}
    child_row = stage.existing_row("child")
    assert child_row.execution_id == before
    assert child_row.parent is not None
    assert child_row.parent.execution_id == stage.existing_row("p").execution_id


@pytest.mark.parametrize("child_id", ["child", None], ids=["given id", "generated id"])
def test_b98_children_started_after_the_point_are_terminated_and_started_again(
    stage: Stage, child_id: str | None
) -> None:
    async def child(ctx: OrchestrationContext, _: Any) -> str:
        return await ctx.wait_for_external_event("go")

    async def parent(ctx: OrchestrationContext, _: Any) -> str:
        await work(ctx, "a")
        return await ctx.call_sub_orchestrator(child, instance_id=child_id)

    shop = Shop()
    stage.worker(parent, child, activities=[shop.work])
    stage.client.schedule_new_orchestration(parent, instance_id="p")
    stage.eventually(lambda: "SubOrchestrationInstanceCreated" in stage.events("p"))
    [first] = children(stage, "p")
    stage.until_status(first, OrchestrationStatus.RUNNING)
    execution = stage.existing_row(first).execution_id
    stage.client.reset_orchestration("p", event_index=0)
    stage.eventually(lambda: "SubOrchestrationInstanceCreated" in stage.events("p"))
    [second] = children(stage, "p")
    if child_id is None:
        assert stage.end(first).runtime_status is OrchestrationStatus.TERMINATED
        assert first != second
    stage.until(second, lambda row: row is not None and row.execution_id != execution)
    stage.client.raise_orchestration_event(second, "go", data="new")
    assert stage.completed("p") == "new"


def children(stage: Stage, instance_id: str) -> list[str]:
    return [
        event.instance_id
        for event in stage.client.get_orchestration_history(instance_id)
        if isinstance(event, history.SubOrchestrationInstanceCreatedEvent)
    ]


def test_b98_every_point_of_a_history_can_be_gone_back_to(stage: Stage) -> None:
    async def flow(ctx: OrchestrationContext, _: Any) -> list[str]:
        first, second = work(ctx, "a"), ctx.call_sub_orchestrator(chain, input=["c"])
        both = [await first, await second]
        await ctx.create_timer(timedelta(milliseconds=1))
        return [str(both), await ctx.wait_for_external_event("word"), ctx.new_uuid()[:0]]

    shop = Shop()
    stage.worker(flow, chain, activities=[shop.work])
    stage.client.schedule_new_orchestration(flow, instance_id="i", raise_event=("word", "x"))
    expected = stage.completed("i")
    points = len(stage.client.get_orchestration_history("i"))
    assert points > 10
    for point in range(points):
        # Each time from the history of the time before: a continued execution can itself be reset.
        last = len(stage.client.get_orchestration_history("i")) - 1
        stage.client.reset_orchestration("i", event_index=min(point, last))
        assert stage.completed("i") == expected


def test_b98_spilled_values_of_the_prefix_stay_readable_until_the_purge(open_stage: Any) -> None:
    stage: Stage = open_stage(executions_kept=1)
    big = "x" * 100_000

    def load(ctx: ActivityContext, _: Any) -> str:
        return big

    async def flow(ctx: OrchestrationContext, _: Any) -> list[int]:
        text = await ctx.call_activity(load)
        await work(ctx, "a")
        return [len(text), len(await work(ctx, "b"))]

    shop = Shop("b")
    stage.worker(flow, activities=[load, shop.work])
    failed(stage, stage.client.schedule_new_orchestration(flow, instance_id="i", input=big))
    first = stage.existing_row("i").execution_id
    for _ in range(3):
        stage.client.rewind_orchestration("i", reason=big)
        failed(stage, "i")
    # The execution that stored the values is gone by now; those that were copied from it still need them.
    assert first not in [past.execution_id for past in stage.existing_row("i").past]
    stage.restart()
    shop.broken.clear()
    stage.client.rewind_orchestration("i")
    assert stage.completed("i") == [100_000, 1]
    assert shop.calls == {"a": 1, "b": 5}
    assert stage.client.purge_orchestration("i").deleted_instance_count == 1
    stage.eventually(lambda: stage.blobs("i") == [])


def test_b98_a_long_history_is_copied_whole(open_stage: Any) -> None:
    stage: Stage = open_stage(history_inline_bytes_max=2_000, segment_bytes_max=2_000)

    async def flow(ctx: OrchestrationContext, _: Any) -> int:
        results = await asyncio.gather(*(work(ctx, f"n{number}") for number in range(200)))
        await work(ctx, "last")
        return len(results)

    shop = Shop("last")
    stage.worker(flow, activities=[shop.work])
    failed(stage, stage.client.schedule_new_orchestration(flow, instance_id="i"))
    shop.broken.clear()
    stage.restart()
    stage.client.rewind_orchestration("i")
    assert stage.completed("i") == 200
    assert shop.calls["last"] == 2
    assert sum(shop.calls.values()) == 202
    row = stage.existing_row("i")
    assert row.segments > 1
    assert stage.segments("i", row.past[0].execution_id, row.past[0].segments)


def test_b98_a_point_that_is_not_there_is_refused(stage: Stage) -> None:
    shop = Shop()
    stage.worker(chain, activities=[shop.work])
    stage.result(chain, ["a"], instance_id="i")
    last = len(stage.client.get_orchestration_history("i")) - 1
    with pytest.raises(ConfigurationError, match=f"event_index must be 0 to {last}"):
        stage.client.reset_orchestration("i", event_index=last + 1)
    with pytest.raises(ConfigurationError, match="event_index must be 0 or more, not -1"):
        stage.client.reset_orchestration("i", event_index=-1)
    with pytest.raises(ConfigurationError, match="event_index must be a whole number, not str"):
        stage.client.reset_orchestration("i", event_index="0")  # pyright: ignore[reportArgumentType]
    with pytest.raises(OrchestrationStateError, match="only its current one can be reset"):
        stage.client.reset_orchestration("i", event_index=0, execution_id="another")
    with pytest.raises(OrchestrationNotFoundError):
        stage.client.reset_orchestration("nobody", event_index=0)
    pending = stage.client.schedule_new_orchestration("unknown")
    with pytest.raises(OrchestrationStateError, match="has not started"):
        stage.client.reset_orchestration(pending, event_index=0)
    assert shop.calls == {"a": 1}
