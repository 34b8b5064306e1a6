"""How an execution begins: a pending row whose time has come, a child's start, a request to replace an instance.

A start counts once: its execution id is remembered with the row it makes, in the row's past executions and in the
tombstone, so that neither a redelivery nor a resend begins a second run. A child whose id belongs to another living
instance is refused, which fails its parent's task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec

from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.history import (
    EventRaisedEvent,
    ExecutionStartedEvent,
    ExecutionTerminatedEvent,
    RuntimeStatus,
    SeenId,
    Sender,
    SubOrchestrationInstanceFailedEvent,
)
from durabletask_azure.core.instance import pending_row
from durabletask_azure.core.messages import ContinuedChild, Inbound, Message, ReplaceInstance
from durabletask_azure.core.outbox import to_instance
from durabletask_azure.core.partitioning import stable_id
from durabletask_azure.core.rows import PastExecution

if TYPE_CHECKING:
    from durabletask_azure.core.admission import Admission

__all__ = [
    "begin",
    "child_start",
    "create",
    "is_known",
    "replace_request",
    "start_absent",
    "start_execution",
    "start_over",
    "starts_another",
]

_TERMINATED_DELAY_S = 1.0


def create(
    admission: Admission,
    item: Inbound,
    started: ExecutionStartedEvent,
    *,
    past: tuple[PastExecution, ...] = (),
    seen: tuple[SeenId, ...] = (),
    event: EventRaisedEvent | None = None,
) -> None:
    """Make the pending row of an instance that is absent, or whose last run is archived, and start it if due."""
    own = SeenId(id=started.execution_id, at=item.enqueued_at, sender=item.message.sender)
    row = pending_row(started, created_at=item.enqueued_at, past=past)
    admission.instance.row = msgspec.structs.replace(row, seen=(*seen, own))
    admission.kept = (
        [] if event is None else [Message(id=event.source_id, instance_id=started.instance_id, body=event)]
    )
    admission.reason = None
    admission.changed = True
    admission.find_code()
    begin(admission)


def start_absent(
    admission: Admission, item: Inbound, started: ExecutionStartedEvent, event: EventRaisedEvent | None = None
) -> None:
    """Start an instance that is not there, unless it was, and the start is of the run that was purged."""
    tombstone = admission.instance.tombstone
    if tombstone is not None and (
        (tombstone.parent is not None and tombstone.parent == started.parent)
        or started.execution_id in tombstone.seen
        or any(past.execution_id == started.execution_id for past in tombstone.leftovers)
    ):
        admission.drop(item, "the instance was purged")
    else:
        create(admission, item, started, event=event)


def child_start(admission: Admission, item: Inbound, started: ExecutionStartedEvent) -> None:
    """Handle a sub-orchestration's start where there is a row: a duplicate, a conflict, or a run after an ended one."""
    row = admission.instance.row
    assert row is not None
    if (started.parent is not None and row.parent == started.parent) or is_known(
        admission, started.execution_id
    ):
        admission.drop(item, "a duplicate of its start")
    elif not admission.instance.is_terminal:
        _refuse(admission, item, started)
    else:
        start_over(admission, item, started)


def replace_request(admission: Admission, item: Inbound, body: ReplaceInstance) -> None:
    """Start an instance in place of the one that has its id, after terminating that if it is alive."""
    row = admission.instance.row
    assert row is not None
    if is_known(admission, body.start.execution_id):
        admission.drop(item, "a duplicate of its start")
    elif body.created_at not in (None, row.created_at):
        admission.drop(item, "the instance it was to replace has been replaced by another one")
    elif admission.ended is not None:
        # Another request ends it in this turn: then its end may be replaced too.
        if admission.status.value in body.replace:
            item = _bound(admission, item, body)
        admission.put_back(item, delay_s=_TERMINATED_DELAY_S)
    elif admission.status.value not in body.replace:
        admission.drop(item, f"the instance is {admission.status.value}, which its start may not replace")
    elif admission.instance.is_terminal:
        start_over(admission, item, body.start, event=body.event)
    else:
        # Of this run: the ids seen go on to the next, and a second request is not to be taken for the first.
        source_id = stable_id(body.start.execution_id, "replace", row.execution_id)
        admission.end(
            item, ExecutionTerminatedEvent(timestamp=item.enqueued_at, recurse=True, source_id=source_id)
        )
        # It comes back to an instance that it has terminated itself: that it may replace.
        admission.put_back(_bound(admission, item, body), delay_s=_TERMINATED_DELAY_S)


