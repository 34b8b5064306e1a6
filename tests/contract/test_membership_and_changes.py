"""Who works for a hub, and how waiting clients hear of a change."""

from __future__ import annotations

import asyncio

import pytest

from durabletask_azure.core.history import RuntimeStatus
from durabletask_azure.core.rows import DeleteInstance, LockRow, PutInstance
from durabletask_azure.ports import HubPorts, WorkerRow
from tests.contract.builders import WAIT_S, instance, let_others_run
from tests.contract.conftest import PortsFactory


def worker(worker_id: str, *partitions: int, stopping: bool = False) -> WorkerRow:
    return WorkerRow(worker_id=worker_id, partitions=partitions, stopping=stopping)


async def ended(waiting: asyncio.Task[None]) -> bool:
    """Return whether a wait ended long before its own timeout."""
    done, _ = await asyncio.wait([waiting], timeout=WAIT_S)
    return bool(done)


async def test_announced_workers_are_listed_by_id_with_their_age(ports_factory: PortsFactory) -> None:
    one, other = await ports_factory(), await ports_factory()
    await one.membership.announce(worker("b", 0, 1))
    await other.membership.announce(worker("a'", 2))
    await one.membership.announce(worker("b", 0, 1, 3, stopping=True))

    rows = await other.membership.workers()

    assert [(row.worker_id, row.partitions, row.stopping) for row in rows] == [
        ("a'", (2,), False),
        ("b", (0, 1, 3), True),
    ]
    assert all(0 <= row.age_s < 4 for row in rows)


async def test_a_withdrawn_worker_is_gone(ports: HubPorts) -> None:
    await ports.membership.announce(worker("a"))
    await ports.membership.withdraw("a")
    await ports.membership.withdraw("a")

    assert list(await ports.membership.workers()) == []


async def test_others_hear_of_a_worker_that_comes_lets_go_stops_or_leaves(
    ports_factory: PortsFactory,
) -> None:
    watcher, actor = await ports_factory(), await ports_factory()

    async def heard(*, announce: WorkerRow | None) -> bool:
        waiting = asyncio.create_task(watcher.membership.wait_changed(3600))
        await let_others_run()
        if announce is None:
            await actor.membership.withdraw("w")
        else:
            await actor.membership.announce(announce)
        return await ended(waiting)

    assert await heard(announce=worker("w", 0, 1))
    assert await heard(announce=worker("w", 0))
    assert await heard(announce=worker("w", 0, stopping=True))
    assert await heard(announce=None)


async def test_a_wait_for_members_ends_at_its_timeout(ports: HubPorts) -> None:
    await ports.membership.wait_changed(0.01)


async def test_a_waiting_client_is_woken_by_the_commit_of_its_instance(ports_factory: PortsFactory) -> None:
    owner, client = await ports_factory(), await ports_factory()
    etag = await client.store.insert_instance(0, instance("i", status=RuntimeStatus.PENDING))
    watch = client.changes.watch(0, "i")
    waiting = asyncio.create_task(watch.wait(3600))
    await let_others_run()
    lock = await owner.store.read_lock(0)

    done = PutInstance(instance("i", status=RuntimeStatus.COMPLETED), etag)
    await owner.store.commit(0, LockRow(n=1), lock.etag, [done])

    assert await ended(waiting)
    watch.close()


@pytest.mark.parametrize("how", ["ended", "removed"])
async def test_a_client_that_waits_for_the_end_is_woken_by_it(ports_factory: PortsFactory, how: str) -> None:
    owner, client = await ports_factory(), await ports_factory()
    etag = await client.store.insert_instance(0, instance("i", status=RuntimeStatus.RUNNING))
    watch = client.changes.watch(0, "i", ended=True)
    waiting = asyncio.create_task(watch.wait(3600))
    await let_others_run()
    lock = await owner.store.read_lock(0)

    done = PutInstance(instance("i", status=RuntimeStatus.FAILED), etag)
    last = done if how == "ended" else DeleteInstance("i", etag)
    await owner.store.commit(0, LockRow(n=1), lock.etag, [last])

    assert await ended(waiting)
    watch.close()


async def test_a_change_between_look_and_wait_is_not_missed(ports_factory: PortsFactory) -> None:
    owner, client = await ports_factory(), await ports_factory()
    watch = client.changes.watch(0, "i")
    assert await client.store.read_instance(0, "i") is None
    await owner.store.insert_instance(0, instance("i"))

    await asyncio.wait_for(watch.wait(3600), WAIT_S)

    assert await client.store.read_instance(0, "i") is not None
    await owner.store.insert_instance(0, instance("j"))
    watch.close()


async def test_a_wait_for_a_change_ends_at_its_timeout(ports: HubPorts) -> None:
    watch = ports.changes.watch(0, "never")
    await watch.wait(0.01)
    watch.close()
