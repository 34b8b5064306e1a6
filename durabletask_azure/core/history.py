"""The events an orchestration's history is made of, and how they are stored.

A history is append-only. Every event carries ``commit``, the number of the partition's commit that wrote it: an
outbound event with a commit above the lock row's ``sent`` is the outbox (DESIGN 3). The names and fields follow
``durabletask.history``; ``event_id`` is the action's sequence number for events that an orchestrator's own action
caused, -1 for all others.

Storage: one JSON object per event and per line, tagged by ``kind``, defaults left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import final, get_args

import msgspec

from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.payloads import BlobRef, Payload
from durabletask_azure.core.stored_form import NOT_READABLE, Moment

__all__ = [
    "ContinuedEvent",
    "EventRaisedEvent",
    "EventSentEvent",
    "ExecutionCompletedEvent",
    "ExecutionResumedEvent",
    "ExecutionRewoundEvent",
    "ExecutionStartedEvent",
    "ExecutionSuspendedEvent",
    "ExecutionTerminatedEvent",
    "Failure",
    "Handover",
    "HistoryEvent",
    "OrchestratorStartedEvent",
    "Parent",
    "RuntimeStatus",
    "SeenId",
    "Sender",
    "SubOrchestrationInstanceCompletedEvent",
    "SubOrchestrationInstanceCreatedEvent",
    "SubOrchestrationInstanceFailedEvent",
    "Tags",
    "TaskCompletedEvent",
    "TaskFailedEvent",
    "TaskScheduledEvent",
    "TimerCreatedEvent",
    "TimerFiredEvent",
    "decode_events",
    "encode_event",
    "encode_events",
    "payload_refs",
    "replay_refs",
]


class RuntimeStatus(StrEnum):
    """The status of an orchestration instance, as stored."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUSPENDED = "SUSPENDED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    TERMINATED = "TERMINATED"
    CONTINUED_AS_NEW = "CONTINUED_AS_NEW"

    is_terminal: bool
    """Whether an instance of this status never runs again by itself. An attribute: it is asked several times a turn."""

    def __init__(self, value: str) -> None:
        self.is_terminal = value in ("COMPLETED", "FAILED", "TERMINATED")


Tags = Payload
"""An instance's or task's tags: the JSON text of an object with string values, or a reference to it."""
Failure = FailureDetails | BlobRef | None
"""A recorded failure, or a reference to its JSON when it is over the inline limit."""