def _bound(admission: Admission, item: Inbound, body: ReplaceInstance) -> Inbound:
    """Return the request as it comes back: it may replace the run that is being ended, and no other."""
    row = admission.instance.row
    assert row is not None
    again = msgspec.structs.replace(body, replace=(*body.replace, RuntimeStatus.TERMINATED.value))
    message = msgspec.structs.replace(item.message, body=again, execution_id=row.execution_id)
    return msgspec.structs.replace(item, message=message)


def start_over(
    admission: Admission,
    item: Inbound,
    started: ExecutionStartedEvent,
    *,
    event: EventRaisedEvent | None = None,
) -> None:
    """Begin a new run of an ended instance.

    The old run's history goes to segment rows, where a new owner still finds what it has not sent: there is nothing to
    wait for, and what was sent right behind the start meets the new run.
    """
    settings, confirmed = admission.ctx.settings, dict(admission.ctx.confirmed)
    seen = admission.instance.state.seen_to_carry(admission.now, settings.seen_ids_s, confirmed)
    past = admission.archive()
    admission.instance.restart_history()
    create(admission, item, started, past=past, seen=seen, event=event)


def begin(admission: Admission) -> bool:
    """Start the execution of a pending row if it is due and its code is here; return whether it is started now."""
    row = admission.instance.row
    assert row is not None
    if row.scheduled_start is not None and admission.now < row.scheduled_start:
        return False
    if admission.refusal is not None:
        admission.refuse(admission.refusal)
        return False
    start_execution(admission)
    admission.admit_kept()
    return True


def start_execution(admission: Admission) -> None:
    """Write the start of a pending row's execution into its history."""
    row = admission.instance.row
    assert row is not None
    admission.instance.cold = []
    admission.push(
        ExecutionStartedEvent(
            timestamp=row.created_at,
            commit=admission.ctx.n,
            name=row.name,
            instance_id=row.instance_id,
            execution_id=row.execution_id,
            version=row.version,
            input=row.input,
            parent=row.parent,
            scheduled_start=row.scheduled_start,
            tags=row.tags,
            generation=row.generation,
            parent_trace_context=row.parent_trace_context,
            seen=row.seen,
        )
    )


def starts_another(message: Message) -> bool:
    """Return whether a message would start an instance of another id than it is addressed to: nobody sends such."""
    body = message.body
    kind = type(body)
    if kind is ExecutionStartedEvent:
        return cast(ExecutionStartedEvent, body).instance_id != message.instance_id
    if kind is ReplaceInstance or kind is ContinuedChild:
        return cast(ReplaceInstance, body).start.instance_id != message.instance_id
    return False


def is_known(admission: Admission, execution_id: str) -> bool:
    """Return whether the instance has begun that execution before."""
    row = admission.instance.row
    assert row is not None
    return (
        execution_id == row.execution_id
        or execution_id in admission.instance.state.seen
        or any(seen.id == execution_id for seen in row.seen)
        or any(past.execution_id == execution_id for past in row.past)
    )


def _refuse(admission: Admission, item: Inbound, started: ExecutionStartedEvent) -> None:
    """Fail the task of a parent whose sub-orchestration's id belongs to another living instance."""
    parent = started.parent
    if parent is not None:
        ctx = admission.ctx
        failure = FailureDetails(
            message=f"an orchestration instance {started.instance_id!r} is already running",
            error_type="OrchestrationAlreadyExistsError",
        )
        answer = SubOrchestrationInstanceFailedEvent(
            timestamp=item.enqueued_at, task_scheduled_id=parent.task_id, failure=failure
        )
        admission.turn.eventless += (
            to_instance(
                parent.instance_id,
                answer,
                message_id=stable_id(parent.execution_id, "refused", parent.task_id),
                partitions=ctx.partitions,
                execution_id=parent.execution_id,
                sender=Sender(ctx.partition, ctx.n),
            ),
        )
    admission.drop(item, "an instance of that id is running")
