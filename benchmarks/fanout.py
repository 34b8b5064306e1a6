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
from benchmarks.workloads import checked, triangle

__all__ = ["COMMAND", "HELP", "measure", "run"]

COMMAND = "fanout"
HELP = "one orchestration of 1,000, 10,000 and 100,000 parallel activities: time and memory per task"

_KIB = 1024


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
    """Measure each width in a process of its own and print a table."""
    rows: list[tuple[str, ...]] = []
    for width in (100, 1_000) if small else (1_000, 10_000, 100_000):
        print(f"{width:,} activities ...", file=sys.stderr, flush=True)
        found = in_fresh_process("fanout", width=width)
        grown = found["peak_mib"] - found["rest_mib"]
        rows.append(
            (
                f"{width:,}",
                figure(found["seconds"]),
                figure(found["seconds"] * 1e6 / width),
                figure(found["rest_mib"]),
                figure(found["peak_mib"]),
                figure(grown * _KIB / width),
                figure(sum(found["bytes"].values()) / _KIB / width),
            )
        )
    head = (
        "activities",
        "s",
        "µs per task",
        "RSS before, MiB",
        "peak RSS, MiB",
        "RSS, KiB per task",
        "disk, KiB per task",
    )
    print(table(head, rows))
