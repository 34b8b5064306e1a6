"""The fold of a history: open tasks and timers, seen ids, status."""

from __future__ import annotations

from durabletask_azure.core.history import (
    ContinuedEvent,
    EventRaisedEvent,
    ExecutionCompletedEvent,
    ExecutionResumedEvent,
    ExecutionStartedEvent,
    ExecutionSuspendedEvent,
    ExecutionTerminatedEvent,
    HistoryEvent,
    OrchestratorStartedEvent,
    RuntimeStatus,
    SeenId,
    Sender,
    SubOrchestrationInstanceCreatedEvent,
    SubOrchestrationInstanceFailedEvent,
    TaskFailedEvent,
    TaskScheduledEvent,
    TimerCreatedEvent,
    TimerFiredEvent,
)
from durabletask_azure.core.state import fold
from tests.unit.bench import T0, after


def start(carried: tuple[EventRaisedEvent, ...] = (), seen: tuple[SeenId, ...] = ()) -> list[HistoryEvent]:
    started = ExecutionStartedEvent(
        timestamp=T0, name="flow", instance_id="i1", execution_id="x1", carried=carried, seen=seen
    )
    return [OrchestratorStartedEvent(timestamp=after(1)), started]


def test_nothing_is_pending() -> None:
    state = fold([])
    assert (state.status, state.now, state.due_at(), state.events) == (RuntimeStatus.PENDING, None, None, 0)


def test_open_tasks_and_timers_are_those_without_a_completion() -> None:
    state = fold(
        [
            *start(),
            TaskScheduledEvent(timestamp=T0, event_id=1, name="a"),
            TaskScheduledEvent(timestamp=T0, event_id=2, name="b"),
            SubOrchestrationInstanceCreatedEvent(timestamp=T0, event_id=3, name="c", instance_id="kid"),
            TimerCreatedEvent(timestamp=T0, event_id=4, fire_at=after(60)),
            TimerCreatedEvent(timestamp=T0, event_id=5, fire_at=after(30)),
            TaskFailedEvent(timestamp=T0, task_scheduled_id=1),
        ]
    )
    assert (list(state.tasks), list(state.timers), state.children) == ([2, 3], [4, 5], ["kid"])
    assert (state.now, state.due_at(), state.status) == (after(1), after(30), RuntimeStatus.RUNNING)
    state.apply(TimerFiredEvent(timestamp=T0, timer_id=5, fire_at=after(30)))
    state.apply(SubOrchestrationInstanceFailedEvent(timestamp=T0, task_scheduled_id=3))
    assert (list(state.tasks), state.due_at()) == ([2], after(60))
    state.apply(ExecutionCompletedEvent(timestamp=T0, status=RuntimeStatus.FAILED))
    assert (state.status, state.due_at(), state.events) == (RuntimeStatus.FAILED, None, 11)


def test_status_follows_suspension_and_continue_as_new() -> None:
    state = fold([*start(), ExecutionSuspendedEvent(timestamp=T0, source_id="s")])
    assert state.status is RuntimeStatus.SUSPENDED
    state.apply(ExecutionResumedEvent(timestamp=T0, source_id="r"))
    assert state.status is RuntimeStatus.RUNNING
    state.apply(ExecutionTerminatedEvent(timestamp=T0, source_id="t", sender=Sender(1, 2)))
    state.apply(ContinuedEvent(timestamp=T0))
    assert state.status is RuntimeStatus.CONTINUED_AS_NEW
    assert set(state.seen) == {"s", "r", "t"}
    assert state.seen["t"].sender == Sender(1, 2)


def test_seen_ids_come_from_the_start_its_carried_events_and_what_was_applied() -> None:
    carried = EventRaisedEvent(timestamp=after(5), name="a", source_id="c", sender=Sender(1, 1))
    state = fold(
        [
            *start(carried=(carried,), seen=(SeenId("old", T0),)),
            EventRaisedEvent(timestamp=after(9), name="a", source_id="new"),
            EventRaisedEvent(timestamp=after(9), name="a"),
        ]
    )
    assert state.seen == {
        "old": SeenId("old", T0),
        "c": SeenId("c", after(5), Sender(1, 1)),
        "new": SeenId("new", after(9)),
    }


def test_seen_ids_are_carried_by_age_and_by_what_their_senders_confirmed() -> None:
    state = fold(
        start(
            seen=(
                SeenId("young", after(100)),
                SeenId("old", T0),
                SeenId("unconfirmed", T0, Sender(1, 5)),
                SeenId("confirmed", T0, Sender(2, 5)),
            )
        )
    )
    kept = state.seen_to_carry(after(110), 60, {1: 4, 2: 5})
    assert [seen.id for seen in kept] == ["young", "unconfirmed"]
    assert [seen.id for seen in state.seen_to_carry(after(110), 60, {})] == [
        "young",
        "unconfirmed",
        "confirmed",
    ]


def test_the_same_id_seen_again_is_as_young_as_its_last_use() -> None:
    state = fold(
        [*start(seen=(SeenId("e", T0),)), EventRaisedEvent(timestamp=after(9), name="a", source_id="e")]
    )
    assert state.seen["e"].at == after(9)
