"""Calls that take no coroutine: what goes on by one after all, what is stopped, and what a closing hub leaves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from durabletask_azure import (
    AsyncTaskHubClient,
    OrchestrationContext,
    OrchestrationStatus,
    TaskHub,
    TaskHubClient,
    TaskHubWorker,
)
from durabletask_azure.adapters.local import LocalHub, open_local
from durabletask_azure.core.history import RuntimeStatus
from durabletask_azure.core.messages import Outbound
from durabletask_azure.core.rows import InstanceRow, LockRow, PutInstance
from durabletask_azure.engine.instances import InstanceReport
from durabletask_azure.engine.operations import ClientOperations, StartRequest
from durabletask_azure.errors import HubUnavailableError, InstanceUnreadableError, QueueFullError
from durabletask_azure.ports import HubPorts
from durabletask_azure.settings import Settings
from tests.contract.builders import WAIT_S, instance


class Asking:
    """Who asks: keeps what it is told."""

    def __init__(self) -> None:
        self.quit: Callable[[], object] | None = None
        self.told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.is_going_on = False

    def answer(self, result: Any) -> None:
        self.told.set_result(result)

    def go_on(self, call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self.is_going_on = True
        task = asyncio.ensure_future(call())
        task.add_done_callback(
            lambda done: (
                self.told.set_result(done.result())
                if done.exception() is None
                else self.told.set_exception(done.exception() or AssertionError())
            )
        )


class LeapingClock:
    """A clock that jumps over every pause."""

    def __init__(self, ports: HubPorts) -> None:
        self._real = ports.clock
        self._leaped_s = 0.0

    def now(self) -> Any:
        return self._real.now()

    def monotonic(self) -> float:
        return self._real.monotonic() + self._leaped_s

    async def sleep(self, delay_s: float) -> None:
        self._leaped_s += delay_s
        await asyncio.sleep(0)


class DeafExpress:
    """Begins starts as told, and never tells an end."""

    def __init__(self, outcome: str | Exception) -> None:
        self._outcome = outcome
        self.left = 0

    def begin_start(
        self, partition: int, row: InstanceRow, wake_up: Outbound, told: Callable[[str | Exception], None]
    ) -> bool:
        asyncio.get_running_loop().call_soon(told, self._outcome)
        return True

    def attend_end(
        self, partition: int, instance_id: str, told: Callable[[InstanceRow | None], None]
    ) -> Callable[[], None]:
        def leave() -> None:
            self.left += 1

        return leave


def operations(ports: HubPorts, settings: Settings | None = None) -> ClientOperations:
    ids = iter(range(1_000))
    return ClientOperations(ports, settings or Settings(), lambda: f"new{next(ids)}")


async def close(ports: HubPorts) -> None:
    assert ports.close is not None
    await ports.close()


async def finish(ports: HubPorts, row: InstanceRow) -> None:
    lock = await ports.store.read_lock(0)
    stored = await ports.store.read_instance(0, row.instance_id)
    await ports.store.commit(
        0, LockRow(n=lock.row.n + 1), lock.etag, [PutInstance(row, None if stored is None else stored.etag)]
    )


async def test_a_start_whose_fate_is_unknown_goes_on_as_the_same_run() -> None:
    ports = open_local(None)
    client = operations(replace(ports, express=DeafExpress(HubUnavailableError("the reply was lost"))))
    asking = Asking()

    assert client.starting.start_at_once(StartRequest(name="order", instance_id="i"), asking)
    assert await asyncio.wait_for(asking.told, WAIT_S) == "i"

    stored = await ports.store.read_instance(client.instances.partition_of("i"), "i")
    assert stored is not None
    assert (asking.is_going_on, stored.row.execution_id) == (True, "new0")
    await close(ports)


@pytest.mark.parametrize("why", ["a large input", "a full hub", "no such way"])
async def test_a_start_that_takes_more_than_one_write_is_left_to_the_coroutine(why: str) -> None:
    settings = Settings(messages_waiting_max=1, activities_waiting_max=1, queue_full_wait_s=0.0)
    ports = open_local(None, settings=settings if why == "a full hub" else None)
    client = operations(replace(ports, express=None) if why == "no such way" else ports)
    if why == "a full hub":
        await client.starting.start(StartRequest(name="order", instance_id="before"))
        with pytest.raises(QueueFullError):
            await client.starting.start(StartRequest(name="order", instance_id="refused"))
    large = "x" * 100_000 if why == "a large input" else None

    assert not client.starting.start_at_once(
        StartRequest(name="order", instance_id="i", input=large), Asking()
    )
    assert await ports.store.read_instance(client.instances.partition_of("i"), "i") is None
    await close(ports)


async def test_a_long_wait_looks_by_itself_after_a_while() -> None:
    ports = open_local(None, partitions=1)
    deaf = DeafExpress("")
    client = operations(replace(ports, express=deaf, clock=LeapingClock(ports)))
    last = instance("i", status=RuntimeStatus.COMPLETED)
    await finish(ports, last)
    asking, gone = Asking(), Asking()

    for each in (asking, gone):
        assert client.waiting.completion_at_once("i", 3600.0, each, fetch_payloads=True)
    assert gone.quit is not None
    gone.quit()
    report: InstanceReport = await asyncio.wait_for(asking.told, WAIT_S)

    assert (report.row, asking.is_going_on) == (last, True)
    assert (gone.told.done(), deaf.left) == (False, 2)
    await close(ports)


async def test_a_wait_that_goes_on_keeps_its_deadline() -> None:
    ports = open_local(None, partitions=1)
    client = operations(replace(ports, express=DeafExpress(""), clock=LeapingClock(ports)))
    await finish(ports, instance("i"))
    asking = Asking()

    assert client.waiting.completion_at_once("i", 10.0, asking, fetch_payloads=True)

    with pytest.raises(TimeoutError, match="Timed-out waiting for the orchestration to complete"):
        await asyncio.wait_for(asking.told, WAIT_S)
    assert not client.waiting.completion_at_once("i", 9.9, Asking(), fetch_payloads=True)
    await close(ports)


async def test_values_kept_outside_the_row_are_fetched() -> None:
    ports = open_local(None)
    client = operations(ports)
    large = "x" * 100_000
    await client.starting.start(StartRequest(name="order", instance_id="i", input=large))
    partition = client.instances.partition_of("i")
    stored = await ports.store.read_instance(partition, "i")
    assert stored is not None
    lock = await ports.store.read_lock(partition)
    with_value, without = Asking(), Asking()
    client.waiting.completion_at_once("i", 60.0, with_value, fetch_payloads=True)
    client.waiting.completion_at_once("i", 60.0, without, fetch_payloads=False)
    last = replace_status(stored.row)
    await ports.store.commit(partition, LockRow(n=1), lock.etag, [PutInstance(last, stored.etag)])

    full: InstanceReport = await asyncio.wait_for(with_value.told, WAIT_S)
    short: InstanceReport = await asyncio.wait_for(without.told, WAIT_S)

    assert (full.input, with_value.is_going_on) == (large, True)
    assert (short.input, without.is_going_on) == (None, False)
    await close(ports)


async def test_what_cannot_be_read_is_the_error_of_the_wait_alone() -> None:
    ports = open_local(None, partitions=1)
    client = operations(ports)
    damaged, sound = Asking(), Asking()
    for instance_id, asking in (("damaged", damaged), ("sound", sound)):
        await ports.store.insert_instance(0, instance(instance_id))
        assert client.waiting.completion_at_once(instance_id, 60.0, asking, fetch_payloads=True)
    await finish(ports, msgspec.structs.replace(instance("damaged", status=RuntimeStatus.FAILED), tags="{"))
    await finish(ports, instance("sound", status=RuntimeStatus.FAILED))

    with pytest.raises(InstanceUnreadableError):
        await asyncio.wait_for(damaged.told, WAIT_S)
    assert await asyncio.wait_for(sound.told, WAIT_S) is not None
    await close(ports)


def replace_status(row: InstanceRow) -> InstanceRow:
    return msgspec.structs.replace(row, status=RuntimeStatus.COMPLETED)


async def nap(ctx: OrchestrationContext, _: object) -> str:
    await ctx.wait_for_external_event("awake")
    return "awake"


async def until_waiting(hub: TaskHub, count: int) -> None:
    """Return when so many wait for instances."""
    local: object = getattr(hub.ports.close, "__self__", None)
    assert isinstance(local, LocalHub)
    async with asyncio.timeout(WAIT_S):
        while local.stats().waiting != count:
            await hub.arun(lambda: hub.ports.clock.sleep(0.005))


async def test_a_cancelled_wait_leaves_nobody_waiting(tmp_path: Path) -> None:
    async with TaskHub.local(tmp_path / "hub.db") as hub:
        client = AsyncTaskHubClient(hub)
        started = await client.schedule_new_orchestration("nap")
        waits = [asyncio.create_task(client.wait_for_orchestration_completion(started)) for _ in range(2)]
        await until_waiting(hub, 2)
        for wait in waits:
            wait.cancel()
        assert all(
            isinstance(one, asyncio.CancelledError)
            for one in await asyncio.gather(*waits, return_exceptions=True)
        )
        await until_waiting(hub, 0)


@pytest.mark.parametrize("timeout", [5.0, 60.0])
async def test_waits_of_both_clients_fail_when_the_hub_is_closed(tmp_path: Path, timeout: float) -> None:
    hub = TaskHub.local(tmp_path / "hub.db")
    client = TaskHubClient(hub)
    started = client.schedule_new_orchestration("nap")
    failed: list[BaseException] = []

    def wait() -> None:
        try:
            client.wait_for_orchestration_completion(started, timeout=timeout)
        except HubUnavailableError as error:
            failed.append(error)

    threads = [threading.Thread(target=wait) for _ in range(2)]
    waiting = asyncio.create_task(
        AsyncTaskHubClient(hub).wait_for_orchestration_completion(started, timeout=timeout)
    )
    for thread in threads:
        thread.start()
    await until_waiting(hub, 3)
    await hub.aclose()

    with pytest.raises(HubUnavailableError):
        await asyncio.wait_for(waiting, WAIT_S)
    for thread in threads:
        await asyncio.to_thread(thread.join, WAIT_S)
    assert len(failed) == 2


async def test_a_worker_in_the_same_process_ends_waits_of_both_clients(tmp_path: Path) -> None:
    with TaskHub.local(tmp_path / "hub.db") as hub:
        worker = TaskHubWorker(hub)
        worker.add_orchestrator(nap)
        worker.start()
        client = AsyncTaskHubClient(hub)
        started = [await client.schedule_new_orchestration(nap) for _ in range(20)]
        waits = [asyncio.create_task(client.wait_for_orchestration_completion(one)) for one in started]
        blocked = asyncio.create_task(
            asyncio.to_thread(TaskHubClient(hub).wait_for_orchestration_completion, started[0])
        )
        for one in started:
            await client.raise_orchestration_event(one, "awake")
        states = await asyncio.wait_for(asyncio.gather(*waits, blocked), WAIT_S)

    assert {state.runtime_status for state in states if state is not None} == {OrchestrationStatus.COMPLETED}
    assert [state.instance_id for state in states if state is not None] == [*started, started[0]]
