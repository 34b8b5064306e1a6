"""A worker of the workloads in a process of its own: ``python -m benchmarks.hub_worker FILE``.

It works until its standard input ends, and then prints how its connection wrote to the hub's file, as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path

from benchmarks.hub_under_test import HubUnderTest, new_worker
from durabletask_azure import TaskHub, TaskHubWorker

__all__ = ["main"]


def main(path: Path) -> None:
    """Work on the hub of a file."""
    with TaskHub.local(path) as hub:
        asyncio.run(_work(new_worker(hub)))
        print(json.dumps(HubUnderTest(hub, path).database()), flush=True)


async def _work(worker: TaskHubWorker) -> None:
    running = asyncio.create_task(worker.run())
    await asyncio.to_thread(sys.stdin.read)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


if __name__ == "__main__":
    main(Path(sys.argv[1]))
