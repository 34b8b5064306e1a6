"""The simulated world itself: locks, redelivery, duplicates, schedules, fences, limits, faults and virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from durabletask_azure.core.history import EventRaisedEvent, RuntimeStatus
from durabletask_azure.core.messages import ActivityTask, Message, ToActivities, ToPartition
from durabletask_azure.core.rows import (
    InstanceRow,
    LockRow,
    PutInstance,
    PutSegment,
    RowWrite,
)
from durabletask_azure.errors import (
    CommitRefusedError,
    HubUnavailableError,
    OrchestrationAlreadyExistsError,
    PartitionLostError,
    ThrottledError,
)
from durabletask_azure.ports import HubPorts, PartitionSession
from tests.simulation.fakes.gate import CURRENT_GATE, Fault, FaultSource, Gate, NoFaults, SimulatedCrash
from tests.simulation.fakes.ports import worker_ports
from tests.simulation.fakes.world import EPOCH, World
from tests.simulation.virtual_time import Deadlock, Livelock, OutOfTime, pause, run_virtual


class At:
    """Strikes the first call of an op."""

    def __init__(self, op: str, fault: Fault) -> None:
        self._op = op
        self._fault: Fault | None = fault

    def draw(self, gate: str, number: int, op: str, now: float) -> Fault | None:
        if op != self._op:
            return None
        fault, self._fault = self._fault, None
        return fault


def ports(world: World, name: str = "w0", faults: FaultSource | None = None) -> HubPorts:
    return worker_ports(Gate(world, name, faults or NoFaults(), latency_s=0.01))


def message(number: int, *, name: str = "news") -> Message:
    body = EventRaisedEvent(timestamp=EPOCH, name=name, source_id=f"e{number}")
    return Message(id=f"m{number}", instance_id="one", body=body)


def to_partition(number: int, *, after_s: float | None = None) -> ToPartition:
    due = None if after_s is None else EPOCH + timedelta(seconds=after_s)
    return ToPartition(partition=0, message=message(number), deliver_at=due)


def row(name: str, execution_id: str = "x1") -> InstanceRow:
    return InstanceRow(
        instance_id=name,
        execution_id=execution_id,
        name="flow",
        status=RuntimeStatus.PENDING,
        created_at=EPOCH,
        updated_at=EPOCH,
    )


async def session_of(hub: HubPorts) -> PartitionSession:
    session = await hub.orchestrations.accept(0)
    assert session is not None
    return session


async def ids(session: PartitionSession, wait_s: float = 0.0) -> list[str]:
    return [one.id for delivery in await session.receive(100, wait_s) for one in delivery.messages]


def in_world(test: Callable[[World], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test in virtual time, in a world of its own."""

    async def main() -> None:
        world = World(partitions=2)
        await test(world)
        assert world.breaches == []

    def run() -> None:
        run_virtual(main, turns_max=100_000)

    run.__name__ = test.__name__
    return run


@in_world
async def test_messages_of_a_partition_arrive_in_order_and_are_gone_when_completed(world: World) -> None:
    hub = ports(world)
    await hub.orchestrations.send([to_partition(number) for number in range(20)])
    session = await session_of(hub)
    deliveries = await session.receive(100, 1.0)
    assert [one.id for item in deliveries for one in item.messages] == [f"m{number}" for number in range(20)]
    await session.complete(deliveries)
    await session.close()
    assert await ids(await session_of(hub)) == []


@in_world
async def test_a_session_has_one_holder_until_its_lock_expires(world: World) -> None:
    first, second = ports(world, "w0"), ports(world, "w1")
    session = await session_of(first)
    assert await second.orchestrations.accept(0) is None
    await pause(31)
    await session_of(second)
    for call in (session.renew, lambda: session.receive(1, 1.0), lambda: session.complete([])):
        with pytest.raises(PartitionLostError):
            await call()


@in_world
async def test_what_was_not_completed_comes_again_with_a_higher_count(world: World) -> None:
    hub = ports(world)
    await hub.orchestrations.send([to_partition(1)])
    session = await session_of(hub)
    assert [item.delivery_count for item in await session.receive(10, 1.0)] == [1]
    assert list(await session.receive(10, 1.0)) == []
    await session.close()
    again = await session_of(hub)
    assert [item.delivery_count for item in await again.receive(10, 1.0)] == [2]


