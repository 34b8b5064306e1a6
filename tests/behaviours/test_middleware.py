"""B125: middleware around orchestrations and activities sees and replaces inputs, results and errors."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import pytest

from durabletask_azure import (
    ActivityContext,
    ConcurrencyOptions,
    OrchestrationContext,
    OrchestrationStatus,
    RetryPolicy,
    TaskFailedError,
    TaskHubWorker,
    WorkerStateError,
)
from durabletask_azure.worker import ActivityMiddleware, CallNext, OrchestrationMiddleware
from tests.behaviours.stage import Stage

WHO: ContextVar[str] = ContextVar("WHO", default="nobody")


def sync_double(ctx: ActivityContext, value: int) -> int:
    return 2 * value


async def async_double(ctx: ActivityContext, value: int) -> int:
    await asyncio.sleep(0)
    return 2 * value


async def call_sync(ctx: OrchestrationContext, value: int) -> int:
    return await ctx.call_activity(sync_double, input=value)


def call_async(ctx: OrchestrationContext, value: int) -> Generator[Any, Any, int]:
    return (yield ctx.call_activity(async_double, input=value))


async def plus_one(ctx: Any, input: int, call_next: CallNext) -> int:
    return await call_next(input + 1) + 100


async def times_ten(ctx: Any, input: int, call_next: CallNext) -> int:
    return await call_next(input * 10) * 1000


def surrounded(
    stage: Stage,
    *orchestrators: Any,
    activities: Any = (),
    around_orchestrations: Any = (),
    around_activities: Any = (),
    **options: Any,
) -> TaskHubWorker:
    """Start a worker with middleware, the outermost first."""
    worker = TaskHubWorker(stage.hub, **options)
    for orchestrator in orchestrators:
        worker.add_orchestrator(orchestrator)
    for activity in activities:
        worker.add_activity(activity)
    for middleware in around_orchestrations:
        worker.add_orchestration_middleware(middleware)
    for middleware in around_activities:
        worker.add_activity_middleware(middleware)
    worker.start()
    stage.workers.append(worker)
    return worker


@pytest.mark.parametrize("orchestrator", [call_sync, call_async])
def test_b125_middleware_replaces_inputs_and_results_of_activities(stage: Stage, orchestrator: Any) -> None:
    surrounded(
        stage, orchestrator, activities=[sync_double, async_double], around_activities=[plus_one, times_ten]
    )
    assert stage.result(orchestrator, 1) == 2 * (1 + 1) * 10 * 1000 + 100


@pytest.mark.parametrize("orchestrator", [call_sync, call_async])
def test_b125_middleware_replaces_inputs_and_results_of_orchestrations(
    stage: Stage, orchestrator: Any
) -> None:
    surrounded(
        stage,
        orchestrator,
        activities=[sync_double, async_double],
        around_orchestrations=[plus_one, times_ten],
    )
    assert stage.result(orchestrator, 1) == 2 * (1 + 1) * 10 * 1000 + 100


def test_b125_middleware_sees_and_replaces_errors(stage: Stage) -> None:
    seen: list[str] = []

    def sync_bad(ctx: ActivityContext, value: str) -> str:
        raise KeyError(value)

    async def async_bad(ctx: ActivityContext, value: str) -> str:
        raise KeyError(value)

    async def around_activity(ctx: ActivityContext, input: str, call_next: CallNext) -> str:
        try:
            return await call_next(input)
        except KeyError as error:
            seen.append(f"{ctx.name} {error.args[0]}")
            if input == "forgive":
                return "forgiven"
            raise ValueError(f"was {input}") from error

    async def both(ctx: OrchestrationContext, value: str) -> list[str]:
        results: list[str] = []
        for name in ("sync_bad", "async_bad"):
            try:
                results.append(await ctx.call_activity(name, input=value))
            except TaskFailedError as error:
                inner = error.details.inner_failure
                results.append(f"{error.details.error_type} {'' if inner is None else inner.error_type}")
        return results

    async def raises(ctx: OrchestrationContext, value: str) -> str:
        raise KeyError(value)

    async def around_orchestration(ctx: OrchestrationContext, input: str, call_next: CallNext) -> Any:
        try:
            return await call_next(input)
        except KeyError as error:
            raise LookupError(f"instead of {error.args[0]}") from error

    surrounded(
        stage,
        both,
        raises,
        activities=[sync_bad, async_bad],
        around_activities=[around_activity],
        around_orchestrations=[around_orchestration],
    )
    assert stage.result(both, "forgive") == ["forgiven", "forgiven"]
    assert stage.result(both, "x") == ["ValueError KeyError", "ValueError KeyError"]
    assert seen == ["sync_bad forgive", "async_bad forgive", "sync_bad x", "async_bad x"]
    failure = stage.run(raises, "y").failure_details
    assert failure is not None
    assert (failure.error_type, failure.message) == ("LookupError", "instead of y")


def test_b125_an_error_of_the_middleware_is_the_activitys_and_is_retried(stage: Stage) -> None:
    calls: list[int] = []

    async def flaky(ctx: ActivityContext, input: int, call_next: CallNext) -> Any:
        calls.append(ctx.task_id)
        if len(calls) < 3:
            raise ConnectionError("not yet")
        return await call_next(input)

    async def stubborn(ctx: OrchestrationContext, value: int) -> int:
        policy = RetryPolicy(first_retry_interval=timedelta(milliseconds=10), max_number_of_attempts=5)
        return await ctx.call_activity(sync_double, input=value, retry_policy=policy)

    surrounded(stage, stubborn, activities=[sync_double], around_activities=[flaky])
    assert stage.result(stubborn, 4) == 8
    assert len(calls) == 3


def test_b125_sync_activities_keep_their_threads_and_see_context_variables(stage: Stage) -> None:
    running = threading.Semaphore(2)

    def who(ctx: ActivityContext, _: Any) -> list[Any]:
        assert running.acquire(blocking=False), "more sync activities at once than threads"
        try:
            return [WHO.get(), threading.current_thread().name.startswith("durabletask-activity")]
        finally:
            running.release()

    async def named(ctx: ActivityContext, input: Any, call_next: CallNext) -> Any:
        WHO.set(f"caller {ctx.task_id}")
        return await call_next(input)

    async def many(ctx: OrchestrationContext, count: int) -> list[Any]:
        return await asyncio.gather(*(ctx.call_activity(who) for _ in range(count)))

    options = ConcurrencyOptions(maximum_thread_pool_workers=2)
    surrounded(stage, many, activities=[who], around_activities=[named], concurrency_options=options)
    assert stage.result(many, 20) == [[f"caller {number}", True] for number in range(1, 21)]


def test_b125_a_time_limit_around_a_sync_activity_holds(stage: Stage) -> None:
    free = threading.Event()

    def stuck(ctx: ActivityContext, _: Any) -> str:
        free.wait(60)
        return "late"

    async def limited(ctx: ActivityContext, input: Any, call_next: CallNext) -> Any:
        async with asyncio.timeout(0.05):
            return await call_next(input)

    async def impatient(ctx: OrchestrationContext, _: Any) -> str:
        return await ctx.call_activity(stuck)

    surrounded(stage, impatient, activities=[stuck], around_activities=[limited])
    state = stage.run(impatient)
    free.set()
    assert state.runtime_status is OrchestrationStatus.FAILED
    assert state.failure_details is not None
    assert "TimeoutError" in state.failure_details.error_type + str(state.failure_details.inner_failure)


def test_b125_wicked_errors_inside_of_middleware_are_failures(stage: Stage) -> None:
    def leaves(ctx: ActivityContext, kind: str) -> None:
        raise {"exit": SystemExit, "stop": StopIteration, "cancel": asyncio.CancelledError}[kind]("bye")

    async def tries(ctx: OrchestrationContext, kind: str) -> str:
        try:
            await ctx.call_activity(leaves, input=kind)
        except TaskFailedError as error:
            return error.details.error_type
        return "no error"

    async def through(ctx: ActivityContext, input: Any, call_next: CallNext) -> Any:
        return await call_next(input)

    surrounded(stage, tries, activities=[leaves], around_activities=[through])
    assert stage.result(tries, "exit") == "SystemExit"
    assert stage.result(tries, "stop") in ("StopIteration", "RuntimeError")
    assert "CancelledError" in stage.result(tries, "cancel")


def test_b125_middleware_replays_with_its_orchestration(stage: Stage) -> None:
    replays: list[bool] = []

    async def audited(ctx: OrchestrationContext, input: int, call_next: CallNext) -> Any:
        replays.append(ctx.is_replaying)
        before = await ctx.call_activity(sync_double, input=input)
        result = await call_next(before)
        await asyncio.sleep(0.01)
        return [before, result, str(ctx.new_uuid())[14]]

    def waits(ctx: OrchestrationContext, value: int) -> Generator[Any, str, str]:
        word = yield ctx.wait_for_external_event("go")
        return f"{value} {word}"

    surrounded(stage, waits, activities=[sync_double], around_orchestrations=[audited])
    instance = stage.client.schedule_new_orchestration(waits, input=3)
    stage.until(instance, lambda row: row is not None and row.events >= 5)
    stage.restart()
    stage.client.raise_orchestration_event(instance, "go", data="word")
    assert stage.completed(instance) == [6, "6 word", "5"]
    assert replays == [False, True]


def test_b125_middleware_may_be_an_object_and_a_decorator(stage: Stage) -> None:
    class Counting:
        def __init__(self) -> None:
            self.names: list[str] = []

        async def __call__(self, ctx: ActivityContext, input: Any, call_next: CallNext) -> Any:
            self.names.append(ctx.name)
            return await call_next(input)

    worker = TaskHubWorker(stage.hub)
    worker.add_orchestrator(call_sync)
    worker.add_activity(sync_double)
    counting = Counting()
    assert worker.add_activity_middleware(counting) is counting

    @worker.add_orchestration_middleware
    async def shift(ctx: OrchestrationContext, input: int, call_next: CallNext) -> int:
        return await call_next(input + 1)

    _: tuple[OrchestrationMiddleware, ActivityMiddleware] = (shift, counting)
    worker.start()
    stage.workers.append(worker)
    assert stage.result(call_sync, 1) == 4
    assert counting.names == ["sync_double"]
    with pytest.raises(WorkerStateError, match="running"):
        worker.add_activity_middleware(counting)
    worker.stop()
    with pytest.raises(TypeError, match="async def"):
        worker.add_orchestration_middleware(sync_double)  # pyright: ignore[reportArgumentType]
