"""How the embedded hub finds instances: files of earlier versions, many rows, and what a look may cost."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from durabletask_azure import OrchestrationQuery, OrchestrationStatus, TaskHub, TaskHubClient
from durabletask_azure.adapters.local import open_local
from durabletask_azure.core.history import RuntimeStatus
from durabletask_azure.core.rows import InstanceRow
from durabletask_azure.ports import HubPorts, InstanceFilter
from tests.contract.builders import after, instance

ADDED = {"instances_by_status"}
"""Indexes the first landed version's files do not have."""


def indexes(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as database:
        return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}


def as_the_first_version_wrote_it(path: Path) -> None:
    """Take out of a file what the first landed version did not write."""
    with closing(sqlite3.connect(path)) as database:
        for name in ADDED:
            database.execute(f"DROP INDEX {name}")
        database.commit()


def test_a_file_of_the_first_version_gets_what_it_lacks_and_keeps_its_instances(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    with TaskHub.local(path) as hub:
        for number in range(5):
            TaskHubClient(hub).schedule_new_orchestration("flow", instance_id=f"{number}", version="1")
    fresh = indexes(path)
    as_the_first_version_wrote_it(path)
    assert indexes(path) == fresh - ADDED

    for _ in range(2):
        with TaskHub.local(path) as hub:
            client = TaskHubClient(hub)
            assert client.get_hub_statistics().instances[OrchestrationStatus.PENDING] == 5
            query = OrchestrationQuery(runtime_status=[OrchestrationStatus.PENDING], versions=["1"])
            assert len(client.get_all_orchestration_states(query)) == 5
        assert indexes(path) == fresh


def test_a_hub_that_is_open_elsewhere_is_upgraded_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    with TaskHub.local(path) as old:
        as_the_first_version_wrote_it(path)
        with TaskHub.local(path) as new:
            TaskHubClient(old).schedule_new_orchestration("flow", instance_id="old")
            TaskHubClient(new).schedule_new_orchestration("flow", instance_id="new")
            assert TaskHubClient(new).get_hub_statistics().instance_count == 2


@pytest.fixture
async def crowd(tmp_path: Path) -> AsyncIterator[HubPorts]:
    """A hub with 25,000 instances in one partition, written past its ports."""
    path = tmp_path / "hub.db"
    ports = open_local(path, partitions=1)
    template = instance("", name="order")
    with closing(sqlite3.connect(path)) as database:
        database.executemany(
            "INSERT INTO instances(partition, id, etag, name, status, created_at, updated_at, completed_at, has_reason,"
            " body, tail) VALUES(0, ?, 1, ?, ?, 0, 0, ?, 0, ?, x'')",
            [_stored(template, number) for number in range(25_000)],
        )
        database.commit()
    yield ports
    assert ports.close is not None
    await ports.close()


def _stored(template: InstanceRow, number: int) -> tuple[str, str, str, int | None, bytes]:
    name = "needle" if number % 10_000 == 9_999 else "order"
    status = RuntimeStatus.FAILED if number % 5_000 == 0 else RuntimeStatus.COMPLETED
    row = msgspec.structs.replace(
        template, instance_id=f"{number:05}", name=name, status=status, completed_at=after(number)
    )
    return row.instance_id, name, status.value, number, msgspec.json.encode(row)


async def looked_for(ports: HubPorts, where: InstanceFilter) -> tuple[list[str], int]:
    """Return the ids of all pages, and how many pages there were."""
    ids: list[str] = []
    pages, token = 0, None
    while True:
        page = await ports.store.query(0, where, count_max=1_000, token=token)
        ids += [row.instance_id for row in page.rows]
        pages += 1
        token = page.token
        if token is None:
            return ids, pages


@pytest.mark.parametrize(
    ("where", "found", "pages"),
    [
        # Along the ids, 10,000 rows a look; with a prefix only along what begins with it.
        (InstanceFilter(names=["needle"]), ["09999", "19999"], 3),
        (InstanceFilter(names=["needle"], id_prefix="1"), ["19999"], 1),
        (InstanceFilter(names=["needle"], id_prefix="0999"), ["09999"], 1),
        (InstanceFilter(names=["nobody"]), [], 3),
        # Few by status: in one look. Many: along the ids.
        (
            InstanceFilter(statuses=[RuntimeStatus.FAILED]),
            ["00000", "05000", "10000", "15000", "20000"],
            1,
        ),
        (InstanceFilter(statuses=[RuntimeStatus.RUNNING]), [], 1),
        (InstanceFilter(statuses=[RuntimeStatus.COMPLETED], names=["needle"]), ["09999", "19999"], 3),
        (InstanceFilter(ids=["19999", "00001"]), ["00001", "19999"], 1),
    ],
)
async def test_a_look_is_bounded_and_finds_the_same(
    crowd: HubPorts, where: InstanceFilter, found: list[str], pages: int
) -> None:
    assert await looked_for(crowd, where) == (found, pages)


async def test_all_of_many_are_found_once(crowd: HubPorts) -> None:
    for where in (InstanceFilter(), InstanceFilter(statuses=[RuntimeStatus.COMPLETED, RuntimeStatus.FAILED])):
        ids, _ = await looked_for(crowd, where)
        assert ids == [f"{number:05}" for number in range(25_000)]


async def test_of_many_ended_runs_the_longest_ended_come_first(tmp_path: Path) -> None:
    ports = open_local(tmp_path / "hub.db")
    for number in range(5):
        row = instance(f"{number}", status=RuntimeStatus.FAILED, completed_at=after(-number))
        await ports.store.insert_instance(0, row)

    found = await ports.store.ended_before(0, RuntimeStatus.FAILED, after(0), 2)

    assert [one.instance_id for one in found] == ["4", "3"]
    assert ports.close is not None
    await ports.close()
