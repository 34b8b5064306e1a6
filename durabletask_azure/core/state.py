"""The state of an execution: the fold of its history, event by event.

It answers what dedupe and recovery ask: which tasks and timers are open, which event ids were seen, where the
execution stands. It keeps invariant V (an instance row equals the fold of its history) by being the only thing rows are
made from. It is mutable and grows by ``apply`` alone, so a step costs O(1); whoever cannot commit what was applied
must drop the object.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import assert_never

import msgspec

from durabletask_azure.core.history import (
    ContinuedEvent,
    EventRaisedEvent,
    EventSentEvent,
    ExecutionCompletedEvent,
    ExecutionResumedEvent,
    ExecutionRewoundEvent,
    ExecutionStartedEvent,
    ExecutionSuspendedEvent,
    ExecutionTerminatedEvent,
    HistoryEvent,
    OrchestratorStartedEvent,
    RuntimeStatus,
    SeenId,
    SubOrchestrationInstanceCompletedEvent,
    SubOrchestrationInstanceCreatedEvent,
    SubOrchestrationInstanceFailedEvent,
    TaskCompletedEvent,
    TaskFailedEvent,
    TaskScheduledEvent,
    TimerCreatedEvent,
    TimerFiredEvent,
)

__all__ = ["ExecutionState", "fold"]

OpenTask = TaskScheduledEvent | SubOrchestrationInstanceCreatedEvent


class ExecutionState:
    """What the history of one execution amounts to so far."""

    __slots__ = (
        "children",
        "completed",
        "continued",
        "events",
        "now",
        "oldest_seen",
        "seen",
        "started",
        "status",
        "tasks",
        "timers",
    )

    def __init__(self) -> None:
        self.started: ExecutionStartedEvent | None = None
        self.completed: ExecutionCompletedEvent | None = None
        self.continued: ContinuedEvent | None = None
        self.status = RuntimeStatus.PENDING
        self.now: datetime | None = None
        """What the orchestrator sees as now: the time of the newest turn."""
        self.tasks: dict[int, OpenTask] = {}
        """Activities and sub-orchestrations without a completion, by event id."""
        self.timers: dict[int, datetime] = {}
        """Timers that have not fired, by event id."""
        self.children: list[str] = []
        """Every sub-orchestration ever started by this execution."""
        self.seen: dict[str, SeenId] = {}
        """Ids of applied external and management events, those handed on by continue-as-new included."""
        self.oldest_seen: datetime | None = None
        """When the first of these was applied, as of the last time they were too many."""
        self.events = 0

    def apply(self, event: HistoryEvent) -> None:
        """Take one more event of the history into account."""
        self.events += 1
        if type(event) is OrchestratorStartedEvent:  # the usual ones first, in a way that is quick to say no
            self.now = event.timestamp
            return
        if type(event) is TaskCompletedEvent:
            self.tasks.pop(event.task_scheduled_id, None)
            return
        if type(event) is TaskScheduledEvent:
            self.tasks[event.event_id] = event
            return
        if type(event) is ExecutionCompletedEvent:
            self.completed = event
            self.status = event.status
            return
        match event:
            case ExecutionStartedEvent():
                self.started = event
                self.status = RuntimeStatus.RUNNING
                if event.seen:
                    self.seen.update((seen.id, seen) for seen in event.seen)
                for carried in event.carried:
                    self._see(carried.source_id, carried)
            case TaskFailedEvent():
                self.tasks.pop(event.task_scheduled_id, None)
            case SubOrchestrationInstanceCompletedEvent() | SubOrchestrationInstanceFailedEvent():
                self.tasks.pop(event.task_scheduled_id, None)
            case TimerCreatedEvent():
                self.timers[event.event_id] = event.fire_at
            case TimerFiredEvent():
                self.timers.pop(event.timer_id, None)
            case EventRaisedEvent():
                self._see(event.source_id, event)
            case EventSentEvent():
                pass
            case SubOrchestrationInstanceCreatedEvent():
                self.tasks[event.event_id] = event
                self.children.append(event.instance_id)
            case ExecutionSuspendedEvent():
                self._see(event.source_id, event)
                self.status = RuntimeStatus.SUSPENDED
            case ExecutionResumedEvent():
                self._see(event.source_id, event)
                self.status = RuntimeStatus.RUNNING
            case ExecutionTerminatedEvent():
                self._see(event.source_id, event)
            case ExecutionRewoundEvent():
                self._see(event.source_id, event)
                if event.parent is not None and self.started is not None:
                    self.started = msgspec.structs.replace(self.started, parent=event.parent)
            case ContinuedEvent():
                self.continued = event
                self.status = RuntimeStatus.CONTINUED_AS_NEW
            case _ as never:
                assert_never(never)

    def apply_step(
        self,
        opened: OrchestratorStartedEvent,
        completed: TaskCompletedEvent,
        scheduled: Sequence[TaskScheduledEvent],
    ) -> None:
        """Apply the events that the usual turn begins with, or is all of."""
        self.events += 2 + len(scheduled)
        self.now = opened.timestamp
        del self.tasks[completed.task_scheduled_id]
        for event in scheduled:
            self.tasks[event.event_id] = event

    def due_at(self) -> datetime | None:
        """Return when the first open timer is due."""
        return min(self.timers.values()) if self.timers and self.completed is None else None

    def seen_to_carry(self, now: datetime, keep_s: float, confirmed: dict[int, int]) -> tuple[SeenId, ...]:
        """Return the ids a new execution has to go on remembering.

        Those younger than ``keep_s`` seconds of broker time, and those of events another orchestration sent with a
        commit that its partition has not yet reported as sent (``confirmed``: partition to commit): a take-over may
        send these again after any time.
        """
        oldest = now - timedelta(seconds=keep_s)
        return tuple(
            seen
            for seen in self.seen.values()
            if seen.at >= oldest
            or (seen.sender and confirmed.get(seen.sender.partition, -1) < seen.sender.commit)
        )

    def _see(
        self,
        source_id: str,
        event: EventRaisedEvent
        | ExecutionTerminatedEvent
        | ExecutionSuspendedEvent
        | ExecutionResumedEvent
        | ExecutionRewoundEvent,
    ) -> None:
        if source_id:
            is_order = isinstance(event, (ExecutionSuspendedEvent, ExecutionResumedEvent))
            sender = None if is_order else event.sender
            self.seen[source_id] = SeenId(id=source_id, at=event.timestamp, sender=sender)


def fold(events: Iterable[HistoryEvent]) -> ExecutionState:
    """Return the state that ``events``, oldest first, amount to."""
    state = ExecutionState()
    for event in events:
        state.apply(event)
    return state
