"""B97 and B99: an instance is taken up again where it failed, or from the beginning."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest

from durabletask_azure import (
    ActivityContext,
    OrchestrationContext,
    OrchestrationNotFoundError,
    OrchestrationStateError,
    OrchestrationStatus,
    RetryPolicy,
    history,
)
from tests.behaviours.shop import Shop, chain, failed, work
from tests.behaviours.stage import WAIT_S, Stage


def test_b97_rewind_runs_the_failed_activity_again_and_no_other(stage: Stage) -> None:
    shop = Shop("b")
    stage.worker(chain, activities=[shop.work])
    failed(stage, stage.client.schedule_new_orchestration(chain, input=["a", "b", "c"], instance_id="i"))
    before = stage.existing_row("i")
    shop.broken.clear()
    stage.client.rewind_orchestration("i", reason="b is mended")
    assert stage.completed("i") == ["A", "B", "C"]
    assert shop.calls == {"a": 1, "b": 2, "c": 1}
    assert stage.events("i") == [
        *("ExecutionStarted", "TaskScheduled", "TaskCompleted", "TaskScheduled", "ExecutionRewound"),
        *("TaskCompleted", "TaskScheduled", "TaskCompleted", "ExecutionCompleted"),
    ]
    after = stage.existing_row("i")
    assert (after.created_at, after.input, after.failure) == (before.created_at, before.input, None)
    assert after.execution_id != before.execution_id
    rewound = stage.client.get_orchestration_history("i")
    assert [e.reason for e in rewound if isinstance(e, history.ExecutionRewoundEvent)] == ["b is mended"]
    # The old execution is still there to be read, as it ended.
    assert stage.events("i", before.execution_id)[-2:] == ["TaskFailed", "ExecutionCompleted"]


def test_b97_rewind_a_fan_out_runs_only_what_failed(stage: Stage) -> None:
    async def fan_out(ctx: OrchestrationContext, names: list[str]) -> list[str]:
        results = await asyncio.gather(*(work(ctx, name) for name in names), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [str(result) for result in results]

    names = [f"n{number}" for number in range(20)]
    shop = Shop("n3", "n11", "n12")
    stage.worker(fan_out, activities=[shop.work])
    failed(stage, stage.client.schedule_new_orchestration(fan_out, input=names, instance_id="i"))
    shop.broken.clear()
    stage.client.rewind_orchestration("i")
    assert stage.completed("i") == [name.upper() for name in names]
    assert {name for name, count in shop.calls.items() if count == 2} == {"n3", "n11", "n12"}
    assert sum(shop.calls.values()) == 23


def test_b97_rewind_goes_down_to_the_sub_orchestrations_that_failed(stage: Stage) -> None:
    async def child(ctx: OrchestrationContext, names: list[str]) -> list[str]:
        return await ctx.call_sub_orchestrator(chain, input=names, instance_id=f"{ctx.instance_id}-chain")

    async def parent(ctx: OrchestrationContext, _: Any) -> list[Any]:
        first = await ctx.call_sub_orchestrator(chain, input=["a"], instance_id="good")
        return [first, await ctx.call_sub_orchestrator(child, input=["b", "c"], instance_id="bad")]

    shop = Shop("c")
    stage.worker(parent, child, chain, activities=[shop.work])
    failed(stage, stage.client.schedule_new_orchestration(parent, instance_id="p"))
    good = stage.existing_row("good").execution_id
    shop.broken.clear()
    stage.client.rewind_orchestration("p", reason="again")
    assert stage.completed("p") == [["A"], ["B", "C"]]
    assert stage.completed("bad") == stage.completed("bad-chain") == ["B", "C"]
    assert shop.calls == {"a": 1, "b": 1, "c": 2}
    assert stage.existing_row("good").execution_id == good
    for name in ("p", "bad", "bad-chain"):
        reasons = [
            event.reason
            for event in stage.client.get_orchestration_history(name)
            if isinstance(event, history.ExecutionRewoundEvent)
        ]
        assert reasons == ["again"]
    parents = [stage.existing_row(name).parent for name in ("bad", "bad-chain")]
    assert [parent and parent.execution_id for parent in parents] == [
        stage.existing_row("p").execution_id,
        stage.existing_row("bad").execution_id,
    ]


def test_b97_rewind_twice(stage: Stage) -> None:
    async def parent(ctx: OrchestrationContext, names: list[str]) -> list[str]:
        return await ctx.call_sub_orchestrator(chain, input=names)

    shop = Shop("a", "b")
    stage.worker(parent, chain, activities=[shop.work])
    instance_id = stage.client.schedule_new_orchestration(parent, input=["a", "b"])
    failed(stage, instance_id)
    executions = [stage.existing_row(instance_id).execution_id]
    for mended in ("a", "b"):
        shop.broken.discard(mended)
        stage.client.rewind_orchestration(instance_id, reason=mended)
        if shop.broken:
            failed(stage, instance_id)
        executions.append(stage.existing_row(instance_id).execution_id)
    assert stage.completed(instance_id) == ["A", "B"]
    assert shop.calls == {"a": 2, "b": 2}
    assert len(set(executions)) == 3
    assert [past.execution_id for past in stage.existing_row(instance_id).past] == executions[:2]
    assert stage.events(instance_id).count("ExecutionRewound") == 2


def test_b97_rewind_survives_restarts_of_every_worker(stage: Stage) -> None:
    gate = threading.Event()
    shop = Shop("b")

    def hold(ctx: ActivityContext, _: Any) -> None:
        assert gate.wait(WAIT_S)

    async def flow(ctx: OrchestrationContext, _: Any) -> list[str]:
        done = [await work(ctx, "a"), await work(ctx, "b")]
        first = ctx.new_uuid()
        await ctx.call_activity(hold)
        return [*done, str(first == ctx.new_uuid())]

    stage.worker(flow, activities=[shop.work, hold])
    failed(stage, stage.client.schedule_new_orchestration(flow, instance_id="i"))
    shop.broken.clear()
    stage.restart()
    stage.client.rewind_orchestration("i")
    stage.eventually(lambda: stage.events("i").count("TaskScheduled") == 3)
    gate.set()
    stage.restart()
    assert stage.completed("i") == ["A", "B", "False"]
    assert shop.calls == {"a": 1, "b": 2}


def test_b97_a_failure_that_was_handled_stays_handled(stage: Stage) -> None:
    async def flow(ctx: OrchestrationContext, _: Any) -> list[str]:
        try:
            await work(ctx, "optional")
        except Exception:
            await work(ctx, "instead")
        return [await work(ctx, "a"), await work(ctx, "b")]

    shop = Shop("optional", "b")
    stage.worker(flow, activities=[shop.work])
    failed(stage, stage.client.schedule_new_orchestration(flow, instance_id="i"))
    shop.broken.clear()
    stage.client.rewind_orchestration("i")
    assert stage.completed("i") == ["A", "B"]
    assert shop.calls == {"optional": 1, "instead": 1, "a": 1, "b": 2}


def test_b97_what_was_done_about_a_failure_before_it_was_passed_on_is_undone(stage: Stage) -> None:
    async def flow(ctx: OrchestrationContext, _: Any) -> list[str]:
        first = await work(ctx, "a")
        try:
            second = await work(ctx, "b")
        except Exception:
            await work(ctx, "clean up")
            raise
        return [first, second]

    shop = Shop("b")
    stage.worker(flow, activities=[shop.work])
    failed(stage, stage.client.schedule_new_orchestration(flow, instance_id="i"))
    shop.broken.clear()
    stage.client.rewind_orchestration("i")
    assert stage.completed("i") == ["A", "B"]
    assert shop.calls == {"a": 1, "b": 2, "clean up": 1}


def test_b97_a_call_with_a_retry_policy_gets_its_last_attempt_again(stage: Stage) -> None:
    async def flow(ctx: OrchestrationContext, _: Any) -> list[str]:
        policy = RetryPolicy(first_retry_interval=timedelta(milliseconds=10), max_number_of_attempts=3)
        first = await work(ctx, "a")
        return [first, await ctx.call_activity("work", input="b", retry_policy=policy)]

    shop = Shop("b")
    stage.worker(flow, activities=[shop.work])
    failed(stage, stage.client.schedule_new_orchestration(flow, instance_id="i"))
    assert shop.calls == {"a": 1, "b": 3}
    stage.client.rewind_orchestration("i")
    failed(stage, "i")
    assert shop.calls == {"a": 1, "b": 4}
    shop.broken.clear()
    stage.client.rewind_orchestration("i")
    assert stage.completed("i") == ["A", "B"]
    assert shop.calls == {"a": 1, "b": 5}


def test_b97_an_orchestrator_that_was_mended_goes_on_where_it_raised(stage: Stage) -> None:
    broken = threading.Event()
    broken.set()

    async def flow(ctx: OrchestrationContext, _: Any) -> list[str]:
        first = await work(ctx, "a")
        word = await ctx.wait_for_external_event("word")
        if broken.is_set():
            raise KeyError(word)
        return [first, word, await work(ctx, "b")]

    shop = Shop()
    stage.worker(flow, activities=[shop.work])
    stage.client.schedule_new_orchestration(flow, instance_id="i", raise_event=("word", "x"))
    failed(stage, "i")
    broken.clear()
    stage.client.rewind_orchestration("i")
    assert stage.completed("i") == ["A", "x", "B"]
    assert shop.calls == {"a": 1, "b": 1}


@pytest.mark.parametrize("status", ["COMPLETED", "TERMINATED", "RUNNING", "PENDING"])
def test_b97_rewind_is_refused_unless_failed(stage: Stage, status: str) -> None:
    async def waits(ctx: OrchestrationContext, _: Any) -> None:
        await ctx.wait_for_external_event("go")

    if status != "PENDING":
        stage.worker(waits)
    instance_id = stage.client.schedule_new_orchestration(waits)
    if status == "COMPLETED":
        stage.client.raise_orchestration_event(instance_id, "go")
    elif status == "TERMINATED":
        stage.client.terminate_orchestration(instance_id)
    stage.until_status(instance_id, OrchestrationStatus[status])
    before = stage.row(instance_id)
    with pytest.raises(OrchestrationStateError, match=f"is {status}: only a FAILED one can be rewound"):
        stage.client.rewind_orchestration(instance_id)
    assert stage.row(instance_id) == before
    with pytest.raises(OrchestrationNotFoundError, match="there is no orchestration instance 'nobody'"):
        stage.client.rewind_orchestration("nobody")


@pytest.mark.parametrize("new_id", [False, True], ids=["same id", "new id"])
def test_b99_restart(stage: Stage, new_id: bool) -> None:
    async def tagged(ctx: OrchestrationContext, names: list[str]) -> list[Any]:
        return [*(await chain(ctx, names)), ctx.tags, ctx.version]

    shop = Shop()
    stage.worker(tagged, activities=[shop.work])
    first = stage.result(tagged, ["a"], instance_id="i", tags={"k": "v"})
    before = stage.existing_row("i")
    again = stage.client.restart_orchestration("i", restart_with_new_instance_id=new_id)
    assert (again == "i") is not new_id
    assert stage.completed(again) == first == ["A", {"k": "v"}, None]
    assert shop.calls == {"a": 2}
    assert stage.existing_row(again).execution_id != before.execution_id
    if new_id:
        assert stage.existing_row("i") == before


def test_b99_restart_is_refused_while_alive_or_unknown(stage: Stage) -> None:
    pending = stage.client.schedule_new_orchestration("unknown")
    with pytest.raises(OrchestrationStateError, match="is PENDING: only a COMPLETED, FAILED or TERMINATED"):
        stage.client.restart_orchestration(pending)
    with pytest.raises(OrchestrationNotFoundError):
        stage.client.restart_orchestration("nobody")


def test_b99_restart_with_a_spilled_input(stage: Stage) -> None:
    async def length(ctx: OrchestrationContext, text: str) -> int:
        return len(text)

    stage.worker(length)
    assert stage.result(length, "x" * 100_000, instance_id="i") == 100_000
    for again in (stage.client.restart_orchestration("i") for _ in range(2)):
        assert stage.completed(again) == 100_000
