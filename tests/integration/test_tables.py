"""The hub's table on Azurite: limits, lost replies, first starts at once, and what is said when something is wrong."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

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
    RowWrite,
)
from durabletask_azure.errors import (
    CommitRefusedError,
    ConfigurationError,
    HubUnavailableError,
    OrchestrationAlreadyExistsError,
    PartitionLostError,
    ThrottledError,
)
from durabletask_azure.ports import HubInfo, InstanceFilter, Receipt, WorkerRow
from durabletask_azure.settings import Settings
from durabletask_azure.targets import HubNames, StorageTarget
from tests.azure_services import AzureServices
from tests.contract.builders import NOON, WAIT_S, after, instance
from tests.wire.http_gate import HttpRule, HttpRules
from tests.wire.proxy import TcpProxy

pytestmark = pytest.mark.azure
MIB = 1024 * 1024
Open = Callable[..., HubTable]


@pytest.fixture
async def open_table(azure_services: AzureServices) -> AsyncIterator[Open]:
    """Open the test's table, which is not created, or that of another hub."""
    opened: list[HubTable] = []

    def open_one(
        hub: str = "", *, target: StorageTarget | None = None, settings: Settings | None = None
    ) -> HubTable:
        names = HubNames(hub=f"{azure_services.names.hub}{hub}")
        one = HubTable(target or azure_services.storage, names, settings or Settings())
        opened.append(one)
        return one

    yield open_one
    for one in opened:
        await one.close()


@pytest.fixture
async def table(open_table: Open) -> HubTable:
    """The test's table, created."""
    one = open_table()
    assert await one.create_table()
    return one


def hub_info(partitions: int = 4) -> HubInfo:
    return HubInfo(schema_version=1, incarnation=uuid.uuid4().hex, partitions=partitions, created_at=NOON)


async def commit(table: HubTable, *writes: RowWrite, partition: int = 0, commit_id: str = "") -> Receipt:
    """Commit writes under the lock row as it is now."""
    before = await table.store.read_lock(partition)
    row = msgspec.structs.replace(before.row, n=before.row.n + 1, commit_id=commit_id)
    return await table.store.commit(partition, row, before.etag, writes)


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


# ------------------------------------------------------------------ what goes wrong on the way


@pytest.fixture
async def spoiled(
    azure_services: AzureServices, open_table: Open, table: HubTable
) -> AsyncIterator[tuple[HubTable, HttpRules]]:
    """The test's table behind a proxy that spoils requests by rule."""
    rules = HttpRules()
    port = int(azure_services.storage.table_url.split(":")[2].split("/")[0])
    with TcpProxy(port, gate=rules.gate) as proxy:
        url = azure_services.storage.table_url.replace(str(port), str(proxy.port))
        far = open_table(target=replace(azure_services.storage, table_url=url))
        yield far, rules
        await far.close()


@pytest.mark.parametrize("action", ["land-then-cut", "land-then-refuse"])
async def test_a_commit_whose_reply_is_lost_is_known_by_its_id(
    spoiled: tuple[HubTable, HttpRules], action: str
) -> None:
    far, rules = spoiled
    before = await far.store.read_lock(0)
    lock = LockRow(owner="me", commit_id="mine")
    writes = (PutInstance(instance("i")),)
    rules.add(HttpRule(action=action, method="POST", path="batch"))  # pyright: ignore[reportArgumentType]

    with pytest.raises((HubUnavailableError, ThrottledError)):
        await far.store.commit(0, lock, before.etag, writes)
    with pytest.raises(PartitionLostError):  # the same again: it landed, so the lock row is another
        await far.store.commit(0, lock, before.etag, writes)

    stored = await far.store.read_lock(0)
    assert stored.row.commit_id == "mine"
    await far.store.commit(0, lock, stored.etag, ())


