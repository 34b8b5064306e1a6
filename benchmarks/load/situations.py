"""The situations, each brought about in a process of its own.

Many instances worked off, clients that outrun the worker, a hub full of finished instances.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.fresh import in_fresh_process
from benchmarks.hub_under_test import HubUnderTest, chain, noop
from benchmarks.load.samples import Samples, sampled
from benchmarks.processes import rss_mib
from benchmarks.wire.servers import Servers
from benchmarks.workloads import checked
from durabletask_azure import (
    ActivityContext,
    BulkInterruptedError,
    NewOrchestration,
    OrchestrationContext,
    OrchestrationQuery,
    OrchestrationStatus,
    QueueFullError,
    Settings,
    TaskHub,
    TaskHubWorker,
)

__all__ = ["STEPS", "WAITING_MAX", "measure"]

STEPS = 10
WAITING_MAX = 2_000
"""The limits of the embedded hub that clients outrun; the default of 100,000 would not be reached in a minute."""

_SLOW_S = 0.02
_SLOW_THREADS = 2
_CLIENTS = 4
_PORTION = 50
_AT_ONCE = 1_000
_FILTERED = 100


def slow(ctx: ActivityContext, value: int) -> int:
    """Take a while."""
    time.sleep(_SLOW_S)
    return value


async def slowly(ctx: OrchestrationContext, value: int) -> int:
    """Do one slow activity."""
    return await ctx.call_activity(slow, input=value)


def measure(
    situation: str, count: int = 0, seconds: float = 0.0, servers: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Bring one situation about, on the servers given or on an embedded hub, and return what was sampled."""
    where = None if servers is None else msgspec.convert(servers, Servers)
    settings = Settings()
    if situation == "outrun":
        settings = Settings(
            activity_threads_max=_SLOW_THREADS,
            messages_waiting_max=WAITING_MAX,
            activities_waiting_max=WAITING_MAX,
        )
    with _open(where, settings) as opened:
        period_s = 0.5 if where is None else 2.0
        if situation == "worked off":
            return asyncio.run(_worked_off(opened, period_s, count))
        if situation == "outrun":
            ballast = 0 if servers is None else in_fresh_process("load.ballast", servers=servers)
            return asyncio.run(_outrun(opened, period_s, seconds, count, ballast))
        return asyncio.run(_finished(opened, count))


@contextlib.contextmanager
def _open(where: Servers | None, settings: Settings) -> Generator[HubUnderTest]:
    with tempfile.TemporaryDirectory(prefix="benchmark-hub-") as folder:
        path = Path(folder, "hub.db")
        opened = TaskHub.local(path, settings=settings) if where is None else _over_the_wire(where, settings)
        with opened as hub:
            worker = TaskHubWorker(hub)
            for orchestrator in (chain, slowly):
                worker.add_orchestrator(orchestrator)
            for activity in (noop, slow):
                worker.add_activity(activity)
            worker.start()
            yield HubUnderTest(hub, path if where is None else Path())


def _over_the_wire(where: Servers, settings: Settings) -> TaskHub:
    from benchmarks.wire.hub import azure_settings  # brings SDKs, whose memory an embedded hub does not need

    return TaskHub.azure(azure_settings(where), settings=settings)


async def _worked_off(opened: HubUnderTest, period_s: float, count: int) -> dict[str, Any]:
    client = opened.async_client

    async def work(samples: Samples) -> None:
        names = [f"load-{index}" for index in range(count)]
        for first in range(0, count, 500):
            part = names[first : first + 500]
            requests = [NewOrchestration(chain, STEPS, name) for name in part]
            checked((await client.schedule_new_orchestrations(requests)).started, part)
            samples.started(len(part))
        for name in names:
            await client.wait_for_orchestration_completion(name, fetch_payloads=False, timeout=None)

    found = await sampled(opened, period_s, work)
    checked(found["samples"][-1]["ended"], count)
    return found


