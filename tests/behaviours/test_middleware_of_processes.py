"""B125: middleware around activities that run in worker processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from durabletask_azure import ActivityContext, OrchestrationContext, TaskFailedError, TaskHubWorker
from durabletask_azure.worker import CallNext
from tests.behaviours.process_activities import process_dies_once, process_double, process_raises
from tests.behaviours.stage import Stage

PROCESS_ACTIVITIES = (process_double, process_raises, process_dies_once)


async def calls(ctx: OrchestrationContext, value: list[Any]) -> Any:
    try:
        return await ctx.call_activity(value[0], input=value[1])
    except TaskFailedError as error:
        return [error.details.error_type, error.details.message]


def start(stage: Stage, middleware: Any) -> None:
    worker = TaskHubWorker(stage.hub)
    worker.add_orchestrator(calls)
    for activity in PROCESS_ACTIVITIES:
        worker.add_activity(activity, process=True)
    worker.add_activity_middleware(middleware)
    worker.start()
    stage.workers.append(worker)


def test_b125_around_an_activity_of_a_process(stage: Stage, tmp_path: Path) -> None:
    seen: list[str] = []

    async def around(ctx: ActivityContext, input: Any, call_next: CallNext) -> Any:
        seen.append(f"{ctx.name} {os.getpid()}")
        if ctx.name == "process_double":
            return await call_next(input + 1) + 100
        if input == "translate":
            try:
                return await call_next(input)
            except TaskFailedError as error:
                raise ValueError(error.details.message) from None
        return await call_next(input)

    start(stage, around)
    assert stage.result(calls, ["process_double", 4]) == 110
    assert stage.result(calls, ["process_raises", "as it is"]) == ["KeyError", "'as it is'"]
    assert stage.result(calls, ["process_raises", "translate"]) == ["ValueError", "'translate'"]
    assert stage.result(calls, ["process_dies_once", str(tmp_path)]) == 2
    assert seen == [
        f"{name} {os.getpid()}"
        for name in ("process_double", *2 * ["process_raises"], *2 * ["process_dies_once"])
    ]
