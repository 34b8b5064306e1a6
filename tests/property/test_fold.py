"""The fold does not depend on where a history is cut, and a row made of it says the same."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from durabletask_azure.core.history import HistoryEvent, decode_events, encode_event
from durabletask_azure.core.state import ExecutionState, fold
from tests.property.test_codec_round_trip import events


def everything(state: ExecutionState) -> dict[str, Any]:
    return {name: getattr(state, name) for name in ExecutionState.__slots__}


@settings(max_examples=100, deadline=None)
@given(st.lists(events, max_size=12), st.integers(0, 12))
def test_a_fold_goes_on_where_it_stopped(history: list[HistoryEvent], cut: int) -> None:
    state = fold(history[:cut])
    for event in history[cut:]:
        state.apply(event)
    assert everything(state) == everything(fold(history))
    assert state.events == len(history)
    stored = b"".join(map(encode_event, history))
    assert everything(fold(decode_events(stored))) == everything(state)


@settings(max_examples=100, deadline=None)
@given(st.lists(events, max_size=12))
def test_what_is_open_was_created_and_is_not_closed(history: list[HistoryEvent]) -> None:
    state = fold(history)
    for event_id, event in state.tasks.items():
        assert event in history
        assert event.event_id == event_id
    assert state.due_at() is None or state.due_at() in state.timers.values()
    assert set(state.seen) == {seen.id for seen in state.seen.values()}
