"""The hub's table on Azurite: its life, the limits of rows and transactions, and listings."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from durabletask_azure.adapters.tables import HubTable
from durabletask_azure.core.history import RuntimeStatus
from durabletask_azure.core.rows import (
    DeleteInstance,
    DeleteOutbox,
    DeleteSegments,
    DeleteTombstone,
    LockRow,
    OutboxRow,
    PutInstance,
    PutOutbox,
    PutSegment,
)
from durabletask_azure.errors import (
    CommitRefusedError,
    ConfigurationError,
    HubUnavailableError,
    OrchestrationAlreadyExistsError,
    PartitionLostError,
)
from durabletask_azure.ports import InstanceFilter, Receipt, WorkerRow
from tests.contract.builders import NOON, after, instance
from tests.integration.conftest import Open
from tests.integration.tables import commit, hub_info

pytestmark = pytest.mark.azure
MIB = 1024 * 1024


# ------------------------------------------------------------------ the table itself


async def test_a_table_is_made_once_and_is_gone_when_deleted(open_table: Open) -> None:
    table, other = open_table(), open_table()
    assert not await table.table_exists()
    assert await table.create_table()
    assert not await other.create_table()
    assert await other.table_exists()
    assert await table.read_hub() is None

    await other.delete_table()
    await table.delete_table()
    assert not await table.table_exists()


async def test_of_many_first_starts_one_says_what_the_hub_is(open_table: Open, table: HubTable) -> None:
    starters = [open_table() for _ in range(8)]

    said = await asyncio.gather(
        *(one.insert_hub(hub_info(number + 1)) for number, one in enumerate(starters))
    )

    assert len({info.incarnation for info in said}) == 1
    assert await table.read_hub() == said[0]


async def test_two_hubs_of_one_account_do_not_touch(open_table: Open, table: HubTable) -> None:
    other = open_table("b")
    await other.create_table()
    await table.insert_hub(hub_info(1))
    await table.store.insert_instance(0, instance("i"))
    await commit(table, PutSegment("i", "e1", 0, b"x"))
    await table.membership.announce(WorkerRow(worker_id="w"))

    assert await other.read_hub() is None
    assert await other.store.read_instance(0, "i") is None
    assert (await other.store.read_lock(0)).row == LockRow()
    assert list(await other.membership.workers()) == []
    await other.delete_table()
    assert await table.store.read_instance(0, "i") is not None


# ------------------------------------------------------------------ limits


@pytest.mark.parametrize(("rows", "fits"), [(99, True), (100, True), (101, False)])
async def test_a_transaction_takes_a_hundred_rows_with_the_lock_row(
    table: HubTable, rows: int, fits: bool
) -> None:
    writes = [PutInstance(instance(f"i{number}")) for number in range(rows - 1)]
    if fits:
        receipt = await commit(table, *writes)
        assert len(receipt.etags) == rows - 1
        assert (await table.store.query(0, InstanceFilter(), count_max=1_000)).token is None
        return
    with pytest.raises(CommitRefusedError, match="101 rows with the lock row are more than the 100"):
        await commit(table, *writes)
    assert await table.store.read_instance(0, "i0") is None


async def test_a_transaction_that_is_too_large_is_refused_here(table: HubTable) -> None:
    writes = [PutSegment("i", "e1", index, b"x" * 700_000) for index in range(5)]
    with pytest.raises(CommitRefusedError, match="more than the 4,194,304 of a transaction"):
        await commit(table, *writes)

    await commit(table, *writes[:3])
    assert len(await table.store.read_segments(0, "i", "e1", 3)) == 2_100_000


async def test_a_row_that_is_too_large_is_refused_by_name_and_its_neighbours_are_not_written(
    table: HubTable,
) -> None:
    with pytest.raises(CommitRefusedError) as refused:
        await commit(table, PutInstance(instance("a")), PutInstance(instance("b", tail=b"x" * MIB)))

    assert (refused.value.row_key, refused.value.conflict) == ("i!b", False)
    assert await table.store.read_instance(0, "a") is None


@pytest.mark.parametrize("length", [65_535, 65_536, 65_537, 300_000])
async def test_values_of_several_properties_come_back(table: HubTable, length: int) -> None:
    row = instance("i", tail=b"\x00\xff" * (length // 2) + b"x" * (length % 2), output="🎉" * (length // 4))

    await commit(table, PutInstance(row))

    stored = await table.store.read_instance(0, "i")
    assert stored is not None
    assert stored.row == row
    page = await table.store.query(0, InstanceFilter(ids=["i"]), count_max=1)
    assert page.rows == (await table.store.query(0, InstanceFilter(), count_max=1)).rows
    assert page.rows[0] == msgspec.structs.replace(row, tail=b"")


@pytest.mark.parametrize("length", [32_767, 32_768, 32_769])
async def test_a_string_property_ends_at_32768_utf_16_units(table: HubTable, length: int) -> None:
    row = instance("i", version="x" * (length - 2) + "🎉")
    if length <= 32_768:
        await commit(table, PutInstance(row))
        assert await table.store.read_instance(0, "i") is not None
        return
    with pytest.raises(CommitRefusedError, match="UTF-16") as refused:
        await commit(table, PutInstance(row))
    assert refused.value.row_key == "i!i"


async def test_ids_of_five_hundred_emoji_have_rows_of_their_own(table: HubTable) -> None:
    ids = ["🎉" * 500, "🎉" * 499 + "🎈", "🎉" * 499, "🎉"]
    for instance_id in ids:
        await table.store.insert_instance(
            0, instance(instance_id, status=RuntimeStatus.FAILED, completed_at=NOON)
        )
    await commit(table, *(PutSegment(each, each, 0, each.encode()) for each in ids))

    for each in ids:
        stored = await table.store.read_instance(0, each)
        assert stored is not None
        assert stored.row.instance_id == each
        assert await table.store.read_segments(0, each, each, 1) == each.encode()
    for prefix, found in [("🎉" * 499, 3), ("🎉" * 500, 1), ("🎉" * 498 + "🎈", 0), ("", 4)]:
        page = await table.store.query(0, InstanceFilter(id_prefix=prefix), count_max=10)
        assert len(page.rows) == found
    ended = await table.store.ended_before(0, RuntimeStatus.FAILED, after(1), 10)
    assert {one.instance_id for one in ended} == set(ids)


# ------------------------------------------------------------------ transactions


async def test_deleting_what_is_not_there_spoils_nothing(table: HubTable) -> None:
    await commit(
        table, *(PutSegment("i", "e1", index, b"x") for index in (0, 2)), PutOutbox(OutboxRow(n=1, index=0))
    )
    before = table.counters.transactions

    await commit(
        table,
        PutInstance(instance("i")),
        DeleteSegments("i", "e1", 0, 5),
        DeleteOutbox(1, 0),
        DeleteOutbox(9, 9),
        DeleteTombstone("never"),
    )

    assert table.counters.transactions - before == 2
    assert await table.store.read_outbox(0) == []
    assert await table.store.read_instance(0, "i") is not None
    with pytest.raises(HubUnavailableError):
        await table.store.read_segments(0, "i", "e1", 1)


async def test_a_row_that_is_gone_is_a_conflict_of_that_row(table: HubTable) -> None:
    etag = (await commit(table, PutInstance(instance("a")), PutInstance(instance("b")))).etags["a"]
    await commit(table, DeleteInstance("a", etag))

    for write in (PutInstance(instance("a"), etag), DeleteInstance("a", etag)):
        with pytest.raises(CommitRefusedError) as refused:
            await commit(table, PutInstance(instance("c")), write)
        assert (refused.value.row_key, refused.value.conflict) == ("i!a", True)
    with pytest.raises(CommitRefusedError) as refused:
        await table.store.replace_instance(0, instance("a"), etag)
    assert refused.value.conflict
    assert await table.store.read_instance(0, "c") is None


async def test_of_two_owners_one_commits(open_table: Open, table: HubTable) -> None:
    rivals = [table, open_table()]
    etags = [(await one.store.read_lock(0)).etag for one in rivals]
    assert len(set(etags)) == 1

    outcomes = await asyncio.gather(
        *(
            one.store.commit(0, LockRow(owner=str(number)), etags[0], (PutInstance(instance(f"i{number}")),))
            for number, one in enumerate(rivals)
        ),
        return_exceptions=True,
    )

    assert sum(isinstance(outcome, PartitionLostError) for outcome in outcomes) == 1
    (winner,) = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, Receipt)]
    assert (await table.store.read_lock(0)).row.owner == str(winner)
    assert await table.store.read_instance(0, f"i{1 - winner}") is None


async def test_of_many_inserts_of_one_id_one_succeeds(open_table: Open, table: HubTable) -> None:
    openings = [table, *(open_table() for _ in range(3))]
    rows = [instance("same", execution_id=f"e{number}") for number in range(12)]

    outcomes = await asyncio.gather(
        *(openings[number % 4].store.insert_instance(0, row) for number, row in enumerate(rows)),
        return_exceptions=True,
    )

    etags = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert len(etags) == 1
    assert sum(isinstance(outcome, OrchestrationAlreadyExistsError) for outcome in outcomes) == 11
    stored = await table.store.read_instance(0, "same")
    assert stored is not None
    assert stored.etag == etags[0]


# ------------------------------------------------------------------ listings


async def test_many_ids_are_asked_for_one_by_one_in_pages(table: HubTable) -> None:
    ids = [f"i{number:03d}" for number in range(60)]
    await commit(table, *(PutInstance(instance(each)) for each in ids))
    where = InstanceFilter(ids=[*ids, *(f"other{number}" for number in range(100))])

    found: list[str] = []
    token: str | None = None
    while True:
        page = await table.store.query(0, where, count_max=25, token=token)
        found += [row.instance_id for row in page.rows]
        token = page.token
        if token is None:
            break

    assert found == ids


async def test_a_token_of_the_service_that_no_longer_fits_is_no_crash(table: HubTable) -> None:
    await commit(table, *(PutInstance(instance(f"i{number}")) for number in range(3)))
    page = await table.store.query(0, InstanceFilter(), count_max=1)
    assert page.token is not None
    await table.store.query(0, InstanceFilter(), count_max=1, token=page.token)

    for spoilt in (page.token[:-8], "AAAA", "", page.token.upper()):
        with pytest.raises(ConfigurationError):
            await table.store.query(0, InstanceFilter(), count_max=1, token=spoilt)


async def test_instances_are_counted_over_all_partitions_by_status_alone(table: HubTable) -> None:
    await table.insert_hub(hub_info(3))
    for partition in range(3):
        await commit(
            table,
            *(PutInstance(instance(f"{partition}-{number}")) for number in range(5)),
            PutInstance(instance("f", status=RuntimeStatus.FAILED)),
            PutSegment("i", "e1", 0, b"x"),
            partition=partition,
        )

    assert await table.count_instances() == {RuntimeStatus.RUNNING: 15, RuntimeStatus.FAILED: 3}
