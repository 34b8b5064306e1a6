"""Opening the file of an embedded hub: what is created, what is kept, and what is refused untouched."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from durabletask_azure.adapters.local import LocalHub, open_hub, open_local
from durabletask_azure.core.rows import LockRow, PutInstance
from durabletask_azure.errors import (
    ConfigurationError,
    HubUnavailableError,
    OrchestrationAlreadyExistsError,
    SchemaVersionError,
)
from durabletask_azure.hub import TaskHub
from durabletask_azure.ports import HubPorts
from tests.contract.builders import WAIT_S, instance, let_others_run, message, task


async def close(ports: HubPorts) -> None:
    assert ports.close is not None
    await ports.close()


def signs_of_life(folder: Path) -> list[Path]:
    """Return the locks by which opened hubs are seen as alive."""
    return list(folder.glob("*-locks/w-*"))


async def test_a_hub_survives_being_closed_and_opened(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    ports = open_local(path, partitions=7)
    await ports.store.insert_instance(6, instance("i", tail=b"history"))
    await ports.orchestrations.send([message("m", partition=6)])
    await ports.activities.send([task("t")])
    assert len(await ports.activities.receive(1, WAIT_S)) == 1
    info = ports.info
    await close(ports)
    await close(ports)

    ports = open_local(str(path))

    assert ports.info == info
    assert info.partitions == 7
    stored = await ports.store.read_instance(6, "i")
    assert stored is not None
    assert stored.row.tail == b"history"
    session = await ports.orchestrations.accept(6)
    assert session is not None
    assert [(found.id, found.delivery_count) for found in await session.receive(10, 0)] == [("m", 1)]
    assert [(found.id, found.delivery_count) for found in await ports.activities.receive(10, 0)] == [("t", 2)]
    await close(ports)


async def test_a_closed_hub_answers_nothing_and_ends_pending_receives(tmp_path: Path) -> None:
    for path in (None, tmp_path / "hub.db"):
        ports = open_local(path)
        session = await ports.orchestrations.accept(0)
        assert session is not None
        messages = asyncio.create_task(session.receive(1, 3600))
        tasks = asyncio.create_task(ports.activities.receive(1, 3600))
        await let_others_run()

        await close(ports)

        assert await messages == []
        assert await tasks == []
        with pytest.raises(HubUnavailableError):
            await ports.store.read_lock(0)
        with pytest.raises(HubUnavailableError):
            await ports.orchestrations.send([message("m")])
        assert signs_of_life(tmp_path) == []


async def test_the_number_of_partitions_never_changes(tmp_path: Path) -> None:
    await close(open_local(tmp_path / "hub.db", partitions=8))

    with pytest.raises(ConfigurationError, match=r"8 partitions.*3 were asked for"):
        open_local(tmp_path / "hub.db", partitions=3)
    for unspecific in (None, 8, 4):
        ports = open_local(tmp_path / "hub.db", partitions=unspecific)
        assert ports.info.partitions == 8
        await close(ports)


@pytest.mark.parametrize("partitions", [0, -1, 129])
def test_a_number_of_partitions_out_of_range_is_refused(tmp_path: Path, partitions: int) -> None:
    with pytest.raises(ConfigurationError, match="1 to 128"):
        open_local(tmp_path / "hub.db", partitions=partitions)
    with pytest.raises(ConfigurationError, match="1 to 128"):
        open_local(None, partitions=partitions)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_synchronous_mode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="FULL"):
        open_local(tmp_path / "hub.db", synchronous="fast; DROP TABLE hub")
    assert list(tmp_path.iterdir()) == []


async def test_a_newer_schema_is_refused_naming_both_versions(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    await close(open_local(path))
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE hub SET schema_version = 99")
        database.commit()

    with pytest.raises(SchemaVersionError, match=r"99.* 1$"):
        open_local(path)


def test_a_file_of_somebody_else_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    text, database = tmp_path / "notes.txt", tmp_path / "other.db"
    text.write_text("not a database " * 100)
    with closing(sqlite3.connect(database)) as other:
        other.execute("CREATE TABLE hub(schema_version)")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    for path in before:
        with pytest.raises(ConfigurationError, match=path.name):
            open_local(path)

    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_path_that_cannot_hold_a_hub_is_refused_naming_it(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for path in (tmp_path / "missing" / "hub.db", file / "hub.db", tmp_path):
        with pytest.raises(ConfigurationError, match=path.name):
            open_local(path)
    assert list(tmp_path.iterdir()) == [file]


# Nothing is denied to root: there, the child becomes nobody once it has loaded everything.
UNPRIVILEGED = """
import os, sys
from durabletask_azure.errors import ConfigurationError
from durabletask_azure.hub import TaskHub
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    TaskHub.local(sys.argv[1]).close()
except ConfigurationError as error:
    print(error)
