"""From decisions to events: what is recorded, and where its values are stored."""

from __future__ import annotations

from durabletask_azure.core.actions import (
    Completed,
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
    ContinuedEvent,
    EventSentEvent,
    ExecutionCompletedEvent,
    SubOrchestrationInstanceCreatedEvent,
    TaskScheduledEvent,
    TimerCreatedEvent,
)
from durabletask_azure.core.outbox import Origin, child_execution_id
from durabletask_azure.core.payloads import BlobRef, PayloadWriter, payload_prefix
from durabletask_azure.core.record import decided_events, next_execution_id, store_failure
from tests.unit.bench import T0, after, failure

ORIGIN = Origin(instance_id="i1", execution_id="x1", name="flow", parent=None, partition=0, partitions=1)
BIG = "x" * 200


def writer(bytes_max: int = 10_000) -> PayloadWriter:
    return PayloadWriter(partitions=1, inline_bytes_max=100, bytes_max=bytes_max)


def test_actions_become_events_of_their_number_and_commit() -> None:
    decision = Decision(
        actions=(
            ScheduleTask(id=1, name="work", input="1", version="v", tags={"a": "b"}),
            CreateTimer(id=2, fire_at=after(9)),
            StartSubOrchestration(id=3, name="child", instance_id="kid", input="3"),
            SendEvent(id=4, instance_id="other", name="hello", input="4"),
        )
    )
    assert decided_events(decision, ORIGIN, writer(), now=T0, n=7) == [
        TaskScheduledEvent(
            timestamp=T0, event_id=1, commit=7, name="work", input="1", version="v", tags='{"a":"b"}'
        ),
        TimerCreatedEvent(timestamp=T0, event_id=2, commit=7, fire_at=after(9)),
        SubOrchestrationInstanceCreatedEvent(
            timestamp=T0, event_id=3, commit=7, name="child", instance_id="kid", input="3"
        ),
        EventSentEvent(timestamp=T0, event_id=4, commit=7, instance_id="other", name="hello", input="4"),
    ]


def test_large_values_are_stored_under_the_name_of_who_reads_them() -> None:
    decision = Decision(
        actions=(
            ScheduleTask(id=1, name="work", input=BIG),
            StartSubOrchestration(id=2, name="child", instance_id="kid", input=BIG, tags={"k": BIG}),
            SendEvent(id=3, instance_id="other", name="hello", input=BIG),
        ),
        completion=ContinuedAsNew(input=BIG),
    )
    out = writer()
    task, child, sent, continued = decided_events(decision, ORIGIN, out, now=T0, n=1)
    following = next_execution_id("x1")
    homes = [
        (getattr(event, field), home)
        for event, field, home in (
            (task, "input", f"{payload_prefix(0, 'i1')}x1/"),
            (child, "input", f"{payload_prefix(0, 'kid')}{child_execution_id('x1', 2)}/"),
            (child, "tags", f"{payload_prefix(0, 'kid')}{child_execution_id('x1', 2)}/"),
            (sent, "input", f"{payload_prefix(0, 'other')}-/"),
            (continued, "input", f"{payload_prefix(0, 'i1')}{following}/"),
        )
    ]
    for ref, home in homes:
        assert isinstance(ref, BlobRef)
        assert ref.name.startswith(home)
        assert ref.name in out.uploads
    assert isinstance(continued, ContinuedEvent)
    assert continued.next_execution_id == following


def test_completions_are_recorded_with_their_result_or_failure() -> None:
    (done,) = decided_events(Decision(completion=Completed("1")), ORIGIN, writer(), now=T0, n=1)
    (failed,) = decided_events(Decision(completion=Failed(failure())), ORIGIN, writer(), now=T0, n=1)
    assert isinstance(done, ExecutionCompletedEvent)
    assert isinstance(failed, ExecutionCompletedEvent)
    assert (done.result, failed.failure) == ("1", failure())
    assert decided_events(Decision(), ORIGIN, writer(), now=T0, n=1) == []


def test_a_failure_over_the_cap_loses_its_details_but_not_what_retries_ask_for() -> None:
    large = FailureDetails(
        message="no", error_type="E", stack_trace="y" * 20_000, inner_failure=failure(), is_non_retriable=True
    )
    stored = store_failure(large, writer(1_000), instance_id="i1", execution_id="x1")
    assert stored == FailureDetails(message="no", error_type="E", is_non_retriable=True)
    spilled = store_failure(large, writer(100_000), instance_id="i1", execution_id="x1")
    assert isinstance(spilled, BlobRef)
