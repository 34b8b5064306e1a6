"""What a hub under load looks like, again and again: what is unfinished, what waits, for how long, and the memory."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.hub_under_test import HubUnderTest
from benchmarks.processes import rss_mib
from durabletask_azure import OrchestrationStatus

__all__ = ["Samples", "sampled"]


class Samples:
    """Rows of figures, about one per ``period_s`` seconds."""

    def __init__(self, opened: HubUnderTest, period_s: float, ballast: int) -> None:
        self._opened = opened
        self._period_s = period_s
        self._begun = time.perf_counter()
        self._starts: list[float] = []
        self._ballast = ballast
        self.rows: list[dict[str, float]] = []
        self.counted: dict[str, Any] = {}
        """What else the situation has to tell."""

    def started(self, count: int) -> None:
        """Note that so many were started now."""
        self._starts += [time.perf_counter()] * count

    @property
    def starts(self) -> int:
        """How many were started."""
        return len(self._starts)

    def begin(self) -> None:
        """Count the time from now on."""
        self._begun = time.perf_counter()

    async def keep(self) -> None:
        """Sample until cancelled."""
        while True:
            self.rows.append(await self.take())
            await asyncio.sleep(self._period_s)

    async def take(self) -> dict[str, float]:
        """Return one sample."""
        counts = await self._opened.async_client.get_hub_statistics()
        ended = counts.instances[OrchestrationStatus.COMPLETED]
        now = time.perf_counter()
        # Who came first is served first, near enough: the oldest unfinished one is as old as the start of that number.
        lag_s = now - self._starts[ended] if ended < len(self._starts) else 0.0
        return {
            "s": now - self._begun,
            "ended": ended,
            "unfinished": counts.instance_count - ended,
            "messages": max(0, counts.messages_waiting - self._ballast),
            "activities": counts.activities_waiting + (counts.activities_running or 0),
            "lag_s": lag_s,
            "rss_mib": rss_mib(os.getpid()),
            "file_mib": sum(self._opened.file_bytes().values()) / 2**20 if self._opened.path.name else 0.0,
        }


async def sampled(
    opened: HubUnderTest,
    period_s: float,
    work: Callable[[Samples], Awaitable[None]],
    *,
    warm_up: Callable[[Samples], Awaitable[None]] | None = None,
    ballast: int = 0,
) -> dict[str, Any]:
    """Do some work, after a warm-up, and return the samples taken meanwhile, with what the work had to tell.

    ``ballast`` messages do not count.
    """
    samples = Samples(opened, period_s, ballast)
    if warm_up is not None:
        await warm_up(samples)
    samples.begin()
    keeping = asyncio.create_task(samples.keep())
    try:
        await work(samples)
    finally:
        keeping.cancel()
    samples.rows.append(await samples.take())
    return {"samples": samples.rows, "started": samples.starts, **samples.counted}