async def test_a_commit_that_did_not_arrive_can_be_made_again(spoiled: tuple[HubTable, HttpRules]) -> None:
    far, rules = spoiled
    before = await far.store.read_lock(0)
    rules.add(HttpRule(action="cut", method="POST", path="batch"))

    with pytest.raises(HubUnavailableError):
        await far.store.commit(0, LockRow(owner="me"), before.etag, (PutInstance(instance("i")),))

    assert await far.store.read_lock(0) == before
    await far.store.commit(0, LockRow(owner="me"), before.etag, (PutInstance(instance("i")),))


async def test_an_insert_whose_reply_is_lost_is_found(spoiled: tuple[HubTable, HttpRules]) -> None:
    far, rules = spoiled
    rules.add(HttpRule(action="land-then-cut", method="POST"))
    row = instance("i", execution_id="mine")

    with pytest.raises(HubUnavailableError):
        await far.store.insert_instance(0, row)
    with pytest.raises(OrchestrationAlreadyExistsError):
        await far.store.insert_instance(0, row)

    stored = await far.store.read_instance(0, "i")
    assert stored is not None
    assert stored.row.execution_id == "mine"


@pytest.mark.parametrize("status", [429, 503])
async def test_a_busy_service_says_when_to_come_back(
    spoiled: tuple[HubTable, HttpRules], status: int
) -> None:
    far, rules = spoiled
    lock = await far.store.read_lock(0)
    rules.add(HttpRule(status=status, retry_after_s=7, count=4))

    for call in (
        far.store.read_lock(0),
        far.store.commit(0, LockRow(), lock.etag, ()),
        far.store.insert_instance(0, instance("i")),
        far.store.query(0, InstanceFilter(), count_max=1),
    ):
        with pytest.raises(ThrottledError, match="ServerBusy") as busy:
            await call
        assert busy.value.retry_after == timedelta(seconds=7)
    # Making the lock row takes three, then each call one: nothing is tried again behind the caller's back.
    assert len(rules.requests) == 3 + 4
    await far.store.insert_instance(0, instance("i"))


async def test_a_failing_service_is_unavailable(spoiled: tuple[HubTable, HttpRules]) -> None:
    far, rules = spoiled
    lock = await far.store.read_lock(0)
    rules.add(HttpRule(status=500, count=2))

    with pytest.raises(HubUnavailableError, match="500"):
        await far.store.read_instance(0, "i")
    with pytest.raises(HubUnavailableError, match="500"):
        await far.store.commit(0, LockRow(), lock.etag, ())


async def test_a_table_that_is_not_there_is_named(open_table: Open, azure_services: AzureServices) -> None:
    missing = open_table("missing")
    store = missing.store
    for call in (
        store.read_instance(0, "i"),
        store.insert_instance(0, instance("i")),
        store.commit(0, LockRow(), "W/\"datetime'2026-01-01T00%3A00%3A00.0000000Z'\"", ()),
        store.query(0, InstanceFilter(), count_max=1),
        missing.membership.announce(WorkerRow(worker_id="w")),
    ):
        with pytest.raises(HubUnavailableError) as error:
            await call
        text = str(error.value)
        assert f"{azure_services.names.hub}missing" in text
        assert azure_services.storage.account_name in text
        assert "TableNotFound" in text


async def test_a_wrong_key_is_told_without_showing_it(
    open_table: Open, azure_services: AzureServices
) -> None:
    wrong = "bm90IHRoZSBrZXkgb2YgdGhpcyBhY2NvdW50"
    table = open_table(target=replace(azure_services.storage, account_key=wrong))

    for call in (
        table.read_hub(),
        table.create_table(),
        table.store.commit(0, LockRow(), "W/\"datetime'2026-01-01T00%3A00%3A00.0000000Z'\"", ()),
    ):
        with pytest.raises(HubUnavailableError, match="refused the credentials") as error:
            await call
        assert wrong not in f"{error.value} {error.value.__cause__}"
        assert azure_services.storage.account_name in str(error.value)


