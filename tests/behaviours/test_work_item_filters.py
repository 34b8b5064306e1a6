"""B131: workers that take only some activities or orchestrations leave the others to those who have them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from durabletask_azure import (
    ActivityContext,
    ActivityWorkItemFilter,
    OrchestrationContext,
    OrchestrationStatus,
    OrchestrationWorkItemFilter,
    TaskHub,
    TaskHubWorker,
    VersionFailureStrategy,
    VersioningOptions,
    VersionMatchStrategy,
    WorkerStateError,
    WorkItemFilters,
)
from tests.behaviours.stage import Stage


def filtered(
    stage: Stage, *, orchestrators: Any = (), activities: Any = (), hub: TaskHub | None = None
) -> TaskHubWorker:
    """Return a worker that takes what it has code for, not started yet."""
    worker = TaskHubWorker(stage.hub if hub is None else hub)
    for orchestrator in orchestrators:
        worker.add_orchestrator(orchestrator)
    for name, function in dict(activities).items():
        worker.add_activity(function, name=name)
    worker.use_work_item_filters()
    stage.workers.append(worker)
    return worker


def says(word: str) -> Any:
    """Return an activity that says who it is."""

    def say(ctx: ActivityContext, value: Any) -> str:
        return f"{word} did {ctx.name} {value}"

    return say


async def mixed(ctx: OrchestrationContext, count: int) -> list[str]:
    tasks = [ctx.call_activity(("left", "right")[n % 2], input=n) for n in range(count)]
    return [await task for task in tasks]


def test_b131_each_worker_takes_its_own_activities_only(stage: Stage) -> None:
    filtered(stage, orchestrators=[mixed], activities={}).start()
    filtered(stage, activities={"left": says("L")}).start()
    filtered(stage, activities={"right": says("R")}).start()
    expected = [("L did left", "R did right")[n % 2] + f" {n}" for n in range(300)]
    assert stage.result(mixed, 300) == expected


def test_b131_what_nobody_has_waits_and_holds_nothing_up(stage: Stage) -> None:
    async def asks(ctx: OrchestrationContext, name: str) -> str:
        return await ctx.call_activity(name, input=0)

    filtered(stage, orchestrators=[asks, mixed], activities={"left": says("L")}).start()
    # More of them than a worker takes ahead: none may be in the way of the others.
    waiting = [stage.client.schedule_new_orchestration(asks, input="rare") for _ in range(350)]
    for instance in waiting:
        stage.until_status(instance, OrchestrationStatus.RUNNING)
    assert stage.result(asks, "left") == "L did left 0"
    assert stage.state(waiting[0]).runtime_status is OrchestrationStatus.RUNNING

    filtered(stage, activities={"rare": says("X")}).start()
    assert {stage.completed(instance) for instance in waiting} == {"X did rare 0"}


def test_b131_without_filters_an_unknown_activity_fails(stage: Stage) -> None:
    worker = filtered(stage, orchestrators=[mixed], activities={"left": says("L")})
    worker.use_work_item_filters(None)
    worker.start()
    state = stage.run(mixed, 2)
    assert state.failure_details is not None
    assert "no activity 'right' is registered (registered: left)" in state.failure_details.message


def test_b131_a_filter_that_names_what_is_not_registered_takes_it_and_fails_it(stage: Stage) -> None:
    worker = filtered(stage, orchestrators=[mixed], activities={"left": says("L")})
    worker.use_work_item_filters(
        WorkItemFilters(
            orchestrations=[OrchestrationWorkItemFilter("mixed")],
            activities=[ActivityWorkItemFilter("left"), ActivityWorkItemFilter("right", ["1.0"])],
        )
    )
    worker.start()
    state = stage.run(mixed, 2)
    assert state.failure_details is not None
    assert "no activity 'right' is registered" in state.failure_details.message


def test_b131_a_worker_with_activities_only_holds_no_partition(stage: Stage) -> None:
    only = filtered(stage, activities={"left": says("L"), "right": says("R")})
    only.start()
    ports = stage.hub.ports
    session = stage.hub.run(lambda: ports.orchestrations.accept(0))
    assert session is not None
    stage.hub.run(session.close)
    instance = stage.client.schedule_new_orchestration(mixed, input=2)

    filtered(stage, orchestrators=[mixed]).start()
    assert stage.completed(instance) == ["L did left 0", "R did right 1"]


def test_b131_orchestrations_that_are_not_taken_wait_with_a_reason(stage: Stage) -> None:
    async def other(ctx: OrchestrationContext, _: Any) -> str:
        return "done"

    worker = filtered(stage, orchestrators=[mixed, other])
    worker.use_work_item_filters(
        WorkItemFilters(orchestrations=[OrchestrationWorkItemFilter("other", ["2.0"])])
    )
    worker.start()
    assert stage.result(other, version="2.0") == "done"
    instance = stage.client.schedule_new_orchestration(other, version="1.0")
    row = stage.until(instance, lambda row: row is not None and row.reason is not None)
    assert row is not None
    assert "takes no 'other' version '1.0': see its work item filters" in str(row.reason)

    worker.stop()
    worker.use_work_item_filters()
    worker.start()
    assert stage.completed(instance) == "done"


def test_b131_strict_versions_and_filters_go_together(stage: Stage) -> None:
    worker = filtered(stage, orchestrators=[mixed], activities={"left": says("L"), "right": says("R")})
    worker.use_versioning(VersioningOptions("2.0", match_strategy=VersionMatchStrategy.STRICT))
    worker.start()
    assert stage.result(mixed, 2, version="2.0") == ["L did left 0", "R did right 1"]
    instance = stage.client.schedule_new_orchestration(mixed, input=2, version="1.0")
    row = stage.until(instance, lambda row: row is not None and row.reason is not None)
    assert row is not None


def test_b130_b131_a_worker_that_fails_other_versions_takes_them_with_its_own_filters_too(
    stage: Stage,
) -> None:
    worker = filtered(stage, orchestrators=[mixed], activities={"left": says("L"), "right": says("R")})
    worker.use_versioning(
        VersioningOptions(
            "2.0",
            match_strategy=VersionMatchStrategy.STRICT,
            failure_strategy=VersionFailureStrategy.FAIL,
        )
    )
    worker.start()
    assert stage.result(mixed, 2, version="2.0") == ["L did left 0", "R did right 1"]
    failure = stage.run(mixed, 2, version="1.0").failure_details
    assert failure is not None
    assert failure.error_type == "VersionMismatch"


@pytest.mark.parametrize("hub_kind", ["disk"], indirect=True)
def test_b131_workers_of_two_open_hubs_on_one_file(stage: Stage, tmp_path: Path) -> None:
    with TaskHub.local(tmp_path / "hub.db") as second:
        filtered(stage, orchestrators=[mixed], activities={"left": says("first")}).start()
        other = filtered(stage, activities={"right": says("second")}, hub=second)
        other.start()
        found = stage.result(mixed, 100)
        assert {text.split(" did ")[0] for text in found} == {"first", "second"}
        other.stop()


def test_b131_an_async_activity_too(stage: Stage) -> None:
    async def left(ctx: ActivityContext, value: Any) -> str:
        await asyncio.sleep(0)
        return f"async {value}"

    filtered(stage, orchestrators=[mixed], activities={"left": left}).start()
    filtered(stage, activities={"right": says("R")}).start()
    assert stage.result(mixed, 2) == ["async 0", "R did right 1"]


def test_b131_filters_are_chosen_before_the_worker_starts(stage: Stage) -> None:
    worker = filtered(stage, orchestrators=[mixed])
    with pytest.raises(TypeError, match="WorkItemFilters"):
        worker.use_work_item_filters(["left"])  # pyright: ignore[reportCallIssue, reportArgumentType]
    worker.start()
    with pytest.raises(WorkerStateError, match="running"):
        worker.use_work_item_filters()
