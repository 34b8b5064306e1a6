"""The embedded hub shared by several processes: what a killed one leaves, and how fast word gets round."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import statistics
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from durabletask_azure.adapters.local import open_local
from durabletask_azure.core.payloads import payload_name
from durabletask_azure.engine.orphans import collect_orphans
from durabletask_azure.ports import HubPorts
from tests.contract.builders import WAIT_S, message, task
from tests.integration.local_child import SETTINGS

ROOT = Path(__file__).parents[2]
Start = Callable[[str], AbstractAsyncContextManager[Process]]


@pytest.fixture
async def ports(tmp_path: Path) -> AsyncIterator[HubPorts]:
    opened = open_local(tmp_path / "hub.db", settings=SETTINGS)
    yield opened
    assert opened.close is not None
    await opened.close()


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Run a command of ``local_child`` on the hub; it is killed when the context ends, if it still runs."""

    @contextlib.asynccontextmanager
    async def run(command: str) -> AsyncGenerator[Process, None]:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.integration.local_child",
            command,
            tmp_path / "hub.db",
            cwd=ROOT,
            stdout=PIPE,
        )
        try:
            yield child
        finally:
            await kill(child)

    return run


async def kill(child: Process) -> None:
    """End a child at once, with all it has read out of its pipe."""
    if child.returncode is None:
        child.kill()
    assert child.stdout is not None
    await child.stdout.read()
    await child.wait()


async def line(child: Process) -> str:
    assert child.stdout is not None
    said = await asyncio.wait_for(child.stdout.readline(), WAIT_S)
    assert said, "the child ended"
    return said.decode().strip()


async def test_concurrent_first_openings_make_one_hub(start: Start) -> None:
    async def incarnation() -> str:
        async with start("create") as child:
            return await line(child)

    assert len({*await asyncio.gather(*(incarnation() for _ in range(4)))}) == 1


async def test_what_a_killed_process_held_is_free_within_two_seconds(ports: HubPorts, start: Start) -> None:
    await ports.activities.send([task("a"), task("b")])
    async with start("hold") as child:
        assert await line(child) == "holding"
        assert [await ports.orchestrations.accept(partition) for partition in range(4)] == [None] * 4
        assert await ports.activities.receive(10, 0) == []
        assert [row.worker_id for row in await ports.membership.workers()] == ["doomed"]
        waiting = asyncio.create_task(ports.activities.receive(10, WAIT_S))
        members = asyncio.create_task(ports.membership.wait_changed(WAIT_S))
        began = time.monotonic()
        await kill(child)

    assert all([await ports.orchestrations.accept(partition) is not None for partition in range(4)])
    tasks = await waiting
    await members

    assert time.monotonic() - began < WAIT_S / 2, "nobody waited for anything to run out"
    assert [(delivery.id, delivery.delivery_count) for delivery in tasks] == [("a", 2), ("b", 2)]
    assert list(await ports.membership.workers()) == []


async def test_a_message_that_kills_its_process_again_and_again_is_put_aside(
    ports: HubPorts, start: Start
) -> None:
    await ports.orchestrations.send([message("poison")])
    for attempt in range(1, SETTINGS.delivery_count_max + 1):
        async with start("receive") as child:
            assert await line(child) == f"poison {attempt}"
            await kill(child)

    await ports.orchestrations.send([message("fine")])
    async with start("receive") as child:
        assert await line(child) == "fine 1"
    assert [letter.id for letter in await ports.orchestrations.dead_letters(10)] == ["poison"]


