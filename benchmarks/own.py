"""W1 to W4 on our own hub: one process is client and worker, the hub is a new file with its defaults."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from typing import Any

from benchmarks.hub_under_test import open_hub_under_test
from benchmarks.workloads import FULL, SMALL, checked, finished, own_process, run_system, triangle
from benchmarks.yardsticks import yardsticks
from durabletask_azure import __version__

__all__ = ["OWN_SYSTEM", "measure"]

OWN_SYSTEM = "durabletask_azure"


def measure(small: bool) -> dict[str, Any]:
    """Run all workloads once in this process and return the run as JSON has it."""
    sizes = SMALL if small else FULL
    before = yardsticks()
    processes = own_process()
    with open_hub_under_test() as opened:
        figures = asyncio.run(run_system(opened, sizes, processes))
        begun = time.perf_counter()
        results = opened.chains_in_a_loop(sizes.w1_orchestrations, sizes.w1_steps)
        figures["W1 loop"] = sizes.w1_orchestrations / (time.perf_counter() - begun)
        checked(results, [triangle(sizes.w1_steps)] * sizes.w1_orchestrations)
        database = opened.database()
    run = finished(
        OWN_SYSTEM,
        "embedded hub in a file, defaults; client and worker in one process",
        {"durabletask_azure": __version__},
        figures,
        before,
        processes,
        database,
    )
    return asdict(run)
