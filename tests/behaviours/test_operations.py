"""B122 to B124: workers that survive, stop in order, lose a race, and share the partitions."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import msgspec
import pytest

from durabletask_azure import (
    ActivityContext,
    ConfigurationError,
    OrchestrationContext,
    OrchestrationStatus,
    Settings,
    TaskFailedError,
    TaskHub,
    TaskHubClient,
    TaskHubWorker,
)
from durabletask_azure.errors import PartitionLostError
from durabletask_azure.ports import WorkerRow
from tests.behaviours.stage import WAIT_S, Stage

ROOT = Path(__file__).resolve().parents[2]


class Wicked(BaseException):
    """Not an Exception, so that it gets past most handlers."""


def members(stage: Stage) -> list[WorkerRow]:
    async def read() -> list[WorkerRow]:
        return list(await stage.hub.ports.membership.workers())

    return stage.hub.run(read)


def shares(stage: Stage) -> list[int]:
    """Return how many partitions each worker holds, fewest first."""
    return sorted(len(worker.partitions) for worker in members(stage))


def lock_epochs(stage: Stage) -> list[int]:
    async def read() -> list[int]:
        ports = stage.hub.ports
        return [(await ports.store.read_lock(number)).row.epoch for number in range(ports.info.partitions)]

    return stage.hub.run(read)


async def waits(ctx: OrchestrationContext, _: Any) -> str:
    return await ctx.wait_for_external_event("go")


@pytest.mark.parametrize("error", [Wicked, SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_b122_the_dispatcher_survives_whatever_user_code_raises(
    stage: Stage, error: type[BaseException]
) -> None:
    def sync_activity(ctx: ActivityContext, _: Any) -> None:
        raise error("boom")

    async def async_activity(ctx: ActivityContext, _: Any) -> None:
        raise error("boom")

    async def survives(ctx: OrchestrationContext, name: str) -> str:
        try:
            await ctx.call_activity(name)
        except TaskFailedError as failed:
            return failed.details.error_type.rsplit(".", 1)[-1]
        return "not reached"

    async def falls(ctx: OrchestrationContext, _: Any) -> None:
        raise error("boom")

    stage.worker(survives, falls, activities=[sync_activity, async_activity])
    assert stage.result(survives, "sync_activity") == error.__name__
    assert stage.result(survives, "async_activity") == error.__name__
    assert stage.run(falls).runtime_status is OrchestrationStatus.FAILED
    assert stage.result(survives, "sync_activity") == error.__name__


def test_b122_an_activity_nobody_registered_fails_the_call(stage: Stage) -> None:
    async def flow(ctx: OrchestrationContext, _: Any) -> str:
        try:
            await ctx.call_activity("missing")
        except TaskFailedError as failed:
            return failed.details.error_type.rsplit(".", 1)[-1]
        return "not reached"

    stage.worker(flow)
    assert stage.result(flow) == "ActivityNotRegisteredError"


def test_b122_a_graceful_stop_lets_activities_end_and_keeps_their_results(stage: Stage) -> None:
    entered, gate = threading.Event(), threading.Event()
    calls: list[int] = []

    def slow(ctx: ActivityContext, number: int) -> int:
        calls.append(number)
        entered.set()
        assert gate.wait(WAIT_S)
        return number

    async def flow(ctx: OrchestrationContext, number: int) -> int:
        return await ctx.call_activity(slow, input=number)

    worker = stage.worker(flow, activities=[slow])
    instance_id = stage.client.schedule_new_orchestration(flow, input=3)
    assert entered.wait(WAIT_S)
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    stage.eventually(lambda: all(row.stopping for row in members(stage)))
    assert stopping.is_alive()
    gate.set()
    began = time.monotonic()
    stopping.join(WAIT_S)
    assert time.monotonic() - began < 5
    assert not worker.is_running
    assert members(stage) == []
    worker.start()
    assert stage.completed(instance_id) == 3
    assert calls == [3]


def test_b122_a_stop_ends_in_seconds_when_an_activity_does_not(open_stage: Any) -> None:
    stage: Stage = open_stage(stop_grace_s=0.2)
    entered, gate = threading.Event(), threading.Event()
    calls: list[int] = []

    def stuck(ctx: ActivityContext, _: Any) -> int:
        calls.append(len(calls))
        entered.set()
        if len(calls) == 1:
            assert gate.wait(WAIT_S)
        return len(calls)

    async def flow(ctx: OrchestrationContext, _: Any) -> int:
        return await ctx.call_activity(stuck)

    worker = stage.worker(flow, activities=[stuck])
    instance_id = stage.client.schedule_new_orchestration(flow)
    assert entered.wait(WAIT_S)
    began = time.monotonic()
    worker.stop()
    assert time.monotonic() - began < 5
    worker.start()
    assert stage.completed(instance_id) == 2
    gate.set()


def test_b122_a_worker_starts_and_stops_again_and_again(stage: Stage) -> None:
    worker = stage.worker(waits)
    with pytest.raises(RuntimeError, match="already running"):
        worker.start()
    instance_id = stage.client.schedule_new_orchestration(waits)
    for _ in range(5):
        worker.stop()
        worker.stop()
        worker.start()
    stage.client.raise_orchestration_event(instance_id, "go", data="still there")
    assert stage.completed(instance_id) == "still there"


async def test_b122_run_drains_when_it_is_cancelled(stage: Stage) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def polite(ctx: ActivityContext, _: Any) -> str:
        entered.set()
        await leave.wait()
        return "finished"

    async def flow(ctx: OrchestrationContext, _: Any) -> str:
        return await ctx.call_activity(polite)

    worker = TaskHubWorker(stage.hub)
    worker.add_orchestrator(flow)
    worker.add_activity(polite)
    before = signal.getsignal(signal.SIGTERM)
    running = asyncio.create_task(worker.run())
    instance_id = await asyncio.to_thread(stage.client.schedule_new_orchestration, flow)
    await asyncio.wait_for(entered.wait(), WAIT_S)
    running.cancel()
    await asyncio.to_thread(stage.eventually, lambda: all(row.stopping for row in members(stage)))
    leave.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not worker.is_running
    assert signal.getsignal(signal.SIGTERM) is before
    events = await asyncio.to_thread(stage.events, instance_id)
    assert "TaskScheduled" in events
    worker.start()
    assert await asyncio.to_thread(stage.completed, instance_id) == "finished"
    await asyncio.to_thread(worker.stop)


class Process:
    """A worker process, and what it says."""

    def __init__(self, path: Path) -> None:
        # Longer than any test waits: what ends the process in time has not waited for its activity.
        grace_s = str(10 * WAIT_S)
        command = [sys.executable, "-m", "tests.behaviours.worker_process", str(path), grace_s]
        self.popen = subprocess.Popen(  # noqa: S603
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def expect(self, word: str) -> None:
        assert _pipe(self.popen.stdout).readline().strip() == word

    def tell(self, word: str) -> None:
        pipe = _pipe(self.popen.stdin)
        pipe.write(f"{word}\n")
        pipe.flush()

    def end(self) -> None:
        self.popen.kill()
        self.popen.wait(WAIT_S)
        _pipe(self.popen.stdin).close()
        _pipe(self.popen.stdout).close()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


@pytest.fixture
def process(stage: Stage, tmp_path: Path) -> Iterator[Process]:
    """A worker process on the disk hub of the test."""
    process = Process(tmp_path / "hub.db")
    yield process
    process.end()


@pytest.mark.parametrize("hub_kind", ["disk"], indirect=True)
def test_b122_sigterm_drains(stage: Stage, process: Process) -> None:
    process.expect("ready")
    instance_id = stage.client.schedule_new_orchestration("flow")
    process.expect("busy")
    process.popen.send_signal(signal.SIGTERM)
    stage.eventually(lambda: all(row.stopping for row in members(stage)))
    process.tell("finished in time")
    process.expect("drained")
    assert process.popen.wait(WAIT_S) == 0
    again: list[str] = []

    async def flow(ctx: OrchestrationContext, _: Any) -> str:
        return await ctx.call_activity("hold")

    def hold(ctx: ActivityContext, _: Any) -> str:
        again.append("run twice")
        return "second"

    stage.worker(flow, activities=[hold])
    assert stage.completed(instance_id) == "finished in time"
    assert again == []


@pytest.mark.parametrize("hub_kind", ["disk"], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_b122_a_second_signal_ends_the_draining_and_the_activity_runs_again(
    stage: Stage, process: Process, number: signal.Signals
) -> None:
    process.expect("ready")
    instance_id = stage.client.schedule_new_orchestration("flow")
    process.expect("busy")
    process.popen.send_signal(number)
    stage.eventually(lambda: all(row.stopping for row in members(stage)))
    process.popen.send_signal(number)
    process.expect("drained")
    assert process.popen.wait(WAIT_S) == 0

    async def flow(ctx: OrchestrationContext, _: Any) -> str:
        return await ctx.call_activity("hold")

    def hold(ctx: ActivityContext, _: Any) -> str:
        return "another run"

    stage.worker(flow, activities=[hold])
    assert stage.completed(instance_id) == "another run"


@pytest.mark.parametrize("hub_kind", ["disk"], indirect=True)
def test_b124_the_work_of_a_dead_worker_goes_on(stage: Stage, process: Process) -> None:
    process.expect("ready")
    instance_id = stage.client.schedule_new_orchestration("flow")
    process.expect("busy")
    process.popen.kill()
    process.popen.wait(WAIT_S)

    async def flow(ctx: OrchestrationContext, _: Any) -> str:
        return await ctx.call_activity("hold")

    def hold(ctx: ActivityContext, _: Any) -> str:
        return f"delivery {ctx.delivery_count}"

    stage.worker(flow, activities=[hold])
    assert stage.completed(instance_id) == "delivery 2"
    assert stage.events(instance_id).count("TaskCompleted") == 1
    assert shares(stage) == [4]


def test_b123_the_commit_of_a_stale_owner_is_refused_and_its_memory_dropped(stage: Stage) -> None:
    replays: list[bool] = []
    calls: list[str] = []

    def note(ctx: ActivityContext, text: str) -> None:
        calls.append(text)

    async def flow(ctx: OrchestrationContext, _: Any) -> str:
        replays.append(ctx.is_replaying)
        await ctx.call_activity(note, input="before")
        word = await ctx.wait_for_external_event("go")
        await ctx.call_activity(note, input="after")
        return word

    stage.worker(flow, activities=[note])
    instance_id = stage.client.schedule_new_orchestration(flow)
    stage.eventually(lambda: "TaskCompleted" in stage.events(instance_id))
    partition = stage.partition(instance_id)
    store = stage.hub.ports.store

    async def take_over() -> int:
        """Do to the lock row what a rival owner does first."""
        while True:
            lock = await store.read_lock(partition)
            epoch = lock.row.epoch + 1
            rival = msgspec.structs.replace(lock.row, owner="rival", epoch=epoch, commit_id="his")
            # The owner may have written in between: what it settled, when it is idle.
            with contextlib.suppress(PartitionLostError):
                await store.commit(partition, rival, lock.etag, [])
                return epoch

    epoch = stage.hub.run(take_over)
    stage.client.raise_orchestration_event(instance_id, "go", data="right")
    assert stage.completed(instance_id) == "right"
    assert calls == ["before", "after"]
    assert replays == [False, True]
    assert lock_epochs(stage)[partition] > epoch
    assert stage.events(instance_id).count("EventRaised") == 1


def test_b124_partitions_move_when_a_worker_joins_and_leaves(stage: Stage) -> None:
    first = stage.worker(waits)
    partitions = stage.hub.ports.info.partitions
    stage.eventually(lambda: shares(stage) == [partitions])
    ids = [stage.client.schedule_new_orchestration(waits) for _ in range(20)]
    for instance_id in ids:
        stage.client.wait_for_orchestration_start(instance_id, timeout=WAIT_S)
    second = stage.worker(waits)
    stage.eventually(lambda: shares(stage) == [partitions // 2] * 2)
    for number, instance_id in enumerate(ids[:10]):
        stage.client.raise_orchestration_event(instance_id, "go", data=number)
    assert [stage.completed(instance_id) for instance_id in ids[:10]] == list(range(10))
    first.stop()
    stage.eventually(lambda: shares(stage) == [partitions])
    for number, instance_id in enumerate(ids[10:]):
        stage.client.raise_orchestration_event(instance_id, "go", data=number)
    assert [stage.completed(instance_id) for instance_id in ids[10:]] == list(range(10))
    assert {stage.events(instance_id).count("EventRaised") for instance_id in ids} == {1}
    second.stop()
    assert members(stage) == []


def test_closing_the_hub_stops_its_workers_and_refuses_calls(stage: Stage) -> None:
    worker = stage.worker(waits)
    stage.hub.close()
    assert not worker.is_running
    with pytest.raises(ConfigurationError, match="closed"):
        stage.client.get_orchestration_state("any")
    with pytest.raises(ConfigurationError, match="closed"):
        worker.start()
    stage.hub.close()


def test_bad_places_for_a_hub_are_refused_when_it_is_opened(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a hub, but long enough to be read as something" * 10)
    for place in (text, tmp_path, tmp_path / "missing" / "hub.db"):
        with pytest.raises(ConfigurationError):
            TaskHub.local(place)
    for partitions in (0, 129, True, "4"):
        with pytest.raises(ConfigurationError):
            TaskHub.local(partitions=partitions)  # pyright: ignore[reportArgumentType]
    assert text.read_text().startswith("not a hub")
    with TaskHub.local(tmp_path / "hub.db", partitions=7) as hub:
        assert hub.ports.info.partitions == 7
    with TaskHub.local(tmp_path / "hub.db") as hub:
        assert hub.ports.info.partitions == 7


def test_a_new_process_finds_what_the_old_one_left(tmp_path: Path) -> None:
    with TaskHub.local(tmp_path / "hub.db", settings=Settings()) as hub:
        instance_id = TaskHubClient(hub).schedule_new_orchestration(waits, raise_event=("go", "kept"))
    with TaskHub.local(tmp_path / "hub.db") as hub:
        stage = Stage(hub)
        stage.worker(waits)
        assert stage.completed(instance_id) == "kept"


FORGETFUL = """
import os
from durabletask_azure import ConfigurationError, TaskHub, TaskHubClient, TaskHubWorker

async def flow(ctx, _):
    await ctx.wait_for_external_event("never")

hub = TaskHub.local("hub.db")
worker = TaskHubWorker(hub)
worker.add_orchestrator(flow)
worker.start()
client = TaskHubClient(hub)
client.wait_for_orchestration_start(client.schedule_new_orchestration(flow))
if os.fork() == 0:
    try:
        client.schedule_new_orchestration(flow)
    except ConfigurationError as error:
        print("child:", "opened by process" in str(error), flush=True)
    raise SystemExit
os.wait()
print("parent: bye", flush=True)
"""


def test_a_process_that_closes_nothing_ends_at_once_and_its_fork_is_refused(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-W", "error", "-c", FORGETFUL],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=15,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("\n") == ["child: True", "parent: bye", ""]
    with TaskHub.local(tmp_path / "hub.db") as hub:
        (state,) = TaskHubClient(hub).get_all_orchestration_states()
        assert state.runtime_status is OrchestrationStatus.RUNNING
