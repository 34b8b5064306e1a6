"""An instance as its owner holds it, and as it comes back from storage."""

from __future__ import annotations

import gc
from typing import Any

import msgspec
import pytest

from durabletask_azure.core.history import EventRaisedEvent, TaskScheduledEvent
from durabletask_azure.core.instance import Instance, needs_history, pending_row
from durabletask_azure.core.payloads import BlobRef
from tests.unit.bench import T0, Bench, after


async def waits(ctx: Any, value: Any) -> Any:
    return await ctx.wait_for_external_event("go")


def test_an_absent_instance_is_neither_cacheable_nor_ended() -> None:
    instance = Instance("i1")
    assert (instance.is_cacheable, instance.is_terminal, instance.is_ready) == (False, False, False)
    assert instance.history_refs() == ()
    instance.drop_execution()


def test_nothing_is_left_behind_by_what_is_appended() -> None:
    bench = Bench(waits)
    bench.begin("waits")
    instance = bench.load("i1")
    event = TaskScheduledEvent(timestamp=T0, event_id=1, name="a")
    instance.append((event,))
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(1_000):
        instance.append((event,))
    assert len(gc.get_objects()) < before + 100


def test_only_started_and_living_instances_are_cacheable() -> None:
    bench = Bench(waits)
    bench.insert("waits")
    assert not bench.load("i1").is_cacheable
    bench.turn(bench.wake_up())
    assert bench.load("i1").is_cacheable
    bench.turn(bench.terminated())
    ended = bench.load("i1")
    assert (ended.is_cacheable, ended.is_terminal, ended.cold) == (False, True, None)


def test_an_instance_that_has_ended_drops_what_needs_no_history_by_its_row_alone() -> None:
    bench = Bench(waits)
    bench.begin("waits")
    bench.turn(bench.raised("other", 1), bench.terminated())
    useless = [
        *(bench.wake_up(), bench.raised("go"), bench.terminated(), bench.suspended("s"), bench.resumed("r")),
        *(bench.task_done(1), bench.fired(1, T0), bench.fail()),
    ]
    assert not any(map(needs_history, useless))
    turn = bench.turn(*useless)  # which is compared with one that has the row alone
    assert turn.is_empty
    assert len(turn.notes) == len(useless) - 1  # a wake-up asks for nothing
    assert needs_history(bench.purge())
    ended = Instance.ended(bench.rows["i1"], "e1")
    assert (ended.is_terminal, ended.is_cacheable, ended.etag) == (True, False, "e1")


def test_a_pending_row_says_when_it_is_due() -> None:
    bench = Bench()
    started = bench.start_of("waits")
    assert pending_row(started, created_at=after(5)).due_at == after(5)
    later = bench.start_of("waits", scheduled_start=after(60), version="2")
    row = pending_row(later, created_at=T0)
    assert (row.due_at, row.scheduled_start, row.version, row.status) == (
        after(60),
        after(60),
        "2",
        "PENDING",
    )


def test_segments_and_tail_make_the_same_state_as_the_history() -> None:
    bench = Bench(waits, history_inline_bytes_max=300, segment_bytes_max=200)
    bench.begin("waits")
    for _ in range(9):
        bench.turn(bench.raised("other", "y" * 40), bench.raised("other"))
    warm, loaded = bench.warm["i1"], bench.load("i1")
    assert loaded.segments == warm.segments > 3
    assert (loaded.state.seen, loaded.state.events) == (warm.state.seen, warm.state.events)
    assert (loaded.tail, loaded.tail_bytes) == (warm.tail, warm.tail_bytes)
    assert loaded.current_row() == warm.current_row()


def test_a_history_that_cannot_be_read_is_an_error() -> None:
    bench = Bench()
    row = bench.insert("waits")
    with pytest.raises(msgspec.DecodeError):
        Instance.load(msgspec.structs.replace(row, tail=b'{"kind":"OfTheFuture"}\n'), "e", b"")


def test_an_event_that_cannot_be_stored_changes_nothing() -> None:
    bench = Bench(waits)
    bench.begin("waits")
    instance = bench.load("i1")
    before = (instance.state.events, list(instance.tail))
    good = EventRaisedEvent(timestamp=T0, name="a", source_id="a")
    with pytest.raises(UnicodeEncodeError):
        instance.append([good, TaskScheduledEvent(timestamp=T0, name="half \ud800")])
    assert (instance.state.events, instance.tail) == before
    assert "a" not in instance.state.seen


def test_the_references_a_replay_needs_are_those_of_the_cold_history() -> None:
    bench = Bench(waits)
    ref = BlobRef("p000/x/-/y", 5)
    bench.payloads[ref.name] = '"big"'
    bench.begin("waits")
    bench.turn(bench.message(EventRaisedEvent(timestamp=T0, name="other", input=ref, source_id="e")))
    assert bench.load("i1").history_refs() == [ref]
    assert bench.warm["i1"].history_refs() == ()


def test_an_event_larger_than_a_segment_goes_on_in_the_next() -> None:
    bench = Bench(waits, history_inline_bytes_max=300, segment_bytes_max=200)
    bench.begin("waits")
    bench.turn(bench.raised("other", "y" * 1_000))
    warm, loaded = bench.warm["i1"], bench.load("i1")
    assert loaded.segments == warm.segments > 5
    assert loaded.state.events == warm.state.events
    bench.turn(bench.raised("go", "done"))
    assert bench.load("i1").is_terminal