async def test_a_process_killed_between_plans_leaves_whole_plans_only(ports: HubPorts, start: Start) -> None:
    for plans in (1, 7, 40):
        async with start("plans") as child:
            said = [int(await line(child)) for _ in range(plans)]
            await kill(child)

        lock = await ports.store.read_lock(0)
        stored = await ports.store.read_instance(0, "counter")
        assert stored is not None
        assert stored.row.output == str(lock.row.n)
        assert lock.row.n >= said[-1], "what was said to be committed is there"
        elsewhere = await ports.orchestrations.accept(1)
        own = await ports.orchestrations.accept(0)
        assert elsewhere is not None
        assert own is not None
        assert len(await elsewhere.receive(10_000, 0)) == lock.row.n
        # Each plan completed the message of the one before.
        assert [delivery.id for delivery in await own.receive(10, 0)] == [f"m{lock.row.n}"]
        tasks = await ports.activities.receive(10_000, 0)
        assert sorted(int(delivery.id[1:]) for delivery in tasks) == list(range(1, lock.row.n + 1))
        await ports.activities.abandon(tasks)
        await own.close()
        # Counts of delivery are not this test's matter: so that none is exhausted, they are sent anew.
        await elsewhere.close()
        if plans != 40:
            await _clear(ports)


async def _clear(ports: HubPorts) -> None:
    """Send all tasks and messages of partition 1 once more, as if they had never been delivered."""
    session = await ports.orchestrations.accept(1)
    assert session is not None
    received = await session.receive(10_000, 0)
    await session.complete(received)
    await session.close()
    await ports.orchestrations.send([message(delivery.id, partition=1) for delivery in received])
    tasks = await ports.activities.receive(10_000, 0)
    await ports.activities.finish([(delivery, None) for delivery in tasks])
    await ports.activities.send([task(delivery.id) for delivery in tasks])


async def test_a_message_wakes_a_receive_in_another_process(ports: HubPorts, start: Start) -> None:
    session = await ports.orchestrations.accept(1)
    assert session is not None
    round_trips_s: list[float] = []
    async with start("answer") as child:
        assert await line(child) == "ready"
        for number in range(20):
            began = time.perf_counter()
            await ports.orchestrations.send([message(str(number))])
            (answer,) = await session.receive(10, WAIT_S)
            round_trips_s.append(time.perf_counter() - began)
            assert answer.id == f"re: {number}"

    print(f"\nthere and back between processes: median {statistics.median(round_trips_s) * 1e3:.2f} ms")
    # A poll would take half a second each way.
    assert statistics.median(round_trips_s) < 0.25


async def test_a_result_nobody_handled_dies_with_its_process_once_then_it_is_written(
    ports: HubPorts, start: Start
) -> None:
    await ports.activities.send([task("t")])

    # Handed over in memory: the task is still there, and runs again.
    async with start("finish") as child:
        assert await line(child) == "finished t 1"
    # A second run's result is written, so that one that kills its process is counted.
    async with start("finish") as child:
        assert await line(child) == "finished t 2"

    session = await ports.orchestrations.accept(0)
    assert session is not None
    assert [delivery.id for delivery in await session.receive(10, WAIT_S)] == ["done t"]
    assert list(await ports.activities.receive(1, 0)) == []


async def test_b156_what_a_process_killed_while_writing_a_value_left_is_collected(
    ports: HubPorts, start: Start, tmp_path: Path
) -> None:
    def files() -> list[Path]:
        return [path for path in tmp_path.joinpath("hub.db-payloads").rglob("*") if path.is_file()]

    async with start("draft") as child:
        assert await asyncio.wait_for(child.wait(), WAIT_S) == -signal.SIGKILL
    assert len(files()) == 1, "the process left nothing: the test shows nothing"

    assert await collect_orphans(ports, 0, 3600) == 0
    # The age is negative: everything written before the future is old.
    assert await collect_orphans(ports, 0, -3600) == 1
    assert files() == []


async def test_a_value_is_written_though_deletes_remove_its_folder_all_the_time(ports: HubPorts) -> None:
    name = payload_name(0, "i", "e1", b"value")

    async def delete() -> None:
        while not written.is_set():
            await ports.payloads.delete([name])

    written = asyncio.Event()
    deleting = asyncio.create_task(delete())
    try:
        for _ in range(500):
            await ports.payloads.put(name, b"value")
    finally:
        written.set()
        await deleting

    await ports.payloads.put(name, b"value")
    assert [found async for found, _ in ports.payloads.list("p000/")] == [name]
