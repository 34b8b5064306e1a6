"""What else a worker does: sharing partitions, dead letters, orphans, repair, starting, stopping."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import msgspec
import pytest

from durabletask_azure.adapters.local import open_local
from durabletask_azure.core.history import (
    EventRaisedEvent,
    ExecutionStartedEvent,
    OrchestratorStartedEvent,
    RuntimeStatus,
    TaskFailedEvent,
    TaskScheduledEvent,
    TimerCreatedEvent,
    TimerFiredEvent,
    encode_event,
)
from durabletask_azure.core.messages import ActivityTask, FailInstance, Message, StartInstance, ToPartition
from durabletask_azure.core.partitioning import stable_id
from durabletask_azure.core.payloads import ANY_EXECUTION, payload_name
from durabletask_azure.core.registry import Registry
from durabletask_azure.core.replay import RuntimeOptions
from durabletask_azure.core.rows import InstanceRow, LockRow
from durabletask_azure.engine.activities import DELIVERIES_EXHAUSTED
from durabletask_azure.engine.balance import Balancer
from durabletask_azure.engine.counters import Counters
from durabletask_azure.engine.dead_letters import POISON_MESSAGE, DeadLetterReader
from durabletask_azure.engine.executor import InlineExecutor
from durabletask_azure.engine.orphans import collect_orphans
from durabletask_azure.engine.repair import repair
from durabletask_azure.engine.worker import Engine
from durabletask_azure.ports import (
    Clock,
    DeadLetter,
    HubPorts,
    OrchestrationQueue,
    PartitionSession,
    StoredLock,
)
from durabletask_azure.settings import Settings
from tests.contract.builders import NOON, instance

QUICK = Settings(balance_s=0.02, heartbeat_s=0.1, lock_s=1.0)


@pytest.fixture
async def ports() -> AsyncIterator[HubPorts]:
    opened = open_local(None, partitions=4, settings=QUICK)
    yield opened
    assert opened.close is not None
    await opened.close()


@pytest.fixture
async def one_partition() -> AsyncIterator[HubPorts]:
    opened = open_local(None, partitions=1, settings=QUICK)
    yield opened
    assert opened.close is not None
    await opened.close()


# ---------------------------------------------------------------- sharing partitions


class Holder:
    """An owner that only holds its session."""

    def __init__(self, session: PartitionSession) -> None:
        self._session = session
        self._over = asyncio.Event()
        self._ended = asyncio.Event()
        self.was_abandoned = False

    async def run(self) -> None:
        await self._over.wait()
        await self._session.close()
        self._ended.set()

    async def release(self) -> None:
        self._over.set()
        await self._ended.wait()

    def abandon(self) -> None:
        self.was_abandoned = True
        self._over.set()


def balancer(ports: HubPorts, name: str, settings: Settings = QUICK) -> tuple[Balancer, list[Holder]]:
    holders: list[Holder] = []

    def hold(session: PartitionSession) -> Holder:
        holders.append(Holder(session))
        return holders[-1]

    return Balancer(ports, settings, worker_id=name, open_owner=hold), holders


async def until(ports: HubPorts, fact: Callable[[], bool]) -> None:
    """Wait for a fact about balancers."""
    async with asyncio.timeout(20):
        while not fact():
            await ports.membership.wait_changed(0.02)


async def test_b124_partitions_move_when_a_worker_joins_and_when_it_leaves(ports: HubPorts) -> None:
    a, _ = balancer(ports, "a")
    b, _ = balancer(ports, "b")
    a.start()
    await until(ports, lambda: a.held == (0, 1, 2, 3))

    b.start()
    await until(ports, lambda: len(a.held) == len(b.held) == 2)

    await a.stop(5)
    assert a.held == ()
    await until(ports, lambda: b.held == (0, 1, 2, 3))
    await b.stop(5)
    assert await ports.membership.workers() == []


async def test_an_owner_that_ends_is_replaced(ports: HubPorts) -> None:
    a, holders = balancer(ports, "a")
    a.start()
    await until(ports, lambda: len(a.held) == 4)
    await holders[0].release()
    await until(ports, lambda: len(holders) == 5 and len(a.held) == 4)
    await a.stop(5)


class LeapingClock:
    """A real clock that can be set forward."""

    def __init__(self, real: Clock) -> None:
        self._real = real
        self.leap_s = 0.0

    def now(self) -> Any:
        return self._real.now() + timedelta(seconds=self.leap_s)

    def monotonic(self) -> float:
        return self._real.monotonic()

    async def sleep(self, delay_s: float) -> None:
        await self._real.sleep(delay_s)


async def test_a_process_that_stood_still_abandons_its_partitions(ports: HubPorts) -> None:
    clock = LeapingClock(ports.clock)
    a, holders = balancer(replace(ports, clock=clock), "a")
    a.start()
    await until(ports, lambda: len(a.held) == 4)
    clock.leap_s = QUICK.stall_drop_s + 1
    await until(ports, lambda: len(holders) == 8)
    assert [holder.was_abandoned for holder in holders] == [True] * 4 + [False] * 4
    await a.stop(5)


# ---------------------------------------------------------------- dead letters


class Graveyard:
    """An orchestration or activity queue with given dead letters; what is sent is remembered."""

    def __init__(self, letters: list[DeadLetter]) -> None:
        self._letters = letters
        self.sent: list[Any] = []
        self.settled: list[str] = []
        self.kept: list[str] = []

    async def dead_letters(self, count_max: int) -> list[DeadLetter]:
        taken, self._letters = self._letters[:count_max], self._letters[count_max:]
        return taken

    async def settle_dead_letter(self, letter: DeadLetter) -> None:
        self.settled.append(letter.id)

    async def send(self, messages: list[Any]) -> None:
        self.sent += messages


class Archive:
    """An archive that remembers what it was to keep."""

    def __init__(self) -> None:
        self.kept: list[str] = []

    async def keep(self, letter: DeadLetter) -> None:
        self.kept.append(letter.id)


class LockRows:
    """A store that knows lock rows only."""

    def __init__(self, attempts: tuple[tuple[str, int], ...]) -> None:
        self._attempts = attempts

    async def read_lock(self, partition: int) -> StoredLock:
        return StoredLock(LockRow(attempts=self._attempts), "etag")


def letter(
    letter_id: str,
    *messages: Message,
    task: ActivityTask | None = None,
    reason: str = "MaxDeliveryCountExceeded",
) -> DeadLetter:
    return DeadLetter(letter_id, None if task else 0, messages, task, reason, "too often", 10, NOON, object())


def event(message_id: str, redriven: int = 0) -> Message:
    body = EventRaisedEvent(timestamp=NOON, name="go")
    return Message(id=message_id, instance_id="i", body=body, execution_id="e", redriven=redriven)


async def read(
    ports: HubPorts,
    *,
    messages: list[DeadLetter] | None = None,
    tasks: list[DeadLetter] | None = None,
    attempts: tuple[tuple[str, int], ...] = (),
) -> tuple[Graveyard, Graveyard, Counters]:
    """Let a reader look after these dead letters once."""
    queue, activities, archive = Graveyard(messages or []), Graveyard(tasks or []), Archive()
    view = replace(
        ports,
        orchestrations=cast(OrchestrationQueue, queue),
        activities=cast(Any, activities),
        store=cast(Any, LockRows(attempts)),
        archive=cast(Any, archive),
    )
    counters = Counters()
    await DeadLetterReader(view, QUICK, counters, keep_going=lambda: True).look()
    queue.kept = activities.kept = archive.kept
    return queue, activities, counters


def sent_messages(queue: Graveyard) -> list[Message]:
    return [out.message for out in queue.sent if isinstance(out, ToPartition)]


async def test_b126_innocents_beside_a_poison_message_are_sent_again_under_new_ids(ports: HubPorts) -> None:
    queue, _, counters = await read(
        ports, messages=[letter("x", event("a"), event("b"))], attempts=(("x", 2),)
    )
    assert [(m.id, m.redriven) for m in sent_messages(queue)] == [
        (stable_id("a", "redriven", 1), 1),
        (stable_id("b", "redriven", 1), 1),
    ]
    assert (queue.settled, queue.kept) == (["x"], [])
    assert counters.dead_letters == 1


@pytest.mark.parametrize(
    ("found", "attempts"),
    [
        (letter("x", event("x")), (("x", 2),)),
        (letter("x", event("x", redriven=1)), ()),
        (letter("x", event("x"), reason="undecodable row"), ()),
    ],
)
async def test_b126_a_poison_message_fails_the_instance_it_names(
    ports: HubPorts, found: DeadLetter, attempts: tuple[tuple[str, int], ...]
) -> None:
    queue, _, _ = await read(ports, messages=[found], attempts=attempts)
    (message,) = sent_messages(queue)
    assert isinstance(message.body, FailInstance)
    assert message.body.failure.error_type == POISON_MESSAGE
    assert (message.instance_id, message.execution_id) == ("i", "e")
    assert message.id == stable_id("x", "poison")
    assert (queue.settled, queue.kept) == ([], ["x"])


async def test_f30_an_exhausted_start_goes_with_the_failure_it_becomes(ports: HubPorts) -> None:
    start = ExecutionStartedEvent(timestamp=NOON, name="flow", instance_id="i", execution_id="e")
    poison = Message(id="x", instance_id="i", body=start, redriven=1)
    queue, _, _ = await read(ports, messages=[letter("x", poison)])
    (message,) = sent_messages(queue)
    assert isinstance(message.body, FailInstance)
    assert message.body.start == start


async def test_what_expired_is_sent_again(ports: HubPorts) -> None:
    task = ActivityTask(id="t", instance_id="i", execution_id="e", task_id=3, name="ship")
    queue, activities, _ = await read(
        ports,
        messages=[letter("x", event("x", redriven=1), reason="TTLExpiredException")],
        tasks=[letter("t", task=task, reason="TTLExpiredException")],
    )
    assert [(m.body, m.redriven) for m in sent_messages(queue)] == [(event("x").body, 1)]
    assert [out.task.name for out in activities.sent] == ["ship"]
    assert (queue.settled, activities.settled, queue.kept) == (["x"], ["t"], [])


async def test_f30_an_exhausted_task_becomes_a_failure_of_its_activity(ports: HubPorts) -> None:
    task = ActivityTask(id="t", instance_id="i", execution_id="e", task_id=3, name="ship")
    queue, activities, _ = await read(ports, tasks=[letter("t", task=task)])
    (message,) = sent_messages(queue)
    assert isinstance(message.body, TaskFailedEvent)
    assert message.body.task_scheduled_id == 3
    assert getattr(message.body.failure, "error_type", "") == DELIVERIES_EXHAUSTED
    assert (activities.settled, activities.kept) == ([], ["t"])


async def test_b126_what_cannot_be_read_is_logged_and_kept(
    ports: HubPorts, caplog: pytest.LogCaptureFixture
) -> None:
    queue, _, counters = await read(ports, messages=[letter("garbage", reason="undecodable")])
    assert "garbage" in caplog.text
    assert (queue.sent, queue.settled, queue.kept) == ([], [], ["garbage"])
    assert counters.dead_letters == 1


# ---------------------------------------------------------------- orphans


async def put(ports: HubPorts, instance_id: str, execution_id: str, text: str) -> str:
    name = payload_name(0, instance_id, execution_id, text.encode())
    await ports.payloads.put(name, text.encode())
    return name


async def names(ports: HubPorts) -> set[str]:
    return {name async for name, _ in ports.payloads.list("")}


async def test_b156_only_values_nobody_refers_to_are_collected(one_partition: HubPorts) -> None:
    ports = one_partition
    await ports.store.insert_instance(0, instance("alive", execution_id="e2"))
    kept = {
        await put(ports, "alive", "e2", "current"),
        await put(ports, "alive", ANY_EXECUTION, "an event"),
    }
    lost = {await put(ports, "alive", "e1", "old"), await put(ports, "gone", "e1", "gone")}

    assert await collect_orphans(ports, 0, 3600) == 0
    assert await names(ports) == kept | lost
    # the age is negative: everything written before the future is old
    assert await collect_orphans(ports, 0, -3600) == 2
    assert await names(ports) == kept


async def test_b156_a_worker_collects_orphans_by_itself(one_partition: HubPorts) -> None:
    ports = one_partition
    await ports.store.insert_instance(0, instance("alive", execution_id="e2", due_at=None))
    kept = await put(ports, "alive", "e2", "current")
    await put(ports, "gone", "e1", "gone")
    worker = engine(ports, settings=msgspec.structs.replace(QUICK, orphan_collect_s=0.05, orphan_age_s=1e-6))

    await worker.start()
    async with asyncio.timeout(20):
        while await names(ports) != {kept}:
            await ports.clock.sleep(0.01)
    await worker.stop()


# ---------------------------------------------------------------- repair


async def test_f35_repair_sends_again_what_living_instances_wait_for(one_partition: HubPorts) -> None:
    ports = one_partition
    events = [
        OrchestratorStartedEvent(timestamp=NOON),
        ExecutionStartedEvent(timestamp=NOON, name="order", instance_id="busy", execution_id="e1"),
        TaskScheduledEvent(timestamp=NOON, event_id=1, name="ship", input="1"),
        TaskScheduledEvent(timestamp=NOON, event_id=2, name="bill"),
        TaskFailedEvent(timestamp=NOON, task_scheduled_id=2),
        TimerCreatedEvent(timestamp=NOON, event_id=3, fire_at=NOON),
    ]
    rows: list[InstanceRow] = [
        instance("busy", tail=b"".join(map(encode_event, events))),
        instance("waiting", status=RuntimeStatus.PENDING),
        instance("over", status=RuntimeStatus.COMPLETED),
    ]
    for row in rows:
        await ports.store.insert_instance(0, row)

    done = await repair(ports, QUICK)

    assert (done.instances, done.activities, done.timers, done.starts, done.unreadable) == (2, 1, 1, 1, 0)
    (delivery,) = await ports.activities.receive(10, 5)
    assert delivery.task is not None
    assert (delivery.task.name, delivery.task.task_id, delivery.task.input) == ("ship", 1, "1")
    assert delivery.id != stable_id("e1", "task", 1)
    session = await ports.orchestrations.accept(0)
    assert session is not None
    messages: dict[str, Any] = {}
    while len(messages) < 2:
        for got in await session.receive(10, 5):
            messages.update((message.instance_id, message.body) for message in got.messages)
    assert isinstance(messages["busy"], TimerFiredEvent)
    assert messages["waiting"] == StartInstance()
    await session.close()


# ---------------------------------------------------------------- the whole worker


def engine(ports: HubPorts, settings: Settings = QUICK, **options: Any) -> Engine:
    return Engine(
        ports,
        Registry(),
        settings,
        RuntimeOptions(),
        executor=InlineExecutor(),
        worker_id="w",
        id_source=lambda: "x",
        **options,
    )


async def test_a_worker_takes_partitions_and_gives_all_back(ports: HubPorts) -> None:
    worker = engine(ports)
    await worker.start()
    await until(ports, lambda: worker.held_partitions == (0, 1, 2, 3))
    await worker.stop()
    assert worker.held_partitions == ()
    sessions = [await ports.orchestrations.accept(partition) for partition in range(4)]
    assert None not in sessions
    for session in sessions:
        assert session is not None
        await session.close()


async def test_a_worker_is_started_once_and_may_be_stopped_twice(ports: HubPorts) -> None:
    worker = engine(ports)
    await worker.stop()
    await worker.start()
    with pytest.raises(RuntimeError, match="started already"):
        await worker.start()
    await asyncio.gather(worker.stop(), worker.stop())
    await worker.stop()


async def test_a_worker_for_activities_only_holds_no_partition_and_announces_nothing(ports: HubPorts) -> None:
    worker = engine(ports, orchestrations=False)
    await worker.start()
    await asyncio.sleep(0)
    assert worker.held_partitions == ()
    assert await ports.membership.workers() == []
    await worker.stop()
