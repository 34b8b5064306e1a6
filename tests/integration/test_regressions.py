"""Bugs of the embedded hub and of the hub's thread that were found by review, each shown gone."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from durabletask_azure.adapters.local import open_local
from durabletask_azure.adapters.local.activities import LocalActivityQueue
from durabletask_azure.adapters.local.bell import Bell
from durabletask_azure.adapters.local.committer import InlineCommitter
from durabletask_azure.adapters.local.handover import Handover
from durabletask_azure.adapters.local.hints import SocketNeighbours
from durabletask_azure.adapters.local.liveness import FileLocks, MemoryLocks
from durabletask_azure.adapters.local.reader import Reader
from durabletask_azure.adapters.local.schema import create_or_check
from durabletask_azure.adapters.local.store import LocalChangeSignal, LocalStore
from durabletask_azure.engine.operations import ClientOperations
from durabletask_azure.errors import HubUnavailableError
from durabletask_azure.hosting import Call, HubHost
from durabletask_azure.hub import TaskHub
from durabletask_azure.ports import HubPorts
from durabletask_azure.settings import Settings
from durabletask_azure.worker import TaskHubWorker
from tests.contract.builders import WAIT_S, instance, task

T = TypeVar("T")
ROOT = Path(__file__).parents[2]

COUNT_INSTANCES = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
print(connection.execute("SELECT count(*) FROM instances").fetchone()[0])
connection.close()
"""

FORKS = """
import os, sys
from durabletask_azure import ConfigurationError, TaskHub, TaskHubClient

def try_to_open():
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        hub = TaskHub.local("hub.db")
        TaskHubClient(hub).get_orchestration_state("none")
        hub.close()
        print("opened", flush=True)
    except ConfigurationError as error:
        print("forked" in str(error), flush=True)
    os._exit(0)

hub = TaskHub.local("hub.db")
TaskHubClient(hub).get_orchestration_state("none")
try_to_open()
hub.close()
try_to_open()
"""


