"""Histories recorded by earlier versions replay, and decide in each turn what was decided then."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from durabletask_azure.core.history import encode_event
from durabletask_azure.core.replay import RuntimeOptions, execute
from durabletask_azure.core.state import fold
from tests.golden.record import CASES
from tests.golden.recordings import Recording, described, fits, hashed, hashes_now

RECORDINGS = list(Recording.all())


def test_nothing_recorded_was_changed_or_taken_away() -> None:
    now = hashes_now()
    changed = [name for name, digest in hashed().items() if now.get(name) != digest]
    assert changed == [], "recorded files are only ever added to; see tests/golden/README.md"


def test_everything_recorded_has_its_hash_written_down() -> None:
    assert sorted(hashes_now().keys() - hashed().keys()) == []


def test_every_case_is_recorded() -> None:
    wanted = {case.name for case in CASES} | {case.child for case in CASES if case.child}
    assert {recording.case for recording in RECORDINGS} == wanted


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda each: each.name)
def test_every_prefix_of_a_recorded_history_decides_as_it_did(recording: Recording) -> None:
    definition = recording.definition()
    turns = recording.turns()
    assert len(turns) == len(recording.decisions)
    for turn, expected in zip(turns, recording.decisions, strict=True):
        decision = execute(
            definition, turn.past, turn.new, options=RuntimeOptions(), loaded=recording.payloads
        )
        assert fits(expected, described(decision)), described(decision)


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda each: each.name)
def test_an_execution_that_lives_through_a_recorded_history_decides_as_it_did(recording: Recording) -> None:
    decisions = [described(decision) for decision in recording.decide_live()]
    assert fits(list(recording.decisions), decisions)


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda each: each.name)
def test_what_was_decided_is_what_the_recorded_history_says(recording: Recording) -> None:
    # The recording itself is sound: its decisions are not only those of the code that wrote it down.
    decided = [
        (action["is"], action["id"]) for decision in recording.decisions for action in decision["actions"]
    ]
    kinds = {
        "TaskScheduled": "ScheduleTask",
        "TimerCreated": "CreateTimer",
        "SubOrchestrationInstanceCreated": "StartSubOrchestration",
        "EventSent": "SendEvent",
    }
    stored: list[dict[str, Any]] = [json.loads(line) for line in recording.lines.splitlines()]
    happened = [(kinds[event["kind"]], event["event_id"]) for event in stored if event["kind"] in kinds]
    assert decided == happened


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda each: each.name)
def test_a_recorded_history_is_stored_again_as_it_was_and_folds(recording: Recording) -> None:
    events = recording.events()
    again = [json.loads(encode_event(event)) for event in events]
    assert fits([json.loads(line) for line in recording.lines.splitlines()], again)
    state = fold(events)
    assert state.events == len(events)
    last = cast(dict[str, Any], json.loads(recording.lines.splitlines()[-1]))
    assert (state.completed is not None) == (last["kind"] == "ExecutionCompleted")
    assert (state.continued is not None) == (last["kind"] == "ContinueAsNew")
