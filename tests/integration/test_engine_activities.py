"""The activity side of a worker on an embedded hub: every task ends as a result, a failure, or in the queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import msgspec
import pytest

from durabletask_azure.adapters.local import open_local
from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.history import TaskCompletedEvent, TaskFailedEvent
from durabletask_azure.core.messages import ActivityTask, ToActivities, ToPartition
from durabletask_azure.core.partitioning import stable_id
from durabletask_azure.core.payloads import BlobRef, payload_name
from durabletask_azure.core.registry import Registry
from durabletask_azure.core.replay import RuntimeOptions
from durabletask_azure.engine.activities import DELIVERIES_EXHAUSTED, ActivityLoop
from durabletask_azure.engine.counters import Counters
from durabletask_azure.engine.executor import ActivityExecutor, InlineExecutor, ThreadExecutor
from durabletask_azure.errors import HubUnavailableError
from durabletask_azure.ports import ActivityDelivery, ActivityQueue, HubPorts, PartitionSession
from durabletask_azure.settings import Settings

SETTINGS = Settings(payload_inline_bytes_max=1_000, payload_bytes_max=20_000, activity_prefetch_max=2)


@pytest.fixture
async def ports() -> AsyncIterator[HubPorts]:
    opened = open_local(None, partitions=1, settings=SETTINGS)
    yield opened
    assert opened.close is not None
    await opened.close()


class Bench:
    """A loop under test, and the place its results go to."""

    def __init__(
        self, ports: HubPorts, session: PartitionSession, loop: ActivityLoop, counters: Counters
    ) -> None:
        self.ports = ports
        self.session = session
        self.loop = loop
        self.counters = counters

    async def call(self, name: str, number: int = 1, *, input: str | BlobRef | None = None) -> None:
        """Put a task into the queue."""
        await self.ports.activities.send([task(name, number, input=input)])

    async def endings(self, count: int = 1) -> dict[int, TaskCompletedEvent | TaskFailedEvent]:
        """Return what ``count`` tasks ended with, by task number."""
        found: dict[int, TaskCompletedEvent | TaskFailedEvent] = {}
        while len(found) < count:
            deliveries = await self.session.receive(100, 10)
            assert deliveries, f"only {len(found)} of {count} results came"
            for message in (message for delivery in deliveries for message in delivery.messages):
                assert isinstance(message.body, (TaskCompletedEvent, TaskFailedEvent))
                assert message.execution_id == "e"
                number = f"t{message.body.task_scheduled_id}"
                aside = stable_id(number, "aside")
                ids = {stable_id(one, "done") for one in (number, aside, stable_id(aside, "aside"))}
                assert message.id in ids
                found[message.body.task_scheduled_id] = message.body
            await self.session.complete(deliveries)
        return found

    async def failure(self) -> FailureDetails:
        """Return the failure of the one task there is."""
        (ending,) = (await self.endings()).values()
        assert isinstance(ending, TaskFailedEvent)
        assert isinstance(ending.failure, FailureDetails)
        return ending.failure


def task(name: str, number: int = 1, *, input: str | BlobRef | None = None) -> ToActivities:
    return ToActivities(
        task=ActivityTask(
            id=f"t{number}", instance_id="i", execution_id="e", task_id=number, name=name, input=input
        )
    )


@asynccontextmanager
async def bench(
    ports: HubPorts,
    *activities: Callable[[Any, Any], Any],
    settings: Settings = SETTINGS,
    executor: ActivityExecutor | None = None,
    concurrency_max: int | None = None,
    queue: ActivityQueue | None = None,
) -> AsyncGenerator[Bench]:
    registry = Registry()
    for activity in activities:
        registry.add_activity(activity)
    session = await ports.orchestrations.accept(0)
    assert session is not None
    counters = Counters()
    seen = ports if queue is None else replace(ports, activities=queue)
    loop = ActivityLoop(
        seen,
        registry,
        settings,
        RuntimeOptions(),
        executor or InlineExecutor(),
        counters,
        concurrency_max=concurrency_max,
    )
    loop.start()
    try:
        yield Bench(ports, session, loop, counters)
    finally:
        await loop.stop(0)
        await session.close()


class QueueWithTricks:
    """An activity queue on top of the real one, whose deliveries and calls can be changed."""

    def __init__(self, real: ActivityQueue) -> None:
        self._real = real
        self.deliveries = 1
        self.unreadable = False
        self.finish_errors: list[Exception] = []
        self.finish_calls: list[int] = []
        self.finish_failed = asyncio.Event()
        self.put_aside: list[tuple[str, str]] = []
        self.put_aside_now = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def receive(
        self, count_max: int, wait_s: float, names: Collection[str] | None = None
    ) -> list[ActivityDelivery]:
        found = await self._real.receive(count_max, wait_s, names)
        if self.unreadable:
            return [msgspec.structs.replace(one, task=None, error="garbage") for one in found]
        return [msgspec.structs.replace(one, delivery_count=self._count(one)) for one in found]

    def _count(self, delivery: ActivityDelivery) -> int:
        """Return the count that makes ``deliveries`` with those of the messages before."""
        earlier = 0 if delivery.task is None else delivery.task.deliveries
        return max(1, self.deliveries - earlier)

    async def finish(self, results: list[tuple[ActivityDelivery, ToPartition | None]]) -> None:
        self.finish_calls.append(len(results))
        if self.finish_errors:
            self.finish_failed.set()
            raise self.finish_errors.pop(0)
        await self._real.finish(results)

    async def dead_letter(self, delivery: ActivityDelivery, reason: str, description: str) -> None:
        self.put_aside.append((reason, description))
        self.put_aside_now.set()
        await self._real.dead_letter(delivery, reason, description)


def tricky(ports: HubPorts) -> tuple[QueueWithTricks, ActivityQueue]:
    queue = QueueWithTricks(ports.activities)
    return queue, cast(ActivityQueue, queue)


def echo(_ctx: Any, value: Any) -> Any:
    return value


async def test_b16_sync_and_async_activities_answer_the_task_that_called(ports: HubPorts) -> None:
    async def later(_ctx: Any, value: str) -> str:
        return value + "!"

    async with bench(ports, echo, later, executor=ThreadExecutor(2, switch_interval_s=0.001)) as b:
        await b.call("echo", 1, input='"a"')
        await b.call("later", 2, input='"b"')
        endings = await b.endings(2)

    assert {n: e.result for n, e in endings.items() if isinstance(e, TaskCompletedEvent)} == {
        1: '"a"',
        2: '"b!"',
    }


async def test_a_finished_task_is_gone_from_the_queue(ports: HubPorts) -> None:
    async with bench(ports, echo) as b:
        for number in range(50):
            await b.call("echo", number, input=str(number))
        assert len(await b.endings(50)) == 50
    assert await ports.activities.receive(10, 0) == []
    assert (b.counters.activities_started, b.counters.activities_finished) == (50, 50)


async def test_no_more_run_at_once_than_allowed(ports: HubPorts) -> None:
    running: list[int] = []
    most: list[int] = []
    go_on = asyncio.Event()
    three = asyncio.Event()

    async def hold(_ctx: Any, value: int) -> None:
        running.append(value)
        most.append(len(running))
        if len(running) == 3:
            three.set()
        await go_on.wait()
        running.remove(value)

    async with bench(ports, hold, concurrency_max=3) as b:
        for number in range(10):
            await b.call("hold", number, input=str(number))
        await three.wait()
        assert b.loop.running == 3
        go_on.set()
        await b.endings(10)
    assert max(most) == 3


async def test_an_activity_nobody_registered_fails_its_task(ports: HubPorts) -> None:
    async with bench(ports, echo) as b:
        await b.call("unknown")
        failure = await b.failure()
    assert failure.error_type.endswith("ActivityNotRegisteredError")
    assert "'unknown'" in failure.message
    assert "echo" in failure.message


async def test_b81_a_huge_error_text_is_truncated_and_recorded(ports: HubPorts) -> None:
    def fail(_ctx: Any, _value: Any) -> None:
        raise ValueError("x" * 5_000_000)

    async with bench(ports, fail, settings=Settings()) as b:
        await b.call("fail")
        (ending,) = (await b.endings()).values()
    assert isinstance(ending, TaskFailedEvent)
    if isinstance(ending.failure, BlobRef):
        data = await ports.payloads.get(ending.failure.name, ending.failure.size)
        assert b"truncated: 5,000,000 bytes" in data
    else:
        assert ending.failure is not None
        assert "truncated: 5,000,000 bytes" in ending.failure.message


async def test_b110_a_large_result_is_stored_before_it_is_sent_and_a_large_input_is_read(
    ports: HubPorts,
) -> None:
    text = '"' + "v" * 5_000 + '"'
    name = payload_name(0, "i", "e", text.encode())
    await ports.payloads.put(name, text.encode())

    async with bench(ports, echo) as b:
        await b.call("echo", input=BlobRef(name, len(text)))
        (ending,) = (await b.endings()).values()

    assert isinstance(ending, TaskCompletedEvent)
    assert isinstance(ending.result, BlobRef)
    assert await ports.payloads.get(ending.result.name, ending.result.size) == text.encode()


async def test_b112_a_result_over_the_cap_fails_the_task(ports: HubPorts) -> None:
    async with bench(ports, lambda_named("big", lambda _ctx, _value: "x" * 30_000)) as b:
        await b.call("big")
        failure = await b.failure()
    assert failure.error_type.endswith("PayloadTooLargeError")


async def test_a_missing_input_fails_the_task(ports: HubPorts) -> None:
    async with bench(ports, echo) as b:
        await b.call("echo", input=BlobRef("p000/gone/e/gone", 5_000))
        failure = await b.failure()
    assert failure.error_type.endswith("PayloadMissingError")


async def test_f30_a_task_handed_out_too_often_fails_without_being_run(ports: HubPorts) -> None:
    queue, view = tricky(ports)
    queue.deliveries = SETTINGS.delivery_count_max + 1
    async with bench(ports, echo, queue=view) as b:
        await b.call("echo")
        failure = await b.failure()
    assert failure.error_type == DELIVERIES_EXHAUSTED
    assert b.counters.activities_started == 0


async def test_a_task_that_may_be_poison_runs_alone(ports: HubPorts) -> None:
    queue, view = tricky(ports)
    queue.deliveries = SETTINGS.careful_delivery_count
    running: list[int] = []
    most: list[int] = []

    async def hold(_ctx: Any, value: int) -> None:
        running.append(value)
        most.append(len(running))
        await asyncio.sleep(0)
        running.remove(value)

    async with bench(ports, hold, queue=view) as b:
        for number in range(5):
            await b.call("hold", number, input=str(number))
        await b.endings(5)
    assert most == [1] * 5


async def test_f30_a_task_that_may_end_its_worker_starts_when_results_are_sent(ports: HubPorts) -> None:
    queue, view = tricky(ports)
    sent_before: list[int] = []

    async def calm(_ctx: Any, value: int) -> int:
        return value

    async def suspect(_ctx: Any, _value: Any) -> None:
        sent_before.append(sum(queue.finish_calls))

    async with bench(ports, calm, suspect, queue=view) as b:
        queue.finish_errors = [HubUnavailableError("away")] * 2
        await b.call("calm", 1, input="1")
        await queue.finish_failed.wait()
        queue.deliveries = SETTINGS.careful_delivery_count
        await b.call("suspect", 2)
        assert set(await b.endings(2)) == {1, 2}
    # Two attempts, the third that succeeded, and the suspect's own going back into the queue until then.
    assert sent_before[0] >= 3


async def test_f30_nothing_else_is_taken_while_a_task_runs_that_may_end_its_worker(ports: HubPorts) -> None:
    queue, view = tricky(ports)
    queue.deliveries = SETTINGS.careful_delivery_count
    back: list[ActivityDelivery] = []

    async def suspect(_ctx: Any, _value: Any) -> None:
        if not back:
            back.extend(await ports.activities.receive(10, 0))

    for number in range(3):
        await ports.activities.send([task("suspect", number)])
    async with bench(ports, suspect, queue=view) as b:
        assert set(await b.endings(1)) == {0}
        tasks = [one.task for one in back]
        assert [one.task_id for one in tasks if one is not None] == [1, 2]
        # Each is a new message, handed out for the first time, that knows how often it was handed out before.
        assert [one.delivery_count for one in back] == [1, 1]
        assert {one.deliveries for one in tasks if one is not None} == {SETTINGS.careful_delivery_count - 1}
        assert len({one.id for one in back} | {"t1", "t2"}) == 4
        queue.deliveries = 1
        await ports.activities.abandon(back)
        assert set(await b.endings(2)) == {1, 2}


async def test_f30_deliveries_of_the_messages_before_count_as_well(ports: HubPorts) -> None:
    before = SETTINGS.delivery_count_max
    tired = msgspec.structs.replace(task("echo").task, deliveries=before)
    await ports.activities.send([ToActivities(task=tired)])
    async with bench(ports, echo) as b:
        failure = await b.failure()
    assert failure.error_type == DELIVERIES_EXHAUSTED
    assert f"handed out {before + 1} times" in failure.message


async def test_f28_a_task_that_cannot_be_read_is_put_aside(ports: HubPorts) -> None:
    queue, view = tricky(ports)
    queue.unreadable = True
    async with bench(ports, echo, queue=view) as b:
        await b.call("echo")
        await queue.put_aside_now.wait()
    assert queue.put_aside == [("undecodable", "garbage")]
    assert [letter.id for letter in await ports.activities.dead_letters(10)] == ["t1"]


async def test_f17_results_are_sent_again_until_it_succeeds(ports: HubPorts) -> None:
    queue, view = tricky(ports)
    queue.finish_errors = [HubUnavailableError("away"), HubUnavailableError("away")]
    async with bench(ports, echo, queue=view) as b:
        await b.call("echo", input="1")
        await b.endings()
    assert queue.finish_calls == [1, 1, 1]


async def test_b122_an_unexpected_error_of_the_queue_costs_one_delivery_and_not_the_loop(
    ports: HubPorts,
) -> None:
    queue, view = tricky(ports)
    queue.finish_errors = [ZeroDivisionError("a bug")]
    async with bench(ports, echo, queue=view) as b:
        await b.call("echo", input="1")
        await b.endings()
    assert b.counters.activities_started == 2


async def test_stopping_gives_back_what_waits_and_lets_what_runs_finish(ports: HubPorts) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def hold(_ctx: Any, value: int) -> int:
        started.set()
        await go_on.wait()
        return value

    async with bench(ports, hold, concurrency_max=1) as b:
        await ports.activities.send([task("hold", number, input=str(number)) for number in range(3)])
        await started.wait()
        stopping = asyncio.create_task(b.loop.stop(10))
        given_back = await received(ports, 2)
        go_on.set()
        await stopping
        endings = await b.endings()

    assert [one.id for one in given_back] == ["t1", "t2"]
    assert list(endings) == [0]


async def test_what_does_not_end_in_time_is_given_back_and_its_result_ignored(ports: HubPorts) -> None:
    started = asyncio.Event()

    async def hang(_ctx: Any, _value: Any) -> str:
        started.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            return "too late"
        return ""

    async with bench(ports, hang) as b:
        await b.call("hang")
        await started.wait()
        stopping = asyncio.create_task(b.loop.stop(1_000))
        await asyncio.sleep(0)
        b.loop.hurry()
        await stopping

    (again,) = await received(ports, 1)
    assert (again.id, again.delivery_count) == ("t1", 2)


async def received(ports: HubPorts, count: int) -> list[ActivityDelivery]:
    """Return so many tasks; a receive may end early, without any, when the loop stops."""
    found: list[ActivityDelivery] = []
    while len(found) < count:
        found += await ports.activities.receive(10, 1)
    return found


def lambda_named(name: str, fn: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    fn.__name__ = name
    return fn