def run_python(code: str, *arguments: object, folder: Path) -> str:
    """Run a program in a process of its own and return what it prints."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(  # noqa: S603
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=30, check=True
    ).stdout


async def close(*hubs: HubPorts) -> None:
    for ports in hubs:
        assert ports.close is not None
        await ports.close()


# ---------------------------------------------------------------------- the hub's file


async def test_a_process_that_opens_a_hub_twice_loses_no_commit_when_another_closes_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "hub.db"
    first = open_local(path)
    await first.store.insert_instance(0, instance("before"))
    # The second opening once dropped the locks of the first; whoever closed the hub then deleted its log.
    second = open_local(path)
    assert run_python(COUNT_INSTANCES, path, folder=tmp_path) == "1\n"

    await first.store.insert_instance(0, instance("after"))

    assert run_python(COUNT_INSTANCES, path, folder=tmp_path) == "2\n"
    await close(first, second)


async def test_a_hub_opened_through_a_link_is_the_same_hub(tmp_path: Path) -> None:
    path, link = tmp_path / "hub.db", tmp_path / "link.db"
    first = open_local(path)
    link.symlink_to(path)
    second = open_local(link)

    assert await first.orchestrations.accept(0) is not None
    assert await second.orchestrations.accept(0) is None
    assert not [name for name in os.listdir(tmp_path) if name.startswith("link.db-")]
    await close(first, second)


async def test_a_process_may_change_its_folder_while_a_hub_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    first, second = open_local("hub.db"), open_local("hub.db")
    monkeypatch.chdir(elsewhere)
    await first.activities.send([task("t")])
    assert len(await first.activities.receive(1, WAIT_S)) == 1

    # The holder lives: its lock is looked for where the hub is.
    assert await second.activities.receive(1, 0) == []
    assert await second.activities.receive(1, 0) == []
    assert await first.orchestrations.accept(0) is not None
    await first.payloads.put(f"p000/owner/-/{'0' * 40}", b"value")

    assert os.listdir(elsewhere) == []
    await close(first, second)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_fork_does_not_open_a_hub_that_was_open_before(tmp_path: Path) -> None:
    # SQLite would take the forked process for a holder of locks it does not have: its commits were lost.
    assert run_python(FORKS, folder=tmp_path) == "True\nopened\n"


@pytest.mark.skipif(os.name == "nt", reason="files have no such modes here")
async def test_no_other_user_may_read_a_new_hub(tmp_path: Path) -> None:
    ports = open_local(tmp_path / "hub.db")
    await ports.store.insert_instance(0, instance("secret"))

    found = {entry.name: entry.stat().st_mode & 0o077 for entry in os.scandir(tmp_path)}

    assert set(found) == {"hub.db", "hub.db-wal", "hub.db-shm", "hub.db-locks", "hub.db-payloads"}
    assert set(found.values()) == {0}
    await close(ports)


# ---------------------------------------------------------------------- locks, hints and signals


def test_a_lock_that_cannot_be_tried_is_an_unavailable_hub_and_nobodys_death(tmp_path: Path) -> None:
    locks = FileLocks(tmp_path)
    for name in ("p000.lock", "p001.mark", "w-other.lock"):
        (tmp_path / name).mkdir()

    for partition in (0, 1):
        with pytest.raises(HubUnavailableError):
            locks.hold(partition)

    assert not locks.is_dead("other")
    (tmp_path / "p001.mark").rmdir()
    held = locks.hold(1)
    assert held is not None
    held.release()
    locks.close()


@pytest.fixture
def short_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no such sockets here")
def test_hints_for_a_process_that_stands_still_take_no_more_and_more_memory(short_folder: Path) -> None:
    deaf = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    deaf.bind(str(short_folder / "deaf.sock"))
    neighbours = SocketNeighbours(short_folder, Bell())
    number = 0
    while not neighbours.waiting:
        number += 1
        neighbours.tell([f"instance {number:040}"])
    tracemalloc.start()
    try:
        for more in range(number, number + 5_000):
            neighbours.tell([3, f"instance {more:040}"])
        kept_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()

    assert kept_bytes < 100_000
    deaf.setblocking(False)
    last = b""
    while neighbours.waiting:
        last = deaf.recv(65_536)
        neighbours.tell(())
    while True:
        try:
            last = deaf.recv(65_536)
        except BlockingIOError:
            break
    assert last == b"[[3],null,[]]"
    neighbours.close()
    deaf.close()


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no such sockets here")
def test_a_listener_ends_although_its_socket_has_lost_its_name(short_folder: Path) -> None:
    before = set(threading.enumerate())
    neighbours = SocketNeighbours(short_folder, Bell())
    for path in short_folder.glob("*.sock"):
        path.unlink()

    neighbours.close()

    assert set(threading.enumerate()) == before


async def test_a_wait_that_fails_leaves_nobody_waiting() -> None:
    connection = sqlite3.connect(":memory:")
    lock, bell = threading.Lock(), Bell()
    ports = open_local(None)
    store = LocalStore(
        InlineCommitter(connection, lock, bell),
        Reader(connection, lock),
        ports.limits,
        10,
        Handover("p", lambda: True, 1),
        bell,
    )
    connection.close()
    broken = replace(ports, store=store, changes=LocalChangeSignal(bell))
    settings = Settings(send_retry_s_max=0.01)

    with pytest.raises(HubUnavailableError):
        await ClientOperations(broken, settings, str).waiting.wait_for_completion("i", WAIT_S)

    assert bell.ring_all() == []
    await close(ports)


async def test_tasks_that_could_not_be_given_back_are_given_back_later() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    create_or_check(connection, "memory", None)
    lock, bell = threading.Lock(), Bell()
    queue = LocalActivityQueue(
        InlineCommitter(connection, lock, bell),
        Reader(connection, lock),
        bell,
        MemoryLocks(),
        groups=("",),
        delivery_count_max=10,
        lock_s=30.0,
        handover=Handover("p", lambda: True, 1),
    )
    await queue.send([task("t")])
    taken = await queue.receive(1, WAIT_S)
    connection.execute("PRAGMA query_only=ON")
    with pytest.raises(HubUnavailableError):
        await queue.abandon(taken)
    connection.execute("PRAGMA query_only=OFF")

    again = await queue.receive(1, WAIT_S)

    assert [(found.id, found.delivery_count) for found in again] == [("t", 2)]
    assert await queue.receive(1, 0) == []
    connection.close()


# ---------------------------------------------------------------------- the hub's thread, and workers


def test_a_hub_that_cannot_give_everything_back_is_closed_all_the_same() -> None:
    before = set(threading.enumerate())
    ports = open_local(None)

    async def fail() -> None:
        await close(ports)
        raise HubUnavailableError("the disk is full")

    host = HubHost(replace(ports, close=fail), Settings(), "full")
    host.run(ports.store.server_time)

    host.close()

    assert host.is_closed
    assert set(threading.enumerate()) == before


class InterruptedHub(TaskHub):
    """A hub whose first call is interrupted by Ctrl-C when what it asked for has been done."""

    interrupts = 1

    def run(self, call: Call[T]) -> T:
        answer = super().run(call)
        if self.interrupts:
            self.interrupts -= 1
            # The engine has got far enough to be seen by others.
            while not super().run(self.ports.membership.workers):
                super().run(lambda: self.ports.membership.wait_changed(WAIT_S))
            raise KeyboardInterrupt
        return answer


def test_a_start_that_is_interrupted_leaves_no_engine_behind() -> None:
    with InterruptedHub.local() as hub:
        worker = TaskHubWorker(hub)
        with pytest.raises(KeyboardInterrupt):
            worker.start()

        assert not worker.is_running
        assert hub.run(hub.ports.membership.workers) == []
        sessions = [
            hub.run(lambda number=number: hub.ports.orchestrations.accept(number)) for number in range(4)
        ]
        assert None not in sessions
