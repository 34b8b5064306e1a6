"""A worker in a process of its own: `python -m tests.behaviours.worker_process HUB_FILE STOP_GRACE_S`.

It says `ready` and then `busy` on its output; its activity ends when a line comes in. It ends by SIGTERM, and then says
`drained`.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from durabletask_azure import ActivityContext, OrchestrationContext, Settings, TaskHub, TaskHubWorker


def say(word: str) -> None:
    print(word, flush=True)


def hold(ctx: ActivityContext, _: Any) -> str:
    say("busy")
    return sys.stdin.readline().strip()


async def flow(ctx: OrchestrationContext, _: Any) -> str:
    return await ctx.call_activity(hold)


async def main(path: str, stop_grace_s: float) -> None:
    async with TaskHub.local(path, settings=Settings(stop_grace_s=stop_grace_s)) as hub:
        worker = TaskHubWorker(hub)
        worker.add_orchestrator(flow)
        worker.add_activity(hold)
        asyncio.get_running_loop().call_soon(say, "ready")
        await worker.run()
    say("drained")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
