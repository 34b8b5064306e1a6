"""From an orchestrator's decision to history events: what was decided becomes what happened.

Values over the inline limit are spilled here, each under the name of the instance that will read it.
"""

from __future__ import annotations

from datetime import datetime
from typing import assert_never

import msgspec

from durabletask_azure.core.actions import (
    Action,
    Completed,
    ContinuedAsNew,
    CreateTimer,
    Decision,
    Failed,
    ScheduleTask,
    SendEvent,
    StartSubOrchestration,
)
from durabletask_azure.core.failures import FailureDetails, truncate
from durabletask_azure.core.history import (
    ContinuedEvent,
    EventRaisedEvent,
    EventSentEvent,
    ExecutionCompletedEvent,
    ExecutionStartedEvent,
    Failure,
    HistoryEvent,
    RuntimeStatus,
    SubOrchestrationInstanceCreatedEvent,
    TaskScheduledEvent,
    TimerCreatedEvent,
)
from durabletask_azure.core.outbox import Origin, child_execution_id
from durabletask_azure.core.partitioning import stable_id
from durabletask_azure.core.payloads import ANY_EXECUTION, BlobRef, Payload, PayloadWriter
from durabletask_azure.core.state import ExecutionState
from durabletask_azure.errors import PayloadTooLargeError

__all__ = [
    "continued_events",
    "decided_events",
    "failed_event",
    "next_execution_id",
    "scheduled_tasks",
    "small_end",
    "store_failure",
]

_KEPT_MESSAGE_BYTES_MAX = 4_096
_encoder = msgspec.json.Encoder()


def next_execution_id(execution_id: str) -> str:
    """Return the id of the execution that continue-as-new starts."""
    return stable_id(execution_id, "next")


def decided_events(
    decision: Decision, origin: Origin, writer: PayloadWriter, *, now: datetime, n: int
) -> list[HistoryEvent]:
    """Return the events that record a decision: its actions in order, then its completion.

    Raises:
        PayloadTooLargeError: a value is over the cap; nothing of the decision may be used.
    """
    events = [_action_event(action, origin, writer, now=now, n=n) for action in decision.actions]
    match decision.completion:
        case None:
            pass
        case Completed(result=result):
            own = writer.store(
                result, instance_id=origin.instance_id, execution_id=origin.execution_id, what="the result"
            )
            events.append(
                ExecutionCompletedEvent(
                    timestamp=now,
                    commit=n,
                    status=RuntimeStatus.COMPLETED,
                    result=own,
                    result_for_parent=_copy_for_parent(own, result, origin, writer),
                )
            )
        case Failed(failure=failure):
            events.append(failed_event(failure, origin, writer, now=now, n=n))
        case ContinuedAsNew(input=text):
            following = next_execution_id(origin.execution_id)
            stored = writer.store(
                text,
                instance_id=origin.instance_id,
                execution_id=following,
                what="the input of continue_as_new",
            )
            events.append(ContinuedEvent(timestamp=now, commit=n, input=stored, next_execution_id=following))
        case _ as never:
            assert_never(never)
    return events


def scheduled_tasks(
    decision: Decision, inline_chars_max: int, *, now: datetime, n: int
) -> list[TaskScheduledEvent] | None:
    """Return the events of a decision's actions if all of them are calls of activities with small inputs."""
    events: list[TaskScheduledEvent] = []
    for action in decision.actions:
        if type(action) is not ScheduleTask or action.tags:
            return None
        text = action.input
        if text is not None and (len(text) > inline_chars_max or not text.isascii()):
            return None  # to be spilled, or, with half a surrogate pair, not to be stored; names were checked
        events.append(
            TaskScheduledEvent(
                timestamp=now,
                event_id=action.id,
                commit=n,
                name=action.name,
                version=action.version,
                input=text,
            )
        )
    return events


def small_end(
    completion: Completed | Failed | ContinuedAsNew, inline_chars_max: int, *, now: datetime, n: int
) -> ExecutionCompletedEvent | None:
    """Return the event of an end with a small result; ``None`` if it ends in another way."""
    if not isinstance(completion, Completed):
        return None
    text = completion.result
    if text is not None and (len(text) > inline_chars_max or not text.isascii()):
        return None
    return ExecutionCompletedEvent(timestamp=now, commit=n, status=RuntimeStatus.COMPLETED, result=text)


