"""A hub under load for minutes: what waits, for how long, and the memory of the one process that is client and worker.

Three situations, each in a process of its own: many instances started at once and worked off; clients that start more
than the worker can do; and a hub full of finished instances that are listed, filtered and purged.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.fresh import in_fresh_process
from benchmarks.hub_under_test import HubUnderTest, chain, open_hub_under_test
from benchmarks.plots import Curve, plot
from benchmarks.processes import rss_mib
from benchmarks.tables import figure, table
from benchmarks.targets import SMALL_SAYS, Verdict
from benchmarks.workloads import checked
from durabletask_azure import (
    ActivityContext,
    NewOrchestration,
    OrchestrationContext,
    OrchestrationQuery,
    OrchestrationStatus,
)

__all__ = ["COMMAND", "HELP", "add_options", "measure", "run"]

COMMAND = "load"
HELP = "10,000 instances of 10 activities, clients that outrun the worker, 100,000 finished instances"

_STEPS = 10
_GROWTH_MAX = 1.10
_SLOW_S = 0.02
_FILTERED = 100


def slow(ctx: ActivityContext, value: int) -> int:
    """Take a while."""
    time.sleep(_SLOW_S)
    return value


async def slowly(ctx: OrchestrationContext, value: int) -> int:
    """Do one slow activity."""
    return await ctx.call_activity(slow, input=value)


def measure(situation: str, count: int, seconds: float) -> dict[str, Any]:
    """Bring one situation about and return what was sampled."""
    with open_hub_under_test(slowly, activities=(slow,)) as opened:
        if situation == "worked off":
            return asyncio.run(_worked_off(opened, count))
        if situation == "outrun":
            return asyncio.run(_outrun(opened, seconds))
        return asyncio.run(_finished(opened, count))


# ---------------------------------------------------------------- sampling


class _Samples:
    """What a hub looked like, about once per ``period_s``."""

    def __init__(self, opened: HubUnderTest, period_s: float) -> None:
        self._opened = opened
        self._period_s = period_s
        self._begun = time.perf_counter()
        self.rows: list[dict[str, float]] = []

    async def keep(self) -> None:
        """Sample until cancelled."""
        while True:
            self.rows.append(await self.take())
            await asyncio.sleep(self._period_s)

    async def take(self) -> dict[str, float]:
        """Return one sample."""
        counts = await self._opened.async_client.get_hub_statistics()
        now = datetime.now(UTC).replace(tzinfo=None)
        waits = [
            (now - part.oldest_message_at).total_seconds()
            for part in counts.partitions
            if part.oldest_message_at is not None
        ]
        ended = counts.instances[OrchestrationStatus.COMPLETED]
        return {
            "s": time.perf_counter() - self._begun,
            "ended": ended,
            "unfinished": counts.instance_count - ended,
            "messages": counts.messages_waiting,
            "activities": counts.activities_waiting + (counts.activities_running or 0),
            "lag_s": max(waits, default=0.0),
            "rss_mib": rss_mib(os.getpid()),
            "file_mib": sum(self._opened.file_bytes().values()) / 2**20,
        }


async def _sampled(opened: HubUnderTest, work: Callable[[_Samples], Awaitable[None]]) -> _Samples:
    samples = _Samples(opened, 0.5)
    keeping = asyncio.create_task(samples.keep())
    try:
        await work(samples)
    finally:
        keeping.cancel()
    samples.rows.append(await samples.take())
    return samples


# ---------------------------------------------------------------- situations


async def _worked_off(opened: HubUnderTest, count: int) -> dict[str, Any]:
    async def work(samples: _Samples) -> None:
        requests = (
            NewOrchestration(chain, input=_STEPS, instance_id=f"load-{index}") for index in range(count)
        )
        await opened.async_client.schedule_new_orchestrations(requests)
        for index in range(count):
            await opened.async_client.wait_for_orchestration_completion(f"load-{index}", timeout=None)

    samples = await _sampled(opened, work)
    checked(samples.rows[-1]["ended"], count)
    return {"samples": samples.rows}


async def _outrun(opened: HubUnderTest, seconds: float) -> dict[str, Any]:
    started = 0

    async def work(samples: _Samples) -> None:
        nonlocal started
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            requests = [NewOrchestration(slowly, input=1) for _ in range(200)]
            await opened.async_client.schedule_new_orchestrations(requests)
            started += len(requests)

    samples = await _sampled(opened, work)
    return {"samples": samples.rows, "started": started}


async def _finished(opened: HubUnderTest, count: int) -> dict[str, Any]:
    client = opened.async_client
    requests = (
        NewOrchestration(chain, input=0, instance_id=f"{'odd' if index < _FILTERED else 'even'}-{index}")
        for index in range(count)
    )
    await client.schedule_new_orchestrations(requests)
    for index in range(count):
        name = f"{'odd' if index < _FILTERED else 'even'}-{index}"
        await client.wait_for_orchestration_completion(name, fetch_payloads=False, timeout=None)
    steps: list[dict[str, Any]] = []

    async def timed(what: str, call: Callable[[], Awaitable[int]], expected: int) -> None:
        begun = time.perf_counter()
        found = await call()
        checked(found, expected)
        seconds = time.perf_counter() - begun
        steps.append({"what": what, "count": found, "s": seconds, "rss_mib": rss_mib(os.getpid())})

    async def listed(query: OrchestrationQuery) -> int:
        return await _count(client.iter_orchestration_states(query))

    async def purged() -> int:
        purge = client.purge_orchestrations_by
        result = await purge(runtime_status=[OrchestrationStatus.COMPLETED], timeout=None)
        return result.deleted_instance_count

    await timed("listed, page by page", lambda: listed(OrchestrationQuery()), count)
    few = OrchestrationQuery(instance_id_prefix="odd-")
    await timed("filtered by the beginning of the id", lambda: listed(few), _FILTERED)
    none = OrchestrationQuery(runtime_status=[OrchestrationStatus.FAILED])
    await timed("filtered by a status that none has", lambda: listed(none), 0)
    await timed("purged", purged, count)
    await timed("listed again", lambda: listed(OrchestrationQuery()), 0)
    return {"steps": steps}


async def _count(states: AsyncIterator[Any]) -> int:
    found = 0
    async for _ in states:
        found += 1
    return found


# ---------------------------------------------------------------- the report


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this measurement alone."""
    parser.add_argument(
        "--plots", type=Path, help="also draw the samples as SVG files into this folder (docs/figures)"
    )


