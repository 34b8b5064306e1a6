"""The workers of a hub in its table, and how those who wait for an instance hear of it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from durabletask_azure.adapters.tables import HubTable
from durabletask_azure.core.history import RuntimeStatus
from durabletask_azure.core.rows import (
    PutInstance,
)
from durabletask_azure.ports import WorkerRow
from durabletask_azure.settings import Settings
from tests.contract.builders import WAIT_S, instance
from tests.integration.conftest import Open
from tests.integration.tables import commit
from tests.wire.http_gate import HttpRules

pytestmark = pytest.mark.azure


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
