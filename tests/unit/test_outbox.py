"""Which messages an event causes, and which a new owner sends again."""

from __future__ import annotations

from durabletask_azure.core.history import (
    EventSentEvent,
    ExecutionCompletedEvent,
    ExecutionStartedEvent,
    HistoryEvent,
    OrchestratorStartedEvent,
    Parent,
    RuntimeStatus,
    Sender,
    SubOrchestrationInstanceCompletedEvent,
    SubOrchestrationInstanceCreatedEvent,
    SubOrchestrationInstanceFailedEvent,
    TaskCompletedEvent,
    TaskScheduledEvent,
    TimerCreatedEvent,
    TimerFiredEvent,
)
from durabletask_azure.core.outbox import (
    Origin,
    child_execution_id,
    failure_of_ending,
    messages_for,
    to_instance,
    unsent_messages,
)
from durabletask_azure.core.partitioning import partition_of
from durabletask_azure.core.payloads import BlobRef
from durabletask_azure.core.state import fold
from tests.unit.bench import T0, after, bodies, failure, ids, to_activities, to_partition

PARENT = Parent("p", "px", 4, "parent")
ORIGIN = Origin(
    instance_id="i1",
    execution_id="x1",
    name="flow",
    parent=PARENT,
    partition=2,
    partitions=8,
    parent_trace_context="tp",
)


def events() -> list[HistoryEvent]:
    return [
        TaskScheduledEvent(timestamp=T0, event_id=1, commit=1, name="work", input="1", tags='{"a":"b"}'),
        TimerCreatedEvent(timestamp=T0, event_id=2, commit=1, fire_at=after(9)),
        SubOrchestrationInstanceCreatedEvent(
            timestamp=T0, event_id=3, commit=2, name="child", instance_id="kid"
        ),
        EventSentEvent(timestamp=T0, event_id=4, commit=2, instance_id="other", name="hello", input="5"),
    ]


def test_a_task_says_who_asked_and_for_what() -> None:
    task = to_activities(next(iter(messages_for(events()[0], ORIGIN)))).task
    assert (task.instance_id, task.execution_id, task.task_id, task.name, task.input) == (
        "i1",
        "x1",
        1,
        "work",
        "1",
    )
    assert (task.tags, task.parent_trace_context) == ('{"a":"b"}', "tp")


def test_a_timer_comes_back_to_its_own_partition_when_it_is_due() -> None:
    out = to_partition(next(iter(messages_for(events()[1], ORIGIN))))
    assert (out.partition, out.deliver_at, out.message.execution_id) == (2, after(9), "x1")
    assert out.message.body == TimerFiredEvent(timestamp=after(9), timer_id=2, fire_at=after(9))


def test_a_child_knows_its_parent_and_has_an_execution_id_that_a_resend_repeats() -> None:
    out = to_partition(next(iter(messages_for(events()[2], ORIGIN))))
    body = out.message.body
    assert isinstance(body, ExecutionStartedEvent)
    assert body.parent == Parent("i1", "x1", 3, "flow")
    assert body.execution_id == child_execution_id("x1", 3)
    assert (out.partition, out.message.sender) == (partition_of("kid", 8), Sender(2, 2))


def test_an_event_carries_an_id_that_counts_it_once() -> None:
    first, again = (to_partition(next(iter(messages_for(events()[3], ORIGIN)))) for _ in range(2))
    assert first == again
    assert first.partition == partition_of("other", 8)


def test_other_events_cause_no_message() -> None:
    assert list(messages_for(OrchestratorStartedEvent(timestamp=T0), ORIGIN)) == []


def test_an_ending_without_a_parent_tells_nobody() -> None:
    ended = ExecutionCompletedEvent(timestamp=T0, status=RuntimeStatus.COMPLETED)
    top = Origin(instance_id="i", execution_id="x", name="f", parent=None, partition=0, partitions=1)
    assert list(messages_for(ended, top)) == []


def test_an_answer_refers_to_the_parents_own_copy() -> None:
    own, copy = BlobRef("own", 1), BlobRef("copy", 1)
    done = ExecutionCompletedEvent(
        timestamp=T0, status=RuntimeStatus.COMPLETED, result=own, result_for_parent=copy
    )
    failed = ExecutionCompletedEvent(
        timestamp=T0, status=RuntimeStatus.FAILED, failure=own, failure_for_parent=copy
    )
    (good,), (bad,) = bodies(list(messages_for(done, ORIGIN))), bodies(list(messages_for(failed, ORIGIN)))
    assert isinstance(good, SubOrchestrationInstanceCompletedEvent)
    assert isinstance(bad, SubOrchestrationInstanceFailedEvent)
    assert (good.result, bad.failure) == (copy, copy)


def test_an_ending_without_a_failure_gets_one_for_the_parent() -> None:
    terminated = ExecutionCompletedEvent(timestamp=T0, status=RuntimeStatus.TERMINATED)
    failed = ExecutionCompletedEvent(timestamp=T0, status=RuntimeStatus.FAILED)
    assert failure_of_ending(terminated, "i1").error_type == "OrchestrationTerminated"
    assert failure_of_ending(failed, "i1").error_type == "OrchestrationFailed"
    own = ExecutionCompletedEvent(timestamp=T0, status=RuntimeStatus.FAILED, failure=failure())
    (body,) = bodies(list(messages_for(own, ORIGIN)))
    assert isinstance(body, SubOrchestrationInstanceFailedEvent)
    assert body.failure == failure()


def test_only_commits_above_the_confirmed_one_are_sent_again() -> None:
    history = events()
    state = fold(history)
    whole = [out for event in history for out in messages_for(event, ORIGIN)]
    assert unsent_messages(history, 0, state, ORIGIN) == whole
    assert ids(unsent_messages(history, 1, state, ORIGIN)) == ids(whole[2:])
    assert unsent_messages(history, 2, state, ORIGIN) == []


def test_what_is_closed_by_now_is_not_sent_again() -> None:
    history = [
        *events(),
        TaskCompletedEvent(timestamp=T0, task_scheduled_id=1),
        TimerFiredEvent(timestamp=T0, timer_id=2, fire_at=T0),
        SubOrchestrationInstanceCompletedEvent(timestamp=T0, task_scheduled_id=3),
    ]
    (left,) = unsent_messages(history, 0, fold(history), ORIGIN)
    assert to_partition(left).message.instance_id == "other"


def test_a_message_to_an_instance_goes_to_its_partition() -> None:
    body = TaskCompletedEvent(timestamp=T0, task_scheduled_id=1)
    out = to_instance("kid", body, message_id="m", partitions=16, deliver_at=after(5))
    assert (out.partition, out.deliver_at, out.message.id) == (partition_of("kid", 16), after(5), "m")


def test_every_message_of_an_execution_has_an_id_of_its_own() -> None:
    scheduled: list[HistoryEvent] = []
    for number in range(1, 41, 4):
        scheduled += [
            TaskScheduledEvent(timestamp=T0, event_id=number, commit=1, name="work"),
            TimerCreatedEvent(timestamp=T0, event_id=number + 1, commit=1, fire_at=after(9)),
            SubOrchestrationInstanceCreatedEvent(
                timestamp=T0, event_id=number + 2, commit=1, name="child", instance_id=f"kid{number}"
            ),
            EventSentEvent(timestamp=T0, event_id=number + 3, commit=1, instance_id="other", name="hello"),
        ]
    sent = [out for event in scheduled for out in messages_for(event, ORIGIN)]

    assert len({*ids(sent)}) == len(sent) == 40