async def test_a_service_that_is_not_there_is_named_without_a_signature(open_table: Open) -> None:
    away = StorageTarget(
        account_name="orders",
        table_url="http://127.0.0.1:9/orders",
        blob_url="http://127.0.0.1:9/orders",
        sas_token="sv=2019-02-02&sig=SECRET",
    )
    table = open_table(target=away)
    lock = table.store.commit(0, LockRow(), "W/\"datetime'2026-01-01T00%3A00%3A00.0000000Z'\"", ())
    for call in (table.store.read_instance(0, "i"), lock):
        with pytest.raises(HubUnavailableError, match=r"'orders'.*127\.0\.0\.1:9") as error:
            await call
        assert "SECRET" not in f"{error.value!r} {error.value.__cause__!r}"


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


# ------------------------------------------------------------------ workers


async def test_the_long_silent_are_removed_and_the_silent_left_out(open_table: Open, table: HubTable) -> None:
    quick = open_table(settings=Settings(heartbeat_s=0.02))
    patient = open_table(settings=Settings(heartbeat_s=1000.0))
    await quick.membership.announce(WorkerRow(worker_id="w", partitions=(1,)))

    async def silent() -> None:
        while await quick.membership.workers():
            await quick.membership.wait_changed(0.05)

    await asyncio.wait_for(silent(), WAIT_S)
    assert [row.worker_id for row in await patient.membership.workers()] in (["w"], [])

    async def removed() -> None:
        while await patient.membership.workers():
            await quick.membership.workers()

    await asyncio.wait_for(removed(), WAIT_S)


async def test_the_age_of_a_worker_is_the_services(table: HubTable) -> None:
    await table.membership.announce(WorkerRow(worker_id="w", age_s=77.0))

    (row,) = await table.membership.workers()

    assert 0 <= row.age_s < 30
    now = await table.store.server_time()
    assert abs(now - datetime.now(UTC)) < timedelta(seconds=60)


# ------------------------------------------------------------------ waiting


async def test_a_thousand_waits_cost_one_row_a_look(
    spoiled: tuple[HubTable, HttpRules], table: HubTable
) -> None:
    client, _ = spoiled  # by another address: as far apart from the owner as another process
    etag = await table.store.insert_instance(0, instance("i500", status=RuntimeStatus.PENDING))
    watches = [client.changes.watch(0, f"i{number}", ended=True) for number in range(1_000)]
    first = asyncio.create_task(watches[0].wait(3600))
    waiting = asyncio.create_task(watches[500].wait(3600))

    done = PutInstance(instance("i500", status=RuntimeStatus.COMPLETED), etag)
    await commit(table, done)

    finished, _ = await asyncio.wait([waiting], timeout=WAIT_S)
    assert finished
    assert client.counters.point_reads == client.counters.looks < 60
    first.cancel()
    for watch in watches:
        watch.close()


async def test_a_client_that_comes_too_late_for_a_name_looks_itself(
    spoiled: tuple[HubTable, HttpRules], table: HubTable
) -> None:
    client, _ = spoiled
    watch = client.changes.watch(0, "mine", ended=True)
    await asyncio.wait_for(watch.wait(3600), WAIT_S)  # what was before the first look is not known
    rows = [instance(f"i{number}", status=RuntimeStatus.COMPLETED) for number in range(90)]
    await commit(table, PutInstance(instance("mine", status=RuntimeStatus.COMPLETED)))
    for turn in range(4):
        await commit(
            table,
            *(
                PutInstance(msgspec.structs.replace(row, instance_id=f"{turn}-{row.instance_id}"))
                for row in rows
            ),
        )

    await asyncio.wait_for(watch.wait(3600), WAIT_S)
    watch.close()


async def test_a_client_beside_the_owner_is_woken_without_a_look(open_table: Open, table: HubTable) -> None:
    client = open_table()
    await commit(table)  # this process has just committed to the partition
    watch = client.changes.watch(0, "i")
    waiting = asyncio.create_task(watch.wait(3600))
    await asyncio.sleep(0)

    await commit(table, PutInstance(instance("i")))

    assert (await asyncio.wait([waiting], timeout=WAIT_S))[0]
    assert client.counters.wakes == 1
    assert client.counters.looks == 0
    watch.close()
