"""Whether a replayed orchestrator takes the actions its history records (B85).

Each recorded action must meet one of the same number, kind and name; an event sent also one of the same target, a
sub-orchestration one of the same instance id if the orchestrator gave it. Inputs and times are not compared: they may
legitimately depend on code that has been improved.
"""

from __future__ import annotations

from typing import assert_never

from durabletask_azure.core.actions import Action, CreateTimer, ScheduleTask, SendEvent, StartSubOrchestration
from durabletask_azure.core.history import (
    EventSentEvent,
    SubOrchestrationInstanceCreatedEvent,
    TaskScheduledEvent,
    TimerCreatedEvent,
)
from durabletask_azure.core.journal import Journal
from durabletask_azure.errors import NonDeterminismError

__all__ = ["ActionEvent", "check_all_matched", "match_action"]

ActionEvent = TaskScheduledEvent | TimerCreatedEvent | SubOrchestrationInstanceCreatedEvent | EventSentEvent

_ADVICE = "The orchestrator's code was changed while this instance was running, or it is not deterministic"


def match_action(journal: Journal, event: ActionEvent) -> None:
    """Strike the action that ``event`` records from the unmatched ones.

    Raises:
        NonDeterminismError: the orchestrator took another action of that number, or none.
    """
    action = journal.unmatched.pop(event.event_id, None)
    if action is not None and _agree(journal, action, event):
        if isinstance(event, TimerCreatedEvent):
            journal.timer_recorded(event.event_id, event.final_fire_at)
        return
    kind = type(event).__name__.removesuffix("Event")
    actual = "took no such action" if action is None else f"did {_describe_action(action)}"
    raise NonDeterminismError(
        f"history event {kind} #{event.event_id} expected {_describe_event(event)}, but the orchestrator {actual}. "
        f"{_ADVICE}"
    )


def check_all_matched(journal: Journal) -> None:
    """Make sure that the history records every action the replayed orchestrator took.

    Raises:
        NonDeterminismError: it took one that the history does not record.
    """
    if journal.unmatched:
        action_id, action = next(iter(journal.unmatched.items()))
        raise NonDeterminismError(
            f"the history expected no action #{action_id}, but the orchestrator did {_describe_action(action)}. "
            f"{_ADVICE}"
        )


def _agree(journal: Journal, action: Action, event: ActionEvent) -> bool:
    match action:
        case ScheduleTask():
            return isinstance(event, TaskScheduledEvent) and event.name == action.name
        case CreateTimer():
            return isinstance(event, TimerCreatedEvent)
        case StartSubOrchestration():
            return (
                isinstance(event, SubOrchestrationInstanceCreatedEvent)
                and event.name == action.name
                # Generated ids are not the orchestrator's; after a rewind they come from another execution id.
                and action.instance_id in (event.instance_id, journal.child_id(action.id))
            )
        case SendEvent():
            return (
                isinstance(event, EventSentEvent)
                and event.name == action.name
                and event.instance_id == action.instance_id
            )
        case _:
            assert_never(action)


def _describe_action(action: Action) -> str:
    match action:
        case ScheduleTask():
            return f"call_activity({action.name!r})"
        case CreateTimer():
            return "create_timer()"
        case StartSubOrchestration():
            return f"call_sub_orchestrator({action.name!r}, instance_id={action.instance_id!r})"
        case SendEvent():
            return f"send_event({action.instance_id!r}, {action.name!r})"
        case _:
            assert_never(action)


def _describe_event(event: ActionEvent) -> str:
    match event:
        case TaskScheduledEvent():
            return f"call_activity({event.name!r})"
        case TimerCreatedEvent():
            return "create_timer()"
        case SubOrchestrationInstanceCreatedEvent():
            return f"call_sub_orchestrator({event.name!r}, instance_id={event.instance_id!r})"
        case EventSentEvent():
            return f"send_event({event.instance_id!r}, {event.name!r})"
        case _:
            assert_never(event)