"""


def open_unprivileged(folder: Path, path: str) -> str:
    """Open a hub in a process that is no one special, and return the message of its refusal."""
    command = [sys.executable, "-c", UNPRIVILEGED, path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(  # noqa: S603
        command, cwd=folder, env=environment, check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout.strip()


@pytest.fixture
def disk() -> Iterator[Path]:
    """A folder that everybody may write to; pytest's own are its user's alone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder


@pytest.mark.parametrize(
    ("path", "modes", "message"),
    [
        ("new.db", {".": 0o555}, "the hub file new.db needs a folder this process may write to"),
        ("hub.db", {".": 0o555}, "the hub file hub.db and its folder must be writable by this process"),
        ("hub.db", {"hub.db": 0o444}, "the hub file hub.db and its folder must be writable by this process"),
        ("empty.db", {"empty.db": 0o444}, "the hub file empty.db and its folder must be writable"),
        ("hub.db", {"hub.db": 0o000}, "the hub file hub.db cannot be reached (Permission denied)"),
        ("inner/hub.db", {"inner": 0o000}, "the hub file inner/hub.db cannot be reached (Permission denied)"),
        (
            "hub.db",
            {"hub.db-payloads": 0o555},
            "needs its folder hub.db-payloads to be writable by this process",
        ),
        ("hub.db", {"hub.db-locks": 0o555}, "needs its folder hub.db-locks to be writable by this process"),
    ],
)
def test_a_disk_that_may_not_be_written_to_is_refused_untouched(
    disk: Path, path: str, modes: dict[str, int], message: str
) -> None:
    (disk / "inner").mkdir()
    (disk / "empty.db").touch()
    TaskHub.local(disk / "hub.db").close()
    for found in disk.rglob("*"):
        found.chmod(0o777)
    assert open_unprivileged(disk, "hub.db") == ""
    assert open_unprivileged(disk, "inner/hub.db") == ""
    before = {found: found.stat().st_size for found in disk.rglob("*")}
    for name, mode in modes.items():
        (disk / name).chmod(mode)
    try:
        refusal = open_unprivileged(disk, path)
    finally:
        for name in modes:
            (disk / name).chmod(0o777)
    assert message in refusal
    assert {found: found.stat().st_size for found in disk.rglob("*")} == before


async def test_requests_that_gather_are_committed_together(tmp_path: Path) -> None:
    hub = open_hub(tmp_path / "hub.db")
    before = hub.stats()

    await asyncio.gather(
        *(hub.ports.orchestrations.send([message(f"m{number}", partition=0)]) for number in range(500))
    )

    after = hub.stats()
    assert after.requests - before.requests == 500
    assert after.commits - before.commits < 250
    assert (after.journal_mode, after.synchronous) == ("wal", "FULL")
    await hub.close()


