"""Large fan-outs: is the time linear in the width, and how much memory does a task take?"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from benchmarks.fresh import in_fresh_process
from benchmarks.hub_under_test import fan_out, open_hub_under_test
from benchmarks.processes import peak_rss_mib, rss_mib
from benchmarks.tables import figure, table
from benchmarks.targets import SMALL_SAYS, Verdict
from benchmarks.workloads import checked, triangle

__all__ = ["COMMAND", "HELP", "measure", "run"]

COMMAND = "fanout"
HELP = "one orchestration of 1,000, 10,000 and 100,000 parallel activities: time and memory per task"

_KIB = 1024
_GROWTH_MAX = 1.5
"""Of the time per task from the second largest width to the largest: it is linear but for the machine's noise."""
_KIB_PER_TASK_MAX = 3.0
_HEAD = (
    "activities",
    "s",
    "µs per task",
    "RSS before, MiB",
    "peak RSS, MiB",
    "RSS, KiB per task",
    "disk, KiB per task",
)


def measure(width: int) -> dict[str, Any]:
    """Run one fan-out on a new hub in this process."""
    with open_hub_under_test() as opened:
        checked(opened.run(fan_out, 10), triangle(10))
        rest = rss_mib(os.getpid())
        begun = time.perf_counter()
        result = opened.run(fan_out, width)
        seconds = time.perf_counter() - begun
        checked(result, triangle(width))
        return {
            "seconds": seconds,
            "rest_mib": rest,
            "peak_mib": peak_rss_mib(os.getpid()),
            "after_mib": rss_mib(os.getpid()),
            "bytes": opened.file_bytes(),
        }


def run(*, small: bool) -> None:
    """Measure each width in a process of its own; print a table, and whether it is linear and bounded."""
    widths = (50, 100, 1_000) if small else (1_000, 10_000, 100_000)
    rows: list[tuple[str, ...]] = []
    micros: list[float] = []
    kibs: list[float] = []
    for width in widths:
        print(f"{width:,} activities ...", file=sys.stderr, flush=True)
        found = in_fresh_process("fanout", width=width)
        micros.append(found["seconds"] * 1e6 / width)
        kibs.append((found["peak_mib"] - found["rest_mib"]) * _KIB / width)
        disk = sum(found["bytes"].values()) / _KIB / width
        values = (found["seconds"], micros[-1], found["rest_mib"], found["peak_mib"], kibs[-1], disk)
        rows.append((f"{width:,}", *map(figure, values)))
    print(table(_HEAD, rows))
    if small:
        print(SMALL_SAYS)
        return
    growth = micros[-1] / micros[-2]
    texts = (
        f"a task of {widths[-1]:,} takes {growth:.2f} times what one of {widths[-2]:,} takes, at most {_GROWTH_MAX:g}",
        f"memory grows by {figure(kibs[-1])} KiB per task of {widths[-1]:,}, at most {_KIB_PER_TASK_MAX:g}",
    )
    print(Verdict(passed=growth <= _GROWTH_MAX, text=texts[0]))
    print(Verdict(passed=kibs[-1] <= _KIB_PER_TASK_MAX, text=texts[1]))
