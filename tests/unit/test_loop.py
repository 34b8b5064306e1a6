"""The deterministic loop: asyncio's own tools work on it, and nothing reaches outside."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from typing import Any

import pytest

from durabletask_azure.core.actions import CreateTimer
from durabletask_azure.core.loop import DeterministicLoop
from durabletask_azure.core.replay import RuntimeOptions
from durabletask_azure.core.tasks import TimerTask
from durabletask_azure.errors import NonDeterminismError, TaskFailedError
from tests.unit.play import T0, Play


def make_loop(steps_max: int = 1_000) -> DeterministicLoop:
    def start_timer(delay: timedelta, callback: Callable[[], None]) -> TimerTask:
        timer = TimerTask(T0 + delay)
        timer.set_finish_hook(lambda: None if timer.is_cancelled else callback())
        return timer

    return DeterministicLoop(now=lambda: 0.0, start_timer=start_timer, steps_max=steps_max)


async def test_gather_keeps_order_and_collects_errors() -> None:
    async def flow(ctx: Any) -> list[Any]:
        found = await asyncio.gather(
            *(ctx.call_activity("a", input=n) for n in range(3)), return_exceptions=True
        )
        return [type(item).__name__ if isinstance(item, Exception) else item for item in found]

    play = Play(flow)
    assert len(play.start().actions) == 3
    play.turn(play.completed(3, "three"), play.failed(1))
    play.turn(play.completed(2, "two"))
    assert play.result == ["TaskFailedError", "two", "three"]


async def test_wait_takes_durable_tasks_as_they_are() -> None:
    async def flow(ctx: Any) -> list[Any]:
        slow, fast = ctx.call_activity("slow"), ctx.call_activity("fast")
        done, pending = await asyncio.wait([slow, fast], return_when=asyncio.FIRST_COMPLETED)
        first = [len(done), fast in done, slow in pending]
        done, _ = await asyncio.wait([slow, fast], return_when=asyncio.FIRST_EXCEPTION)
        return [*first, len(done), isinstance(slow.exception(), TaskFailedError), fast.exception()]

    play = Play(flow)
    play.start()
    assert play.turn(play.completed(2)).completion is None
    play.turn(play.failed(1))
    assert play.result == [1, True, True, 2, True, None]


async def test_wait_for_becomes_a_durable_timer_and_cancels_it() -> None:
    async def flow(ctx: Any) -> list[Any]:
        first = await asyncio.wait_for(ctx.wait_for_external_event("go"), 60)
        try:
            await asyncio.wait_for(ctx.wait_for_external_event("go"), 60)
        except TimeoutError:
            return [first, "timeout", await ctx.wait_for_external_event("go")]
        return []

    play = Play(flow)
    assert play.start().actions == (CreateTimer(id=1, fire_at=T0 + timedelta(seconds=60)),)
    assert play.turn(play.raised("go", 1)).cancelled_timers == (1,)
    assert [action.id for action in play.actions] == [1, 2]
    play.wait(seconds=61)
    assert play.turn(play.fired(2)).cancelled_timers == ()
    # The wait that timed out does not swallow the event.
    play.turn(play.raised("go", 2))
    assert play.result == [1, "timeout", 2]


async def test_timeout_leaves_an_activity_awaitable() -> None:
    async def flow(ctx: Any) -> list[Any]:
        task = ctx.call_activity("slow")
        try:
            async with asyncio.timeout(5):
                await task
        except TimeoutError:
            return ["late", await task]
        return []

    play = Play(flow)
    play.start()
    play.wait(seconds=5)
    play.turn(play.fired(2))
    play.turn(play.completed(1, "done"))
    assert play.result == ["late", "done"]


async def test_task_group_takes_coroutines_and_durable_tasks() -> None:
    async def one(ctx: Any, n: int) -> int:
        return await ctx.call_activity("a", input=n)

    async def flow(ctx: Any) -> int:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(one(ctx, 1))
            second: asyncio.Task[int] = group.create_task(ctx.call_activity("a"))
        return first.result() + second.result()

    play = Play(flow)
    play.start()
    play.turn(play.completed(1, 10), play.completed(2, 20))
    assert play.result == 30


async def test_task_group_cancels_its_timers_when_one_member_fails() -> None:
    async def flow(ctx: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(3600))
            group.create_task(ctx.call_activity("a"))

    play = Play(flow)
    play.start()
    activity, timer = play.actions
    assert isinstance(timer, CreateTimer)
    decision = play.turn(play.failed(activity.id))
    assert decision.cancelled_timers == (timer.id,)
    assert play.failure.error_type == "ExceptionGroup"


async def test_event_lock_and_queue_connect_coroutines() -> None:
    async def flow(ctx: Any) -> list[Any]:
        queue: asyncio.Queue[int] = asyncio.Queue(1)
        lock, ready = asyncio.Lock(), asyncio.Event()
        seen: list[Any] = []

        async def produce() -> None:
            await ready.wait()
            for n in range(3):
                async with lock:
                    await queue.put(await ctx.call_activity("make", input=n))

        producer = asyncio.create_task(produce())
        ready.set()
        for _ in range(3):
            seen.append(await queue.get())
        await producer
        return seen

    play = Play(flow)
    play.start()
    for n in range(3):
        play.turn(play.completed(n + 1, n * n))
    assert play.result == [0, 1, 4]


async def test_as_completed_and_shield_work() -> None:
    async def flow(ctx: Any) -> list[Any]:
        tasks = [ctx.call_activity("a"), ctx.call_activity("b")]
        order = [await nearest for nearest in asyncio.as_completed(tasks)]
        inner = asyncio.ensure_future(ctx.call_activity("c"))
        try:
            await asyncio.wait_for(asyncio.shield(inner), 1)
        except TimeoutError:
            order.append("late")
        return [*order, await inner]

    play = Play(flow)
    play.start()
    play.turn(play.completed(2, "b"))
    play.turn(play.completed(1, "a"))
    timer = next(action for action in play.actions if isinstance(action, CreateTimer))
    play.wait(seconds=1)
    play.turn(play.fired(timer.id))
    call = next(action for action in play.actions if getattr(action, "name", "") == "c")
    play.turn(play.completed(call.id, "c"))
    assert play.result == ["b", "a", "late", "c"]


async def test_time_is_the_orchestrations_and_a_sleep_of_nothing_needs_no_timer() -> None:
    async def flow(ctx: Any) -> list[float]:
        loop = asyncio.get_running_loop()
        before = loop.time()
        await asyncio.sleep(0)
        loop.call_later(0, lambda: None)
        loop.call_at(before - 1, lambda: None)
        await asyncio.sleep(1.5)
        return [before, loop.time()]

    play = Play(flow)
    assert play.start().actions == (CreateTimer(id=1, fire_at=T0 + timedelta(seconds=1.5)),)
    play.wait(seconds=2)
    play.turn(play.fired(1))
    assert play.result == [0.0, 2.0]


async def test_an_endless_sleep_is_due_at_the_end_of_time() -> None:
    async def flow(ctx: Any) -> None:
        await asyncio.sleep(1e18)

    (action,) = Play(flow).start().actions
    assert isinstance(action, CreateTimer)
    assert action.fire_at.year == 9999


async def test_cancelling_a_handle_cancels_its_timer_once() -> None:
    async def flow(ctx: Any) -> str:
        handle = asyncio.get_running_loop().call_later(60, lambda: None)
        await ctx.call_activity("a")
        handle.cancel()
        handle.cancel()
        asyncio.get_running_loop().call_soon(lambda: None).cancel()
        await asyncio.sleep(0)
        return "done"

    play = Play(flow)
    play.start()
    assert play.turn(play.completed(2)).cancelled_timers == (1,)
    assert play.result == "done"


FORBIDDEN: list[Callable[[Any], Any]] = [
    lambda loop: loop.run_in_executor(None, print),
    lambda loop: loop.create_connection(None),
    lambda loop: loop.call_soon_threadsafe(print),
    lambda loop: loop.run_until_complete(None),
]


@pytest.mark.parametrize("forbidden", FORBIDDEN)
async def test_what_reaches_outside_is_refused_by_name(forbidden: Callable[[Any], Any]) -> None:
    async def flow(ctx: Any) -> None:
        await forbidden(asyncio.get_running_loop())

    play = Play(flow)
    play.start()
    assert play.failure.error_type == "durabletask_azure.errors.NonDeterminismError"
    assert "Do this in an activity" in play.failure.message


async def test_threads_are_refused() -> None:
    async def flow(ctx: Any) -> None:
        await asyncio.to_thread(print)

    play = Play(flow)
    play.start()
    assert "run_in_executor" in play.failure.message


async def test_a_coroutine_that_never_rests_fails() -> None:
    async def flow(ctx: Any) -> None:
        while True:  # noqa: ASYNC110 - what is tested
            await asyncio.sleep(0)

    play = Play(flow, options=RuntimeOptions(steps_max=50))
    play.start()
    assert "did not come to rest within 50 steps" in play.failure.message


async def test_the_error_of_a_callback_fails_the_orchestration() -> None:
    async def flow(ctx: Any) -> None:
        def first() -> None:
            raise KeyError("first")

        def second() -> None:
            raise SystemExit("second")

        asyncio.get_running_loop().call_soon(first)
        asyncio.get_running_loop().call_soon(second)
        await ctx.call_activity("a")

    play = Play(flow)
    play.start()
    assert play.failure.error_type == "KeyError"


async def test_a_result_nobody_asks_for_stays_silent() -> None:
    async def bad() -> None:
        raise ValueError("unseen")

    async def flow(ctx: Any) -> str:
        asyncio.get_running_loop().create_future().set_exception(ValueError("unseen"))
        asyncio.ensure_future(bad())  # noqa: RUF006 - dropped on purpose
        await asyncio.sleep(0)
        gc.collect()
        await ctx.call_activity("a")
        return "done"

    play = Play(flow)
    play.start()
    play.turn(play.completed(1))
    assert play.result == "done"


async def test_an_abandoned_async_generator_is_finished_on_the_loop() -> None:
    closed: list[str] = []

    async def numbers() -> AsyncGenerator[int, None]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            closed.append("closed")

    async def flow(ctx: Any) -> int:
        first = 0
        async for n in numbers():
            first = n
            break
        gc.collect()
        await ctx.call_activity("a")
        return first

    play = Play(flow, cold=False)
    play.start()
    play.turn(play.completed(1))
    assert play.result == 1
    assert closed == ["closed"]


async def test_the_outer_loop_and_task_are_the_same_afterwards() -> None:
    outer, task = asyncio.get_running_loop(), asyncio.current_task()

    async def flow(ctx: Any) -> list[Any]:
        me = asyncio.current_task()
        assert me is not None
        assert me is not task
        helper = asyncio.create_task(asyncio.sleep(0))
        return [asyncio.get_running_loop() is outer, me.get_name(), helper.get_name()]

    play = Play(flow)
    play.start()
    assert play.result == [False, "orchestrator", "Task-2"]
    assert asyncio.get_running_loop() is outer
    assert asyncio.current_task() is task
    await asyncio.sleep(0)


def test_the_loop_runs_without_an_outer_loop() -> None:
    async def flow(ctx: Any) -> bool:
        loop = asyncio.get_running_loop()
        return loop.is_running()

    play = Play(flow)
    play.start()
    assert play.result is True


def test_thousands_of_finished_coroutines_are_not_kept() -> None:
    async def nothing() -> int:
        return 1

    async def flow(ctx: Any) -> int:
        return sum([await asyncio.create_task(nothing()) for _ in range(2_000)])

    play = Play(flow)
    play.start()
    assert play.result == 2_000


def test_the_loop_answers_asyncios_questions_about_itself() -> None:
    loop = make_loop()
    loop.set_debug(True)
    loop.default_exception_handler({"message": "nothing"})
    assert (loop.get_debug(), loop.is_running(), loop.is_closed()) == (False, False, False)
    assert (loop.get_exception_handler(), loop.get_task_factory()) == (None, None)
    coroutine = loop.shutdown_asyncgens()
    with pytest.raises(StopIteration):
        coroutine.send(None)
    with pytest.raises(NonDeterminismError, match="add_reader"):
        loop.add_reader(0, print)


def test_a_closed_loop_takes_nothing_more() -> None:
    loop = make_loop()

    async def never() -> None:
        """Is not run."""

    called: list[int] = []
    loop.close()
    loop.call_soon(called.append, 1)
    loop.call_later(1, called.append, 2).cancel()
    with pytest.raises(RuntimeError, match="closed"):
        loop.create_task(never())
    loop.run_until_idle()
    assert called == []
    assert loop.is_closed()
