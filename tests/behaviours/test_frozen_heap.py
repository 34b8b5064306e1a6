"""A worker that runs as a program of its own keeps what is loaded from the garbage collector."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from durabletask_azure import OrchestrationContext, TaskHubWorker
from tests.behaviours.stage import Stage


async def test_run_keeps_what_is_loaded_from_the_garbage_collector_until_it_ends(stage: Stage) -> None:
    assert gc.get_freeze_count() == 0
    running = asyncio.create_task(TaskHubWorker(stage.hub).run())
    await asyncio.to_thread(stage.eventually, lambda: gc.get_freeze_count() > 0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert gc.get_freeze_count() == 0


async def test_run_leaves_it_to_the_program_if_that_keeps_something_from_the_garbage_collector(
    stage: Stage,
) -> None:
    async def flow(ctx: OrchestrationContext, _: Any) -> str:
        return "done"

    worker = TaskHubWorker(stage.hub)
    worker.add_orchestrator(flow)
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        running = asyncio.create_task(worker.run())
        instance_id = await asyncio.to_thread(stage.client.schedule_new_orchestration, flow)
        await asyncio.to_thread(stage.completed, instance_id)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        # Some of it ends meanwhile; nothing is added, and nothing is taken out.
        assert frozen / 2 < gc.get_freeze_count() <= frozen
    finally:
        gc.unfreeze()
