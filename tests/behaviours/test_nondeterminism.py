"""B85 and B86: code that no longer does what the history records."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durabletask_azure import ActivityContext, OrchestrationContext, OrchestrationStatus, TaskHubWorker
from durabletask_azure.core.actions import Failed
from durabletask_azure.core.history import (
    ExecutionStartedEvent,
    HistoryEvent,
    OrchestratorStartedEvent,
    TaskCompletedEvent,
    TaskScheduledEvent,
)
from durabletask_azure.core.registry import Registry
from durabletask_azure.core.replay import RuntimeOptions, execute
from tests.behaviours.stage import Stage

Step = Callable[[OrchestrationContext], Awaitable[Any] | None]


def send(ctx: OrchestrationContext, name: str) -> None:
    ctx.send_event("somebody", name)


STEPS: dict[str, Step] = {
    "activity": lambda ctx: ctx.call_activity("one"),
    "other activity": lambda ctx: ctx.call_activity("two"),
    "timer": lambda ctx: ctx.create_timer(timedelta(days=1)),
    "child": lambda ctx: ctx.call_sub_orchestrator("child"),
    "other child": lambda ctx: ctx.call_sub_orchestrator("other child"),
    "event": lambda ctx: send(ctx, "ping"),
    "other event": lambda ctx: send(ctx, "pong"),
    "nothing": lambda ctx: None,
}
CHANGES = [
    ("activity", "other activity", "one", "two"),
    ("activity", "timer", "one", "timer"),
    ("timer", "activity", "timer", "one"),
    ("child", "other child", "'child'", "other child"),
    ("child", "activity", "child", "one"),
    ("event", "other event", "ping", "pong"),
    ("event", "timer", "ping", "timer"),
    ("timer", "nothing", "timer", "no such action"),
    ("nothing", "activity", "no action", "one"),
]


async def idle(ctx: OrchestrationContext, _: Any) -> None:
    await ctx.wait_for_external_event("never")


def idle_activity(ctx: ActivityContext, _: Any) -> None:
    return None


def make_worker(stage: Stage, step: Step, runs: list[bool]) -> TaskHubWorker:
    async def flow(ctx: OrchestrationContext, _: Any) -> None:
        runs.append(ctx.is_replaying)
        step(ctx)
        await ctx.wait_for_external_event("go")
        await ctx.wait_for_external_event("more")

    worker = TaskHubWorker(stage.hub)
    worker.add_orchestrator(flow)
    worker.add_orchestrator(idle, name="child")
    worker.add_orchestrator(idle, name="other child")
    worker.add_activity(idle_activity, name="one")
    worker.add_activity(idle_activity, name="two")
    return worker


@pytest.mark.parametrize(("before", "after", "expected", "actual"), CHANGES)
def test_b85_changed_code_fails_with_event_expected_and_actual(
    stage: Stage, before: str, after: str, expected: str, actual: str
) -> None:
    runs: list[bool] = []
    with make_worker(stage, STEPS[before], runs) as worker:
        worker.start()
        instance_id = stage.client.schedule_new_orchestration("flow")
        stage.client.wait_for_orchestration_start(instance_id)
    with make_worker(stage, STEPS[after], runs) as worker:
        worker.start()
        stage.client.raise_orchestration_event(instance_id, "go")
        state = stage.end(instance_id)
        assert state.runtime_status is OrchestrationStatus.FAILED
        assert state.failure_details is not None
        assert state.failure_details.error_type.endswith("NonDeterminismError")
        message = state.failure_details.message
        assert "history" in message
        assert expected in message
        assert actual in message
        # It does not try again and again.
        failed_at = stage.existing_row(instance_id).commit
        stage.client.raise_orchestration_event(instance_id, "more")
        other = stage.client.schedule_new_orchestration("flow", raise_event=("go", None))
        stage.client.raise_orchestration_event(other, "more")
        stage.completed(other)
        assert stage.existing_row(instance_id).commit == failed_at
    assert runs.count(True) <= 1


def saved_history() -> list[HistoryEvent]:
    """Return what version one of the orchestrator wrote."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        OrchestratorStartedEvent(timestamp=at),
        ExecutionStartedEvent(timestamp=at, name="flow", instance_id="i", execution_id="e"),
        TaskScheduledEvent(timestamp=at, event_id=1, name="reserve"),
        OrchestratorStartedEvent(timestamp=at),
        TaskCompletedEvent(timestamp=at, task_scheduled_id=1),
        TaskScheduledEvent(timestamp=at, event_id=2, name="pay"),
    ]


def replayed(orchestrator: Any) -> Failed | None:
    registry = Registry()
    registry.add_orchestrator(orchestrator, name="flow")
    definition = registry.orchestrator("flow")
    assert definition is not None
    at = datetime(2026, 1, 1, tzinfo=UTC)
    new: list[HistoryEvent] = [
        OrchestratorStartedEvent(timestamp=at),
        TaskCompletedEvent(timestamp=at, task_scheduled_id=2),
    ]
    decision = execute(definition, saved_history(), new, options=RuntimeOptions(), loaded={})
    return decision.completion if isinstance(decision.completion, Failed) else None


def test_b86_a_saved_history_against_the_same_code_replays() -> None:
    async def same(ctx: OrchestrationContext, _: Any) -> None:
        await ctx.call_activity("reserve")
        await ctx.call_activity("pay")
        await ctx.call_activity("ship")

    assert replayed(same) is None


def test_b86_a_saved_history_against_changed_code_names_the_first_difference() -> None:
    async def changed(ctx: OrchestrationContext, _: Any) -> None:
        await ctx.call_activity("reserve")
        await ctx.call_activity("refund")
        await ctx.create_timer(timedelta(days=1))

    failed = replayed(changed)
    assert failed is not None
    assert failed.failure.error_type.endswith("NonDeterminismError")
    assert "TaskScheduled #2" in failed.failure.message
    assert "pay" in failed.failure.message
    assert "refund" in failed.failure.message
    assert "reserve" not in failed.failure.message
