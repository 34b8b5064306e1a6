"""Bugs of the embedded hub found by review, shown gone: a clock that is set back, and what killed processes leave."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from filelock import FileLock

from durabletask_azure.adapters.local import LocalHub, open_hub, open_local
from durabletask_azure.adapters.local.clock import HubClock, wall_us
from durabletask_azure.ports import HubPorts
from tests.contract.builders import WAIT_S, message

ROOT = Path(__file__).parents[2]
HOUR_S = 3600.0
SHORT = timedelta(milliseconds=50)

# Forks while it holds everything; says so, and both processes live until their input ends.
HOLDS_AND_FORKS = """
import asyncio, os, sys
from durabletask_azure.adapters.local import open_local
from durabletask_azure.ports import WorkerRow

async def main():
    ports = open_local("hub.db")
    for partition in range(ports.info.partitions):
        assert await ports.orchestrations.accept(partition) is not None
    await ports.membership.announce(WorkerRow(worker_id="doomed", partitions=(0,)))
    child = os.fork()
    if not child:
        print("forked", flush=True)
    sys.stdin.read()
    if not child:
        print("outlived", flush=True)
        os._exit(0)

asyncio.run(main())
"""


class SetWall:
    """A wall clock that can be set; until then it is the machine's."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> int:
        return wall_us() + int(self.ahead_s * 1e6)


@pytest.fixture
def wall() -> SetWall:
    return SetWall()


@pytest.fixture(params=["memory", "disk"])
async def hub(request: pytest.FixtureRequest, tmp_path: Path, wall: SetWall) -> AsyncIterator[LocalHub]:
    path = None if request.param == "memory" else tmp_path / "hub.db"
    hub = open_hub(path, clock=HubClock(wall))
    yield hub
    await hub.close()


async def taken_in(ports: HubPorts, message_id: str) -> datetime:
    """Send a message to partition 1 and return the hub's time for it."""
    await ports.orchestrations.send([message(message_id, partition=1)])
    session = await ports.orchestrations.accept(1)
    assert session is not None
    deliveries = await session.receive(10, WAIT_S)
    await session.complete(deliveries)
    await session.close()
    assert [delivery.id for delivery in deliveries] == [message_id]
    return deliveries[0].enqueued_at


async def jump_there_and_back(ports: HubPorts, wall: SetWall) -> datetime:
    """Set the clock an hour forward and, when a message was taken in, back; return the time of that message."""
    wall.ahead_s = HOUR_S
    during = await taken_in(ports, "during")
    wall.ahead_s = 0.0
    assert during > datetime.now(UTC) + timedelta(seconds=HOUR_S - 60)
    return during


# ---------------------------------------------------------------------- a clock that is set forward and back


async def test_a_timer_set_after_the_clock_went_back_fires_when_it_is_due(
    hub: LocalHub, wall: SetWall
) -> None:
    await jump_there_and_back(hub.ports, wall)
    now = await taken_in(hub.ports, "after")
    session = await hub.ports.orchestrations.accept(0)
    assert session is not None
    begun = time.monotonic()
    await hub.ports.orchestrations.send([message("timer", deliver_at=now + SHORT)])

    (delivery,) = await session.receive(1, WAIT_S)

    assert (delivery.id, delivery.enqueued_at) == ("timer", now + SHORT)
    assert time.monotonic() - begun < WAIT_S / 2, "not an hour later"


async def test_a_timer_does_not_fire_early_when_hub_time_is_ahead_of_the_clock(
    hub: LocalHub, wall: SetWall
) -> None:
    await jump_there_and_back(hub.ports, wall)
    session = await hub.ports.orchestrations.accept(0)
    assert session is not None
    begun = time.monotonic()
    now = await hub.ports.store.server_time()
    await hub.ports.orchestrations.send([message("timer", deliver_at=now + SHORT)])

    assert len(await session.receive(1, WAIT_S)) == 1

    assert time.monotonic() - begun >= SHORT.total_seconds()
    assert await hub.ports.store.server_time() >= now + SHORT


async def test_hub_time_goes_on_when_the_clock_went_back_and_follows_the_clock_again(
    hub: LocalHub, wall: SetWall
) -> None:
    during = await jump_there_and_back(hub.ports, wall)
    first = await hub.ports.store.server_time()
    begun = time.monotonic()
    later = await taken_in(hub.ports, "later")
    took = timedelta(seconds=time.monotonic() - begun)
    second = await hub.ports.store.server_time()

    assert during <= first
    assert second - first >= took - timedelta(microseconds=2)
    assert first < later < first + timedelta(minutes=1)
    wall.ahead_s = 2 * HOUR_S
    assert await hub.ports.store.server_time() > first + timedelta(seconds=HOUR_S - 60)


async def test_a_value_just_written_is_young_in_hub_time(hub: LocalHub, wall: SetWall) -> None:
    # Orphan collection would take it for one that was left behind.
    await jump_there_and_back(hub.ports, wall)
    name = f"p000/owner/-/{'0' * 40}"
    await hub.ports.payloads.put(name, b"value")

    ((found, written_at),) = [entry async for entry in hub.ports.payloads.list("p000/")]

    assert found == name
    assert abs(await hub.ports.store.server_time() - written_at) < timedelta(minutes=1)


async def test_other_processes_learn_the_hubs_time_from_its_messages(tmp_path: Path, wall: SetWall) -> None:
    path = tmp_path / "hub.db"
    ahead, open_before = open_hub(path, clock=HubClock(wall)), open_local(path)
    session = await open_before.orchestrations.accept(0)
    assert session is not None
    during = await jump_there_and_back(ahead.ports, wall)
    opened_later = open_local(path)

    await ahead.ports.orchestrations.send([message("timer", deliver_at=during + SHORT)])
    (delivery,) = await session.receive(1, WAIT_S)

    assert delivery.id == "timer"
    assert await open_before.store.server_time() >= during
    assert await opened_later.store.server_time() >= during
    for ports in (ahead.ports, open_before, opened_later):
        assert ports.close is not None
        await ports.close()


# ---------------------------------------------------------------------- what killed processes leave


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
async def test_a_fork_that_outlives_its_killed_parent_keeps_none_of_its_locks(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDS_AND_FORKS]
    # An older filelock may be put in front, to see that it will not do.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    parent = subprocess.Popen(  # noqa: S603, ASYNC220
        command, cwd=tmp_path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        assert parent.stdout.readline() == "forked\n"
        parent.kill()
        parent.wait()
        ports = open_local(tmp_path / "hub.db")

        assert await ports.membership.workers() == []
        sessions = [await ports.orchestrations.accept(number) for number in range(ports.info.partitions)]
        assert None not in sessions

        parent.stdin.close()
        assert parent.stdout.readline() == "outlived\n"
    assert ports.close is not None
    await ports.close()


async def test_opening_a_hub_removes_old_lock_files_nobody_holds(tmp_path: Path) -> None:
    folder = tmp_path / "hub.db-locks"
    folder.mkdir()
    held, left, new = (folder / f"w-{name}.lock" for name in ("held", "left", "new"))
    partition = folder / "p000.lock"
    for path in (held, left, new, partition):
        path.touch()
    lock = FileLock(held)
    with lock:
        long_ago = time.time() - HOUR_S - 60
        for path in (held, left, partition):
            os.utime(path, (long_ago, long_ago))

        ports = open_local(tmp_path / "hub.db")

        assert [path.exists() for path in (held, left, new, partition)] == [True, False, True, True]
        assert ports.close is not None
        await ports.close()
