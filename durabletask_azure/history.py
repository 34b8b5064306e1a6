"""An orchestration's history as clients read it: the events of ``durabletask.history``, field for field.

Stored events carry more (commit numbers, ids for counting once) and know values that were spilled; here values are text
and times are aware, in UTC. The end of each turn is not stored: ``OrchestratorCompletedEvent`` is put in where the next
turn begins, so that histories read as those of the other Durable Task backends. A large value sent to another instance
reads as ``None`` once that instance is purged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from typing import Any, assert_never, cast

import msgspec

from durabletask_azure.core import history as stored
from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.payload_codec import NO_CODECS, PayloadCodecs
from durabletask_azure.core.payloads import BlobRef, Payload, resolve
from durabletask_azure.engine.instances import ResolvedHistory
from durabletask_azure.query import OrchestrationStatus

__all__ = [
    "ContinueAsNewEvent",
    "EventRaisedEvent",
    "EventSentEvent",
    "ExecutionCompletedEvent",
    "ExecutionResumedEvent",
    "ExecutionStartedEvent",
    "ExecutionSuspendedEvent",
    "ExecutionTerminatedEvent",
    "HistoryEvent",
    "OrchestrationInstance",
    "OrchestratorCompletedEvent",
    "OrchestratorStartedEvent",
    "ParentInstanceInfo",
    "SubOrchestrationInstanceCompletedEvent",
    "SubOrchestrationInstanceCreatedEvent",
    "SubOrchestrationInstanceFailedEvent",
    "TaskCompletedEvent",
    "TaskFailedEvent",
    "TaskScheduledEvent",
    "TimerCreatedEvent",
    "TimerFiredEvent",
    "TraceContext",
    "readable",
    "to_dict",
]

_VALUES = ("input", "result", "reason", "failure_details")
_tags_decoder = msgspec.json.Decoder(dict[str, str])
_failure_decoder = msgspec.json.Decoder(FailureDetails)


@dataclass(slots=True)
class OrchestrationInstance:
    """An instance and one of its executions."""

    instance_id: str
    execution_id: str | None = None


@dataclass(slots=True)
class ParentInstanceInfo:
    """Who started a sub-orchestration, by which of its tasks."""

    task_scheduled_id: int
    name: str | None = None
    version: str | None = None
    orchestration_instance: OrchestrationInstance | None = None


@dataclass(slots=True)
class TraceContext:
    """A W3C trace context."""

    trace_parent: str
    span_id: str
    trace_state: str | None = None


@dataclass(slots=True)
class HistoryEvent:
    """What all events have: ``event_id`` is the number of the orchestrator's action, -1 if there is none."""

    event_id: int
    timestamp: datetime

    def to_dict(self) -> dict[str, Any]:
        """Return the event as JSON-like values, times in ISO format."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


@dataclass(slots=True)
class ExecutionStartedEvent(HistoryEvent):
    """An execution began."""

    name: str
    version: str | None = None
    input: str | None = None
    orchestration_instance: OrchestrationInstance | None = None
    parent_instance: ParentInstanceInfo | None = None
    scheduled_start_timestamp: datetime | None = None
    parent_trace_context: TraceContext | None = None
    orchestration_span_id: str | None = None
    tags: dict[str, str] | None = None


@dataclass(slots=True)
class ExecutionCompletedEvent(HistoryEvent):
    """The execution ended; ``orchestration_status`` is the number of an ``OrchestrationStatus``."""

    orchestration_status: int
    result: str | None = None
    failure_details: FailureDetails | None = None


@dataclass(slots=True)
class ExecutionTerminatedEvent(HistoryEvent):
    """Somebody terminated the instance."""

    input: str | None = None
    recurse: bool = False


@dataclass(slots=True)
class TaskScheduledEvent(HistoryEvent):
    """The orchestrator called an activity."""

    name: str
    version: str | None = None
    input: str | None = None
    parent_trace_context: TraceContext | None = None
    tags: dict[str, str] | None = None


@dataclass(slots=True)
class TaskCompletedEvent(HistoryEvent):
    """An activity returned."""

    task_scheduled_id: int
    result: str | None = None


@dataclass(slots=True)
class TaskFailedEvent(HistoryEvent):
    """An activity failed."""

    task_scheduled_id: int
    failure_details: FailureDetails | None = None


@dataclass(slots=True)
class SubOrchestrationInstanceCreatedEvent(HistoryEvent):
    """The orchestrator started a sub-orchestration."""

    instance_id: str
    name: str
    version: str | None = None
    input: str | None = None
    parent_trace_context: TraceContext | None = None
    tags: dict[str, str] | None = None


@dataclass(slots=True)
class SubOrchestrationInstanceCompletedEvent(HistoryEvent):
    """A sub-orchestration completed."""

    task_scheduled_id: int
    result: str | None = None


@dataclass(slots=True)
class SubOrchestrationInstanceFailedEvent(HistoryEvent):
    """A sub-orchestration failed, was terminated, or could not be started."""

    task_scheduled_id: int
    failure_details: FailureDetails | None = None


@dataclass(slots=True)
class TimerCreatedEvent(HistoryEvent):
    """The orchestrator created a timer."""

    fire_at: datetime


@dataclass(slots=True)
class TimerFiredEvent(HistoryEvent):
    """A timer's time has come."""

    fire_at: datetime
    timer_id: int


