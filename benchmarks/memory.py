"""Does memory stay flat? Many short orchestrations, and many generations of one, in one process with its client."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

from benchmarks.fresh import in_fresh_process
from benchmarks.hub_under_test import HubUnderTest, open_hub_under_test
from benchmarks.processes import rss_mib
from benchmarks.tables import figure, table
from benchmarks.targets import SMALL_SAYS, Verdict
from benchmarks.workloads import checked
from durabletask_azure import OrchestrationContext

__all__ = ["COMMAND", "HELP", "measure", "run"]

COMMAND = "memory"
HELP = "memory after 10,000 and 100,000 short orchestrations, and after 200 and 2,000 generations of one"

_AT_ONCE = 200
_GROWTH_MAX = 1.10


async def generations(ctx: OrchestrationContext, left: list[int]) -> int:
    """Do one activity in each generation; the second number counts the generations still to come."""
    done, to_come = left
    done += await ctx.call_activity("noop", input=1)
    if to_come:
        ctx.continue_as_new([done, to_come - 1])
    return done


def measure(kind: str, marks: list[int]) -> list[dict[str, Any]]:
    """Run up to each mark and return the memory and the file's size there."""
    found: list[dict[str, Any]] = []
    with open_hub_under_test(generations) as opened:
        done, begun = 0, time.perf_counter()
        for mark in marks:
            if kind == "orchestrations":
                asyncio.run(_short_ones(opened, mark - done))
            else:
                checked(opened.run(generations, [0, mark - done - 1]), mark - done)
            done = mark
            found.append(
                {
                    "done": done,
                    "seconds": time.perf_counter() - begun,
                    "rss_mib": rss_mib(os.getpid()),
                    **opened.file_bytes(),
                }
            )
    return found


async def _short_ones(opened: HubUnderTest, count: int) -> None:
    while count > 0:
        now = min(count, _AT_ONCE)
        checked(await opened.chains(now, 1), [0] * now)
        count -= now


def run(*, small: bool) -> None:
    """Measure both kinds, each in a process of its own, and print a table and a verdict for each."""
    for kind, marks in (
        ("orchestrations", [50, 200] if small else [10_000, 100_000]),
        ("generations", [20, 100] if small else [200, 2_000]),
    ):
        print(f"{marks[-1]:,} {kind} ...", file=sys.stderr, flush=True)
        found = in_fresh_process("memory", kind=kind, marks=marks)
        rows = [
            (
                f"{at['done']:,} {kind}",
                figure(at["seconds"]),
                figure(at["rss_mib"]),
                figure(at["file"] / 2**20),
                figure(at["log"] / 2**20),
            )
            for at in found
        ]
        print(table(("after", "s", "RSS, MiB", "hub.db, MiB", "hub.db-wal, MiB"), rows))
        growth = found[-1]["rss_mib"] / found[0]["rss_mib"]
        text = f"RSS grew to {growth:.2f} of what it was, at most {_GROWTH_MAX:.2f}"
        print(f"{Verdict(passed=growth <= _GROWTH_MAX, text=text) if not small else SMALL_SAYS}\n")
