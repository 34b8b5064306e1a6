"""The partition store: the fence, transactions that happen whole or not at all, and reads."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from durabletask_azure.core.history import Parent, RuntimeStatus
from durabletask_azure.core.messages import ToActivities
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
    PutTombstone,
    RowWrite,
    Tombstone,
)
from durabletask_azure.errors import (
    CommitRefusedError,
    HubUnavailableError,
    OrchestrationAlreadyExistsError,
    PartitionLostError,
)
from durabletask_azure.ports import HubPorts, PartitionStore, ReadsTogether
from tests.contract.builders import after, instance, message, task
from tests.contract.conftest import PortsFactory

ODD_IDS = [
    "it's",
    'a "quoted" one',
    "100%",
    "a_b",
    "a/b\\c#d?",
    "Ω🎉",
    "Case",
    "case",
    "x!y",
    "a;--",
    " ",
    "n" * 500,
]


async def commit(store: PartitionStore, *writes: RowWrite, partition: int = 0) -> dict[str, str]:
    """Commit writes under the lock row as it is now, and return the new ETags."""
    before = await store.read_lock(partition)
    receipt = await store.commit(partition, LockRow(owner="me", n=before.row.n + 1), before.etag, writes)
    return dict(receipt.etags)


async def test_a_new_partition_has_an_empty_lock_row(ports: HubPorts) -> None:
    for partition in range(ports.info.partitions):
        assert (await ports.store.read_lock(partition)).row == LockRow()


async def test_a_commit_replaces_the_lock_row(ports: HubPorts) -> None:
    lock = LockRow(owner="me", epoch=3, n=7, commit_id="c", sent=5, unsent=("a", "b"), unsettled=("m",))
    before = await ports.store.read_lock(1)

    receipt = await ports.store.commit(1, lock, before.etag, ())

    stored = await ports.store.read_lock(1)
    assert stored.row == lock
    assert stored.etag == receipt.lock_etag != before.etag
    assert (await ports.store.read_lock(0)).row == LockRow()


async def test_a_stale_owner_is_refused_and_writes_nothing(ports: HubPorts) -> None:
    store = ports.store
    stale = await store.read_lock(0)
    await commit(store)

    with pytest.raises(PartitionLostError):
        await store.commit(0, LockRow(owner="stale"), stale.etag, (PutInstance(instance("i")),))

    assert await store.read_instance(0, "i") is None
    assert (await store.read_lock(0)).row.owner == "me"


@pytest.mark.parametrize("etag", ["", "never given", "-1", "9" * 30])
async def test_a_foreign_etag_is_refused(ports: HubPorts, etag: str) -> None:
    with pytest.raises(PartitionLostError):
        await ports.store.commit(0, LockRow(), etag, ())


async def test_an_instance_row_is_read_as_it_was_written(ports: HubPorts) -> None:
    row = instance(
        "i", tail=b"\x00line\n\xff", output='"🎉"', completed_at=after(1), due_at=after(2), reason="why"
    )
    etags = await commit(ports.store, PutInstance(row))

    stored = await ports.store.read_instance(0, "i")

    assert stored is not None
    assert stored.row == row
    assert stored.etag == etags["i"]


async def test_rows_that_are_read_together_are_those_that_are_read_alone(ports: HubPorts) -> None:
    store = ports.store
    if not isinstance(store, ReadsTogether):
        pytest.skip("this store reads rows one by one")
    names = [f"i{number}" for number in range(5)]
    for name in names:
        await store.insert_instance(0, instance(name, tail=name.encode()))
    await store.insert_instance(1, instance("elsewhere"))

    found = await store.read_instances(0, [*names, "absent", "elsewhere"])

    assert sorted(found) == names
    for name in names:
        assert found[name] == await store.read_instance(0, name)


async def test_a_row_is_replaced_only_under_its_etag(ports: HubPorts) -> None:
    store = ports.store
    first = (await commit(store, PutInstance(instance("i"))))["i"]
    second = (await commit(store, PutInstance(instance("i", output="1"), first)))["i"]
    assert second != first

    with pytest.raises(CommitRefusedError) as refused:
        await commit(store, PutInstance(instance("i", output="2"), first))

    assert refused.value.conflict
    assert refused.value.row_key == "i!i"
    stored = await store.read_instance(0, "i")
    assert stored is not None
    assert stored.row.output == "1"
    assert stored.etag == second


async def test_an_insert_of_an_existing_row_is_a_conflict(ports: HubPorts) -> None:
    await commit(ports.store, PutInstance(instance("i")))

    with pytest.raises(CommitRefusedError) as refused:
        await commit(ports.store, PutInstance(instance("i")))

    assert refused.value.conflict
    assert refused.value.row_key == "i!i"


async def test_a_refused_commit_leaves_nothing_of_its_other_writes(ports: HubPorts) -> None:
    store = ports.store
    await commit(store, PutInstance(instance("there")))
    before = await store.read_lock(0)
    writes: list[RowWrite] = [
        PutInstance(instance("new")),
        PutSegment("new", "e1", 0, b"events"),
        PutOutbox(OutboxRow(n=1, index=0, messages=(message("m"),))),
        PutTombstone(Tombstone(instance_id="gone", execution_id="e1", expires_at=after(1))),
        DeleteInstance("there", "0"),
    ]

    with pytest.raises(CommitRefusedError):
        await store.commit(0, LockRow(owner="me"), before.etag, writes)

    assert await store.read_lock(0) == before
    assert await store.read_instance(0, "new") is None
    assert await store.read_instance(0, "there") is not None
    assert await store.read_outbox(0) == []
    assert await store.read_tombstone(0, "gone") is None
    with pytest.raises(HubUnavailableError):
        await store.read_segments(0, "new", "e1", 1)


async def test_a_deleted_row_is_gone_and_its_etag_never_comes_back(ports: HubPorts) -> None:
    store = ports.store
    given: set[str] = set()
    for _ in range(5):
        etag = (await commit(store, PutInstance(instance("i"))))["i"]
        assert etag not in given
        given.add(etag)
        await commit(store, DeleteInstance("i", etag))
        assert await store.read_instance(0, "i") is None


async def test_segments_staged_first_are_read_joined(ports: HubPorts) -> None:
    store = ports.store
    await commit(store, *(PutSegment("i", "e1", index, b"%d\n" % index) for index in range(12)))
    await commit(store, PutSegment("i", "e2", 0, b"other"), PutSegment("i", "e1", 3, b"again\n"))

    joined = await store.read_segments(0, "i", "e1", 12)

    assert joined == b"0\n1\n2\nagain\n4\n5\n6\n7\n8\n9\n10\n11\n"
    assert await store.read_segments(0, "i", "e1", 2) == b"0\n1\n"
    assert await store.read_segments(0, "i", "e1", 0) == b""


async def test_deleted_segments_are_missing(ports: HubPorts) -> None:
    store = ports.store
    await commit(store, *(PutSegment("i", "e1", index, b"x") for index in range(4)))
    await commit(store, DeleteSegments("i", "e1", 1, 2), DeleteSegments("i", "never", 0, 5))

    assert await store.read_segments(0, "i", "e1", 1) == b"x"
    with pytest.raises(HubUnavailableError):
        await store.read_segments(0, "i", "e1", 4)


async def test_outbox_rows_come_oldest_first_with_all_they_hold(ports: HubPorts) -> None:
    rows = [
        OutboxRow(n=2, index=0, messages=(message("m", deliver_at=after(5)), task("t", group="gpu"))),
        OutboxRow(n=10, index=0, unsent=("a", "b")),
        OutboxRow(n=10, index=1),
    ]
    await commit(ports.store, *(PutOutbox(row) for row in reversed(rows)))
    await commit(ports.store, PutOutbox(OutboxRow(n=11, index=0)), DeleteOutbox(11, 0), DeleteOutbox(99, 0))

    read = await ports.store.read_outbox(0)

    assert list(read) == rows
    assert isinstance(read[0].messages[1], ToActivities)
    assert await ports.store.read_outbox(1) == []


async def test_tombstones_are_read_listed_when_expired_and_deleted(ports: HubPorts) -> None:
    store = ports.store
    stones = [
        Tombstone(
            instance_id=f"i{number}", execution_id="e1", expires_at=after(number), parent=Parent("p", "e", 1)
        )
        for number in range(4)
    ]
    await commit(store, *(PutTombstone(stone) for stone in stones))

    assert await store.read_tombstone(0, "i2") == stones[2]
    assert await store.read_tombstone(0, "other") is None
    assert list(await store.expired_tombstones(0, after(2), 10)) == stones[:3]
    assert list(await store.expired_tombstones(0, after(2), 2)) == stones[:2]
    await commit(store, DeleteTombstone("i0"), DeleteTombstone("i1"), DeleteTombstone("never"))
    assert list(await store.expired_tombstones(0, after(9), 10)) == stones[2:]


async def test_a_client_inserts_once(ports: HubPorts) -> None:
    row = instance("i", status=RuntimeStatus.PENDING)
    etag = await ports.store.insert_instance(0, row)

    with pytest.raises(OrchestrationAlreadyExistsError):
        await ports.store.insert_instance(0, instance("i", execution_id="e2"))

    stored = await ports.store.read_instance(0, "i")
    assert stored is not None
    assert (stored.row, stored.etag) == (row, etag)


async def test_a_client_replaces_only_the_row_it_read(ports: HubPorts) -> None:
    first = await ports.store.insert_instance(0, instance("i"))
    second = await ports.store.replace_instance(0, instance("i", execution_id="e2"), first)

    with pytest.raises(CommitRefusedError) as refused:
        await ports.store.replace_instance(0, instance("i", execution_id="e3"), first)

    assert refused.value.conflict
    stored = await ports.store.read_instance(0, "i")
    assert stored is not None
    assert (stored.row.execution_id, stored.etag) == ("e2", second)


@pytest.mark.parametrize("odd_id", ODD_IDS, ids=range(len(ODD_IDS)))
async def test_an_odd_id_names_one_row_only(ports: HubPorts, odd_id: str) -> None:
    await ports.store.insert_instance(0, instance(odd_id))

    stored = await ports.store.read_instance(0, odd_id)

    assert stored is not None
    assert stored.row.instance_id == odd_id
    for other in {*ODD_IDS, "CASE", odd_id + " ", odd_id + "\0"} - {odd_id}:
        assert await ports.store.read_instance(0, other) is None


async def test_partitions_do_not_see_one_another(ports: HubPorts) -> None:
    await ports.store.insert_instance(0, instance("i"))

    assert await ports.store.read_instance(1, "i") is None


async def test_an_unacceptable_row_is_refused_without_a_conflict(ports: HubPorts) -> None:
    with pytest.raises(CommitRefusedError) as refused:
        await commit(ports.store, PutInstance(instance("lone surrogate \ud800")))

    assert not refused.value.conflict
    assert (await ports.store.read_lock(0)).row == LockRow()


async def test_too_many_rows_are_refused(ports: HubPorts) -> None:
    writes = [PutSegment("i", "e1", index, b"") for index in range(ports.limits.rows_max)]

    with pytest.raises(CommitRefusedError):
        await commit(ports.store, *writes)

    await commit(ports.store, *writes[1:])


async def test_what_one_opening_writes_the_other_reads(ports_factory: PortsFactory) -> None:
    one, other = await ports_factory(), await ports_factory()
    await one.store.insert_instance(0, instance("i"))

    assert await other.store.read_instance(0, "i") is not None
    assert other.info == one.info


async def test_the_server_tells_its_time_in_utc(ports: HubPorts) -> None:
    before = datetime.now(UTC)
    now = await ports.store.server_time()

    assert now.tzinfo is UTC
    assert abs((now - before).total_seconds()) < 60
