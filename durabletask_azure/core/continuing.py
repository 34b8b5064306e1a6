"""How an instance goes on under a new execution id: rewound, reset, or as the sub-orchestration of one that was.

The new history is written beside the old one, which joins the past executions; the orchestrator's code runs in the next
turn, as after a continue-as-new. A sub-orchestration that was open at the point its parent goes on from is handed over:
a living one answers the new execution, a completed one answers it again, and one that failed is rewound with it, or
answers again after a reset. What else the parent had started and not got back is terminated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.history import (
    ExecutionRewoundEvent,
    ExecutionStartedEvent,
    ExecutionTerminatedEvent,
    Handover,
    HistoryEvent,
    Parent,
    RuntimeStatus,
    SeenId,
    Sender,
    SubOrchestrationInstanceCreatedEvent,
)
from durabletask_azure.core.messages import ContinuedChild, Inbound, ResetInstance, RewindInstance
from durabletask_azure.core.outbox import answer, to_instance, unsent_messages
from durabletask_azure.core.partitioning import stable_id
from durabletask_azure.core.payloads import BlobRef, Payload
from durabletask_azure.core.rewind import Continuation, continued_history, reset_point, rewind_point
from durabletask_azure.core.starts import child_start, is_known
from durabletask_azure.core.state import ExecutionState

if TYPE_CHECKING:
    from durabletask_azure.core.admission import Admission

__all__ = ["continue_request", "continued_child"]

_ENDED_DELAY_S = 1.0
_failure_decoder = msgspec.json.Decoder(FailureDetails)
_UNDONE = (RuntimeStatus.FAILED, RuntimeStatus.TERMINATED)


def continue_request(admission: Admission, item: Inbound, body: RewindInstance | ResetInstance) -> None:
    """Take the instance up again as a client asked, if its status and history allow it."""
    if admission.ended is not None:
        admission.put_back(item, delay_s=_ENDED_DELAY_S)
        return
    if isinstance(body, RewindInstance):
        if admission.status is not RuntimeStatus.FAILED:
            admission.drop(item, f"the instance is {admission.status.value}: only failed ones can be rewound")
            return
        events = _history(admission)
        _go_on(
            admission,
            events,
            rewind_point(events, _failure(admission)),
            body,
            Handover(rewind=True, reason=_inline(body.reason)),
        )
        return
    events = _history(admission)
    try:
        cut = reset_point(events, body.turn)
    except IndexError as error:
        admission.drop(item, str(error))
    else:
        _go_on(admission, events, cut, body, Handover(reason=_inline(body.reason)))


def continued_child(admission: Admission, item: Inbound, body: ContinuedChild) -> None:
    """Handle the sub-orchestration of a continued parent where there is a row."""
    row, start = admission.instance.row, body.start
    assert row is not None
    if start.parent is None:
        admission.drop(item, "it names no parent")
    elif row.parent == start.parent or is_known(admission, start.execution_id):
        admission.drop(item, "a duplicate of its start")
    elif not _is_of(row.parent, start.parent.instance_id, body.formers):
        # The order of an execution that the parent has left behind may come late, and what it is about is done. A child
        # older than the order's task is of an earlier run of the parent's id.
        is_of_later = row.parent is not None and row.parent.instance_id == start.parent.instance_id
        if is_of_later and row.created_at >= start.timestamp:
            admission.drop(item, "its parent has gone on since")
        else:
            child_start(admission, item, start)
    elif admission.ended is not None:
        admission.put_back(item, delay_s=_ENDED_DELAY_S)
    elif body.handover is None:
        _give_way(admission, item, start)
    elif body.handover.rewind and admission.status in _UNDONE:
        events = _history(admission)
        order = RewindInstance(next_execution_id=start.execution_id, reason=body.handover.reason)
        _go_on(
            admission,
            events,
            rewind_point(events, _failure(admission)),
            order,
            body.handover,
            parent=start.parent,
        )
    else:
        _adopt(admission, item, start, body.handover)


def _is_of(parent: Parent | None, instance_id: str, formers: tuple[str, ...]) -> bool:
    return parent is not None and parent.instance_id == instance_id and parent.execution_id in formers


def _give_way(admission: Admission, item: Inbound, start: ExecutionStartedEvent) -> None:
    """Start the child of a new task; one of that id that a former execution started is ended first."""
    if admission.instance.is_terminal:
        child_start(admission, item, start)
        return
    row = admission.instance.row
    assert row is not None
    source_id = stable_id(start.execution_id, "replace", row.execution_id)
    admission.end(
        item, ExecutionTerminatedEvent(timestamp=item.enqueued_at, recurse=True, source_id=source_id)
    )
    admission.put_back(item, delay_s=_ENDED_DELAY_S)


def _adopt(admission: Admission, item: Inbound, start: ExecutionStartedEvent, handover: Handover) -> None:
    """Let the child answer the continued execution: when it ends, or, if it has, now."""
    instance, ctx, parent = admission.instance, admission.ctx, start.parent
    row, completed = instance.row, instance.state.completed
    assert row is not None and parent is not None
    sender = item.message.sender
    admission.changed = True
    if instance.state.started is None:
        own = SeenId(id=start.execution_id, at=item.enqueued_at, sender=sender)
        instance.row = msgspec.structs.replace(row, parent=parent, seen=(*row.seen, own))
        return
    told = ExecutionRewoundEvent(
        timestamp=item.enqueued_at,
        commit=ctx.n,
        reason=handover.reason,
        parent=parent,
        source_id=start.execution_id,
        sender=sender,
    )
    admission.turn.events += 1
    instance.append((told,))
    if instance.cold is not None:
        instance.cold.append(told)
    instance.row = msgspec.structs.replace(row, parent=parent)
    if completed is not None:
        admission.turn.eventless += (
            to_instance(
                parent.instance_id,
                answer(completed, instance.instance_id, parent.task_id),
                message_id=stable_id(row.execution_id, "ending", parent.execution_id, parent.task_id),
                partitions=ctx.partitions,
                execution_id=parent.execution_id,
                sender=Sender(ctx.partition, ctx.n),
            ),
        )


def _history(admission: Admission) -> list[HistoryEvent]:
    """Return the whole history of the current execution, this turn's events included."""
    instance = admission.instance
    assert instance.execution is None, "an instance is loaded anew before it is taken up again"
    return [*instance.closed, *(instance.cold or ()), *admission.new]


