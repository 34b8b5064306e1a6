"""W1 to W4 on our own hub, a new file with its defaults: client and worker in one process, or in several."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.hub_under_test import HubUnderTest, open_hub_under_test, open_hub_with_workers
from benchmarks.workloads import FULL, SMALL, Sizes, checked, finished, own_process, run_system, triangle
from benchmarks.yardsticks import yardsticks
from durabletask_azure import __version__

__all__ = ["OWN_SPREAD", "OWN_SYSTEM", "OWN_SYSTEMS", "WORKERS", "measure"]

WORKERS = 2
"""Worker processes of the second way to run it."""

OWN_SYSTEM = "durabletask_azure"
OWN_SPREAD = f"durabletask_azure, {WORKERS} worker processes"
OWN_SYSTEMS = (OWN_SYSTEM, OWN_SPREAD)
_SETUPS = {
    OWN_SYSTEM: "embedded hub in a file, defaults; client and worker in one process",
    OWN_SPREAD: f"the same hub; the client and {WORKERS} workers in processes of their own",
}
_COUNTED = ("commits", "durable commits", "requests")


def measure(small: bool, system: str = OWN_SYSTEM) -> dict[str, Any]:
    """Run all workloads once, from this process, and return the run as JSON has it."""
    sizes = SMALL if small else FULL
    before = yardsticks()
    if system == OWN_SYSTEM:
        processes = own_process()
        with open_hub_under_test() as opened:
            figures = _figures(opened, sizes, processes)
            run = finished(system, _SETUPS[system], _VERSIONS, figures, before, processes, opened.database())
        return asdict(run)
    with open_hub_with_workers(WORKERS) as (opened, workers):
        others = {f"worker {number}": one.pid for number, one in enumerate(workers.running, 1)}
        processes = own_process(**others)
        figures = _figures(opened, sizes, processes)
        run = asdict(finished(system, _SETUPS[system], _VERSIONS, figures, before, processes))
        run["hub"] = _together([opened.database(), *workers.end()])
    return run


_VERSIONS = {"durabletask_azure": __version__}


def _figures(opened: HubUnderTest, sizes: Sizes, processes: dict[str, int]) -> dict[str, float]:
    figures = asyncio.run(run_system(opened, sizes, processes))
    begun = time.perf_counter()
    results = opened.chains_in_a_loop(sizes.w1_orchestrations, sizes.w1_steps)
    figures["W1 loop"] = sizes.w1_orchestrations / (time.perf_counter() - begun)
    checked(results, [triangle(sizes.w1_steps)] * sizes.w1_orchestrations)
    return figures


def _together(databases: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what several processes say of one database: the same modes, and their commits added up."""
    modes = [{key: one[key] for key in one if key not in _COUNTED} for one in databases]
    if any(one != modes[0] for one in modes):
        raise AssertionError(f"the processes have their database in different modes: {modes}")
    return {**modes[0], **{key: sum(one[key] for one in databases) for key in _COUNTED}}
