"""What the container runs: a worker until SIGTERM, or with ``start NAME...`` a client that waits for its orchestration.

The hub is the one of the environment (``DURABLETASK_CONFIG`` and its like).
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence

from durabletask_azure import TaskHub, TaskHubClient, TaskHubWorker
from samples.hello.main import greet, greetings


async def work() -> None:
    """Run orchestrations and activities until SIGTERM or Ctrl-C; then let what runs come to its end."""
    async with TaskHub.from_env() as hub:
        worker = TaskHubWorker(hub)
        worker.add_orchestrator(greetings)
        worker.add_activity(greet)
        await worker.run()


def start(names: Sequence[str]) -> None:
    """Start an orchestration and print what it comes to."""
    with TaskHub.from_env() as hub:
        client = TaskHubClient(hub)
        instance_id = client.schedule_new_orchestration(greetings, input=list(names))
        state = client.wait_for_orchestration_completion(instance_id, timeout=60)
        print(state and state.get_output())


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # The SDKs tell of every request.
    logging.getLogger("azure").setLevel(logging.WARNING)
    if sys.argv[1:2] == ["start"]:
        start(sys.argv[2:])
    else:
        asyncio.run(work())