def run(*, small: bool, plots: Path | None = None) -> None:
    """Bring all situations about, and print their tables and verdicts."""
    count, seconds, many = (60, 1.0, 200) if small else (10_000, 60.0, 100_000)
    for printed in (
        _report_worked_off(count, small=small, plots=plots),
        _report_outrun(seconds, small=small, plots=plots),
        _report_finished(many),
    ):
        for text in printed:
            print(text, flush=True)
        print()


def _report_worked_off(count: int, *, small: bool, plots: Path | None) -> Iterator[str]:
    _say(f"{count:,} instances of {_STEPS} activities, started at once ...")
    rows = in_fresh_process("load", situation="worked off", count=count, seconds=0.0)["samples"]
    if plots is not None:
        _draw(
            rows,
            f"{count:,} instances of {_STEPS} activities, started at once",
            plots / "load-worked-off.svg",
        )
    yield _samples_table(rows)
    tenth = next(row for row in rows if row["ended"] >= count / 10)
    yield _flat(tenth, rows[-1], small=small)
    rate = count * _STEPS / rows[-1]["s"]
    yield f"{figure(count / rows[-1]['s'])} instances and {figure(rate)} activities a second, starts included"


def _report_outrun(seconds: float, *, small: bool, plots: Path | None) -> Iterator[str]:
    _say(f"clients that outrun the worker for {seconds:g} s ...")
    found = in_fresh_process("load", situation="outrun", count=0, seconds=seconds)
    rows = found["samples"]
    if plots is not None:
        _draw(rows, "Clients start more than the worker can do", plots / "load-outrun.svg")
    yield _samples_table(rows)
    tenth = next(row for row in rows if row["s"] >= rows[-1]["s"] / 10)
    yield _flat(tenth, rows[-1], small=small)
    yield f"{found['started']:,} started, {rows[-1]['ended']:,.0f} finished: what waits, waits in the file"


def _report_finished(count: int) -> Iterator[str]:
    _say(f"{count:,} finished instances ...")
    steps = in_fresh_process("load", situation="finished", count=count, seconds=0.0)["steps"]
    rows = [(s["what"], f"{s['count']:,}", figure(s["s"]), figure(s["rss_mib"])) for s in steps]
    yield table((f"of {count:,} finished instances", "instances", "s", "RSS, MiB"), rows)


def _samples_table(rows: list[dict[str, float]]) -> str:
    every = max(1, len(rows) // 12)
    shown = [*rows[::every], *([] if (len(rows) - 1) % every == 0 else [rows[-1]])]
    return table(
        ("s", "ended", "unfinished", "messages", "activities", "oldest message, s", "RSS, MiB", "files, MiB"),
        [
            (
                f"{row['s']:.1f}",
                *(f"{row[key]:,.0f}" for key in ("ended", "unfinished", "messages", "activities")),
                *(figure(row[key]) for key in ("lag_s", "rss_mib", "file_mib")),
            )
            for row in shown
        ],
    )


def _flat(tenth: dict[str, float], last: dict[str, float], *, small: bool) -> str:
    growth = last["rss_mib"] / tenth["rss_mib"]
    text = (
        f"RSS at the end is {growth:.2f} of what it was after a tenth, at most {_GROWTH_MAX:.2f}:"
        f" {figure(last['rss_mib'])} and {figure(tenth['rss_mib'])} MiB"
    )
    return SMALL_SAYS if small else str(Verdict(passed=growth <= _GROWTH_MAX, text=text))


def _draw(rows: list[dict[str, float]], title: str, path: Path) -> None:
    times = [row["s"] for row in rows]
    curves = [
        Curve("unfinished instances", times, [row["unfinished"] for row in rows]),
        Curve("age of the oldest message, s", times, [row["lag_s"] for row in rows]),
        Curve("memory of the process, MiB", times, [row["rss_mib"] for row in rows]),
    ]
    plot(title, curves, path)


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
