"""Which messages a history event causes: the outbox is the history itself (DESIGN 3).

``messages_for`` is a pure function of the event and of who the instance is, so a new owner derives from rows exactly
the messages, ids included, that the old owner sent or died before sending. Messages without an event of their own come
from ``turn.py`` and are kept in outbox rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.history import (
    EventRaisedEvent,
    EventSentEvent,
    ExecutionCompletedEvent,
    ExecutionStartedEvent,
    ExecutionTerminatedEvent,
    HistoryEvent,
    Parent,
    RuntimeStatus,
    Sender,
    SubOrchestrationInstanceCompletedEvent,
    SubOrchestrationInstanceCreatedEvent,
    SubOrchestrationInstanceFailedEvent,
    TaskScheduledEvent,
    TimerCreatedEvent,
    TimerFiredEvent,
)
from durabletask_azure.core.messages import (
    ActivityTask,
    ContinuedChild,
    Message,
    MessageBody,
    Outbound,
    ToActivities,
    ToPartition,
)
from durabletask_azure.core.partitioning import partition_of, stable_id
from durabletask_azure.core.state import ExecutionState

__all__ = [
    "Origin",
    "answer",
    "child_execution_id",
    "failure_of_ending",
    "messages_for",
    "task_message",
    "task_messages",
    "to_instance",
    "unsent_messages",
]


class Origin(msgspec.Struct, frozen=True, gc=False):
    """Who sends: the instance's execution, its name, parent and trace, and where partitions lie."""

    instance_id: str
    execution_id: str
    name: str
    parent: Parent | None
    partition: int
    partitions: int
    parent_trace_context: str | None = None
    sources: tuple[str, ...] = ()
    """The executions that this one continues, if any."""


def child_execution_id(parent_execution_id: str, task_id: int) -> str:
    """Return the execution id of the sub-orchestration that a task of a parent execution starts."""
    return stable_id(parent_execution_id, "child", task_id)


def to_instance(
    instance_id: str,
    body: MessageBody,
    *,
    message_id: str,
    partitions: int,
    execution_id: str | None = None,
    sender: Sender | None = None,
    deliver_at: datetime | None = None,
) -> ToPartition:
    """Return a message to an instance, addressed to the partition that owns it."""
    return ToPartition(
        partition=partition_of(instance_id, partitions),
        message=Message(
            id=message_id, instance_id=instance_id, body=body, execution_id=execution_id, sender=sender
        ),
        deliver_at=deliver_at,
    )


def messages_for(event: HistoryEvent, origin: Origin) -> Iterable[Outbound]:
    """Return the messages ``event`` causes, in the order they are to be sent."""
    match event:
        case TaskScheduledEvent():
            return (task_message(event, origin),)
        case TimerCreatedEvent():
            return (_timer(event, origin),)
        case SubOrchestrationInstanceCreatedEvent():
            return (_child(event, origin),)
        case EventSentEvent():
            return (_event(event, origin),)
        case ExecutionCompletedEvent():
            return _ending(event, origin)
        case _:
            return ()


def unsent_messages(
    events: Iterable[HistoryEvent], sent: int, state: ExecutionState, origin: Origin
) -> list[Outbound]:
    """Return the messages of ``events`` with a commit above ``sent``: what a turn sends, and a new owner sends again.

    ``state`` is what the whole history comes to. Tasks and timers that are closed by now are left out: their
    completion is in the history. So are the timers of an execution that is over; its tasks are not: an activity or
    child that nobody waits for runs all the same.
    """
    is_over = state.completed is not None or state.continued is not None
    outbound: list[Outbound] = []
    for event in events:
        if event.commit <= sent:
            continue
        if isinstance(event, TaskScheduledEvent):
            if event.event_id in state.tasks:
                outbound.append(task_message(event, origin))
            continue
        match event:
            case SubOrchestrationInstanceCreatedEvent():
                if event.event_id not in state.tasks:
                    continue
            case TimerCreatedEvent():
                if is_over or event.event_id not in state.timers:
                    continue
            case _:
                pass
        outbound.extend(messages_for(event, origin))
    return outbound


def failure_of_ending(event: ExecutionCompletedEvent, instance_id: str) -> FailureDetails:
    """Return the failure a parent sees when its child ended without completing and left no failure of its own."""
    if event.status is RuntimeStatus.TERMINATED:
        return FailureDetails(
            message=f"sub-orchestration {instance_id!r} was terminated", error_type="OrchestrationTerminated"
        )
    return FailureDetails(
        message=f"sub-orchestration {instance_id!r} failed", error_type="OrchestrationFailed"
    )


