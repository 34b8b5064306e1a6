"""What one instance may take, on every hub: the size of a value (B112), events, what is open at once, and history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from durabletask_azure import (
    ActivityContext,
    OrchestrationContext,
    OrchestrationStatus,
)
from durabletask_azure.history import EventRaisedEvent
from tests.behaviours.stage import Stage

LIMIT = "durabletask_azure.errors.OrchestrationLimitError"
NEVER = "never"


def echo(ctx: ActivityContext, value: Any) -> Any:
    return value


async def at_once(ctx: OrchestrationContext, count: int) -> int:
    calls = [ctx.call_activity(echo, input=number) for number in range(count)]
    return sum([await call for call in calls])


async def in_a_row(ctx: OrchestrationContext, count: int) -> int:
    return sum([await ctx.call_activity(echo, input=1) for _ in range(count)])


async def waits(ctx: OrchestrationContext, name: str) -> Any:
    return await ctx.wait_for_external_event(name)


def said(stage: Stage, instance_id: str) -> str:
    """Return why an instance failed that is over a limit."""
    state = stage.end(instance_id)
    assert state.runtime_status is OrchestrationStatus.FAILED
    details = state.failure_details
    assert details is not None
    assert details.error_type == LIMIT
    return details.message


def test_a_fan_out_over_its_limit_fails_and_one_at_its_limit_runs(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage(open_tasks_max=20)
    stage.worker(at_once, activities=[echo])
    over = stage.client.schedule_new_orchestration(at_once, input=21)
    assert "more than 20 actions without waiting for any (open_tasks_max in the settings)" in said(
        stage, over
    )
    assert stage.result(at_once, 20) == 190


def test_a_history_over_its_limit_fails_its_instance_alone(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage(history_events_max=40)
    stage.worker(in_a_row, activities=[echo])
    over = stage.client.schedule_new_orchestration(in_a_row, input=1_000)
    assert "more than history_events_max allows (40); continue_as_new begins a new one" in said(stage, over)
    assert stage.result(in_a_row, 5) == 5


def test_events_nobody_waits_for_are_part_of_the_history_and_of_its_limit(
    open_stage: Callable[..., Stage],
) -> None:
    stage = open_stage(history_events_max=30)
    stage.worker(waits)
    flooded = stage.client.schedule_new_orchestration(waits, input=NEVER)
    stage.client.wait_for_orchestration_start(flooded)
    for number in range(60):
        stage.client.raise_orchestration_event(flooded, "other", data=number)
        row = stage.existing_row(flooded)
        if row.status.is_terminal:
            break
    assert "more than history_events_max allows (30)" in said(stage, flooded)


def test_events_beyond_what_is_remembered_wait_outside_of_the_instance(
    open_stage: Callable[..., Stage],
) -> None:
    stage = open_stage(seen_ids_max=3)
    stage.worker(waits)
    flooded = stage.client.schedule_new_orchestration(waits, input=NEVER)
    other = stage.client.schedule_new_orchestration(waits, input="go")
    stage.client.wait_for_orchestration_start(flooded)
    for number in range(8):
        stage.client.raise_orchestration_event(flooded, "other", data=number)
    stage.eventually(lambda: stage.client.get_hub_statistics().messages_scheduled == 5)
    taken = [
        event
        for event in stage.client.get_orchestration_history(flooded)
        if isinstance(event, EventRaisedEvent)
    ]
    assert len(taken) == 3
    stage.client.raise_orchestration_event(other, "go", data="not held up")
    assert stage.completed(other) == "not held up"
    stage.client.terminate_orchestration(flooded)
    assert stage.end(flooded).runtime_status is OrchestrationStatus.TERMINATED


def test_messages_to_an_instance_that_has_ended_do_not_read_its_history(
    open_stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = open_stage(history_inline_bytes_max=1)
    stage.worker(in_a_row, waits, activities=[echo])
    ended = stage.client.schedule_new_orchestration(in_a_row, input=3)
    assert stage.completed(ended) == 3
    assert stage.existing_row(ended).segments > 0
    reads: list[str] = []
    store = stage.hub.ports.store
    read_segments = store.read_segments

    async def counted(partition: int, instance_id: str, execution_id: str, count: int) -> bytes:
        reads.append(instance_id)
        return await read_segments(partition, instance_id, execution_id, count)

    monkeypatch.setattr(store, "read_segments", counted)
    for number in range(3):
        stage.client.raise_orchestration_event(ended, "late", data=number)
    stage.client.suspend_orchestration(ended)
    stage.client.terminate_orchestration(ended)
    stage.eventually(lambda: stage.client.get_hub_statistics().messages_waiting == 0)
    assert ended not in reads
    assert stage.client.purge_orchestration(ended).deleted_instance_count == 1
    assert ended in reads