@dataclass(slots=True)
class OrchestratorStartedEvent(HistoryEvent):
    """A turn began."""


@dataclass(slots=True)
class OrchestratorCompletedEvent(HistoryEvent):
    """A turn ended."""


@dataclass(slots=True)
class EventSentEvent(HistoryEvent):
    """The orchestrator sent an event to another instance."""

    instance_id: str
    name: str
    input: str | None = None


@dataclass(slots=True)
class EventRaisedEvent(HistoryEvent):
    """An external event arrived."""

    name: str
    input: str | None = None


@dataclass(slots=True)
class ContinueAsNewEvent(HistoryEvent):
    """The execution ended and another one of the same instance follows."""

    input: str | None = None


@dataclass(slots=True)
class ExecutionSuspendedEvent(HistoryEvent):
    """Somebody suspended the instance."""

    input: str | None = None


@dataclass(slots=True)
class ExecutionResumedEvent(HistoryEvent):
    """Somebody resumed the instance."""

    input: str | None = None


def to_dict(event: HistoryEvent) -> dict[str, Any]:
    """Return an event as JSON-like values, times in ISO format."""
    return event.to_dict()


def readable(history: ResolvedHistory, codecs: PayloadCodecs = NO_CODECS) -> list[HistoryEvent]:
    """Return stored events as clients read them, the end of each turn put in.

    A value that cannot be decoded stays encoded, and names its codec.
    """
    events: list[HistoryEvent] = []
    turn_at: datetime | None = None
    for event in history.events:
        if isinstance(event, stored.OrchestratorStartedEvent):
            if turn_at is not None:
                events.append(OrchestratorCompletedEvent(-1, turn_at))
            turn_at = event.timestamp
        events.append(_event(event, history.loaded))
    if turn_at is not None:
        events.append(OrchestratorCompletedEvent(-1, turn_at))
    for event in events:
        _decode(event, codecs)
    return events


def _decode(event: HistoryEvent, codecs: PayloadCodecs) -> None:
    """Put the values of an event in the form they had before a codec encoded them."""
    for name in _VALUES:
        value = getattr(event, name, None)
        if isinstance(value, str):
            setattr(event, name, codecs.readable(value))
        elif isinstance(value, FailureDetails):
            setattr(event, name, codecs.readable_failure(value))


def _event(event: stored.HistoryEvent, loaded: Mapping[str, str]) -> HistoryEvent:
    base = (event.event_id, event.timestamp)
    match event:
        case stored.OrchestratorStartedEvent():
            return OrchestratorStartedEvent(*base)
        case stored.ExecutionStartedEvent():
            return _started(event, loaded)
        case stored.ExecutionCompletedEvent():
            status = OrchestrationStatus[event.status.name].value
            return ExecutionCompletedEvent(
                *base, status, resolve(event.result, loaded), _failure(event.failure, loaded)
            )
        case stored.ContinuedEvent():
            return ContinueAsNewEvent(*base, _sent(event.input, loaded))
        case stored.ExecutionTerminatedEvent():
            return ExecutionTerminatedEvent(*base, resolve(event.input, loaded), event.recurse)
        case stored.ExecutionSuspendedEvent():
            return ExecutionSuspendedEvent(*base, resolve(event.input, loaded))
        case stored.ExecutionResumedEvent():
            return ExecutionResumedEvent(*base, resolve(event.input, loaded))
        case stored.TimerCreatedEvent():
            return TimerCreatedEvent(*base, event.fire_at)
        case stored.TimerFiredEvent():
            return TimerFiredEvent(*base, event.fire_at, event.timer_id)
        case stored.EventSentEvent():
            return EventSentEvent(*base, event.instance_id, event.name, _sent(event.input, loaded))
        case stored.EventRaisedEvent():
            return EventRaisedEvent(*base, event.name, resolve(event.input, loaded))
        case _:
            return _task_event(event, loaded)


