"""Plays an orchestration in memory: feeds events, records history, and compares warm and cold decisions every turn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, assert_never

from durabletask_azure.core.actions import (
    Action,
    Completed,
    Completion,
    ContinuedAsNew,
    CreateTimer,
    Decision,
    Failed,
    ScheduleTask,
    SendEvent,
    StartSubOrchestration,
)
from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.history import (
    EventRaisedEvent,
    EventSentEvent,
    ExecutionCompletedEvent,
    ExecutionResumedEvent,
    ExecutionStartedEvent,
    ExecutionSuspendedEvent,
    HistoryEvent,
    OrchestratorStartedEvent,
    RuntimeStatus,
    SubOrchestrationInstanceCompletedEvent,
    SubOrchestrationInstanceCreatedEvent,
    SubOrchestrationInstanceFailedEvent,
    TaskCompletedEvent,
    TaskFailedEvent,
    TaskScheduledEvent,
    TimerCreatedEvent,
    TimerFiredEvent,
)
from durabletask_azure.core.registry import OrchestratorDefinition, Registry
from durabletask_azure.core.replay import Execution, RuntimeOptions, execute

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def define(orchestrator: Any, **options: Any) -> OrchestratorDefinition:
    """Register an orchestrator and return its definition."""
    registry = Registry()
    name = registry.add_orchestrator(orchestrator, **options)
    definition = registry.orchestrator(name)
    assert definition is not None
    return definition


def text(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


def failure(message: str = "boom", error_type: str = "ValueError", **more: Any) -> FailureDetails:
    return FailureDetails(message=message, error_type=error_type, **more)


def recorded(action: Action, at: datetime) -> HistoryEvent:
    """Return the event that records an action."""
    match action:
        case ScheduleTask():
            return TaskScheduledEvent(timestamp=at, event_id=action.id, name=action.name, input=action.input)
        case CreateTimer():
            return TimerCreatedEvent(
                timestamp=at,
                event_id=action.id,
                fire_at=action.fire_at,
                final_fire_at=action.final_fire_at,
            )
        case StartSubOrchestration():
            return SubOrchestrationInstanceCreatedEvent(
                timestamp=at, event_id=action.id, name=action.name, instance_id=action.instance_id
            )
        case SendEvent():
            return EventSentEvent(
                timestamp=at, event_id=action.id, name=action.name, instance_id=action.instance_id
            )
        case _:
            assert_never(action)


class Play:
    """One execution, played event by event; ``now`` is the broker's clock, moved by hand."""

    def __init__(
        self,
        orchestrator: Any,
        input: Any = None,
        *,
        options: RuntimeOptions | None = None,
        loaded: Mapping[str, str] | None = None,
        cold: bool = True,
        **started: Any,
    ) -> None:
        self.definition = define(orchestrator)
        self.options = options or RuntimeOptions()
        self.loaded = loaded or {}
        self.cold = cold
        self.now = T0
        self.past: list[HistoryEvent] = []
        self.actions: list[Action] = []
        self.decision = Decision()
        self.live = Execution(self.definition, self.options)
        known: dict[str, Any] = {
            "name": self.definition.name,
            "instance_id": "i1",
            "execution_id": "x1",
            "input": text(input),
        }
        self.first = ExecutionStartedEvent(timestamp=T0, **{**known, **started})

    def start(self, *more: HistoryEvent) -> Decision:
        return self.turn(self.first, *more)

    def turn(self, *events: HistoryEvent) -> Decision:
        """Run one turn on the live execution, and the same from nothing; both must decide the same."""
        new = [OrchestratorStartedEvent(timestamp=self.now), *events]
        self.decision = self.live.run(new, self.loaded)
        if self.cold:
            again = execute(self.definition, self.past, new, options=self.options, loaded=self.loaded)
            assert again == self.decision
        self.past += new
        self.past += [recorded(action, self.now) for action in self.decision.actions]
        self.actions += self.decision.actions
        if self.decision.completion is not None:
            self.past.append(ExecutionCompletedEvent(timestamp=self.now, status=RuntimeStatus.COMPLETED))
        return self.decision

    # One event each, to be given to a turn.
    def completed(self, task_id: int, value: Any = None) -> HistoryEvent:
        return TaskCompletedEvent(timestamp=self.now, task_scheduled_id=task_id, result=text(value))

    def failed(self, task_id: int, details: FailureDetails | None = None) -> HistoryEvent:
        return TaskFailedEvent(timestamp=self.now, task_scheduled_id=task_id, failure=details or failure())

    def child_completed(self, task_id: int, value: Any = None) -> HistoryEvent:
        return SubOrchestrationInstanceCompletedEvent(
            timestamp=self.now, task_scheduled_id=task_id, result=text(value)
        )

    def child_failed(self, task_id: int, details: FailureDetails | None = None) -> HistoryEvent:
        return SubOrchestrationInstanceFailedEvent(
            timestamp=self.now, task_scheduled_id=task_id, failure=details or failure()
        )

    def fired(self, timer_id: int) -> HistoryEvent:
        return TimerFiredEvent(timestamp=self.now, timer_id=timer_id, fire_at=self.now)

    def raised(self, name: str, value: Any = None, source_id: str = "") -> EventRaisedEvent:
        return EventRaisedEvent(timestamp=self.now, name=name, input=text(value), source_id=source_id)

    def suspended(self) -> HistoryEvent:
        return ExecutionSuspendedEvent(timestamp=self.now)

    def resumed(self) -> HistoryEvent:
        return ExecutionResumedEvent(timestamp=self.now)

    # What came of it.
    def wait(self, **span: float) -> None:
        """Move the clock."""
        self.now += timedelta(**span)

    @property
    def completion(self) -> Completion | None:
        return self.decision.completion

    @property
    def result(self) -> Any:
        """The value the orchestrator returned."""
        assert isinstance(self.completion, Completed), self.completion
        return None if self.completion.result is None else json.loads(self.completion.result)

    @property
    def failure(self) -> FailureDetails:
        assert isinstance(self.completion, Failed), self.completion
        return self.completion.failure

    @property
    def continued(self) -> ContinuedAsNew:
        assert isinstance(self.completion, ContinuedAsNew), self.completion
        return self.completion
