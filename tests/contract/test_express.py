"""Starts and ends without a coroutine each, where an adapter offers them: told once, and what the other ports say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from durabletask_azure.core.history import RuntimeStatus
from durabletask_azure.core.rows import DeleteInstance, InstanceRow, LockRow, PutInstance, RowWrite
from durabletask_azure.errors import OrchestrationAlreadyExistsError
from durabletask_azure.ports import Express, HubPorts
from tests.contract.builders import WAIT_S, instance, let_others_run, message
from tests.contract.conftest import PortsFactory


@pytest.fixture
def express(ports: HubPorts) -> Express:
    if ports.express is None:
        pytest.skip("this adapter takes a coroutine for each call")
    return ports.express


async def write(ports: HubPorts, *writes: RowWrite, partition: int = 0) -> None:
    lock = await ports.store.read_lock(partition)
    await ports.store.commit(partition, LockRow(n=lock.row.n + 1), lock.etag, writes)


async def etag_of(ports: HubPorts, instance_id: str) -> str:
    stored = await ports.store.read_instance(0, instance_id)
    assert stored is not None
    return stored.etag


class Ending:
    """What is told to one who waits for an end."""

    def __init__(self, express: Express, instance_id: str) -> None:
        self.told: asyncio.Future[InstanceRow | None] = asyncio.get_running_loop().create_future()
        self.leave: Callable[[], None] = express.attend_end(0, instance_id, self.told.set_result)

    async def row(self) -> InstanceRow | None:
        return await asyncio.wait_for(self.told, WAIT_S)


class Beginning:
    """What is told to one who starts an instance."""

    def __init__(self, express: Express, instance_id: str) -> None:
        self._told: asyncio.Future[str | Exception] = asyncio.get_running_loop().create_future()
        row = instance(instance_id, status=RuntimeStatus.PENDING)
        wake_up = message(f"wake {instance_id}", instance_id=instance_id)
        assert express.begin_start(0, row, wake_up, self._told.set_result)

    async def outcome(self) -> str | Exception:
        return await asyncio.wait_for(self._told, WAIT_S)


async def test_a_start_writes_the_row_and_wakes_its_owner(ports: HubPorts, express: Express) -> None:
    starts = [Beginning(express, name) for name in "abc"]
    etags = [await start.outcome() for start in starts]

    assert etags == [await etag_of(ports, name) for name in "abc"]
    session = await ports.orchestrations.accept(0)
    assert session is not None
    received = await session.receive(10, WAIT_S)
    assert [delivery.id for delivery in received] == ["wake a", "wake b", "wake c"]


async def test_of_starts_asked_for_together_only_the_one_whose_id_is_taken_is_refused(
    ports: HubPorts, express: Express
) -> None:
    await ports.store.insert_instance(0, instance("b"))
    starts = [Beginning(express, name) for name in "abc"]
    outcomes = [await start.outcome() for start in starts]

    assert [outcomes[0], outcomes[2]] == [await etag_of(ports, name) for name in "ac"]
    assert isinstance(outcomes[1], OrchestrationAlreadyExistsError)


@pytest.mark.parametrize("is_begun_here", [True, False])
async def test_an_end_is_told_with_the_row_that_is_stored(
    ports: HubPorts, express: Express, *, is_begun_here: bool
) -> None:
    if is_begun_here:
        await Beginning(express, "i").outcome()
    else:
        await ports.store.insert_instance(0, instance("i"))
    endings = [Ending(express, "i") for _ in range(2)]
    await let_others_run()
    etag = await etag_of(ports, "i")
    await write(ports, PutInstance(instance("i", output='"going on"'), etag))
    await let_others_run()
    assert not any(ending.told.done() for ending in endings)

    last = instance("i", status=RuntimeStatus.FAILED, output='"last"', tail=b"tail")
    await write(ports, PutInstance(last, await etag_of(ports, "i")))

    assert [await ending.row() for ending in endings] == [last, last]
    stored = await ports.store.read_instance(0, "i")
    assert stored is not None
    assert stored.row == last


async def test_many_ends_of_before_are_told(ports: HubPorts, express: Express) -> None:
    names = [f"i{number}" for number in range(1_001)]
    rows = {name: instance(name, status=RuntimeStatus.COMPLETED, output=f'"{name}"') for name in names}
    await write(ports, *map(PutInstance, rows.values()))

    endings = {name: Ending(express, name) for name in names}

    assert {name: await ending.row() for name, ending in endings.items()} == rows


@pytest.mark.parametrize("is_begun_here", [True, False])
async def test_the_end_another_opening_writes_is_told(
    ports: HubPorts, ports_factory: PortsFactory, express: Express, *, is_begun_here: bool
) -> None:
    owner = await ports_factory()
    if is_begun_here:
        await Beginning(express, "i").outcome()
    else:
        await ports.store.insert_instance(0, instance("i"))
    ending = Ending(express, "i")
    await let_others_run()

    last = instance("i", status=RuntimeStatus.TERMINATED)
    await write(owner, PutInstance(last, await etag_of(owner, "i")))

    assert await ending.row() == last


async def test_an_end_that_came_before_anybody_waited_is_told_also_of_what_was_begun_here(
    ports: HubPorts, express: Express
) -> None:
    await Beginning(express, "i").outcome()
    last = instance("i", status=RuntimeStatus.COMPLETED)
    await write(ports, PutInstance(last, await etag_of(ports, "i")))

    assert await Ending(express, "i").row() == last


async def test_a_start_that_is_refused_hides_no_end(ports: HubPorts, express: Express) -> None:
    last = instance("i", status=RuntimeStatus.COMPLETED)
    await ports.store.insert_instance(0, last)
    beginning = Beginning(express, "i")
    meanwhile = Ending(express, "i")

    assert isinstance(await beginning.outcome(), OrchestrationAlreadyExistsError)
    assert await meanwhile.row() == last
    assert await Ending(express, "i").row() == last


async def test_nobody_is_told_of_what_is_not_there_or_goes(ports: HubPorts, express: Express) -> None:
    assert await Ending(express, "never").row() is None

    await ports.store.insert_instance(0, instance("i"))
    ending = Ending(express, "i")
    await let_others_run()
    await write(ports, DeleteInstance("i", await etag_of(ports, "i")))
    assert await ending.row() is None


async def test_who_leaves_is_told_nothing(ports: HubPorts, express: Express) -> None:
    await ports.store.insert_instance(0, instance("i"))
    early, late, stays = (Ending(express, "i") for _ in range(3))
    early.leave()
    await let_others_run()
    late.leave()
    late.leave()

    await write(
        ports,
        PutInstance(instance("i", status=RuntimeStatus.COMPLETED), await etag_of(ports, "i")),
    )
    assert await stays.row() is not None
    await let_others_run()

    assert not early.told.done()
    assert not late.told.done()


async def test_an_end_that_is_not_committed_is_not_told(ports: HubPorts, express: Express) -> None:
    await ports.store.insert_instance(0, instance("i"))
    ending = Ending(express, "i")
    await let_others_run()
    last = PutInstance(instance("i", status=RuntimeStatus.COMPLETED), await etag_of(ports, "i"))
    with pytest.raises(OrchestrationAlreadyExistsError):
        await ports.store.insert_instance(0, instance("i"))
    lock = await ports.store.read_lock(0)
    with pytest.raises(Exception, match="not as it was"):
        await ports.store.commit(0, LockRow(n=1), lock.etag, [last, PutInstance(instance("i"))])
    await let_others_run()

    assert not ending.told.done()
    ending.leave()
