"""A worker beside an activity that only computes: the hub's threads get the interpreter soon (decision 0038)."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from durabletask_azure import (
    ActivityContext,
    OrchestrationContext,
    Settings,
    TaskHub,
    TaskHubClient,
    TaskHubWorker,
)

_SHORT_S = 0.0003


def compute(ctx: ActivityContext) -> float:
    """Compute until the interval is short, half a minute at most; return what it is then."""
    deadline = time.monotonic() + 30
    while sys.getswitchinterval() != _SHORT_S and time.monotonic() < deadline:
        sum(range(1_000))
    return sys.getswitchinterval()


async def computing(ctx: OrchestrationContext) -> float:
    return await ctx.call_activity(compute)


def test_a_worker_shortens_the_switch_interval_only_while_an_activity_takes_long(tmp_path: Path) -> None:
    before = sys.getswitchinterval()
    with TaskHub.local(tmp_path / "hub.db", settings=Settings(switch_interval_s=_SHORT_S)) as hub:
        worker = TaskHubWorker(hub)
        worker.add_orchestrator(computing)
        worker.add_activity(compute)
        with worker:
            worker.start()
            client = TaskHubClient(hub)
            state = client.wait_for_orchestration_completion(
                client.schedule_new_orchestration(computing), timeout=60
            )
        after = sys.getswitchinterval()

    assert state is not None
    assert (state.get_output(), after) == (_SHORT_S, before)
