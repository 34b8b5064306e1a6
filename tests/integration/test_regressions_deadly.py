"""Regressions: an instance that ends its process at every turn, on a broker that does not count it.

Service Bus counts no delivery when the session of a process that is gone is freed. So the lock row counts the owners in
a row that committed nothing, and from the third on what waits is handled one by one, each attempt noted first (F30).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from durabletask_azure import OrchestrationContext, OrchestrationStatus, TaskHub, TaskHubClient, TaskHubWorker
from durabletask_azure.core.history import EventRaisedEvent
from durabletask_azure.core.messages import Message, StartInstance, encode_messages
from durabletask_azure.core.partitioning import partition_of
from durabletask_azure.core.rows import LockRow

DEADLY = "deadly"
WAIT_S = 30.0


def lock_of(hub: TaskHub, **changes: Any) -> LockRow:
    """Return the lock row of the instance's partition, changed as given."""
    store, partition = hub.ports.store, partition_of(DEADLY, 1)

    async def change() -> LockRow:
        stored = await store.read_lock(partition)
        if not changes:
            return stored.row
        row = msgspec.structs.replace(stored.row, commit_id="by hand", **changes)
        await store.commit(partition, row, stored.etag, [])
        return row

    return hub.run(change)


@pytest.mark.parametrize("attempts", [0, 3])
def test_f30_what_ended_three_owners_is_failed_and_what_did_not_runs(attempts: int) -> None:
    ran: list[str] = []

    async def flow(ctx: OrchestrationContext, _: Any) -> str:
        ran.append(ctx.instance_id)
        return "done"

    with TaskHub.local(partitions=1) as hub:
        client = TaskHubClient(hub)
        client.schedule_new_orchestration(flow, instance_id=DEADLY)
        client.schedule_new_orchestration(flow, instance_id="innocent")
        lock_of(hub, vain=3, attempts=((f"nudge {DEADLY}", attempts),) if attempts else ())

        worker = TaskHubWorker(hub)
        worker.add_orchestrator(flow)
        with worker:
            worker.start()
            deadly = client.wait_for_orchestration_completion(DEADLY, timeout=WAIT_S)
            innocent = client.wait_for_orchestration_completion("innocent", timeout=WAIT_S)
            client.schedule_new_orchestration(flow, instance_id="later")
            client.wait_for_orchestration_completion("later", timeout=WAIT_S)

        assert deadly is not None
        assert innocent is not None
        assert innocent.runtime_status is OrchestrationStatus.COMPLETED
        if attempts:
            assert deadly.runtime_status is OrchestrationStatus.FAILED
            assert deadly.failure_details is not None
            assert "3 workers ended over it" in deadly.failure_details.message
            assert ran == ["innocent", "later"]
        else:
            assert deadly.runtime_status is OrchestrationStatus.COMPLETED
        lock = lock_of(hub)
        assert (lock.vain, lock.attempts) == (0, ())


def test_f30_each_message_of_a_pack_is_an_attempt_of_its_own(tmp_path: Path) -> None:
    async def flow(ctx: OrchestrationContext, _: Any) -> Any:
        return await ctx.wait_for_external_event("go")

    path = tmp_path / "hub.db"
    ids = [f"innocent-{number}" for number in range(6)]
    with TaskHub.local(path, partitions=1) as hub:
        client = TaskHubClient(hub)
        worker = TaskHubWorker(hub)
        worker.add_orchestrator(flow)
        worker.start()
        for instance_id in ids:
            client.schedule_new_orchestration(flow, instance_id=instance_id)
            client.wait_for_orchestration_start(instance_id, timeout=WAIT_S)
        worker.stop()
        put_pack(path, [event_to(instance_id) for instance_id in ids])
        lock_of(hub, vain=3)

        with worker:
            worker.start()
            ended = [client.wait_for_orchestration_completion(one, timeout=WAIT_S) for one in ids]

        assert [one and one.runtime_status for one in ended] == [OrchestrationStatus.COMPLETED] * len(ids)
        lock = lock_of(hub)
        assert (lock.vain, lock.attempts) == (0, ())


def test_f30_an_attempt_that_had_nothing_to_commit_is_over_when_it_ends(tmp_path: Path) -> None:
    async def flow(ctx: OrchestrationContext, _: Any) -> Any:
        return await ctx.wait_for_external_event("go")

    path = tmp_path / "hub.db"
    with TaskHub.local(path, partitions=1) as hub:
        client = TaskHubClient(hub)
        worker = TaskHubWorker(hub)
        worker.add_orchestrator(flow)
        worker.start()
        client.schedule_new_orchestration(flow, instance_id="innocent")
        client.wait_for_orchestration_start("innocent", timeout=WAIT_S)
        worker.stop()
        # It is running: its start, come again, changes nothing.
        put_pack(path, [Message(id="start again", instance_id="innocent", body=StartInstance())])
        lock_of(hub, vain=3, attempts=(("start again", 2),))

        with worker:
            worker.start()
            eventually(hub, lambda: not client.get_hub_statistics().messages_waiting)
            eventually(hub, lambda: not lock_of(hub).attempts)
            state = client.get_orchestration_state("innocent")

        assert state is not None
        assert state.runtime_status is OrchestrationStatus.RUNNING


def eventually(hub: TaskHub, fits: Callable[[], bool]) -> None:
    clock = hub.ports.clock
    deadline = clock.monotonic() + WAIT_S
    while not fits():
        assert clock.monotonic() < deadline, "it never came true"
        hub.run(lambda: clock.sleep(0.01))


def event_to(instance_id: str) -> Message:
    at = datetime.now(UTC)
    return Message(
        id=f"to {instance_id}", instance_id=instance_id, body=EventRaisedEvent(timestamp=at, name="go")
    )


def put_pack(path: Path, messages: list[Message]) -> None:
    """Put one broker message with many messages into the queue, as the Azure hub packs them."""
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(
            "INSERT INTO messages(partition, id, body, seq) VALUES(0, 'pack', ?, 1000000)",
            (encode_messages(tuple(messages)),),
        )
    connection.close()


def test_f30_an_owner_that_had_nothing_to_do_and_ends_in_order_counts_for_nothing() -> None:
    with TaskHub.local(partitions=1) as hub:
        lock_of(hub, vain=2)
        worker = TaskHubWorker(hub)
        worker.add_orchestrator(lambda ctx: None, name="flow")  # pyright: ignore[reportUnknownLambdaType]
        worker.start()
        vain = asyncio.run(_taken(hub))
        worker.stop()
        assert vain == 3
        assert lock_of(hub).vain == 2


async def _taken(hub: TaskHub) -> int:
    """Wait until the partition has an owner, and return how many owners committed nothing so far."""
    for _ in range(1000):
        vain = (await hub.arun(lambda: hub.ports.store.read_lock(0))).row.vain
        if vain > 2:
            return vain
        await hub.arun(lambda: hub.ports.clock.sleep(0.01))
    return 0
