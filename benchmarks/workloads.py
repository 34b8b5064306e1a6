"""The workloads every system runs, how they are timed, and what one process run of a system found.

W1 chains: many orchestrations of a few sequential no-op activities, all started at once. W2 fan-out: one orchestration
of many parallel no-op activities, results summed. W3 latency: orchestrations of one activity, one after the other.
W4 growth: one orchestration of N sequential activities. Only the standard library is imported here: the peers run in
an environment of their own. Every result is checked.
"""

from __future__ import annotations

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.processes import CpuClock, peak_rss_mib
from benchmarks.yardsticks import yardsticks

__all__ = [
    "FULL",
    "SMALL",
    "Run",
    "Sizes",
    "System",
    "checked",
    "finished",
    "own_process",
    "run_system",
    "triangle",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How large the workloads are."""

    w1_orchestrations: int
    w1_steps: int
    w2_width: int
    w3_orchestrations: int
    w4_steps: tuple[int, ...]


FULL = Sizes(
    w1_orchestrations=200, w1_steps=5, w2_width=1000, w3_orchestrations=50, w4_steps=(100, 200, 400, 800)
)
SMALL = Sizes(w1_orchestrations=10, w1_steps=5, w2_width=20, w3_orchestrations=5, w4_steps=(5, 10))
"""To see that everything starts; its figures mean nothing."""

_WARM_UPS = 20


class System(Protocol):
    """One durable-execution system, started, as the workloads use it. Every call waits for the results."""

    async def chain(self, steps: int) -> int:
        """Run one orchestration that sums the results of 0 to ``steps`` - 1, one activity after the other."""
        ...

    async def chains(self, count: int, steps: int) -> list[int]:
        """Run ``count`` such orchestrations, all started at once."""
        ...

    async def fan_out(self, width: int) -> int:
        """Run one orchestration that sums the results of 0 to ``width`` - 1, all activities in parallel."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One process run of a system. ``figures`` are by name; seconds and rates as :mod:`benchmarks.compare` says."""

    system: str
    setup: str
    versions: Mapping[str, str]
    figures: Mapping[str, float]
    yardsticks: Mapping[str, float]
    peak_rss_mib: Mapping[str, float]
    hub: Mapping[str, str | int] = field(default_factory=dict[str, str | int])
    """What our hub's database says of itself."""
    python: str = field(default_factory=platform.python_version)


def triangle(n: int) -> int:
    """Return 0 + 1 + ... + (n - 1): the right result of a chain or fan-out of n."""
    return n * (n - 1) // 2


def checked(result: object, expected: object) -> None:
    """Raise if a system's result is wrong: its time would mean nothing."""
    if result != expected:
        raise AssertionError(f"wrong result: {str(result)[:200]}, expected {str(expected)[:200]}")


async def run_system(
    system: System,
    sizes: Sizes,
    processes: Mapping[str, int],
    watched: Callable[[str, int], AbstractContextManager[None]] = lambda _name, _steps: nullcontext(),
) -> dict[str, float]:
    """Run all workloads once and return the figures; ``processes`` are those whose processor time is counted.

    Each workload runs inside ``watched(name, activity steps)``, whose own time is not counted.
    """
    checked(await system.chains(_WARM_UPS, 2), [triangle(2)] * _WARM_UPS)
    # Whatever the system: a look of the garbage collector through all that this program has loaded takes as long as a
    # tenth of W1, and comes in it or not by chance.
    gc.freeze()
    figures: dict[str, float] = {}

    with watched("W1", sizes.w1_orchestrations * sizes.w1_steps):
        cpu, begun = CpuClock(processes), time.perf_counter()
        results = await system.chains(sizes.w1_orchestrations, sizes.w1_steps)
        seconds = time.perf_counter() - begun
        figures["W1 cpu"] = cpu.seconds() * 1000 / sizes.w1_orchestrations
    checked(results, [triangle(sizes.w1_steps)] * sizes.w1_orchestrations)
    figures["W1"] = sizes.w1_orchestrations / seconds

    with watched("W2", sizes.w2_width):
        begun = time.perf_counter()
        result = await system.fan_out(sizes.w2_width)
        figures["W2"] = time.perf_counter() - begun
    checked(result, triangle(sizes.w2_width))

    latencies: list[float] = []
    with watched("W3", sizes.w3_orchestrations):
        for _ in range(sizes.w3_orchestrations):
            begun = time.perf_counter()
            result = await system.chain(1)
            latencies.append((time.perf_counter() - begun) * 1000)
            checked(result, 0)
    figures["W3 p50"] = statistics.median(latencies)
    figures["W3 p95"] = _p95(latencies)

    for steps in sizes.w4_steps:
        with watched(f"W4 {steps}", steps):
            cpu, begun = CpuClock(processes), time.perf_counter()
            result = await system.chain(steps)
            figures[f"W4 {steps}"] = time.perf_counter() - begun
            figures["W4 cpu"] = cpu.seconds() * 1000 / steps
        checked(result, triangle(steps))
    return figures


def finished(
    system: str,
    setup: str,
    versions: Mapping[str, str],
    figures: Mapping[str, float],
    before: Mapping[str, float],
    processes: Mapping[str, int],
    hub: Mapping[str, str | int] | None = None,
) -> Run:
    """Return the run whose workloads are done: takes the yardsticks a second time, and the peak memory."""
    after = yardsticks()
    return Run(
        system=system,
        setup=setup,
        versions=versions,
        figures=figures,
        # The mean of before and after: the host's speed changes while one run is under way.
        yardsticks={name: (before[name] + after[name]) / 2 for name in before},
        peak_rss_mib={name: peak_rss_mib(pid) for name, pid in processes.items()},
        hub={} if hub is None else hub,
    )


def own_process(**others: int) -> dict[str, int]:
    """Return the processes of a run: this one, which is client and worker, and servers by name."""
    return {"client and worker": os.getpid(), **others}


def _p95(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=20, method="inclusive")[18]
