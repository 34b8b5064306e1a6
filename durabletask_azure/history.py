"""An orchestration's history as clients read it: the events of ``durabletask.history``, field for field.

Values are text and times are aware, in UTC. How stored events become these is in ``calls/histories.py``. The last ten
kinds stand here for programs that read histories of every kind; no history holds them until the hub has entities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from typing import Any, cast

from durabletask_azure.core.failures import FailureDetails

__all__ = [
    "ContinueAsNewEvent",
    "EntityLockGrantedEvent",
    "EntityLockRequestedEvent",
    "EntityOperationCalledEvent",
    "EntityOperationCompletedEvent",
    "EntityOperationFailedEvent",
    "EntityOperationSignaledEvent",
    "EntityUnlockSentEvent",
    "EventRaisedEvent",
    "EventSentEvent",
    "ExecutionCompletedEvent",
    "ExecutionResumedEvent",
    "ExecutionRewoundEvent",
    "ExecutionStartedEvent",
    "ExecutionSuspendedEvent",
    "ExecutionTerminatedEvent",
    "GenericEvent",
    "HistoryEvent",
    "HistoryStateEvent",
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
    "to_dict",
]


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


@dataclass(slots=True)
class GenericEvent(HistoryEvent):
    """A note of a backend's own."""

    data: str | None = None


@dataclass(slots=True)
class HistoryStateEvent(HistoryEvent):
    """A state that a backend wrote into the history."""

    orchestration_state: dict[str, Any]


@dataclass(slots=True)
class EntityOperationSignaledEvent(HistoryEvent):
    """An operation was sent to an entity, and nobody waits for it."""

    request_id: str
    operation: str
    scheduled_time: datetime | None = None
    input: str | None = None
    target_instance_id: str | None = None


@dataclass(slots=True)
class EntityOperationCalledEvent(HistoryEvent):
    """An operation of an entity was called."""

    request_id: str
    operation: str
    scheduled_time: datetime | None = None
    input: str | None = None
    parent_instance_id: str | None = None
    parent_execution_id: str | None = None
    target_instance_id: str | None = None


@dataclass(slots=True)
class EntityOperationCompletedEvent(HistoryEvent):
    """An operation of an entity returned."""

    request_id: str
    output: str | None = None


@dataclass(slots=True)
class EntityOperationFailedEvent(HistoryEvent):
    """An operation of an entity failed."""

    request_id: str
    failure_details: FailureDetails | None = None


@dataclass(slots=True)
class EntityLockRequestedEvent(HistoryEvent):
    """An orchestrator asked for the locks of some entities."""

    critical_section_id: str
    lock_set: list[str]
    position: int
    parent_instance_id: str | None = None


@dataclass(slots=True)
class EntityLockGrantedEvent(HistoryEvent):
    """An orchestrator holds the locks it asked for."""

    critical_section_id: str


@dataclass(slots=True)
class EntityUnlockSentEvent(HistoryEvent):
    """An orchestrator gave a lock back."""

    critical_section_id: str
    parent_instance_id: str | None = None
    target_instance_id: str | None = None


@dataclass(slots=True)
class ExecutionRewoundEvent(HistoryEvent):
    """The execution was taken up again here by a rewind or reset, under a new execution id.

    In the history of a sub-orchestration whose parent was: ``parent_instance`` is whom it answers from here on, and
    ``parent_execution_id`` that one's new execution id, ``instance_id`` its instance id.
    """

    reason: str | None = None
    parent_execution_id: str | None = None
    instance_id: str | None = None
    parent_trace_context: TraceContext | None = None
    name: str | None = None
    version: str | None = None
    input: str | None = None
    parent_instance: ParentInstanceInfo | None = None
    tags: dict[str, str] | None = None


def to_dict(event: HistoryEvent) -> dict[str, Any]:
    """Return an event as JSON-like values, times in ISO format."""
    return event.to_dict()


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
