"""The row of an instance after a turn."""

from __future__ import annotations

import msgspec

from durabletask_azure.core.admission import Admission
from durabletask_azure.core.rows import InstanceRow

__all__ = ["next_row"]


def next_row(admission: Admission) -> InstanceRow:
    """Return the row as a turn leaves it: the fold of the history (invariant V) and what waits."""
    row, state = admission.instance.row, admission.instance.state
    assert row is not None
    completed, started = state.completed, state.started
    if completed is not None:
        return msgspec.structs.replace(
            row,
            status=admission.status,
            updated_at=max(admission.now, row.created_at),
            completed_at=completed.timestamp,
            due_at=None,
            custom_status=admission.custom_status[0] if admission.custom_status else row.custom_status,
            output=completed.result,
            failure=completed.failure,
            reason=None,
            commit=admission.ctx.n,
            tail=admission.instance.joined_tail(),
            segments=admission.instance.segments,
            events=state.events,
            kept=(),
            ready=False,
            seen=(),
        )
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