async def _outrun(
    opened: HubUnderTest, period_s: float, seconds: float, warm_ups: int, ballast: int
) -> dict[str, Any]:
    waits: list[float] = []
    refused = 0

    async def client(samples: Samples, end: float) -> None:
        nonlocal refused
        while (begun := time.perf_counter()) < end:
            requests = [NewOrchestration(slowly, 1) for _ in range(_PORTION)]
            try:
                result = await opened.async_client.schedule_new_orchestrations(requests)
            except BulkInterruptedError as error:
                result = error.result
            for one in result.refused:
                if not isinstance(one.error, QueueFullError):
                    raise AssertionError(f"refused for another reason: {one.error}")
            samples.started(len(result.started))
            refused += len(result.refused)
            waits.append(time.perf_counter() - begun)

    async def warm_up(samples: Samples) -> None:
        requests = [NewOrchestration(slowly, 1, f"warm-up-{index}") for index in range(warm_ups)]
        await opened.async_client.schedule_new_orchestrations(requests)
        samples.started(warm_ups)
        for request in requests:
            await opened.async_client.wait_for_orchestration_start(request.instance_id or "", timeout=None)

    async def work(samples: Samples) -> None:
        end = time.perf_counter() + seconds
        await asyncio.gather(*(client(samples, end) for _ in range(_CLIENTS)))
        samples.counted = {"refused": refused, "longest": max(waits)}

    return await sampled(opened, period_s, work, warm_up=warm_up, ballast=ballast)


class _Step:
    """What is done to all instances, and the memory after the first tenth of them."""

    def __init__(self, tenth: int) -> None:
        self._tenth = tenth
        self.tenth_mib = 0.0

    def done(self, count: int) -> None:
        """Note that so many are done."""
        if count >= self._tenth and not self.tenth_mib:
            self.tenth_mib = rss_mib(os.getpid())


async def _finished(opened: HubUnderTest, count: int) -> dict[str, Any]:
    client = opened.async_client
    steps: list[dict[str, Any]] = []

    async def timed(what: str, call: Callable[[_Step], Awaitable[int]], expected: int) -> None:
        step = _Step(max(1, expected // 10))
        begun = time.perf_counter()
        found = await call(step)
        checked(found, expected)
        seconds, rss = time.perf_counter() - begun, rss_mib(os.getpid())
        steps.append(
            {
                "what": what,
                "count": found,
                "s": seconds,
                "tenth_mib": step.tenth_mib or rss,
                "rss_mib": rss,
            }
        )

    async def finished(step: _Step) -> int:
        for first in range(0, count, _AT_ONCE):
            indexes = range(first, min(first + _AT_ONCE, count))
            names = [f"{'odd' if index < _FILTERED else 'even'}-{index}" for index in indexes]
            await client.schedule_new_orchestrations([NewOrchestration(chain, 0, name) for name in names])
            for name in names:
                await client.wait_for_orchestration_completion(name, fetch_payloads=False, timeout=None)
            step.done(indexes.stop)
        return count

    async def listed(step: _Step, query: OrchestrationQuery | None = None) -> int:
        found = 0
        async for _ in client.iter_orchestration_states(query or OrchestrationQuery()):
            found += 1
            step.done(found)
        return found

    async def purged(step: _Step) -> int:
        result = await client.purge_orchestrations_by(
            runtime_status=[OrchestrationStatus.COMPLETED],
            timeout=None,
            on_progress=lambda progress: step.done(progress.succeeded),
        )
        return result.deleted_instance_count

    await timed("started and ended", finished, count)
    await timed("listed, page by page", listed, count)
    few = OrchestrationQuery(instance_id_prefix="odd-")
    await timed("filtered by the beginning of the id", lambda step: listed(step, few), min(count, _FILTERED))
    none = OrchestrationQuery(runtime_status=[OrchestrationStatus.FAILED])
    await timed("filtered by a status that none has", lambda step: listed(step, none), 0)
    await timed("purged", purged, count)
    await timed("listed again", listed, 0)
    return {"steps": steps}