def failed_event(
    failure: FailureDetails, origin: Origin, writer: PayloadWriter, *, now: datetime, n: int
) -> ExecutionCompletedEvent:
    """Return the event that ends an execution as FAILED."""
    own = store_failure(failure, writer, instance_id=origin.instance_id, execution_id=origin.execution_id)
    copy: BlobRef | None = None
    if isinstance(own, BlobRef) and origin.parent is not None:
        stored = store_failure(
            failure,
            writer,
            instance_id=origin.parent.instance_id,
            execution_id=origin.parent.execution_id,
        )
        copy = stored if isinstance(stored, BlobRef) else None
    return ExecutionCompletedEvent(
        timestamp=now, commit=n, status=RuntimeStatus.FAILED, failure=own, failure_for_parent=copy
    )


def store_failure(
    failure: FailureDetails, writer: PayloadWriter, *, instance_id: str, execution_id: str
) -> Failure:
    """Return the failure itself when small, else a reference to its JSON; one over the cap loses its details."""
    text = _encoder.encode(failure).decode()
    try:
        stored = writer.store(text, instance_id=instance_id, execution_id=execution_id, what="the failure")
    except PayloadTooLargeError:
        return FailureDetails(
            message=truncate(failure.message, _KEPT_MESSAGE_BYTES_MAX),
            error_type=failure.error_type,
            is_non_retriable=failure.is_non_retriable,
        )
    return stored if isinstance(stored, BlobRef) else failure


def continued_events(
    state: ExecutionState,
    completion: ContinuedAsNew,
    late: tuple[EventRaisedEvent, ...],
    keep_s: float,
    confirmed: dict[int, int],
    *,
    n: int,
) -> ExecutionStartedEvent:
    """Return the start of the execution that follows ``state`` by continue-as-new.

    It carries the unconsumed events the orchestrator keeps, those that came too late for it (``late``), and the ids of
    applied events that must still be recognised.
    """
    started, continued, now = state.started, state.continued, state.now
    assert started is not None and continued is not None and now is not None
    return ExecutionStartedEvent(
        timestamp=now,
        commit=n,
        name=started.name,
        instance_id=started.instance_id,
        execution_id=continued.next_execution_id,
        version=completion.version if completion.version is not None else started.version,
        input=continued.input,
        parent=started.parent,
        tags=started.tags,
        generation=started.generation + 1,
        parent_trace_context=started.parent_trace_context,
        carried=completion.carried + late,
        seen=state.seen_to_carry(now, keep_s, confirmed),
    )


def _copy_for_parent(own: Payload, text: str | None, origin: Origin, writer: PayloadWriter) -> BlobRef | None:
    if not isinstance(own, BlobRef) or origin.parent is None:
        return None
    copy = writer.store(
        text,
        instance_id=origin.parent.instance_id,
        execution_id=origin.parent.execution_id,
        what="the result",
    )
    return copy if isinstance(copy, BlobRef) else None


def _action_event(
    action: Action, origin: Origin, writer: PayloadWriter, *, now: datetime, n: int
) -> HistoryEvent:
    own = {"instance_id": origin.instance_id, "execution_id": origin.execution_id}
    match action:
        case ScheduleTask():
            return TaskScheduledEvent(
                timestamp=now,
                event_id=action.id,
                commit=n,
                name=action.name,
                version=action.version,
                input=writer.store(action.input, **own, what=f"the input of activity {action.name!r}"),
                tags=_tags(action.tags, own, writer),
            )
        case CreateTimer():
            return TimerCreatedEvent(
                timestamp=now,
                event_id=action.id,
                commit=n,
                fire_at=action.fire_at,
                final_fire_at=action.final_fire_at,
            )
        case StartSubOrchestration():
            child = {
                "instance_id": action.instance_id,
                "execution_id": child_execution_id(origin.execution_id, action.id),
            }
            return SubOrchestrationInstanceCreatedEvent(
                timestamp=now,
                event_id=action.id,
                commit=n,
                name=action.name,
                instance_id=action.instance_id,
                version=action.version,
                input=writer.store(
                    action.input, **child, what=f"the input of sub-orchestration {action.name!r}"
                ),
                tags=_tags(action.tags, child, writer),
            )
        case SendEvent():
            target = {"instance_id": action.instance_id, "execution_id": ANY_EXECUTION}
            return EventSentEvent(
                timestamp=now,
                event_id=action.id,
                commit=n,
                instance_id=action.instance_id,
                name=action.name,
                input=writer.store(action.input, **target, what=f"the data of event {action.name!r}"),
            )
        case _ as never:
            assert_never(never)


def _tags(tags: dict[str, str] | None, home: dict[str, str], writer: PayloadWriter) -> Payload:
    if not tags:
        return None
    return writer.store(_encoder.encode(tags).decode(), **home, what="the tags")