TaskEvent = (
    stored.TaskScheduledEvent
    | stored.TaskCompletedEvent
    | stored.TaskFailedEvent
    | stored.SubOrchestrationInstanceCreatedEvent
    | stored.SubOrchestrationInstanceCompletedEvent
    | stored.SubOrchestrationInstanceFailedEvent
)


def _task_event(event: TaskEvent, loaded: Mapping[str, str]) -> HistoryEvent:
    base = (event.event_id, event.timestamp)
    match event:
        case stored.TaskScheduledEvent():
            return TaskScheduledEvent(
                *base, event.name, event.version, _sent(event.input, loaded), tags=_tags(event.tags, loaded)
            )
        case stored.TaskCompletedEvent():
            return TaskCompletedEvent(*base, event.task_scheduled_id, resolve(event.result, loaded))
        case stored.TaskFailedEvent():
            return TaskFailedEvent(*base, event.task_scheduled_id, _failure(event.failure, loaded))
        case stored.SubOrchestrationInstanceCreatedEvent():
            return SubOrchestrationInstanceCreatedEvent(
                *base,
                event.instance_id,
                event.name,
                event.version,
                _sent(event.input, loaded),
                tags=_tags(event.tags, loaded),
            )
        case stored.SubOrchestrationInstanceCompletedEvent():
            return SubOrchestrationInstanceCompletedEvent(
                *base, event.task_scheduled_id, resolve(event.result, loaded)
            )
        case stored.SubOrchestrationInstanceFailedEvent():
            return SubOrchestrationInstanceFailedEvent(
                *base, event.task_scheduled_id, _failure(event.failure, loaded)
            )
        case _ as never:
            assert_never(never)


def _started(event: stored.ExecutionStartedEvent, loaded: Mapping[str, str]) -> ExecutionStartedEvent:
    parent: ParentInstanceInfo | None = None
    if event.parent is not None:
        parent = ParentInstanceInfo(
            task_scheduled_id=event.parent.task_id,
            name=event.parent.name or None,
            orchestration_instance=OrchestrationInstance(event.parent.instance_id, event.parent.execution_id),
        )
    return ExecutionStartedEvent(
        event_id=event.event_id,
        timestamp=event.timestamp,
        name=event.name,
        version=event.version,
        input=resolve(event.input, loaded),
        orchestration_instance=OrchestrationInstance(event.instance_id, event.execution_id),
        parent_instance=parent,
        scheduled_start_timestamp=event.scheduled_start,
        tags=_tags(event.tags, loaded),
    )


def _sent(value: Payload, loaded: Mapping[str, str]) -> str | None:
    """Return what was sent to somebody, ``None`` when it has been purged with its receiver."""
    return loaded.get(value.name) if isinstance(value, BlobRef) else value


def _tags(tags: stored.Tags, loaded: Mapping[str, str]) -> dict[str, str] | None:
    text = resolve(tags, loaded)
    return None if text is None else _tags_decoder.decode(text)


def _failure(failure: stored.Failure, loaded: Mapping[str, str]) -> FailureDetails | None:
    if not isinstance(failure, BlobRef):
        return failure
    return _failure_decoder.decode(cast(str, resolve(failure, loaded)))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, FailureDetails):
        names = ("message", "error_type", "stack_trace", "inner_failure", "properties")
        return {name: _plain(getattr(value, name)) for name in names}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in cast(dict[Any, Any], value).items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [_plain(item) for item in cast(Sequence[Any], value)]
    return value
