"""Stored events as clients read them: the events of ``durabletask_azure.history``.

Stored events carry more (commit numbers, ids for counting once) and know values that were spilled. The end of each turn
is not stored: ``OrchestratorCompletedEvent`` is put in where the next turn begins, so that histories read as those of
the other Durable Task backends. A large value sent to another instance reads as ``None`` once that instance is purged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import assert_never, cast

import msgspec

from durabletask_azure.core import history as stored
from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.payload_codec import NO_CODECS, PayloadCodecs
from durabletask_azure.core.payloads import BlobRef, Payload, resolve
from durabletask_azure.engine.instances import ResolvedHistory
from durabletask_azure.errors import ConfigurationError, InstanceUnreadableError
from durabletask_azure.history import (
    ContinueAsNewEvent,
    EventRaisedEvent,
    EventSentEvent,
    ExecutionCompletedEvent,
    ExecutionResumedEvent,
    ExecutionRewoundEvent,
    ExecutionStartedEvent,
    ExecutionSuspendedEvent,
    ExecutionTerminatedEvent,
    HistoryEvent,
    OrchestrationInstance,
    OrchestratorCompletedEvent,
    OrchestratorStartedEvent,
    ParentInstanceInfo,
    SubOrchestrationInstanceCompletedEvent,
    SubOrchestrationInstanceCreatedEvent,
    SubOrchestrationInstanceFailedEvent,
    TaskCompletedEvent,
    TaskFailedEvent,
    TaskScheduledEvent,
    TimerCreatedEvent,
    TimerFiredEvent,
)
from durabletask_azure.query import OrchestrationStatus

__all__ = ["readable", "turn_of"]

_VALUES = ("input", "result", "reason", "failure_details")
_tags_decoder = msgspec.json.Decoder(dict[str, str])
_failure_decoder = msgspec.json.Decoder(FailureDetails)


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
        try:
            events.append(_event(event, history.loaded))
        except msgspec.DecodeError as error:
            raise InstanceUnreadableError(f"the history cannot be read: {error}") from error
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


def turn_of(events: Sequence[stored.HistoryEvent], index: int) -> int:
    """Return the number of the turn, from 0, that an event belongs to: ``index`` counts as :func:`readable` lists them.

    Raises:
        ConfigurationError: there is no event of that index.
    """
    turn, size = -1, 0
    for event in events:
        if isinstance(event, stored.OrchestratorStartedEvent):
            size += turn >= 0  # the end of the turn before
            if index < size:
                return turn
            turn += 1
        size += 1
        if index < size:
            return turn
    if index == size:
        return turn
    raise ConfigurationError(
        f"event_index must be 0 to {size}, the last of the history's events, not {index}"
    )


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
        case stored.ExecutionRewoundEvent():
            return _rewound(event, loaded)
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
    return ExecutionStartedEvent(
        event_id=event.event_id,
        timestamp=event.timestamp,
        name=event.name,
        version=event.version,
        input=resolve(event.input, loaded),
        orchestration_instance=OrchestrationInstance(event.instance_id, event.execution_id),
        parent_instance=_parent(event.parent),
        scheduled_start_timestamp=event.scheduled_start,
        tags=_tags(event.tags, loaded),
    )


def _rewound(event: stored.ExecutionRewoundEvent, loaded: Mapping[str, str]) -> ExecutionRewoundEvent:
    return ExecutionRewoundEvent(
        event_id=event.event_id,
        timestamp=event.timestamp,
        reason=resolve(event.reason, loaded),
        parent_execution_id=event.parent.execution_id if event.parent is not None else None,
        instance_id=event.parent.instance_id if event.parent is not None else None,
        parent_instance=_parent(event.parent),
    )


def _parent(parent: stored.Parent | None) -> ParentInstanceInfo | None:
    if parent is None:
        return None
    return ParentInstanceInfo(
        task_scheduled_id=parent.task_id,
        name=parent.name or None,
        orchestration_instance=OrchestrationInstance(parent.instance_id, parent.execution_id),
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
