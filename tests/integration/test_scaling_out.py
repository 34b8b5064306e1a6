"""Workers that come and go beside one that stays: partitions move under load, and nothing is left behind."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

from durabletask_azure import OrchestrationContext, Settings, TaskHub, TaskHubClient, TaskHubWorker
from durabletask_azure.task import Task, when_all

SETTINGS = Settings(balance_s=0.05, heartbeat_s=0.2)
STEPS = 40


def echo(_: object, value: int) -> int:
    return value


def steps(ctx: OrchestrationContext, count: int) -> Generator[Task[Any], Any, int]:
    total = 0
    for number in range(count):
        tasks: list[Task[int]] = [ctx.call_activity(echo, input=number) for _ in range(3)]
        results = yield when_all(tasks)
        total += sum(results)
    return total


def worker(hub: TaskHub) -> TaskHubWorker:
    made = TaskHubWorker(hub)
    made.add_orchestrator(steps)
    made.add_activity(echo)
    made.start()
    return made


def test_no_task_and_no_result_is_lost_while_a_second_worker_comes_and_goes(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    with (
        TaskHub.local(path, partitions=8, settings=SETTINGS) as stays,
        TaskHub.local(path, settings=SETTINGS) as comes,
    ):
        worker(stays)
        client = TaskHubClient(stays)
        ids = [client.schedule_new_orchestration(steps, input=STEPS) for _ in range(40)]
        for number in range(0, 40, 5):
            second = worker(comes)
            client.wait_for_orchestration_completion(ids[number], timeout=60)
            second.stop()
        states = [client.wait_for_orchestration_completion(one, timeout=60) for one in ids]
        statistics = client.get_hub_statistics()

    assert {state.get_output() for state in states if state is not None} == {3 * STEPS * (STEPS - 1) // 2}
    assert (statistics.activities_waiting, statistics.activities_running) == (0, 0)