async def test_instances_that_are_started_at_once_are_one_request_and_each_succeeds_for_itself(
    tmp_path: Path,
) -> None:
    for path in (None, tmp_path / "hub.db"):
        hub = open_hub(path)
        store, before = hub.ports.store, hub.stats()
        etags = await asyncio.gather(*(store.insert_instance(0, instance(f"i{n}")) for n in range(500)))
        assert hub.stats().requests - before.requests == 1

        again = await asyncio.gather(
            *(store.insert_instance(0, instance(f"i{n}")) for n in (7, 500, 500, 501)), return_exceptions=True
        )

        assert [type(one) for one in again] == [
            OrchestrationAlreadyExistsError,
            str,
            OrchestrationAlreadyExistsError,
            str,
        ]
        for n, etag in ((7, etags[7]), (500, again[1]), (501, again[3])):
            stored = await store.read_instance(0, f"i{n}")
            assert stored is not None
            assert stored.etag == etag
        await hub.close()


async def test_several_event_loops_share_one_opened_hub(tmp_path: Path) -> None:
    for path in (None, tmp_path / "hub.db"):
        hub = open_hub(path)
        session = await hub.ports.orchestrations.accept(2)
        assert session is not None
        pending = asyncio.create_task(session.receive(1, WAIT_S))
        thread = threading.Thread(target=asyncio.run, args=(_work_elsewhere(hub),))
        thread.start()

        assert [found.id for found in await pending] == ["from another loop"]

        await asyncio.to_thread(thread.join)
        assert await hub.ports.store.read_instance(2, "i") is not None
        await hub.close()


async def _work_elsewhere(hub: LocalHub) -> None:
    lock = await hub.ports.store.read_lock(2)
    await hub.ports.store.commit(2, LockRow(n=1), lock.etag, [PutInstance(instance("i"))])
    await hub.ports.orchestrations.send([message("from another loop", partition=2)])


async def test_activity_groups_are_received_only_by_who_asks_for_them(tmp_path: Path) -> None:
    hub = open_hub(tmp_path / "hub.db")
    await hub.ports.activities.send([task("common"), task("special", group="gpu")])

    assert [found.id for found in await hub.ports.activities.receive(10, WAIT_S)] == ["common"]
    assert [found.id for found in await hub.activities_of(["gpu"]).receive(10, WAIT_S)] == ["special"]
    await hub.close()


async def test_a_task_that_cannot_be_read_comes_to_whoever_receives_by_name(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    ports = open_local(path)
    await ports.activities.prepare_for(["other"])
    await ports.activities.send([task(f"t{number}") for number in range(4)])
    with closing(sqlite3.connect(path)) as database:
        for number, body in enumerate([b"\xff", b"[1, 2]", b'{"name": 3}']):
            database.execute("UPDATE tasks SET body = ? WHERE id = ?", (body, f"t{number}"))
        database.commit()

    received = await ports.activities.receive(10, WAIT_S, ["other"])

    assert [(one.id, one.task) for one in received] == [("t0", None), ("t1", None), ("t2", None)]
    await close(ports)


async def test_an_unreadable_message_or_task_is_delivered_as_an_error(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    ports = open_local(path)
    await ports.orchestrations.send([message("m")])
    await ports.activities.send([task("t")])
    with closing(sqlite3.connect(path)) as database:
        database.execute("""UPDATE messages SET body = '[{"kind": "FromTheFuture"}]'""")
        database.execute("UPDATE tasks SET body = x'ff'")
        database.commit()
    session = await ports.orchestrations.accept(0)
    assert session is not None

    (delivery,) = await session.receive(1, WAIT_S)
    (activity,) = await ports.activities.receive(1, WAIT_S)

    assert (delivery.id, delivery.messages) == ("m", ())
    assert delivery.error
    assert (activity.id, activity.task) == ("t", None)
    assert activity.error
    await session.dead_letter(delivery, "Unreadable", delivery.error)
    (letter,) = await ports.orchestrations.dead_letters(1)
    assert letter.messages == ()
    await close(ports)
