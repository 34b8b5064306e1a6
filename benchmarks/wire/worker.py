"""A worker process that a measurement starts, stops and kills: ``python -m benchmarks.wire.worker '{...}'``.

It prints a line when it works, writes a line to a file for each step it runs, and ends gracefully on SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any

import msgspec

from benchmarks.wire.hub import azure_settings
from benchmarks.wire.servers import Servers
from durabletask_azure import ActivityContext, OrchestrationContext, Settings, TaskHub, TaskHubWorker

__all__ = ["READY", "WorkerOptions", "long_chain"]

READY = "ready"


class WorkerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker process is told: where, the lock duration in seconds, and the file that gets a line per step."""

    servers: Servers
    lock_s: float
    steps_file: str


async def long_chain(ctx: OrchestrationContext, steps: int) -> int:
    """Run activities one after the other."""
    total = 0
    for index in range(steps):
        total += int(await ctx.call_activity("step", input=index))
    return total


def main(argument: str) -> None:
    """Work until SIGTERM."""
    options = msgspec.json.decode(argument, type=WorkerOptions)
    file = os.open(options.steps_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def step(ctx: ActivityContext, value: int) -> int:
        time.sleep(0.02)
        line = f"{os.getpid()} {ctx.orchestration_id} {value} {time.time():.6f}\n"
        os.write(file, line.encode())
        return 1

    stopping = threading.Event()

    def stop(*_: Any) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    settings = azure_settings(options.servers, lock_duration_s=options.lock_s)
    with TaskHub.azure(settings, settings=Settings(lock_s=options.lock_s)) as hub:
        worker = TaskHubWorker(hub)
        worker.add_orchestrator(long_chain)
        worker.add_activity(step)
        worker.start()
        print(READY, flush=True)
        stopping.wait()
        worker.stop()


if __name__ == "__main__":
    main(sys.argv[1])
