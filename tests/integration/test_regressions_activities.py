"""Bugs of running activities, and of purging, that were found by review, each shown gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from msgspec import structs

from durabletask_azure.adapters.local import open_local
from durabletask_azure.core.definitions import ActivityDefinition
from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.history import RuntimeStatus, TaskCompletedEvent, TaskFailedEvent
from durabletask_azure.core.messages import ActivityTask, ToActivities
from durabletask_azure.core.payloads import BlobRef
from durabletask_azure.core.registry import Registry
from durabletask_azure.core.replay import RuntimeOptions
from durabletask_azure.engine.activities import ActivityLoop
from durabletask_azure.engine.activity_work import ActivityWork
from durabletask_azure.engine.counters import Counters
from durabletask_azure.engine.executor import ActivityExecutor, InlineExecutor, ThreadExecutor
from durabletask_azure.engine.operations import ClientOperations
from durabletask_azure.errors import ConfigurationError
from durabletask_azure.ports import (
    ActivityDelivery,
    ActivityQueue,
    ChangeSignal,
    HubPorts,
    InstanceFilter,
    PayloadStore,
)
from durabletask_azure.settings import Settings
from tests.contract.builders import WAIT_S, instance

# One place: an activity that keeps its own for ever lets no other run.
SETTINGS = Settings(payload_inline_bytes_max=1_000, activity_prefetch_max=0)
EXECUTORS: list[Callable[[], ActivityExecutor]] = [
    InlineExecutor,
    lambda: ThreadExecutor(2, switch_interval_s=0.001),
]
Endings = dict[int, TaskCompletedEvent | TaskFailedEvent]


def echo(_ctx: Any, value: Any) -> Any:
    return value


def large(_ctx: Any, _value: Any) -> str:
    return "x" * 5_000


async def cancel_own_task(_ctx: Any, _value: Any) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


async def cancel_own_task_and_go_on(_ctx: Any, _value: Any) -> None:
    try:
        await cancel_own_task(_ctx, _value)
    except asyncio.CancelledError:
        raise ValueError("cancelled") from None


async def raise_cancelled(_ctx: Any, _value: Any) -> None:
    raise asyncio.CancelledError


async def raise_generator_exit(_ctx: Any, _value: Any) -> None:
    raise GeneratorExit


class Bench:
    """An activity loop with one place, on a hub in memory."""

    def __init__(self, loop: ActivityLoop, endings: Endings) -> None:
        self.loop = loop
        self.endings = endings

    def error_type(self, number: int) -> str:
        """Return the type of the error a task failed with."""
        ending = self.endings[number]
        assert isinstance(ending, TaskFailedEvent)
        assert isinstance(ending.failure, FailureDetails)
        return ending.failure.error_type.rsplit(".", 1)[-1]


async def run(
    *tasks: tuple[str, str | BlobRef | None],
    make: Callable[[], ActivityExecutor] = InlineExecutor,
    change: Callable[[HubPorts], HubPorts] = lambda ports: ports,
    answers: int | None = None,
) -> Bench:
    """Run tasks (name, input), numbered from 0, one after the other, until so many have ended and the loop stopped."""
    ports = open_local(None, partitions=1, settings=SETTINGS)
    registry = Registry()
    for activity in (
        echo,
        large,
        cancel_own_task,
        cancel_own_task_and_go_on,
        raise_cancelled,
        raise_generator_exit,
    ):
        registry.add_activity(activity)
    session = await ports.orchestrations.accept(0)
    assert session is not None
    loop = ActivityLoop(
        change(ports), registry, SETTINGS, RuntimeOptions(), make(), Counters(), concurrency_max=1
    )
    loop.start()
    for number, (name, value) in enumerate(tasks):
        task = ActivityTask(
            id=f"t{number}", instance_id="i", execution_id="e", task_id=number, name=name, input=value
        )
        await ports.activities.send([ToActivities(task=task)])
    endings: Endings = {}
    while len(endings) < (len(tasks) if answers is None else answers):
        deliveries = await session.receive(100, WAIT_S)
        assert deliveries, f"only {sorted(endings)} have ended"
        for message in (message for delivery in deliveries for message in delivery.messages):
            assert isinstance(message.body, (TaskCompletedEvent, TaskFailedEvent))
            endings[message.body.task_scheduled_id] = message.body
        await session.complete(deliveries)
    # Nothing is inside any more, so there is nothing to wait for.
    await asyncio.wait_for(loop.stop(60), WAIT_S)
    assert loop.running == 0
    await session.close()
    assert ports.close is not None
    await ports.close()
    return Bench(loop, endings)


# ---------------------------------------------------------------------- a stop that is cut short


async def test_a_stop_that_is_cancelled_while_it_waits_closes_the_executor_all_the_same() -> None:
    class Closed(InlineExecutor):
        is_closed = False

        async def close(self) -> None:
            self.is_closed = True
            await super().close()

    began = asyncio.Event()

    async def hold(_ctx: Any, _value: Any) -> None:
        began.set()
        await asyncio.Event().wait()

    ports, registry, executor = open_local(None, partitions=1, settings=SETTINGS), Registry(), Closed()
    registry.add_activity(hold)
    loop = ActivityLoop(ports, registry, SETTINGS, RuntimeOptions(), executor, Counters(), concurrency_max=1)
    loop.start()
    held = ActivityTask(id="t", instance_id="i", execution_id="e", task_id=1, name="hold")
    await ports.activities.send([ToActivities(task=held)])
    await asyncio.wait_for(began.wait(), WAIT_S)
    stopping = asyncio.create_task(loop.stop(3600))
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    was_closed = executor.is_closed
    await loop.stop(0)
    assert ports.close is not None
    await ports.close()

    assert was_closed


# ---------------------------------------------------------------------- cancellation by user code


@pytest.mark.parametrize("make", EXECUTORS)
@pytest.mark.parametrize(
    ("activity", "error_type"),
    [
        ("cancel_own_task", "CancelledError"),
        ("cancel_own_task_and_go_on", "ValueError"),
        ("raise_cancelled", "CancelledError"),
        ("raise_generator_exit", "GeneratorExit"),
    ],
)
async def test_b122_an_activity_that_ends_its_own_task_fails_and_frees_its_place(
    make: Callable[[], ActivityExecutor], activity: str, error_type: str
) -> None:
    bench = await run((activity, None), ("echo", "1"), make=make)

    assert bench.error_type(0) == error_type
    assert isinstance(bench.endings[1], TaskCompletedEvent)


@pytest.mark.parametrize("make", EXECUTORS)
async def test_an_activity_cancelled_before_its_first_step_fails(
    make: Callable[[], ActivityExecutor],
) -> None:
    before = asyncio.all_tasks()
    finished: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
    executor = make()
    executor.open(lambda works: finished.set_result(list(works)))
    task = ActivityTask(id="t", instance_id="i", execution_id="e", task_id=1, name="a")
    definition = ActivityDefinition(name="a", fn=raise_cancelled, is_async=True)
    executor.submit(ActivityWork(1, definition, task, None, 1, RuntimeOptions()))
    (begun,) = asyncio.all_tasks() - before
    begun.cancel()

    (work,) = await asyncio.wait_for(finished, WAIT_S)
    await executor.close()

    assert work.failure is not None
    assert work.failure.is_caused_by(asyncio.CancelledError)


# ---------------------------------------------------------------------- errors nobody expects


async def test_an_input_of_a_bad_name_fails_its_task_and_frees_its_place() -> None:
    bench = await run(("echo", BlobRef("no such name", 5_000)), ("echo", "1"))

    assert bench.error_type(0) == "ConfigurationError"
    assert isinstance(bench.endings[1], TaskCompletedEvent)


async def test_a_result_that_the_store_refuses_fails_its_task_and_frees_its_place() -> None:
    class Refusing:
        async def put(self, name: str, data: bytes) -> None:
            raise ConfigurationError(f"{name} is refused: " + "x" * 5_000)

    def change(ports: HubPorts) -> HubPorts:
        return replace(ports, payloads=cast(PayloadStore, Refusing()))

    bench = await run(("large", None), ("echo", "1"), change=change)

    assert bench.error_type(0) == "ConfigurationError"
    assert isinstance(bench.endings[1], TaskCompletedEvent)


async def test_a_task_that_can_be_neither_read_nor_put_aside_nor_given_back_frees_its_place() -> None:
    class Refusing:
        def __init__(self, real: ActivityQueue) -> None:
            self._real = real

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

        async def receive(
            self, count_max: int, wait_s: float, names: Collection[str] | None = None
        ) -> list[ActivityDelivery]:
            found = await self._real.receive(count_max, wait_s, names)
            return [
                structs.replace(one, task=None, error="garbage") if one.id == "t0" else one for one in found
            ]

        async def dead_letter(self, delivery: ActivityDelivery, reason: str, description: str) -> None:
            raise ConfigurationError("refused")

        async def abandon(self, deliveries: list[ActivityDelivery]) -> None:
            raise ConfigurationError("refused")

    def change(ports: HubPorts) -> HubPorts:
        return replace(ports, activities=cast(ActivityQueue, Refusing(ports.activities)))

    bench = await run(("echo", "0"), ("echo", "1"), change=change, answers=1)

    assert isinstance(bench.endings[1], TaskCompletedEvent)


# ---------------------------------------------------------------------- purging


class LeapingTime:
    """A clock, and a change signal nothing ever comes of: waiting for it moves the clock."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.now_s, UTC)

    def monotonic(self) -> float:
        return self.now_s

    async def sleep(self, delay_s: float) -> None:
        self.now_s += delay_s

    is_prompt = False

    def watch(self, partition: int, instance_id: str, *, ended: bool = False) -> LeapingTime:
        return self

    async def wait(self, timeout_s: float) -> None:
        self.now_s += timeout_s

    def close(self) -> None:
        """Nothing is held."""


async def test_purging_many_without_a_worker_gives_up_after_the_first_page() -> None:
    real = open_local(None, partitions=1)
    time = LeapingTime()
    ports = replace(real, clock=time, changes=cast(ChangeSignal, time))
    for number in range(450):
        row = instance(f"i{number:03}", status=RuntimeStatus.COMPLETED)
        await real.store.insert_instance(0, row)
    ids = iter(range(1_000))
    operations = ClientOperations(ports, Settings(bulk_portion_max=200), lambda: str(next(ids)))

    purge = operations.purging.by_filter(InstanceFilter(), tags=None, recursive=False, timeout_s=None)
    assert await purge.step() is False
    assert (purge.gone, purge.left, purge.is_complete) == (0, 200, False)

    assert next(ids) == 200
    assert time.now_s < 60
    assert real.close is not None
    await real.close()
