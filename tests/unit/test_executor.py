"""Where activities run: threads, loops, one loop for all; nothing user code does gets out."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from durabletask_azure.core.definitions import ActivityDefinition
from durabletask_azure.core.messages import ActivityTask
from durabletask_azure.core.replay import RuntimeOptions
from durabletask_azure.engine.activity_work import ActivityWork
from durabletask_azure.engine.executor import ActivityExecutor, InlineExecutor, ThreadExecutor, Work

EXECUTORS: list[Callable[[], ActivityExecutor]] = [
    InlineExecutor,
    lambda: ThreadExecutor(4, switch_interval_s=0.001),
]
COLOUR = contextvars.ContextVar("COLOUR", default="none")


def work(
    fn: Callable[[Any, Any], Any],
    *,
    key: int = 1,
    is_async: bool = False,
    text: str | None = None,
    options: RuntimeOptions | None = None,
) -> ActivityWork:
    task = ActivityTask(id="t", instance_id="i", execution_id="e", task_id=7, name="a")
    definition = ActivityDefinition(name="a", fn=fn, is_async=is_async)
    return ActivityWork(key, definition, task, text, 2, options or RuntimeOptions())


class Collected:
    """Finished work, and a way to wait for it."""

    def __init__(self) -> None:
        self.batches: list[list[ActivityWork]] = []
        self._arrived = asyncio.Event()

    def done(self, works: Sequence[Work]) -> None:
        self.batches.append([one for one in works if isinstance(one, ActivityWork)])
        self._arrived.set()

    async def first(self, count: int) -> list[ActivityWork]:
        """Return the works, once there are ``count``."""
        while sum(map(len, self.batches)) < count:
            self._arrived.clear()
            await self._arrived.wait()
        return [one for batch in self.batches for one in batch]


async def outcomes(executor: ActivityExecutor, *works: ActivityWork) -> list[ActivityWork]:
    collected = Collected()
    executor.open(collected.done)
    for one in works:
        executor.submit(one)
    finished = await collected.first(len(works))
    await executor.close()
    return finished


@pytest.mark.parametrize("make", EXECUTORS)
async def test_sync_and_async_activities_return_their_results(make: Callable[[], ActivityExecutor]) -> None:
    async def double(_ctx: Any, value: int) -> int:
        await asyncio.sleep(0)
        return 2 * value

    finished = await outcomes(
        make(),
        work(lambda ctx, value: [value, ctx.orchestration_id, ctx.task_id, ctx.delivery_count], text="5"),
        work(double, key=2, is_async=True, text="21"),
        work(lambda _ctx, value: double(_ctx, value), key=3, text="4"),  # sync by looks, async in fact
    )

    assert {one.key: one.result for one in finished} == {1: '[5,"i",7,2]', 2: "42", 3: "8"}
    assert [one.failure for one in finished] == [None, None, None]


@pytest.mark.parametrize("make", EXECUTORS)
@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt(), StopIteration(1)])
async def test_whatever_user_code_raises_is_the_failure_of_its_task(
    make: Callable[[], ActivityExecutor], error: BaseException
) -> None:
    def fail(_ctx: Any, _value: Any) -> None:
        raise error

    async def fail_async(_ctx: Any, _value: Any) -> None:
        raise error

    finished = await outcomes(make(), work(fail), work(fail_async, key=2, is_async=True))

    kinds = {one.key: one.failure.error_type for one in finished if one.failure is not None}
    # a coroutine cannot raise StopIteration: Python makes a RuntimeError of it
    assert kinds == {
        1: type(error).__name__,
        2: "RuntimeError" if isinstance(error, StopIteration) else type(error).__name__,
    }


@pytest.mark.parametrize("make", EXECUTORS)
async def test_an_async_activity_that_cancels_itself_fails(make: Callable[[], ActivityExecutor]) -> None:
    async def give_up(_ctx: Any, _value: Any) -> None:
        raise asyncio.CancelledError

    (finished,) = await outcomes(make(), work(give_up, is_async=True))

    assert finished.failure is not None
    assert finished.failure.is_caused_by(asyncio.CancelledError)


@pytest.mark.parametrize("make", EXECUTORS)
async def test_what_an_activity_sets_in_its_context_does_not_reach_the_next(
    make: Callable[[], ActivityExecutor],
) -> None:
    def paint(_ctx: Any, _value: Any) -> str:
        before = COLOUR.get()
        COLOUR.set("red")
        return before

    finished = await outcomes(make(), *(work(paint, key=number) for number in range(20)))

    assert {one.result for one in finished} == {'"none"'}


async def test_b80_a_result_that_cannot_be_serialised_fails_the_task() -> None:
    (finished,) = await outcomes(InlineExecutor(), work(lambda _ctx, _value: object()))
    assert finished.failure is not None
    assert finished.failure.error_type.endswith("SerializationError")


async def test_b78_custom_properties_are_kept_and_cannot_hide_the_failure() -> None:
    def fail(_ctx: Any, _value: Any) -> None:
        raise ValueError("no")

    good = RuntimeOptions(exception_properties=lambda error: {"code": 7})
    odd = RuntimeOptions(exception_properties=lambda error: {"code": object()})
    finished = await outcomes(InlineExecutor(), work(fail, options=good), work(fail, key=2, options=odd))

    assert [one.failure and one.failure.properties for one in finished] == [{"code": 7}, None]


async def test_completions_of_threads_come_in_batches_and_all_of_them_come() -> None:
    gate = threading.Event()
    executor = ThreadExecutor(4, switch_interval_s=0.001)
    collected = Collected()
    executor.open(collected.done)
    for number in range(500):
        executor.submit(work(lambda _ctx, _value: gate.wait(10), key=number))
    gate.set()

    finished = await collected.first(500)
    await executor.close()

    assert sorted(one.key for one in finished) == list(range(500))
    assert len(collected.batches) < 500


async def test_threads_are_started_on_demand_and_never_more_than_allowed() -> None:
    names: set[str] = set()

    def note(_ctx: Any, _value: Any) -> None:
        names.add(threading.current_thread().name)

    await outcomes(
        ThreadExecutor(3, switch_interval_s=0.001), *(work(note, key=number) for number in range(100))
    )

    assert 1 <= len(names) <= 3


async def test_units_that_hold_their_threads_get_more_of_them_up_to_the_maximum() -> None:
    together, alone = threading.Barrier(8, timeout=30), threading.Event()
    executor = ThreadExecutor(8, switch_interval_s=0.001)
    collected = Collected()
    executor.open(collected.done)
    others = set(threading.enumerate())
    for number in range(8):
        executor.submit(work(lambda _ctx, _value: together.wait() * 0, key=number))
    executor.submit(work(lambda _ctx, _value: alone.set(), key=8))

    finished = await collected.first(9)
    own = set(threading.enumerate()) - others
    await executor.close()

    assert [one.failure for one in finished] == [None] * 9
    assert (len(own), alone.is_set()) == (8, True)


async def test_small_units_leave_it_at_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("durabletask_azure.engine.executor._GROW_S", 3600.0)  # they are done within it
    names: set[str] = set()

    def note(_ctx: Any, _value: Any) -> None:
        names.add(threading.current_thread().name)

    await outcomes(
        ThreadExecutor(8, switch_interval_s=0.001), *(work(note, key=number) for number in range(100))
    )

    assert names == {"durabletask-activity-1"}


async def test_async_activities_run_on_the_loop_they_were_promised() -> None:
    theirs = asyncio.new_event_loop()
    thread = threading.Thread(target=theirs.run_forever, daemon=True)
    thread.start()
    seen: list[asyncio.AbstractEventLoop] = []

    async def where(_ctx: Any, value: int) -> int:
        seen.append(asyncio.get_running_loop())
        return value

    executor = ThreadExecutor(2, switch_interval_s=0.001, async_loop=theirs)
    works = [work(where, key=number, is_async=True, text=str(number)) for number in range(50)]
    finished = await outcomes(executor, *works, work(lambda ctx, value: where(ctx, 50), key=50))

    assert sorted(int(one.result or "") for one in finished) == list(range(51))
    assert set(map(id, seen)) == {id(theirs)}
    theirs.call_soon_threadsafe(theirs.stop)
    thread.join(10)
    theirs.close()


@pytest.mark.parametrize("make", EXECUTORS)
async def test_closing_cancels_async_activities_and_hands_nothing_back(
    make: Callable[[], ActivityExecutor],
) -> None:
    started = asyncio.Event()
    cancelled: list[bool] = []

    async def wait(_ctx: Any, _value: Any) -> None:
        started.set()
        forever: Awaitable[None] = asyncio.get_running_loop().create_future()
        try:
            await forever
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    collected = Collected()
    executor = make()
    executor.open(collected.done)
    executor.submit(work(wait, is_async=True))
    await started.wait()
    await executor.close()
    await asyncio.sleep(0)

    assert cancelled == [True]
    assert collected.batches == []


async def test_what_no_thread_has_begun_is_not_begun_after_closing() -> None:
    started, gate, ended = threading.Event(), threading.Event(), threading.Event()
    ran: list[int] = []

    def block(_ctx: Any, value: int) -> None:
        ran.append(value)
        started.set()
        gate.wait(10)
        ended.set()

    others = threading.enumerate()
    executor = ThreadExecutor(1, switch_interval_s=0.001)
    collected = Collected()
    executor.open(collected.done)
    for number in range(5):
        executor.submit(work(block, key=number, text=str(number)))
    await asyncio.to_thread(started.wait, 10)
    await executor.close()
    own = [one for one in threading.enumerate() if one not in others]
    thread = next(one for one in own if one.name == "durabletask-activity-1")
    gate.set()
    await asyncio.to_thread(thread.join, 10)

    assert not thread.is_alive()
    assert (ran, ended.is_set(), collected.batches) == ([0], True, [])
