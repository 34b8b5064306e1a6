"""Our own hub as the benchmarks use it: an embedded hub in a file with its defaults, workers, both clients.

One worker in the process of the clients, or, as a program would that needs more than one processor, several workers
in processes of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from durabletask_azure import (
    ActivityContext,
    AsyncTaskHubClient,
    OrchestrationContext,
    OrchestrationState,
    OrchestrationStatus,
    TaskHub,
    TaskHubClient,
    TaskHubWorker,
    when_all,
)
from durabletask_azure.adapters.local import LocalHub

__all__ = [
    "HubUnderTest",
    "chain",
    "fan_out",
    "new_worker",
    "noop",
    "open_hub_under_test",
    "open_hub_with_workers",
]

_WAIT_S = 1800.0
_SHARED_S = 60.0
_ROOT = Path(__file__).resolve().parents[1]


def noop(ctx: ActivityContext, value: int) -> int:
    """Return what came in, as the activities of the peers do."""
    return value


async def chain(ctx: OrchestrationContext, steps: int) -> int:
    """Sum the results of activities, one after the other."""
    total = 0
    for index in range(steps):
        total += await ctx.call_activity(noop, input=index)
    return total


async def fan_out(ctx: OrchestrationContext, width: int) -> int:
    """Sum the results of activities, all at once."""
    return sum(await when_all([ctx.call_activity(noop, input=index) for index in range(width)]))


class HubUnderTest:
    """An open hub with a running worker; a :class:`benchmarks.workloads.System`."""

    def __init__(self, hub: TaskHub, path: Path) -> None:
        self.hub = hub
        self.path = path
        self.client = TaskHubClient(hub)
        self.async_client = AsyncTaskHubClient(hub)

    async def chain(self, steps: int) -> int:
        """Run a chain with the synchronous client."""
        return self.run(chain, steps)

    async def chains(self, count: int, steps: int) -> list[int]:
        """Run chains, all started at once with the async client."""

        async def one() -> int:
            instance_id = await self.async_client.schedule_new_orchestration(chain, input=steps)
            return _output(
                await self.async_client.wait_for_orchestration_completion(instance_id, timeout=_WAIT_S)
            )

        return await asyncio.gather(*(one() for _ in range(count)))

    def chains_in_a_loop(self, count: int, steps: int) -> list[int]:
        """Run chains, started and then awaited one by one with the synchronous client."""
        ids = [self.client.schedule_new_orchestration(chain, input=steps) for _ in range(count)]
        return [
            _output(self.client.wait_for_orchestration_completion(instance_id, timeout=_WAIT_S))
            for instance_id in ids
        ]

    async def fan_out(self, width: int) -> int:
        """Run a fan-out with the synchronous client."""
        return self.run(fan_out, width)

    def run(self, orchestrator: Callable[..., Any], value: object) -> Any:
        """Run one orchestration with the synchronous client and return its output."""
        instance_id = self.client.schedule_new_orchestration(orchestrator, input=value)
        return _output(self.client.wait_for_orchestration_completion(instance_id, timeout=_WAIT_S))

    def file_bytes(self) -> dict[str, int]:
        """Return the sizes of the hub's file and of its write-ahead log."""
        log = self.path.with_name(self.path.name + "-wal")
        return {"file": self.path.stat().st_size, "log": log.stat().st_size if log.exists() else 0}

    def database(self) -> dict[str, str | int]:
        """Return SQLite's modes, read from the connection that commits, and how much was committed so far."""
        local = _local_hub(self.hub.ports.close)
        stats = local.stats()
        journal_mode, synchronous = self.hub.run(local.read_modes)
        return {
            "SQLite": sqlite3.sqlite_version,
            "journal_mode": journal_mode,
            "synchronous": synchronous,
            "commits": stats.commits,
            "durable commits": stats.durable_commits,
            "requests": stats.requests,
        }


@contextlib.contextmanager
def open_hub_under_test(
    *orchestrators: Callable[..., Any], activities: tuple[Callable[..., Any], ...] = ()
) -> Generator[HubUnderTest]:
    """Open a new hub in a temporary folder, with a worker for the workloads and for what is given."""
    with tempfile.TemporaryDirectory(prefix="benchmark-hub-") as folder:
        path = Path(folder) / "hub.db"
        with TaskHub.local(path) as hub:
            new_worker(hub, *orchestrators, activities=activities).start()
            yield HubUnderTest(hub, path)


def new_worker(
    hub: TaskHub, *orchestrators: Callable[..., Any], activities: tuple[Callable[..., Any], ...] = ()
) -> TaskHubWorker:
    """Return a worker for the workloads and for what is given."""
    worker = TaskHubWorker(hub)
    for orchestrator in (chain, fan_out, *orchestrators):
        worker.add_orchestrator(orchestrator)
    for activity in (noop, *activities):
        worker.add_activity(activity)
    return worker


@contextlib.contextmanager
def open_hub_with_workers(count: int) -> Generator[tuple[HubUnderTest, WorkerProcesses]]:
    """Open a new hub in a temporary folder for clients only, and ``count`` processes with a worker each; they share
    the hub's partitions when this returns."""
    with tempfile.TemporaryDirectory(prefix="benchmark-hub-") as folder:
        path = Path(folder) / "hub.db"
        with TaskHub.local(path) as hub, WorkerProcesses(path, count) as workers:
            workers.wait_until_shared(hub)
            yield HubUnderTest(hub, path), workers


class WorkerProcesses:
    """Processes that work on one hub file, until the block ends."""

    def __init__(self, path: Path, count: int) -> None:
        self._path = path
        self._count = count
        self.running: list[subprocess.Popen[str]] = []
        self._databases: list[dict[str, Any]] = []

    def __enter__(self) -> WorkerProcesses:
        command = [sys.executable, "-m", "benchmarks.hub_worker", str(self._path)]
        for _ in range(self._count):
            self.running.append(
                subprocess.Popen(  # noqa: S603 - our own module
                    command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )
        return self

    def __exit__(self, *_error: object) -> None:
        self.end()

    def wait_until_shared(self, hub: TaskHub) -> None:
        """Wait until each worker holds as many partitions as the others.

        Raises:
            RuntimeError: they do not in a minute.
        """
        share = hub.ports.info.partitions // self._count
        deadline = time.monotonic() + _SHARED_S
        while time.monotonic() < deadline:
            rows = hub.run(hub.ports.membership.workers)
            if len(rows) == self._count and all(len(row.partitions) == share for row in rows):
                return
            time.sleep(0.05)
        raise RuntimeError(f"{self._count} workers do not share the hub's partitions after {_SHARED_S:.0f} s")

    def end(self) -> Sequence[dict[str, Any]]:
        """End the workers and return what each says of the hub's database."""
        running, self.running = self.running, []
        for process in running:
            if process.stdin is not None:
                process.stdin.close()
        for process in running:
            said = process.stdout.read() if process.stdout is not None else ""
            if process.wait() != 0:
                raise RuntimeError(f"a worker of the benchmark ended with {process.returncode}")
            self._databases.append(json.loads(said))
        return self._databases


def _local_hub(close: Callable[[], Awaitable[None]] | None) -> LocalHub:
    """Return the embedded hub behind a hub's ports, whose ``close`` is a method of it."""
    local: object = getattr(close, "__self__", None)
    if not isinstance(local, LocalHub):
        raise TypeError(f"these ports are not of an embedded hub: {local!r}")
    return local


def _output(state: OrchestrationState | None) -> Any:
    if state is None or state.runtime_status != OrchestrationStatus.COMPLETED:
        raise AssertionError(f"an orchestration did not complete: {state}")
    return state.get_output()
