"""The row of an instance after a turn."""

from __future__ import annotations

from datetime import datetime

import msgspec

from durabletask_azure.core.admission import Admission
from durabletask_azure.core.history import ExecutionCompletedEvent
from durabletask_azure.core.instance import Instance
from durabletask_azure.core.rows import InstanceRow

__all__ = ["ended_row", "next_row"]


def ended_row(
    instance: Instance, row: InstanceRow, ended: ExecutionCompletedEvent, *, now: datetime, n: int
) -> InstanceRow:
    """Return the row of an instance that has ended by ``ended``, the newest event of its history."""
    return msgspec.structs.replace(
        row,
        status=ended.status,
        updated_at=max(now, row.created_at),
        completed_at=ended.timestamp,
        due_at=None,
        output=ended.result,
        failure=ended.failure,
        reason=None,
        commit=n,
        tail=instance.joined_tail(),
        segments=instance.segments,
        events=instance.state.events,
        kept=(),
        ready=False,
        seen=(),
    )


def next_row(admission: Admission) -> InstanceRow:
    """Return the row as a turn leaves it: the fold of the history (invariant V) and what waits."""
    row, state = admission.instance.row, admission.instance.state
    assert row is not None
    completed, started = state.completed, state.started
    if completed is not None:
        if admission.custom_status:
            row = msgspec.structs.replace(row, custom_status=admission.custom_status[0])
        return ended_row(admission.instance, row, completed, now=admission.now, n=admission.ctx.n)
    due_at = state.due_at() if state.timers else None
    if admission.ready or (admission.kept and started is not None):
        due_at = admission.now
    elif started is None:
        due_at = row.scheduled_start or row.created_at
    return msgspec.structs.replace(
        row,
        status=row.status if started is None else state.status,
        updated_at=max(admission.now, row.created_at),
        completed_at=None,
        due_at=due_at,
        custom_status=admission.custom_status[0] if admission.custom_status else row.custom_status,
        output=None,
        failure=None,
        reason=admission.reason,
        commit=admission.ctx.n,
        tail=admission.instance.joined_tail(),
        segments=admission.instance.segments,
        events=state.events,
        kept=tuple(admission.kept),
        ready=admission.ready,
        seen=row.seen if started is None else (),
    )