@in_world
async def test_a_message_delivered_too_often_is_dead_lettered(world: World) -> None:
    hub = ports(world)
    await hub.orchestrations.send([to_partition(1)])
    for _ in range(10):
        session = await session_of(hub)
        assert len(await session.receive(10, 1.0)) == 1
        await session.close()
    assert await ids(await session_of(hub)) == []
    letters = await hub.orchestrations.dead_letters(10)
    assert [letter.messages[0].id for letter in letters] == ["m1"]
    assert list(await hub.orchestrations.dead_letters(10)) == []
    await hub.orchestrations.settle_dead_letter(letters[0])
    await pause(100)
    assert list(await hub.orchestrations.dead_letters(10)) == []


@in_world
async def test_scheduled_messages_come_when_due_and_take_their_place_then(world: World) -> None:
    hub = ports(world)
    await hub.orchestrations.send([to_partition(1, after_s=20)])
    await hub.orchestrations.send([to_partition(2, after_s=10), to_partition(3)])
    session = await session_of(hub)
    assert await ids(session) == ["m3"]
    deliveries = await session.receive(10, 15.0)
    assert [item.id for item in deliveries] == ["m2"]
    assert world.time() >= 10
    assert deliveries[0].enqueued_at >= EPOCH + timedelta(seconds=10)
    await hub.orchestrations.cancel_scheduled(0, ["m1"])
    assert await ids(session, 15.0) == []


@in_world
async def test_duplicate_detection_swallows_equal_ids_within_its_window(world: World) -> None:
    hub = ports(world)
    await hub.orchestrations.send([to_partition(1)])
    await hub.orchestrations.send([to_partition(1)])
    session = await session_of(hub)
    assert await ids(session) == ["m1"]
    await pause(301)
    await hub.orchestrations.send([to_partition(1)])
    assert await ids(await session_of(ports(world, "w1"))) == ["m1", "m1"]


@in_world
async def test_a_new_queue_has_lost_sessions_schedules_and_numbers(world: World) -> None:
    hub = ports(world)
    await hub.orchestrations.send([to_partition(1), to_partition(2, after_s=10)])
    session = await session_of(hub)
    await ids(session)
    world.sessions.recreate()
    with pytest.raises(PartitionLostError):
        await session.renew()
    await pause(20)
    assert await ids(await session_of(hub)) == ["m1"]
    assert [item.number for item in world.sessions.waiting(0)] == [1]


@in_world
async def test_a_swallowed_message_stays_locked_until_the_session_is_let_go(world: World) -> None:
    hub = ports(world, faults=At("session.receive", Fault("swallow", count=1)))
    await hub.orchestrations.send([to_partition(1)])
    session = await session_of(hub)
    assert await ids(session, 1.0) == []
    assert await ids(session, 1.0) == []
    await session.close()
    assert await ids(await session_of(hub)) == ["m1"]


@in_world
async def test_a_message_that_cannot_be_read_says_why(world: World) -> None:
    world.sessions.inject(0, "bad", b"{}")
    delivery = (await (await session_of(ports(world))).receive(1, 1.0))[0]
    assert delivery.messages == ()
    assert delivery.error is not None


@in_world
async def test_a_broken_send_has_sent_a_prefix(world: World) -> None:
    hub = ports(world, faults=At("queue.send", Fault("partial", count=1)))
    batch = [to_partition(1, after_s=0), to_partition(2, after_s=0)]
    with pytest.raises(HubUnavailableError):
        await hub.orchestrations.send(batch)
    assert [item.id for item in world.sessions.waiting(0)] == ["m1"]
    await hub.orchestrations.send(batch)
    assert [item.id for item in world.sessions.waiting(0)] == ["m1", "m2"]


def task(number: int) -> ToActivities:
    return ToActivities(
        task=ActivityTask(id=f"t{number}", instance_id="one", execution_id="x1", task_id=number, name="work")
    )


