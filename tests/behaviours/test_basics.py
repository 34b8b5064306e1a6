"""B1 to B17: what every orchestration can count on."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Generator
from typing import Any

import pytest

from durabletask_azure import (
    ActivityContext,
    OrchestrationContext,
    OrchestrationStatus,
    TaskActivity,
    TaskHubWorker,
    TaskOrchestration,
    when_all,
)
from tests.behaviours.stage import WAIT_S, Stage


def plus_one(ctx: ActivityContext, number: int) -> int:
    return number + 1


def square(ctx: ActivityContext, number: int) -> int:
    return number * number


def test_b1_empty_orchestration_returns_null(stage: Stage) -> None:
    async def empty(ctx: OrchestrationContext, _: Any) -> None:
        return None

    stage.worker(empty)
    state = stage.run(empty)
    assert state.runtime_status is OrchestrationStatus.COMPLETED
    assert state.serialized_output is None
    assert state.failure_details is None
    assert stage.events(state.instance_id) == ["ExecutionStarted", "ExecutionCompleted"]


def test_b2_single_activity_is_called_once_with_its_input(stage: Stage) -> None:
    log: list[tuple[str, str, int]] = []

    def greet(ctx: ActivityContext, city: str) -> str:
        log.append((city, ctx.orchestration_id, ctx.task_id))
        return f"Hello {city}!"

    async def hello(ctx: OrchestrationContext, city: str) -> str:
        return await ctx.call_activity(greet, input=city)

    stage.worker(hello, activities=[greet])
    assert stage.result(hello, "Tokyo", instance_id="one") == "Hello Tokyo!"
    assert log == [("Tokyo", "one", 1)]
    assert stage.events("one") == ["ExecutionStarted", "TaskScheduled", "TaskCompleted", "ExecutionCompleted"]


def test_b3_chain_of_ten_activities(stage: Stage) -> None:
    async def chain(ctx: OrchestrationContext, start: int) -> int:
        for _ in range(10):
            start = await ctx.call_activity(plus_one, input=start)
        return start

    stage.worker(chain, activities=[plus_one])
    assert stage.result(chain, 0, instance_id="chain") == 10
    assert stage.events("chain").count("TaskCompleted") == 10


def test_b4_factorial_by_a_chain_of_multiplications(stage: Stage) -> None:
    def multiply(ctx: ActivityContext, pair: list[int]) -> int:
        return pair[0] * pair[1]

    async def factorial(ctx: OrchestrationContext, number: int) -> int:
        product = 1
        for factor in range(1, number + 1):
            product = await ctx.call_activity(multiply, input=[product, factor])
        return product

    stage.worker(factorial, activities=[multiply])
    assert stage.result(factorial, 20) == 2_432_902_008_176_640_000


def test_b5_parallel_sum(stage: Stage) -> None:
    async def total(ctx: OrchestrationContext, count: int) -> int:
        return sum(await when_all([ctx.call_activity(square, input=i) for i in range(count)]))

    stage.worker(total, activities=[square])
    assert stage.result(total, 5, instance_id="sum") == 30
    # All five are scheduled by one turn.
    assert stage.events("sum")[:6] == ["ExecutionStarted", *["TaskScheduled"] * 5]


@pytest.mark.parametrize(
    ("hub_kind", "count"),
    [
        *((hub, count) for hub in ("memory", "disk") for count in (1_000, 10_000)),
        pytest.param("azure", 1_000, marks=pytest.mark.azure),
    ],
    indirect=["hub_kind"],
)
def test_b6_fan_out_executes_each_activity_once(stage: Stage, count: int) -> None:
    executed: Counter[int] = Counter()
    lock = threading.Lock()

    def touch(ctx: ActivityContext, number: int) -> int:
        with lock:
            executed[number] += 1
        return number

    async def fan_out(ctx: OrchestrationContext, count: int) -> int:
        results = await when_all([ctx.call_activity(touch, input=i) for i in range(count)])
        return sum(results)

    stage.worker(fan_out, activities=[touch])
    assert stage.result(fan_out, count) == count * (count - 1) // 2
    assert executed == Counter(range(count))


def test_b7_double_fan_out(stage: Stage) -> None:
    async def twice(ctx: OrchestrationContext, count: int) -> list[int]:
        first = await when_all([ctx.call_activity(plus_one, input=i) for i in range(count)])
        return await when_all([ctx.call_activity(square, input=i) for i in first])

    stage.worker(twice, activities=[plus_one, square])
    assert stage.result(twice, 6) == [1, 4, 9, 16, 25, 36]


def test_b8_two_hundred_activities_sum_to_19900(stage: Stage) -> None:
    async def identity(ctx: ActivityContext, number: int) -> int:
        return number

    async def total(ctx: OrchestrationContext, count: int) -> int:
        return sum(await when_all([ctx.call_activity(identity, input=i) for i in range(count)]))

    stage.worker(total, activities=[identity])
    assert stage.result(total, 200) == 19_900


def test_b9_one_hundred_instances_overlap(stage: Stage) -> None:
    together = asyncio.Event()
    arrived: list[int] = []

    async def meet(ctx: ActivityContext, number: int) -> int:
        # Nobody leaves before the hundredth is here: instances that ran one after the other would never end.
        arrived.append(number)
        if len(arrived) == 100:
            together.set()
        await asyncio.wait_for(together.wait(), WAIT_S)
        return number

    async def guest(ctx: OrchestrationContext, number: int) -> int:
        return await ctx.call_activity(meet, input=number)

    stage.worker(guest, activities=[meet])
    ids = [stage.client.schedule_new_orchestration(guest, input=i) for i in range(100)]
    assert [stage.completed(instance_id) for instance_id in ids] == list(range(100))
    assert sorted(arrived) == list(range(100))


def test_b10_a_long_activity_keeps_its_lock(open_stage: Callable[..., Stage], lock_s_min: float) -> None:
    stage = open_stage(lock_s=lock_s_min)
    calls: list[int] = []
    finish = threading.Event()

    def slow(ctx: ActivityContext, number: int) -> int:
        calls.append(number)
        assert finish.wait(WAIT_S)
        return number

    async def wait_for_slow(ctx: OrchestrationContext, number: int) -> int:
        return await ctx.call_activity(slow, input=number)

    async def pause(ctx: OrchestrationContext, seconds: float) -> None:
        await asyncio.sleep(seconds)

    stage.worker(wait_for_slow, pause, activities=[slow])
    instance_id = stage.client.schedule_new_orchestration(wait_for_slow, input=7)
    stage.result(pause, 2 * lock_s_min)
    finish.set()
    assert stage.completed(instance_id) == 7
    assert calls == [7]


def test_b10_a_long_turn_keeps_its_lock(open_stage: Callable[..., Stage], lock_s_min: float) -> None:
    stage = open_stage(lock_s=lock_s_min)
    never = threading.Event()
    turns: list[bool] = []

    async def stubborn(ctx: OrchestrationContext, number: int) -> int:
        turns.append(ctx.is_replaying)
        never.wait(1.5 * lock_s_min)  # without awaiting anything
        return await ctx.call_activity(plus_one, input=number)

    stage.worker(stubborn, activities=[plus_one])
    assert stage.result(stubborn, 1, instance_id="stubborn") == 2
    assert turns == [False]
    assert stage.events("stubborn").count("TaskScheduled") == 1


def test_b11_b12_b13_replay_sees_what_was_seen_before(stage: Stage) -> None:
    seen: list[tuple[bool, str, str, str]] = []
    replaying: list[bool] = []

    async def watch(ctx: OrchestrationContext, _: Any) -> list[str]:
        first = (ctx.current_utc_datetime.isoformat(), ctx.new_uuid(), ctx.new_uuid())
        seen.append((ctx.is_replaying, *first))
        await ctx.wait_for_external_event("go")
        replaying.append(ctx.is_replaying)
        await ctx.wait_for_external_event("on")
        replaying.append(ctx.is_replaying)
        return [*first, ctx.current_utc_datetime.isoformat(), ctx.new_uuid()]

    stage.worker(watch)
    instance_id = stage.client.schedule_new_orchestration(watch)
    stage.client.wait_for_orchestration_start(instance_id)
    stage.restart()
    stage.client.raise_orchestration_event(instance_id, "go")
    stage.until(instance_id, lambda row: row is not None and row.events >= 4)
    stage.restart()
    stage.client.raise_orchestration_event(instance_id, "on")
    now, one, two, later, three = stage.completed(instance_id)
    assert [entry[0] for entry in seen] == [False, True, True]
    assert {entry[1:] for entry in seen} == {(now, one, two)}
    assert replaying == [False, True, False]
    assert len({one, two, three}) == 3
    assert later > now


def test_b13_uuids_differ_between_instances(stage: Stage) -> None:
    async def draw(ctx: OrchestrationContext, _: Any) -> list[str]:
        return [ctx.new_uuid() for _ in range(50)]

    stage.worker(draw)
    drawn = [uuid for _ in range(4) for uuid in stage.result(draw)]
    assert len(set(drawn)) == 200


class Tripler(TaskActivity[int, int]):
    def run(self, ctx: ActivityContext, number: int) -> int:
        return number * 3


class Adder(TaskActivity[int, int]):
    def __init__(self, amount: int) -> None:
        self.amount = amount

    async def run(self, ctx: ActivityContext, number: int) -> int:
        return number + self.amount


class Texts:
    """Every public method becomes an activity."""

    def shout(self, text: str) -> str:
        return text.upper()

    def join(self, left: str, right: str) -> str:
        return left + right

    def _hidden(self) -> None: ...


class ByClass(TaskOrchestration[int, int]):
    async def run(self, ctx: OrchestrationContext, number: int) -> int:
        return await ctx.call_activity(Tripler, input=number)


class ByInstance(TaskOrchestration[int, int]):
    def __init__(self, times: int) -> None:
        self.times = times

    def run(self, ctx: OrchestrationContext, number: int) -> Generator[Any, Any, int]:
        for _ in range(self.times):
            number = yield ctx.call_activity("add ten", input=number)
        return number


def test_b14_every_way_to_register(stage: Stage) -> None:
    worker = TaskHubWorker(stage.hub)

    @worker.orchestrator
    async def by_decorator(ctx: OrchestrationContext, text: str) -> str:
        return await ctx.call_activity("join", input=[await ctx.call_activity("shout", input=text), "?"])

    @worker.activity(name="named")
    def anything(ctx: ActivityContext, _: Any) -> str:
        return "by name"

    async def by_name(ctx: OrchestrationContext) -> str:
        return await ctx.call_activity("named")

    assert worker.add_orchestrator(by_name, name="another name") == "another name"
    assert worker.add_orchestrator(ByClass) == "ByClass"
    assert worker.add_orchestrator(ByInstance(2)) == "ByInstance"
    assert worker.add_orchestrator(factory=lambda: ByInstance(3), name="factory") == "factory"
    assert worker.add_activity(Tripler) == "Tripler"
    assert worker.add_activity(Adder(10), name="add ten") == "add ten"
    assert worker.add_activities_from(Texts()) == ["join", "shout"]
    with worker:
        worker.start()
        with pytest.raises(RuntimeError, match="cannot be added while the worker is running"):
            worker.add_activity(plus_one)
        assert stage.result(by_decorator, "hi") == "HI?"
        assert stage.result("another name") == "by name"
        assert stage.result(ByClass, 5) == 15
        assert stage.result("ByInstance", 1) == 21
        assert stage.result("factory", 1) == 31
    assert not worker.is_running


def test_b15_an_unregistered_orchestration_waits_and_then_completes(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage(unregistered_retry_s=0.2)

    async def known(ctx: OrchestrationContext, _: Any) -> str:
        return "known"

    async def unknown(ctx: OrchestrationContext, _: Any) -> str:
        return await ctx.wait_for_external_event("word")

    worker = stage.worker(known)
    instance_id = stage.client.schedule_new_orchestration(unknown, instance_id="waits")
    stage.until(instance_id, lambda row: row is not None and row.reason is not None)
    state = stage.state(instance_id)
    assert state.runtime_status is OrchestrationStatus.PENDING
    assert state.pending_reason is not None
    assert "no orchestrator 'unknown'" in state.pending_reason
    stage.client.raise_orchestration_event(instance_id, "word", data="kept")
    assert stage.result(known) == "known"
    worker.stop()
    assert stage.state(instance_id).runtime_status is OrchestrationStatus.PENDING
    worker.add_orchestrator(unknown)
    worker.start()
    assert stage.completed(instance_id) == "kept"
    assert stage.state(instance_id).pending_reason is None


def test_b16_sync_and_async_activities(stage: Stage) -> None:
    async def in_a_loop(ctx: ActivityContext, _: Any) -> str:
        await asyncio.sleep(0)
        return threading.current_thread().name

    def in_a_thread(ctx: ActivityContext, _: Any) -> str:
        return threading.current_thread().name

    async def both(ctx: OrchestrationContext, _: Any) -> list[str]:
        return [await ctx.call_activity(in_a_loop), await ctx.call_activity(in_a_thread)]

    stage.worker(both, activities=[in_a_loop, in_a_thread])
    engine = stage.hub.run(_thread_name)
    loop, thread = stage.result(both)
    assert len({loop, thread, engine}) == 3


async def test_b16_async_activities_run_on_the_loop_of_async_with(stage: Stage) -> None:
    here = threading.current_thread().name

    async def where(ctx: ActivityContext, _: Any) -> str:
        await asyncio.sleep(0)
        return threading.current_thread().name

    async def ask(ctx: OrchestrationContext, _: Any) -> str:
        return await ctx.call_activity(where)

    async with TaskHubWorker(stage.hub) as worker:
        worker.add_orchestrator(ask)
        worker.add_activity(where)
        worker.start()
        assert await asyncio.to_thread(stage.result, ask) == here


async def _thread_name() -> str:
    return threading.current_thread().name


def test_b17_the_same_orchestrator_as_async_def_and_as_generator(stage: Stage) -> None:
    async def flow_async(ctx: OrchestrationContext, number: int) -> list[int]:
        one = await ctx.call_activity(plus_one, input=number)
        await ctx.create_timer(ctx.current_utc_datetime)
        return await when_all([ctx.call_activity(square, input=one), ctx.call_activity(plus_one, input=one)])

    def flow_generator(ctx: OrchestrationContext, number: int) -> Generator[Any, Any, list[int]]:
        one = yield ctx.call_activity(plus_one, input=number)
        yield ctx.create_timer(ctx.current_utc_datetime)
        both = yield when_all([ctx.call_activity(square, input=one), ctx.call_activity(plus_one, input=one)])
        return both

    stage.worker(flow_async, flow_generator, activities=[plus_one, square])
    assert stage.result(flow_async, 3, instance_id="async") == [16, 5]
    assert stage.result(flow_generator, 3, instance_id="generator") == [16, 5]
    assert sorted(stage.events("async")) == sorted(stage.events("generator"))