def _failure(admission: Admission) -> FailureDetails | None:
    """Return what the current execution ended with, decoded; a spilled failure that is lost counts as none."""
    completed = admission.instance.state.completed
    failure = completed.failure if completed is not None else None
    if isinstance(failure, BlobRef):
        text = admission.loaded.get(failure.name)
        failure = None if text is None else _failure_decoder.decode(text)
    return None if failure is None else admission.ctx.options.codecs.readable_failure(failure)


def _go_on(
    admission: Admission,
    events: list[HistoryEvent],
    cut: int,
    order: RewindInstance | ResetInstance,
    handover: Handover,
    *,
    parent: Parent | None = None,
) -> None:
    """Replace the current execution by one that goes on after ``cut`` of its events."""
    instance, ctx, turn = admission.instance, admission.ctx, admission.turn
    row, before = instance.row, instance.state
    assert row is not None and before.started is not None
    started = msgspec.structs.replace(
        before.started,
        execution_id=order.next_execution_id,
        commit=ctx.n,
        parent=parent or before.started.parent,
        seen=before.seen_to_carry(admission.now, ctx.settings.seen_ids_s, dict(ctx.confirmed)),
        sources=(*before.started.sources, before.started.execution_id),
    )
    reason = ExecutionRewoundEvent(
        timestamp=admission.now,
        commit=ctx.n,
        reason=order.reason,
        former_execution_id=row.execution_id,
    )
    wanted = Continuation(
        started=started,
        now=admission.now,
        n=ctx.n,
        reason=reason,
        keep_results=isinstance(order, RewindInstance),
        keep_events=isinstance(order, RewindInstance) or order.keep_events,
        handover=handover,
    )
    history = continued_history(events, cut, wanted)
    past = admission.archive()
    instance.restart_history()
    instance.append(history)
    instance.cold = history
    instance.row = msgspec.structs.replace(
        row,
        status=instance.state.status,
        execution_id=started.execution_id,
        parent=started.parent,
        past=past,
    )
    turn.events += len(history)
    turn.outbound += tuple(
        unsent_messages(history, ctx.n - 1, instance.state, instance.origin(ctx.partition, ctx.partitions))
    )
    _let_go(admission, before, row.execution_id)
    admission.new = []
    admission.ready = True
    admission.changed = True
    admission.continued = True


def _let_go(admission: Admission, before: ExecutionState, execution_id: str) -> None:
    """Call off what the old execution waited for: its far timers, and the children the new one does not know."""
    instance, ctx, turn = admission.instance, admission.ctx, admission.turn
    for timer_id, fire_at in before.timers.items():
        if (fire_at - admission.now).total_seconds() >= ctx.settings.timer_cancel_s_min:
            turn.cancels += (stable_id(execution_id, "timer", timer_id),)
    for task_id, task in before.tasks.items():
        if task_id in instance.state.tasks or not isinstance(task, SubOrchestrationInstanceCreatedEvent):
            continue
        sender = Sender(ctx.partition, ctx.n)
        source_id = stable_id(execution_id, "terminate", task.instance_id)
        body = ExecutionTerminatedEvent(
            timestamp=admission.now,
            recurse=True,
            source_id=source_id,
            sender=sender,
            parent_execution_id=execution_id,
        )
        turn.eventless += (
            to_instance(
                task.instance_id, body, message_id=source_id, partitions=ctx.partitions, sender=sender
            ),
        )


def _inline(reason: Payload) -> str | None:
    """Return a reason for the children: a spilled one is the parent's own."""
    return reason if isinstance(reason, str) else None