@in_world
async def test_activity_tasks_are_shared_out_and_come_again_when_the_lock_expires(world: World) -> None:
    first, second = ports(world, "w0"), ports(world, "w1")
    await first.activities.send([task(1), task(2)])
    one = await first.activities.receive(1, 1.0)
    two = await second.activities.receive(5, 1.0)
    assert [item.id for item in (*one, *two)] == ["t1", "t2"]
    await pause(20)
    assert list(await first.activities.renew(one)) == []
    again = await second.activities.receive(5, 60.0)
    assert [(item.id, item.delivery_count) for item in again] == [("t2", 2)]
    assert list(await second.activities.renew(two)) == list(two)
    await second.activities.abandon(again)
    assert [item.id for item in await second.activities.receive(5, 0.0)] == ["t2"]


@in_world
async def test_a_finished_task_is_gone_and_its_result_sent_even_when_the_lock_was_lost(world: World) -> None:
    hub = ports(world)
    await hub.activities.send([task(1)])
    taken = await hub.activities.receive(1, 1.0)
    await pause(31)
    await hub.activities.finish([(taken[0], to_partition(7))])
    assert [item.id for item in world.sessions.waiting(0)] == ["m7"]
    assert [item.id for item in world.activities.waiting()] == ["t1"]
    taken = await hub.activities.receive(1, 1.0)
    await hub.activities.finish([(taken[0], None)])
    assert list(world.activities.waiting()) == []


@in_world
async def test_a_crash_between_result_and_completion_leaves_both(world: World) -> None:
    hub = ports(world, faults=At("activities.finish.complete", Fault("crash_before")))
    await hub.activities.send([task(1)])
    taken = await hub.activities.receive(1, 1.0)
    with pytest.raises(SimulatedCrash):
        await hub.activities.finish([(taken[0], to_partition(7))])
    with pytest.raises(SimulatedCrash):
        await hub.activities.receive(1, 1.0)
    assert len(world.activities.waiting()) == len(world.sessions.waiting(0)) == 1


@in_world
async def test_a_commit_needs_the_fence_and_replaces_it(world: World) -> None:
    hub = ports(world)
    lock = await hub.store.read_lock(0)
    receipt = await hub.store.commit(0, LockRow(n=1), lock.etag, [PutInstance(row("a"))])
    with pytest.raises(PartitionLostError):
        await hub.store.commit(0, LockRow(n=1), lock.etag, [])
    stored = await hub.store.read_instance(0, "a")
    assert stored is not None
    assert stored.etag == receipt.etags["a"]
    with pytest.raises(CommitRefusedError) as refused:
        await hub.store.commit(
            0, LockRow(n=2), receipt.lock_etag, [PutInstance(row("b")), PutInstance(row("a"))]
        )
    assert refused.value.conflict
    assert refused.value.row_key == "i!a"
    assert await hub.store.read_instance(0, "b") is None
    assert (await hub.store.read_lock(0)).etag == receipt.lock_etag


@in_world
async def test_a_landed_commit_may_answer_as_if_a_rival_had_been_faster(world: World) -> None:
    hub = ports(world, faults=At("store.commit", Fault("landed")))
    lock = await hub.store.read_lock(0)
    with pytest.raises(PartitionLostError):
        await hub.store.commit(0, LockRow(commit_id="c1"), lock.etag, [])
    assert (await hub.store.read_lock(0)).row.commit_id == "c1"


@pytest.mark.parametrize(
    "writes",
    [
        [PutSegment("a", "x", number, b"") for number in range(100)],
        [PutSegment("a", "x", number, b"x" * 900_000) for number in range(5)],
        [PutSegment("a", "x", 0, b"x" * 1_048_577)],
        [PutSegment("a", "x", 0, b""), PutSegment("a", "x", 0, b"")],
    ],
    ids=["101 operations", "over 4 MiB", "entity over 1 MiB", "one row twice"],
)
def test_a_transaction_over_the_limits_is_refused(writes: list[RowWrite]) -> None:
    async def main() -> None:
        hub = ports(World())
        lock = await hub.store.read_lock(0)
        with pytest.raises(CommitRefusedError) as refused:
            await hub.store.commit(0, LockRow(), lock.etag, writes)
        assert not refused.value.conflict

    run_virtual(main)


