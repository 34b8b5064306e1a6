"""Atomic plans, where an adapter offers them: commit, sends and completes happen together or not at all."""

from __future__ import annotations

import asyncio

import pytest

from durabletask_azure.core.history import RuntimeStatus
from durabletask_azure.core.rows import LockRow, PutInstance
from durabletask_azure.errors import CommitRefusedError, OrchestrationAlreadyExistsError, PartitionLostError
from durabletask_azure.ports import AtomicPlans, HubPorts, PartitionSession
from tests.contract.builders import WAIT_S, instance, let_others_run, message, task


@pytest.fixture
def plans(ports: HubPorts) -> AtomicPlans:
    if ports.atomic is None:
        pytest.skip("this adapter has no transactions over store and queues")
    return ports.atomic


async def accept(ports: HubPorts, partition: int = 0) -> PartitionSession:
    session = await ports.orchestrations.accept(partition)
    assert session is not None
    return session


async def test_a_plan_commits_sends_and_completes(ports: HubPorts, plans: AtomicPlans) -> None:
    await ports.orchestrations.send([message("in")])
    session = await accept(ports)
    received = await session.receive(10, WAIT_S)
    lock = await ports.store.read_lock(0)

    receipt = await plans.execute(
        0,
        LockRow(owner="me", n=1),
        lock.etag,
        [PutInstance(instance("i"))],
        sends=[message("self"), task("t"), message("other", partition=1)],
        session=session,
        completes=received,
    )

    assert (await ports.store.read_lock(0)).etag == receipt.lock_etag
    stored = await ports.store.read_instance(0, "i")
    assert stored is not None
    assert stored.etag == receipt.etags["i"]
    assert [delivery.id for delivery in await session.receive(10, WAIT_S)] == ["self"]
    assert [delivery.id for delivery in await (await accept(ports, 1)).receive(10, WAIT_S)] == ["other"]
    assert [delivery.id for delivery in await ports.activities.receive(10, WAIT_S)] == ["t"]
    await session.close()
    assert [delivery.id for delivery in await (await accept(ports)).receive(10, WAIT_S)] == ["self"]


@pytest.mark.parametrize("why", ["fence", "row"])
async def test_a_refused_plan_does_nothing(ports: HubPorts, plans: AtomicPlans, why: str) -> None:
    await ports.orchestrations.send([message("in")])
    await ports.store.insert_instance(0, instance("there"))
    session = await accept(ports)
    received = await session.receive(10, WAIT_S)
    lock = await ports.store.read_lock(0)

    with pytest.raises(PartitionLostError if why == "fence" else CommitRefusedError):
        await plans.execute(
            0,
            LockRow(owner="me", n=1),
            lock.etag if why == "row" else "0",
            [PutInstance(instance("new")), PutInstance(instance("there" if why == "row" else "also new"))],
            sends=[message("self"), task("t")],
            session=session,
            completes=received,
        )

    assert await ports.store.read_lock(0) == lock
    assert await ports.store.read_instance(0, "new") is None
    assert await session.receive(10, 0) == []
    assert await ports.activities.receive(10, 0) == []
    await session.close()
    assert [delivery.id for delivery in await (await accept(ports)).receive(10, WAIT_S)] == ["in"]


async def test_concurrent_plans_of_one_partition_have_one_winner(ports: HubPorts, plans: AtomicPlans) -> None:
    session = await accept(ports)
    lock = await ports.store.read_lock(0)

    async def plan(number: int) -> bool:
        try:
            await plans.execute(
                0,
                LockRow(n=number),
                lock.etag,
                [PutInstance(instance(f"i{number}"))],
                sends=[message(f"m{number}")],
                session=session,
                completes=(),
            )
        except PartitionLostError:
            return False
        return True

    won = [number for number, winner in enumerate(await asyncio.gather(*map(plan, range(10)))) if winner]

    assert len(won) == 1
    assert (await ports.store.read_lock(0)).row.n == won[0]
    assert [delivery.id for delivery in await session.receive(10, 0)] == [f"m{won[0]}"]
    rows = [await ports.store.read_instance(0, f"i{number}") for number in range(10)]
    assert [number for number, row in enumerate(rows) if row is not None] == won


async def test_a_refused_plan_does_not_harm_those_committed_with_it(
    ports: HubPorts, plans: AtomicPlans
) -> None:
    sessions = [await accept(ports, partition) for partition in range(ports.info.partitions)]
    locks = [await ports.store.read_lock(session.partition) for session in sessions]

    outcomes = await asyncio.gather(
        *(
            plans.execute(
                session.partition,
                LockRow(n=1),
                "0" if session.partition == 1 else lock.etag,
                [PutInstance(instance("i"))],
                sends=(),
                session=session,
                completes=(),
            )
            for session, lock in zip(sessions, locks, strict=True)
        ),
        return_exceptions=True,
    )

    assert [isinstance(outcome, PartitionLostError) for outcome in outcomes] == [False, True, False, False]
    rows = [await ports.store.read_instance(session.partition, "i") for session in sessions]
    assert [row is not None for row in rows] == [True, False, True, True]


async def test_a_start_inserts_once_and_wakes_the_owner(ports: HubPorts, plans: AtomicPlans) -> None:
    session = await accept(ports)
    waiting = asyncio.create_task(session.receive(10, WAIT_S))
    await let_others_run()
    row = instance("i", status=RuntimeStatus.PENDING)

    etag = await plans.start(0, row, message("wake"), None)

    assert [delivery.id for delivery in await waiting] == ["wake"]
    with pytest.raises(OrchestrationAlreadyExistsError):
        await plans.start(0, row, message("again"), None)
    assert await session.receive(10, 0) == []
    stored = await ports.store.read_instance(0, "i")
    assert stored is not None
    assert stored.etag == etag


async def test_a_start_replaces_only_the_row_it_read(ports: HubPorts, plans: AtomicPlans) -> None:
    session = await accept(ports)
    old = await ports.store.insert_instance(0, instance("i", status=RuntimeStatus.COMPLETED))
    await plans.start(0, instance("i", execution_id="e2"), message("e2"), old)

    with pytest.raises(CommitRefusedError) as refused:
        await plans.start(0, instance("i", execution_id="e3"), message("e3"), old)

    assert refused.value.conflict
    assert [delivery.id for delivery in await session.receive(10, WAIT_S)] == ["e2"]
