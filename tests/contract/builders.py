"""Rows, messages and tasks for the contract suites."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from durabletask_azure.core.history import EventRaisedEvent, RuntimeStatus
from durabletask_azure.core.messages import ActivityTask, Message, ToActivities, ToPartition
from durabletask_azure.core.rows import InstanceRow

NOON = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
WAIT_S = 10.0
"""How long a receive may wait for what is certain to come."""


def instance(
    instance_id: str,
    *,
    name: str = "order",
    status: RuntimeStatus = RuntimeStatus.RUNNING,
    created_at: datetime = NOON,
    updated_at: datetime = NOON,
    completed_at: datetime | None = None,
    due_at: datetime | None = None,
    reason: str | None = None,
    output: str | None = None,
    tail: bytes = b"",
    execution_id: str = "e1",
    version: str | None = None,
) -> InstanceRow:
    """Return an instance row."""
    return InstanceRow(
        instance_id=instance_id,
        execution_id=execution_id,
        name=name,
        status=status,
        created_at=created_at,
        updated_at=updated_at,
        completed_at=completed_at,
        due_at=due_at,
        reason=reason,
        output=output,
        tail=tail,
        version=version,
    )


def message(
    message_id: str, *, partition: int = 0, instance_id: str = "i", deliver_at: datetime | None = None
) -> ToPartition:
    """Return a message to a partition."""
    body = EventRaisedEvent(timestamp=NOON, name="approved", input='"yes"')
    return ToPartition(
        partition=partition,
        message=Message(id=message_id, instance_id=instance_id, body=body),
        deliver_at=deliver_at,
    )


def task(task_id: str, *, group: str = "", name: str = "ship") -> ToActivities:
    """Return an activity task."""
    made = ActivityTask(id=task_id, instance_id="i", execution_id="e1", task_id=1, name=name, input="1")
    return ToActivities(task=made, group=group)


def after(seconds: float, start: datetime = NOON) -> datetime:
    """Return a time some seconds after another."""
    return start + timedelta(seconds=seconds)


async def let_others_run() -> None:
    """Give a task just created its first turn, in which it comes to wait."""
    await asyncio.sleep(0)
