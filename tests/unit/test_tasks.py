"""Durable tasks and their compositions, as `durabletask.task` has them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from durabletask_azure.core.composite import WhenAllTask, when_all, when_any
from durabletask_azure.core.tasks import CancellableTask, CompletableTask, Task, TimerTask
from durabletask_azure.errors import TaskCancelledError, TaskFailedError
from tests.unit.play import Play, failure


def completable(count: int) -> list[CompletableTask[Any]]:
    return [CompletableTask() for _ in range(count)]


def test_a_task_completes_once() -> None:
    (task,) = completable(1)
    assert (task.is_complete, task.is_failed, task.done()) == (False, False, False)
    with pytest.raises(ValueError, match="not completed"):
        task.get_result()
    with pytest.raises(asyncio.InvalidStateError):
        task.exception()
    task.complete(5)
    assert (task.result, task.get_result(), task.exception(), task.cancelled()) == (5, 5, None, False)
    with pytest.raises(ValueError, match="not failed"):
        task.get_exception()
    with pytest.raises(ValueError, match="already completed"):
        task.complete(6)
    with pytest.raises(ValueError, match="already completed"):
        task.fail("late", failure())


def test_a_failed_task_raises_what_was_recorded() -> None:
    (task,) = completable(1)
    task.fail("it failed", failure("boom"))
    assert task.is_failed
    with pytest.raises(TaskFailedError, match="it failed") as caught:
        _ = task.result
    assert caught.value.details.message == "boom"
    assert task.get_exception() is caught.value


def test_a_task_fails_with_an_error_of_its_own_too() -> None:
    (task,) = completable(1)
    task.fail("", TimeoutError("late"))
    with pytest.raises(TimeoutError, match="late"):
        task.get_result()


def test_a_cancelled_task_says_so() -> None:
    task: CancellableTask[int] = CancellableTask()
    called: list[str] = []
    task.set_cancel_handler(lambda: called.append("handler"))
    assert task.cancel()
    assert not task.cancel()
    assert called == ["handler"]
    assert (task.is_cancelled, task.cancelled(), task.is_complete) == (True, True, True)
    with pytest.raises(TaskCancelledError):
        task.get_result()
    with pytest.raises(asyncio.CancelledError):
        task.exception()
    assert TimerTask().cancel()


def test_when_all_waits_for_all_and_raises_the_first_failure() -> None:
    first, second, third = completable(3)
    group = when_all([first, second, third])
    assert isinstance(group, WhenAllTask)
    second.fail("second", failure())
    first.fail("first", failure())
    assert (group.is_complete, group.is_failed, group.pending_tasks) == (False, False, 1)
    third.complete(3)
    assert (group.is_complete, group.pending_tasks, group.get_completed_tasks()) == (True, 0, 3)
    assert group.get_tasks() == [first, second, third]
    with pytest.raises(TaskFailedError, match="second"):
        group.get_result()


def test_when_all_keeps_order_and_counts_a_task_given_twice() -> None:
    first, second = completable(2)
    first.complete("a")
    group = when_all([first, second, first])
    assert group.pending_tasks == 1
    second.complete("b")
    assert group.result == ["a", "b", "a"]
    assert when_all([first, second]).result == ["a", "b"]
    empty: list[Task[int]] = []
    assert when_all(empty).result == []


def test_when_all_raises_for_a_cancelled_child() -> None:
    timer = TimerTask()
    group = when_all([timer])
    timer.cancel()
    with pytest.raises(TaskCancelledError):
        group.get_result()


def test_when_any_gives_the_winner_and_lets_go_of_the_others() -> None:
    first, second = completable(2)
    race = when_any([first, second])
    second.complete(2)
    first.complete(1)
    assert race.result is second
    assert when_any([first, second]).result is first


def test_when_any_of_nothing_and_of_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        when_any([])
    wrong: Any = ["not a task"]
    with pytest.raises(TypeError, match="not a durable task"):
        when_all(wrong)


async def test_callbacks_are_called_by_the_loop_and_can_be_taken_back() -> None:
    (task,) = completable(1)
    called: list[Any] = []
    taken = called.append
    assert task.remove_done_callback(taken) == 0
    task.add_done_callback(taken)
    assert task.remove_done_callback(taken) == 1
    assert task.remove_done_callback(taken) == 0
    task.add_done_callback(called.append)
    task.complete(1)
    assert called == []
    await asyncio.sleep(0)
    assert called == [task]
    task.add_done_callback(called.append)
    await asyncio.sleep(0)
    assert called == [task, task]


async def test_two_coroutines_wait_for_one_task_and_one_is_cancelled() -> None:
    async def flow(ctx: Any) -> list[Any]:
        timer = ctx.create_timer(ctx.current_utc_datetime)

        async def wait() -> str:
            await timer
            return "fired"

        first, second = asyncio.create_task(wait()), asyncio.create_task(wait())
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        kept = timer.is_cancelled
        return [kept, await second]

    play = Play(flow)
    assert play.start().cancelled_timers == ()
    play.turn(play.fired(1))
    assert play.result == [False, "fired"]


async def test_a_wait_cancelled_in_the_moment_of_completion_does_no_harm() -> None:
    async def flow(ctx: Any) -> list[Any]:
        timer = ctx.create_timer(ctx.current_utc_datetime)

        async def wait() -> None:
            await timer

        waiter = asyncio.create_task(wait())

        # Runs before the waiter wakes up, after the timer has fired.
        def interrupt(_: Any) -> None:
            waiter.cancel()

        timer.add_done_callback(interrupt)
        await asyncio.wait([waiter])
        return [waiter.cancelled(), timer.is_cancelled]

    play = Play(flow)
    play.start()
    play.turn(play.fired(1))
    assert play.result == [True, False]


async def test_a_task_may_be_cancelled_together_with_the_wait_for_it() -> None:
    async def flow(ctx: Any) -> list[Any]:
        timer = ctx.create_timer(ctx.current_utc_datetime)

        async def wait() -> None:
            await timer

        waiter = asyncio.create_task(wait())
        await asyncio.sleep(0)
        waiter.cancel()
        timer.cancel()
        await asyncio.wait([waiter])
        return [waiter.cancelled(), timer.is_cancelled]

    play = Play(flow)
    assert play.start().cancelled_timers == (1,)
    assert play.result == [True, True]


async def test_a_task_may_be_cancelled_together_with_the_second_of_two_waits_for_it() -> None:
    async def flow(ctx: Any) -> list[Any]:
        timer = ctx.create_timer(ctx.current_utc_datetime)

        async def wait() -> None:
            await timer

        waiters = [asyncio.create_task(wait()), asyncio.create_task(wait())]
        await asyncio.sleep(0)
        waiters[1].cancel()
        timer.cancel()
        await asyncio.wait(waiters)
        return [type(waiters[0].exception()).__name__, waiters[1].cancelled()]

    play = Play(flow)
    assert play.start().cancelled_timers == (1,)
    assert play.result == ["TaskCancelledError", True]


def test_a_fan_out_of_very_many_tasks_is_linear() -> None:
    tasks = completable(100_000)
    group = when_all(tasks)
    for task in tasks:
        task.complete(1)
    assert sum(group.result) == 100_000


def test_racing_one_task_again_and_again_leaves_nothing_behind() -> None:
    (long,) = completable(1)
    seen: list[Any] = []
    for _ in range(100):
        (short,) = completable(1)
        race = when_any([long, short])
        race.subscribe("test", seen.append)
        short.complete(1)
    long.complete(1)
    assert len(seen) == 100