@in_world
async def test_a_client_inserts_once_and_replaces_only_what_it_saw(world: World) -> None:
    hub = ports(world)
    etag = await hub.store.insert_instance(0, row("a"))
    with pytest.raises(OrchestrationAlreadyExistsError):
        await hub.store.insert_instance(0, row("a"))
    newer = await hub.store.replace_instance(0, row("a", "x2"), etag)
    assert newer != etag
    with pytest.raises(CommitRefusedError):
        await hub.store.replace_instance(0, row("a", "x3"), etag)


@in_world
async def test_replies_are_lost_after_the_effect_and_throttling_strikes_before_it(world: World) -> None:
    hub = ports(world, faults=At("store.insert_instance", Fault("reply_lost")))
    with pytest.raises(HubUnavailableError):
        await hub.store.insert_instance(0, row("a"))
    assert "a" in world.table.rows(0).instances
    hub = ports(world, faults=At("store.insert_instance", Fault("throttled", seconds=3)))
    with pytest.raises(ThrottledError) as throttled:
        await hub.store.insert_instance(0, row("b"))
    assert throttled.value.retry_after == timedelta(seconds=3)
    assert "b" not in world.table.rows(0).instances


@in_world
async def test_a_stalled_worker_commits_late_while_another_took_over(world: World) -> None:
    slow = ports(world, "w0", At("store.commit", Fault("stall", seconds=60)))
    session = await session_of(slow)
    lock = await slow.store.read_lock(0)
    late = asyncio.ensure_future(slow.store.commit(0, LockRow(n=1), lock.etag, []))
    await pause(40)
    rival = ports(world, "w1")
    await session_of(rival)
    await rival.store.commit(0, LockRow(n=1, epoch=1), (await rival.store.read_lock(0)).etag, [])
    with pytest.raises(PartitionLostError):
        await late
    assert world.time() >= 60
    with pytest.raises(PartitionLostError):
        await session.renew()


@in_world
async def test_a_crash_ends_all_tasks_of_the_worker_and_no_other(world: World) -> None:
    gate = Gate(world, "w0", At("store.read_lock", Fault("crash_after")))
    hub = worker_ports(gate)
    token = CURRENT_GATE.set(gate)
    asleep = asyncio.ensure_future(hub.clock.sleep(1000))
    CURRENT_GATE.reset(token)
    other = asyncio.ensure_future(pause(50))
    with pytest.raises(SimulatedCrash):
        await hub.store.read_lock(0)
    with pytest.raises((asyncio.CancelledError, SimulatedCrash)):
        await asleep
    assert world.time() < 1
    await other


@in_world
async def test_a_skewed_clock_does_not_touch_the_stores_time(world: World) -> None:
    hub = worker_ports(Gate(world, "w0", NoFaults(), skew=lambda now: -300.0))
    assert hub.clock.now() == EPOCH - timedelta(seconds=300)
    assert EPOCH <= await hub.store.server_time() < EPOCH + timedelta(seconds=1)


@in_world
async def test_blobs_are_there_or_missing(world: World) -> None:
    hub = ports(world)
    await hub.payloads.put("p000/a", b"abc")
    assert await hub.payloads.get("p000/a", 3) == b"abc"
    assert [name async for name, _at in hub.payloads.list("p000/")] == ["p000/a"]
    await hub.payloads.delete(["p000/a", "p000/b"])
    assert world.blobs == {}


def test_virtual_time_passes_without_waiting_and_is_the_same_every_time() -> None:
    async def main() -> tuple[list[int], float]:
        async def sleeper(number: int) -> int:
            await pause(number * 86_400)
            return number

        loop = asyncio.get_running_loop()
        done, _ = await asyncio.wait([loop.create_task(sleeper(number)) for number in (30, 10, 20)])
        return [one.result() for one in done], loop.time()

    assert [run_virtual(main) for _ in range(3)] == [run_virtual(main)] * 3


def test_a_deadlock_a_livelock_and_endless_time_are_told_apart() -> None:
    async def stuck() -> None:
        await asyncio.get_running_loop().create_future()

    async def busy() -> None:
        for _ in range(1_000_000):
            await asyncio.sleep(0)

    async def patient() -> None:
        while True:
            await pause(10)

    for main, error in ((stuck, Deadlock), (busy, Livelock), (patient, OutOfTime)):
        with pytest.raises(error):
            run_virtual(main, turns_max=10_000, time_max=1000)
