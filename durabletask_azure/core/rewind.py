"""An execution taken up again from an earlier point of its history, under a new execution id.

A rewind takes a failed execution up where it failed, a reset any execution at the beginning of one of its turns. The
history before that point is copied, and replays as it ran; of what came after it only what is wanted is given to the
orchestrator again, as new. Whatever is open at that point is sent again under the new id, so nothing that was meant for
the old execution reaches the new one. The old history stays as it was, among the instance's past executions.

This module is history in, history out; ``continuing.py`` does it to an instance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from durabletask_azure.core.failures import FailureDetails, qualified_name
from durabletask_azure.core.history import (
    EventRaisedEvent,
    EventSentEvent,
    ExecutionResumedEvent,
    ExecutionRewoundEvent,
    ExecutionStartedEvent,
    ExecutionSuspendedEvent,
    Handover,
    HistoryEvent,
    OrchestratorStartedEvent,
    SubOrchestrationInstanceCompletedEvent,
    SubOrchestrationInstanceCreatedEvent,
    SubOrchestrationInstanceFailedEvent,
    TaskCompletedEvent,
    TaskFailedEvent,
    TaskScheduledEvent,
    TimerCreatedEvent,
    TimerFiredEvent,
)
from durabletask_azure.core.state import ExecutionState, fold
from durabletask_azure.errors import TaskFailedError

__all__ = ["Continuation", "continued_history", "reset_point", "rewind_point", "split_unrun"]

_Action = (TaskScheduledEvent, TimerCreatedEvent, SubOrchestrationInstanceCreatedEvent, EventSentEvent)
_Task = (TaskScheduledEvent, SubOrchestrationInstanceCreatedEvent)
_Failed = (TaskFailedEvent, SubOrchestrationInstanceFailedEvent)
_TASK_FAILED = qualified_name(TaskFailedError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """What a history is copied for.

    ``started`` is the start of the new execution. ``keep_results``: completions after the point count if their task was
    open there. ``keep_events``: so do external events. ``handover`` is how open children come along.
    """

    started: ExecutionStartedEvent
    now: datetime
    n: int
    reason: ExecutionRewoundEvent
    keep_results: bool
    keep_events: bool
    handover: Handover


def rewind_point(events: Sequence[HistoryEvent], failure: FailureDetails | None) -> int:
    """Return how many events of an execution that ended with ``failure`` a rewind keeps as they are.

    That is up to the last action the orchestrator took before it failed. If its failure names the failed tasks it came
    from (an error that was passed on, or raised from one), it is up to the last action before the first of these: what
    the orchestrator did after that failure is not part of the history any more.
    """
    end = len(events)
    causes = set(_causes(events, failure))
    for position, event in enumerate(events):
        if isinstance(event, _Failed) and event.task_scheduled_id in causes:
            end = position
            break
    return next((at + 1 for at in range(end - 1, -1, -1) if isinstance(events[at], _Action)), 0)


def reset_point(events: Sequence[HistoryEvent], turn: int) -> int:
    """Return how many events a reset to the beginning of ``turn`` (from 0) keeps.

    The turn an execution starts or is taken up with goes together with the next one if it took no action: what it came
    to may be recorded there.

    Raises:
        IndexError: there is no such turn.
    """
    turns = [at for at, event in enumerate(events) if isinstance(event, OrchestratorStartedEvent)]
    if not 0 <= turn < len(turns):
        raise IndexError(f"turn {turn}: the history has {len(turns)} turns")
    while turn and _is_unsettled(events[turns[turn - 1] : turns[turn]]):
        turn -= 1
    return turns[turn]


def continued_history(events: Sequence[HistoryEvent], cut: int, wanted: Continuation) -> list[HistoryEvent]:
    """Return the history of the execution that goes on after the first ``cut`` events of ``events``.

    What is open at that point carries the new commit's number: that makes it sent again. The copy ends where the last
    turn begins; that one has not been run.
    """
    state = fold(events[:cut])
    history = [_copied(event, state, wanted) for event in events[:cut]]
    history.append(OrchestratorStartedEvent(timestamp=wanted.now, commit=wanted.n))
    if state.started is None:
        history.append(wanted.started)
    history.extend(_given_again(events[cut:], state, wanted))
    history.append(wanted.reason)
    return history


def split_unrun(events: Sequence[HistoryEvent]) -> tuple[list[HistoryEvent], list[HistoryEvent]]:
    """Return the history of an execution that has not run yet in two: what it replays, and its last turn."""
    last = max(at for at, event in enumerate(events) if isinstance(event, OrchestratorStartedEvent))
    return list(events[:last]), list(events[last:])


def _is_unsettled(turn: Sequence[HistoryEvent]) -> bool:
    begins = any(
        isinstance(event, ExecutionStartedEvent)
        # Without one, it tells a child that its parent was taken up.
        or (isinstance(event, ExecutionRewoundEvent) and event.former_execution_id != "")
        for event in turn
    )
    return begins and not any(isinstance(event, _Action) for event in turn)


def _causes(events: Sequence[HistoryEvent], failure: FailureDetails | None) -> Iterator[int]:
    """Yield the tasks that the failure of an execution says it came from, going down to the first task's own failure.

    A text may quote the failures of a sub-orchestration's tasks too: the outermost comes first.
    """
    tasks = [event for event in events if isinstance(event, _Task)]
    while failure is not None:
        text = failure.message
        found = [
            (at, task.event_id)
            for task in tasks
            if (at := text.find(f"{task.name!r} (task {task.event_id}) failed: ")) >= 0
        ]
        if found:
            yield min(found)[1]
        failure = None if failure.error_type == _TASK_FAILED else failure.inner_failure


def _copied(event: HistoryEvent, state: ExecutionState, wanted: Continuation) -> HistoryEvent:
    match event:
        case ExecutionStartedEvent():
            return wanted.started
        case EventSentEvent():
            return msgspec.structs.replace(event, commit=0)  # the execution it is copied from sends it
        case ExecutionRewoundEvent():
            return msgspec.structs.replace(event, commit=wanted.n, parent=None)
        case SubOrchestrationInstanceCreatedEvent() if event.event_id in state.tasks:
            return msgspec.structs.replace(event, commit=wanted.n, handover=wanted.handover)
        case _:
            return msgspec.structs.replace(event, commit=wanted.n)


def _given_again(
    events: Sequence[HistoryEvent], state: ExecutionState, wanted: Continuation
) -> Iterator[HistoryEvent]:
    """Yield what the orchestrator is told once more of what came after the point."""
    tasks, timers = dict(state.tasks), dict(state.timers)
    for event in events:
        match event:
            case TaskCompletedEvent() | SubOrchestrationInstanceCompletedEvent():
                is_wanted = wanted.keep_results and tasks.pop(event.task_scheduled_id, None) is not None
            case TimerFiredEvent():
                is_wanted = wanted.keep_results and timers.pop(event.timer_id, None) is not None
            case EventRaisedEvent():
                is_wanted = wanted.keep_events
            case ExecutionSuspendedEvent() | ExecutionResumedEvent():
                is_wanted = True
            case ExecutionRewoundEvent():
                is_wanted = wanted.keep_results
                event = msgspec.structs.replace(event, parent=None)
            case _:
                is_wanted = False
        if is_wanted:
            yield msgspec.structs.replace(event, commit=wanted.n)