class Parent(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Who started a sub-orchestration: instance, execution, the task that waits for it, and the parent's name."""

    instance_id: str
    execution_id: str
    task_id: int
    name: str = ""


class Sender(msgspec.Struct, frozen=True, gc=False):
    """Where a message came from: the sender's partition and the number of the commit that created the message."""

    partition: int
    commit: int


class SeenId(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The id of an applied event or start, kept across continue-as-new.

    With it: when it came (broker time) and, if an orchestration sent it, from whom.
    """

    id: str
    at: Moment
    sender: Sender | None = None


class _Event(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag_field="kind"):
    timestamp: Moment
    event_id: int = -1
    commit: int = 0


@final
class OrchestratorStartedEvent(_Event, frozen=True, kw_only=True, tag="OrchestratorStarted"):
    """A turn began; ``timestamp`` is what the orchestrator sees as now until the next one."""


class ExecutionStartedEvent(_Event, frozen=True, kw_only=True, tag="ExecutionStarted"):
    """An execution began: first event of every history, after its ``OrchestratorStarted``.

    ``carried`` are the external events a continue-as-new handed on, ``seen`` the ids it handed on. ``sources`` are the
    executions that a rewind or reset copied this history from, the oldest first: their spilled values are still read.
    """

    name: str
    instance_id: str
    execution_id: str
    version: str | None = None
    input: Payload = None
    parent: Parent | None = None
    scheduled_start: Moment | None = None
    tags: Tags = None
    generation: int = 0
    parent_trace_context: str | None = None
    carried: tuple[EventRaisedEvent, ...] = ()
    seen: tuple[SeenId, ...] = ()
    sources: tuple[str, ...] = ()


@final
class ExecutionCompletedEvent(_Event, frozen=True, kw_only=True, tag="ExecutionCompleted"):
    """The execution ended. ``cascade`` names the children a recursive terminate is passed on to.

    A spilled result or failure is stored once more under the parent's name, so that the child can be purged at once:
    ``result_for_parent`` and ``failure_for_parent`` refer to that copy.
    """

    status: RuntimeStatus
    result: Payload = None
    failure: Failure = None
    result_for_parent: BlobRef | None = None
    failure_for_parent: BlobRef | None = None
    cascade: tuple[str, ...] = ()


class ContinuedEvent(_Event, frozen=True, kw_only=True, tag="ContinueAsNew"):
    """The execution ended and a new one of the same instance follows: its input and execution id."""

    input: Payload = None
    next_execution_id: str = ""


class ExecutionTerminatedEvent(_Event, frozen=True, kw_only=True, tag="ExecutionTerminated"):
    """Somebody terminated the instance; ``input`` becomes its output.

    ``parent_execution_id`` is set where a termination was passed on: only a child of that execution is meant.
    """

    input: Payload = None
    recurse: bool = False
    source_id: str = ""
    sender: Sender | None = None
    parent_execution_id: str | None = None


class ExecutionSuspendedEvent(_Event, frozen=True, kw_only=True, tag="ExecutionSuspended"):
    """Somebody suspended the instance; ``input`` is the reason."""

    input: Payload = None
    source_id: str = ""


class ExecutionResumedEvent(_Event, frozen=True, kw_only=True, tag="ExecutionResumed"):
    """Somebody resumed the instance; ``input`` is the reason."""

    input: Payload = None
    source_id: str = ""


class ExecutionRewoundEvent(_Event, frozen=True, kw_only=True, tag="ExecutionRewound"):
    """The execution goes on under a new id, or its parent does.

    In a history that was copied by a rewind or reset it stands at the end of the copy, with ``former_execution_id``.
    In the history of a sub-orchestration whose parent was continued so, ``parent`` is whom to answer from here on.
    """

    reason: Payload = None
    former_execution_id: str = ""
    parent: Parent | None = None
    source_id: str = ""
    sender: Sender | None = None


@final
class TaskScheduledEvent(_Event, frozen=True, kw_only=True, tag="TaskScheduled"):
    """The orchestrator called an activity."""

    name: str
    version: str | None = None
    input: Payload = None
    tags: Tags = None


@final
class TaskCompletedEvent(_Event, frozen=True, kw_only=True, tag="TaskCompleted"):
    """An activity returned."""

    task_scheduled_id: int
    result: Payload = None


class TaskFailedEvent(_Event, frozen=True, kw_only=True, tag="TaskFailed"):
    """An activity raised, or its deliveries are exhausted."""

    task_scheduled_id: int
    failure: Failure = None


class Handover(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """How a sub-orchestration comes to the continued execution of its parent: ``rewind``, if it failed, or as it is."""

    rewind: bool = False
    reason: str | None = None


class SubOrchestrationInstanceCreatedEvent(
    _Event, frozen=True, kw_only=True, tag="SubOrchestrationInstanceCreated"
):
    """The orchestrator started a sub-orchestration; with ``handover`` an execution this one continues did."""

    name: str
    instance_id: str
    version: str | None = None
    input: Payload = None
    tags: Tags = None
    handover: Handover | None = None


class SubOrchestrationInstanceCompletedEvent(
    _Event, frozen=True, kw_only=True, tag="SubOrchestrationInstanceCompleted"
):
    """A sub-orchestration completed."""

    task_scheduled_id: int
    result: Payload = None


class SubOrchestrationInstanceFailedEvent(
    _Event, frozen=True, kw_only=True, tag="SubOrchestrationInstanceFailed"
):
    """A sub-orchestration failed, was terminated, or could not be started."""

    task_scheduled_id: int
    failure: Failure = None


class TimerCreatedEvent(_Event, frozen=True, kw_only=True, tag="TimerCreated"):
    """The orchestrator created a timer; with ``final_fire_at`` it is a part of a longer one, due then."""

    fire_at: Moment
    final_fire_at: Moment | None = None


class TimerFiredEvent(_Event, frozen=True, kw_only=True, tag="TimerFired"):
    """A timer's time has come, by the broker's clock."""

    timer_id: int
    fire_at: Moment


class EventSentEvent(_Event, frozen=True, kw_only=True, tag="EventSent"):
    """The orchestrator sent an event to another instance."""

    instance_id: str
    name: str
    input: Payload = None


class EventRaisedEvent(_Event, frozen=True, kw_only=True, tag="EventRaised"):
    """An external event arrived; ``source_id`` counts it once, ``sender`` is set if an orchestration sent it."""

    name: str
    input: Payload = None
    source_id: str = ""
    sender: Sender | None = None


HistoryEvent = (
    OrchestratorStartedEvent
    | ExecutionStartedEvent
    | ExecutionCompletedEvent
    | ContinuedEvent
    | ExecutionTerminatedEvent
    | ExecutionSuspendedEvent
    | ExecutionResumedEvent
    | ExecutionRewoundEvent
    | TaskScheduledEvent
    | TaskCompletedEvent
    | TaskFailedEvent
    | SubOrchestrationInstanceCreatedEvent
    | SubOrchestrationInstanceCompletedEvent
    | SubOrchestrationInstanceFailedEvent
    | TimerCreatedEvent
    | TimerFiredEvent
    | EventSentEvent
    | EventRaisedEvent
)

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(HistoryEvent)


def encode_event(event: HistoryEvent) -> bytes:
    """Return the stored form of one event: a line of JSON, newline included."""
    return _encoder.encode(event) + b"\n"


def encode_events(events: Sequence[HistoryEvent]) -> bytes:
    """Return the stored form of events: a line each."""
    # A list: of anything else msgspec 0.22 leaks the iterator.
    return _encoder.encode_lines([*events])


def decode_events(lines: bytes) -> list[HistoryEvent]:
    """Return the events stored in ``lines``, oldest first.

    Raises:
        msgspec.DecodeError: not the stored form of events (also of a kind this version does not know).
    """
    try:
        return [_decoder.decode(line) for line in lines.split(b"\n") if line]
    except NOT_READABLE as error:
        raise msgspec.DecodeError(f"{type(error).__name__}: {error}") from error


def payload_refs(events: Iterable[HistoryEvent]) -> Sequence[BlobRef]:
    """Return the references to spilled values in ``events``, in order."""
    refs: list[BlobRef] = []
    for event in events:
        for field in _PAYLOADS[type(event)]:
            value = getattr(event, field)
            if isinstance(value, BlobRef):
                refs.append(value)
        if isinstance(event, ExecutionStartedEvent) and event.carried:
            refs.extend(payload_refs(event.carried))
    return refs


_PAYLOAD_FIELDS = ("input", "result", "failure", "tags", "reason")
_PAYLOADS: dict[type[HistoryEvent], tuple[str, ...]] = {
    kind: tuple(field for field in _PAYLOAD_FIELDS if field in kind.__struct_fields__)
    for kind in get_args(HistoryEvent)
}
"""The fields of each kind of event that may hold a reference."""
_SENT = (TaskScheduledEvent, SubOrchestrationInstanceCreatedEvent, EventSentEvent, ContinuedEvent)


def replay_refs(events: Iterable[HistoryEvent]) -> Sequence[BlobRef]:
    """Return the references to spilled values that a replay of ``events`` reads.

    What the orchestrator itself sent is not among them: it belongs to its receiver, and may be purged with it.
    """
    return payload_refs(event for event in events if not isinstance(event, _SENT))