def task_message(event: TaskScheduledEvent, origin: Origin) -> ToActivities:
    """Return the task of a call of an activity."""
    task = ActivityTask(
        id=stable_id(origin.execution_id, "task", event.event_id),
        instance_id=origin.instance_id,
        execution_id=origin.execution_id,
        task_id=event.event_id,
        name=event.name,
        version=event.version,
        input=event.input,
        tags=event.tags,
        parent_trace_context=origin.parent_trace_context,
    )
    return ToActivities(task=task)


def task_messages(events: Sequence[TaskScheduledEvent], origin: Origin) -> tuple[ToActivities, ...]:
    """Return :func:`task_message` of each."""
    if len(events) == 1:
        return (task_message(events[0], origin),)
    return tuple([task_message(event, origin) for event in events])


def _timer(event: TimerCreatedEvent, origin: Origin) -> ToPartition:
    fired = TimerFiredEvent(timestamp=event.fire_at, timer_id=event.event_id, fire_at=event.fire_at)
    return ToPartition(
        partition=origin.partition,
        message=Message(
            id=stable_id(origin.execution_id, "timer", event.event_id),
            instance_id=origin.instance_id,
            execution_id=origin.execution_id,
            body=fired,
            sender=Sender(origin.partition, event.commit),
        ),
        deliver_at=event.fire_at,
    )


def _child(event: SubOrchestrationInstanceCreatedEvent, origin: Origin) -> ToPartition:
    started = ExecutionStartedEvent(
        timestamp=event.timestamp,
        name=event.name,
        instance_id=event.instance_id,
        execution_id=child_execution_id(origin.execution_id, event.event_id),
        version=event.version,
        input=event.input,
        tags=event.tags,
        parent=Parent(origin.instance_id, origin.execution_id, event.event_id, origin.name),
        parent_trace_context=origin.parent_trace_context,
    )
    body: MessageBody = started
    if origin.sources:
        body = ContinuedChild(start=started, formers=origin.sources, handover=event.handover)
    return to_instance(
        event.instance_id,
        body,
        message_id=stable_id(origin.execution_id, "child", event.event_id),
        partitions=origin.partitions,
        sender=Sender(origin.partition, event.commit),
    )


def _event(event: EventSentEvent, origin: Origin) -> ToPartition:
    source_id = stable_id(origin.execution_id, "event", event.event_id)
    sender = Sender(origin.partition, event.commit)
    raised = EventRaisedEvent(
        timestamp=event.timestamp, name=event.name, input=event.input, source_id=source_id, sender=sender
    )
    return to_instance(
        event.instance_id, raised, message_id=source_id, partitions=origin.partitions, sender=sender
    )


def _ending(event: ExecutionCompletedEvent, origin: Origin) -> list[Outbound]:
    sender = Sender(origin.partition, event.commit)
    outbound: list[Outbound] = []
    # A spilled output is the parent's own and may be purged with it: the children end without.
    output = event.result if isinstance(event.result, str) else None
    for child in event.cascade:
        source_id = stable_id(origin.execution_id, "terminate", child)
        body = ExecutionTerminatedEvent(
            timestamp=event.timestamp,
            input=output,
            recurse=True,
            source_id=source_id,
            sender=sender,
            parent_execution_id=origin.execution_id,
        )
        outbound.append(
            to_instance(child, body, message_id=source_id, partitions=origin.partitions, sender=sender)
        )
    parent = origin.parent
    if parent is not None:
        outbound.append(
            to_instance(
                parent.instance_id,
                answer(event, origin.instance_id, parent.task_id),
                message_id=stable_id(origin.execution_id, "ending", parent.execution_id, parent.task_id),
                partitions=origin.partitions,
                execution_id=parent.execution_id,
                sender=sender,
            )
        )
    return outbound


def answer(event: ExecutionCompletedEvent, instance_id: str, task_id: int) -> MessageBody:
    """Return how the end of a sub-orchestration is told to the task of its parent."""
    if event.status is RuntimeStatus.COMPLETED:
        return SubOrchestrationInstanceCompletedEvent(
            timestamp=event.timestamp,
            task_scheduled_id=task_id,
            result=event.result_for_parent or event.result,
        )
    failure = event.failure_for_parent or event.failure or failure_of_ending(event, instance_id)
    return SubOrchestrationInstanceFailedEvent(
        timestamp=event.timestamp, task_scheduled_id=task_id, failure=failure
    )
