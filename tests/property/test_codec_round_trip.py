"""Whatever events and messages hold, they come back from storage and from the wire as they were."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.history import (
    EventRaisedEvent,
    ExecutionCompletedEvent,
    ExecutionStartedEvent,
    HistoryEvent,
    OrchestratorStartedEvent,
    Parent,
    RuntimeStatus,
    SeenId,
    Sender,
    SubOrchestrationInstanceCreatedEvent,
    TaskCompletedEvent,
    TaskFailedEvent,
    TaskScheduledEvent,
    TimerCreatedEvent,
    decode_events,
    encode_event,
    payload_refs,
)
from durabletask_azure.core.messages import Message, MessageBody, decode_messages, encode_messages
from durabletask_azure.core.payloads import BlobRef

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
times = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
refs = st.builds(BlobRef, texts, st.integers(0, 2**53))
payloads = st.one_of(st.none(), texts, refs)
numbers = st.integers(-1, 2**31)
senders = st.none() | st.builds(Sender, st.integers(0, 127), st.integers(0, 2**53))
parents = st.none() | st.builds(Parent, texts, texts, numbers, texts)
failures: st.SearchStrategy[Any] = st.recursive(
    st.builds(FailureDetails, texts, texts, st.none() | texts),
    lambda inner: st.builds(
        FailureDetails,
        texts,
        texts,
        st.none(),
        inner,
        st.none() | st.dictionaries(texts, texts),
        st.booleans(),
    ),
    max_leaves=3,
)
known: dict[str, Any] = {"timestamp": times, "commit": st.integers(0, 2**53)}
raised = st.builds(EventRaisedEvent, **known, name=texts, input=payloads, source_id=texts, sender=senders)
started = st.builds(
    ExecutionStartedEvent,
    **known,
    name=texts,
    instance_id=texts,
    execution_id=texts,
    version=st.none() | texts,
    input=payloads,
    parent=parents,
    scheduled_start=st.none() | times,
    tags=payloads,
    carried=st.lists(raised, max_size=3).map(tuple),
    seen=st.lists(st.builds(SeenId, texts, times, senders), max_size=3).map(tuple),
)
bodies: st.SearchStrategy[MessageBody] = st.one_of(
    raised,
    started,
    st.builds(TaskCompletedEvent, **known, task_scheduled_id=numbers, result=payloads),
    st.builds(
        TaskFailedEvent, **known, task_scheduled_id=numbers, failure=st.one_of(st.none(), failures, refs)
    ),
)
events: st.SearchStrategy[HistoryEvent] = st.one_of(
    raised,
    started,
    st.builds(OrchestratorStartedEvent, **known),
    st.builds(TaskScheduledEvent, **known, event_id=numbers, name=texts, input=payloads, tags=payloads),
    st.builds(TimerCreatedEvent, **known, event_id=numbers, fire_at=times),
    st.builds(SubOrchestrationInstanceCreatedEvent, **known, name=texts, instance_id=texts, input=payloads),
    st.builds(
        ExecutionCompletedEvent,
        **known,
        status=st.sampled_from(RuntimeStatus),
        result=payloads,
        failure=st.one_of(st.none(), failures, refs),
        cascade=st.lists(texts, max_size=3).map(tuple),
    ),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(events, max_size=8))
def test_a_history_comes_back_as_it_was_whole_or_in_pieces(history: list[HistoryEvent]) -> None:
    lines = [encode_event(event) for event in history]
    assert decode_events(b"".join(lines)) == history
    assert [event for line in lines for event in decode_events(line)] == history
    assert all(line.count(b"\n") == 1 for line in lines)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.builds(Message, id=texts, instance_id=texts, body=bodies, sender=senders), max_size=5))
def test_a_pack_comes_back_as_it_was(pack: list[Message]) -> None:
    assert decode_messages(encode_messages(tuple(pack))) == tuple(pack)


@settings(max_examples=50, deadline=None)
@given(st.lists(events, max_size=8))
def test_every_reference_that_a_reader_needs_is_found(history: list[HistoryEvent]) -> None:
    found = {ref.name for ref in payload_refs(history)}
    for event in history:
        for value in msgspec.structs.astuple(event):
            if isinstance(value, BlobRef):
                assert value.name in found
