"""Tasks and results that stay in the process that asked for them: nothing is lost, however it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from durabletask_azure.adapters.local import open_local
from durabletask_azure.adapters.local.committer import Transaction
from durabletask_azure.adapters.local.rows import stored_outbound
from durabletask_azure.adapters.local.sessions import Places
from durabletask_azure.adapters.local.store import LocalStore
from durabletask_azure.core.rows import LockRow
from durabletask_azure.errors import CommitRefusedError
from durabletask_azure.ports import ActivityDelivery, HubPorts, PartitionSession
from tests.contract.builders import WAIT_S, message, task


@pytest.fixture(params=["memory", "disk"])
async def ports(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[HubPorts]:
    opened = open_local(None if request.param == "memory" else tmp_path / "hub.db", partitions=1)
    yield opened
    assert opened.close is not None
    await opened.close()


async def accept(ports: HubPorts) -> PartitionSession:
    session = await ports.orchestrations.accept(0)
    assert session is not None
    return session


async def schedule(ports: HubPorts, *task_ids: str) -> None:
    await ports.activities.send([task(task_id) for task_id in task_ids])


async def waiting_for_tasks(
    ports: HubPorts, count: int = 10, names: Sequence[str] | None = None
) -> asyncio.Task[Sequence[ActivityDelivery]]:
    """Return a receive that has looked, found nothing, and waits to be handed something."""
    if names is not None:
        await ports.activities.prepare_for(names)
    receiving = asyncio.create_task(ports.activities.receive(count, WAIT_S, names))
    for _ in range(5):
        await asyncio.sleep(0)
    return receiving


def ids(deliveries: Sequence[ActivityDelivery]) -> list[str]:
    return [delivery.id for delivery in deliveries]


async def test_a_task_is_handed_to_the_receive_that_waits_and_to_nobody_else(ports: HubPorts) -> None:
    receiving = await waiting_for_tasks(ports)
    await schedule(ports, "a", "b")

    taken = await receiving

    assert [(one.id, one.delivery_count) for one in taken] == [("a", 1), ("b", 1)]
    assert ids(await ports.activities.receive(10, 0)) == []


async def test_what_a_receive_has_no_room_for_is_free_for_others_in_order(ports: HubPorts) -> None:
    receiving = await waiting_for_tasks(ports, 2)
    await schedule(ports, "a", "b", "c", "d")

    assert ids(await receiving) == ["a", "b"]
    assert ids(await ports.activities.receive(10, 0)) == ["c", "d"]


async def test_a_receive_of_some_activities_is_handed_those_alone(ports: HubPorts) -> None:
    ships, packs = [await waiting_for_tasks(ports, 3, [name]) for name in ("ship", "pack")]
    names = ("ship", "other", "pack")
    await ports.activities.send([task(f"t{n}", name=names[n % 3]) for n in range(12)])

    assert ids(await ships) == ["t0", "t3", "t6"]
    assert ids(await packs) == ["t2", "t5", "t8"]
    # What nobody waited for, and what there was no room for, is free, in order.
    assert ids(await ports.activities.receive(10, 0, ["other"])) == ["t1", "t4", "t7", "t10"]
    assert ids(await ports.activities.receive(10, 0)) == ["t9", "t11"]


class Unwilling(Places):
    """Completes that fail, after everything else of their transaction is done."""

    def delete(self, transaction: Transaction) -> None:
        raise CommitRefusedError("not these")


async def test_a_plan_that_fails_in_the_end_hands_nothing_over(ports: HubPorts) -> None:
    store = cast(LocalStore, ports.store)
    lock = await store.read_lock(0)
    receiving = await waiting_for_tasks(ports)

    with pytest.raises(CommitRefusedError):
        await store.transact(0, LockRow(n=1), lock.etag, [], stored_outbound([task("never")]), Unwilling([]))
    await schedule(ports, "a")
    taken = await receiving or await ports.activities.receive(10, WAIT_S)

    assert ids(taken) == ["a"]


async def test_a_task_handed_to_a_receive_that_was_cancelled_is_given_back(ports: HubPorts) -> None:
    receiving = await waiting_for_tasks(ports)
    sending = asyncio.create_task(schedule(ports, "a"))
    await asyncio.sleep(0)
    receiving.cancel()
    await sending
    with pytest.raises(asyncio.CancelledError):
        await receiving

    taken = await ports.activities.receive(10, WAIT_S)

    assert ids(taken) == ["a"]


async def test_a_result_goes_to_the_open_session_and_its_task_with_the_turn(ports: HubPorts) -> None:
    session = await accept(ports)
    await schedule(ports, "a")
    (taken,) = await ports.activities.receive(10, WAIT_S)
    await ports.activities.finish([(taken, message("done a"))])

    (result,) = await session.receive(10, WAIT_S)
    assert (result.id, result.delivery_count) == ("done a", 1)
    lock = await ports.store.read_lock(0)
    assert ports.atomic is not None
    await ports.atomic.execute(0, LockRow(n=1), lock.etag, [], sends=[], session=session, completes=[result])
    await session.close()

    assert list(await (await accept(ports)).receive(10, 0)) == []
    assert ids(await ports.activities.receive(10, 0)) == []


@pytest.mark.parametrize("was_received", [True, False], ids=["received", "not yet received"])
async def test_a_result_that_is_not_handled_is_there_for_the_next_owner(
    ports: HubPorts, was_received: bool
) -> None:
    session = await accept(ports)
    await schedule(ports, "a")
    (taken,) = await ports.activities.receive(10, WAIT_S)
    await ports.activities.finish([(taken, message("done a"))])
    if was_received:
        assert len(await session.receive(10, WAIT_S)) == 1
    await session.close()

    (again,) = await (await accept(ports)).receive(10, WAIT_S)

    assert again.id == "done a"
    # One that was received and not completed counts as a delivery that failed.
    assert again.delivery_count == (2 if was_received else 1)
    assert ids(await ports.activities.receive(10, 0)) == []


async def test_a_result_put_aside_is_a_dead_letter_and_comes_no_more(ports: HubPorts) -> None:
    session = await accept(ports)
    await schedule(ports, "a")
    (taken,) = await ports.activities.receive(10, WAIT_S)
    await ports.activities.finish([(taken, message("done a"))])
    (result,) = await session.receive(10, WAIT_S)

    await session.dead_letter(result, "poison", "kills every worker")
    await session.close()

    assert [letter.id for letter in await ports.orchestrations.dead_letters(10)] == ["done a"]
    assert list(await (await accept(ports)).receive(10, 0)) == []


async def test_a_message_comes_before_a_result_that_it_may_have_caused(ports: HubPorts) -> None:
    session = await accept(ports)
    await schedule(ports, "a")
    (taken,) = await ports.activities.receive(10, WAIT_S)
    await ports.orchestrations.send([message("raised by the activity")])
    await ports.activities.finish([(taken, message("done a"))])

    received = await session.receive(10, WAIT_S)

    assert [delivery.id for delivery in received] == ["raised by the activity", "done a"]


async def test_messages_and_results_come_in_the_order_of_the_hubs_time(ports: HubPorts) -> None:
    session = await accept(ports)
    await schedule(ports, *(f"t{number}" for number in range(3)))
    taken = await ports.activities.receive(10, WAIT_S)
    await ports.orchestrations.send([message("m0"), message("m1")])
    await ports.activities.finish([(taken[0], message("done t0"))])
    await ports.orchestrations.send([message("m2")])
    await ports.activities.finish([(one, message(f"done {one.id}")) for one in taken[1:]])

    came: list[str] = []
    for count in (1, 2, 1, 10):
        came.extend(delivery.id for delivery in await session.receive(count, WAIT_S))

    assert came == ["m0", "m1", "done t0", "m2", "done t1", "done t2"]


async def test_a_result_handed_over_again_is_still_one(ports: HubPorts) -> None:
    session = await accept(ports)
    await schedule(ports, "a")
    (taken,) = await ports.activities.receive(10, WAIT_S)
    for _ in range(3):
        await ports.activities.finish([(taken, message("done a"))])
    received = list(await session.receive(10, WAIT_S))
    await ports.activities.finish([(taken, message("done a"))])

    assert [delivery.id for delivery in received] == ["done a"]
    assert list(await session.receive(10, 0)) == []


async def test_a_session_that_closes_while_other_results_are_written_loses_none(tmp_path: Path) -> None:
    ports = open_local(tmp_path / "two.db", partitions=2)
    session = await accept(ports)
    await schedule(ports, "here", "elsewhere")
    here, elsewhere = await ports.activities.receive(10, WAIT_S)
    finishing = asyncio.create_task(
        ports.activities.finish(
            [(elsewhere, message("done elsewhere", partition=1)), (here, message("done here"))]
        )
    )
    await asyncio.sleep(0)
    await session.close()
    await finishing

    assert [one.id for one in await (await accept(ports)).receive(10, WAIT_S)] == ["done here"]
    assert ids(await ports.activities.receive(10, 0)) == []
    assert ports.close is not None
    await ports.close()


async def test_a_result_that_cannot_be_put_down_has_its_activity_run_again(ports: HubPorts) -> None:
    session = await accept(ports)
    await schedule(ports, "a")
    (taken,) = await ports.activities.receive(10, WAIT_S)
    unwritable: Any = object()
    spoiled = msgspec.structs.replace(message("done a").message, body=unwritable)
    await ports.activities.finish([(taken, msgspec.structs.replace(message("done a"), message=spoiled))])
    await session.close()

    (again,) = await ports.activities.receive(10, WAIT_S)

    assert (again.id, again.delivery_count) == ("a", 2)


async def test_more_results_than_a_session_holds_are_written_and_none_is_lost(ports: HubPorts) -> None:
    count = 2_100
    session = await accept(ports)
    await schedule(ports, *(f"t{number}" for number in range(count)))
    taken: list[ActivityDelivery] = []
    while len(taken) < count:
        taken.extend(await ports.activities.receive(count, WAIT_S))
    await ports.activities.finish([(one, message(f"done {one.id}")) for one in taken])

    came: set[str] = set()
    while len(came) < count:
        received = await session.receive(200, WAIT_S)
        came.update(delivery.id for delivery in received)
        await session.complete(received)
    await session.close()

    assert list(await (await accept(ports)).receive(10, 0)) == []
    assert ids(await ports.activities.receive(10, 0)) == []
