"""Instances that cannot run yet: before their time, or without their code."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from durabletask_azure.core.history import (
    ExecutionStartedEvent,
)
from tests.unit.bench import Bench, after, failure, put_back, replaced


async def quick(ctx: Any, value: Any) -> Any:
    return value


async def one_activity(ctx: Any, value: Any) -> Any:
    return await ctx.call_activity("work", input=value)


async def one_timer(ctx: Any, value: Any) -> str:
    await ctx.create_timer(timedelta(seconds=60))
    return "rang"


async def two_events(ctx: Any, value: Any) -> list[Any]:
    return [await ctx.wait_for_external_event("a"), await ctx.wait_for_external_event("a")]


# ------------------------------------------------------------ pending instances


def test_b26_a_scheduled_start_waits_for_its_time_and_events_wait_with_it() -> None:
    bench = Bench(two_events)
    bench.insert("two_events", scheduled_start=after(60))
    bench.turn(
        bench.raised("a", 1, source="e1"),
        bench.raised("a", 9, source="e1"),
        bench.suspended(),
        bench.resumed(),
    )
    row = bench.rows["i1"]
    assert (row.status, row.due_at, len(row.kept)) == ("PENDING", after(60), 3)
    bench.now = after(60)
    bench.turn()
    assert bench.rows["i1"].status == "RUNNING"
    started = bench.history()[1]
    assert isinstance(started, ExecutionStartedEvent)
    assert started.scheduled_start == after(60)
    bench.turn(bench.raised("a", 2))
    assert bench.rows["i1"].output == "[1,2]"


def test_a_wake_up_that_comes_too_early_is_put_back_until_the_start() -> None:
    bench = Bench(quick)
    bench.insert("quick", scheduled_start=after(60))
    turn = bench.turn(bench.wake_up())
    assert put_back(turn)[0][1] == after(60)
    assert turn.writes() == []
    bench.now = after(60)
    bench.turn(put_back(turn)[0][0])
    assert bench.rows["i1"].status == "COMPLETED"


def test_a_due_start_is_made_up_for_by_any_message() -> None:
    bench = Bench(two_events)
    bench.insert("two_events", scheduled_start=after(60))
    bench.now = after(60)
    bench.turn(bench.raised("a", 1))
    assert bench.rows["i1"].status == "RUNNING"


def test_a_nudge_starts_what_is_due_by_the_stores_time_even_beside_an_older_message() -> None:
    bench = Bench(two_events)
    bench.insert("two_events", scheduled_start=after(60))
    bench.turn(at=after(59))
    assert bench.rows["i1"].status == "PENDING"
    bench.turn(at=after(61))
    assert bench.rows["i1"].status == "RUNNING"


def test_b91_a_pending_instance_is_terminated_and_failed() -> None:
    bench = Bench(two_events)
    bench.insert("two_events", scheduled_start=after(60))
    bench.turn(bench.raised("a", 1), bench.terminated("no"))
    assert (bench.rows["i1"].status, bench.rows["i1"].output, bench.rows["i1"].kept) == (
        "TERMINATED",
        '"no"',
        (),
    )
    bench.insert("two_events", id="i2", scheduled_start=after(60))
    bench.turn(bench.fail("i2"), id="i2")
    assert bench.rows["i2"].status == "FAILED"
    assert bench.rows["i2"].failure == failure("poison")


def test_a_pending_instance_is_not_purged() -> None:
    bench = Bench(two_events)
    bench.insert("two_events", scheduled_start=after(60))
    turn = bench.turn(bench.purge())
    assert turn.is_empty
    assert "only ended instances" in turn.notes[0]


def test_a_start_for_another_execution_does_not_wake_the_row() -> None:
    bench = Bench(quick)
    bench.insert("quick")
    bench.rows["i1"] = replaced(bench.rows["i1"], scheduled_start=after(60))
    turn = bench.turn(bench.wake_up(execution="x0"))
    assert turn.is_empty
    assert "meant for execution x0" in turn.notes[0]


def test_b34_an_event_in_the_row_is_there_before_the_first_turn() -> None:
    bench = Bench(two_events)
    bench.begin("two_events", kept=(bench.raised("a", 1),))
    bench.turn(bench.raised("a", 2))
    assert bench.rows["i1"].output == "[1,2]"


def test_messages_over_the_limit_of_a_pending_row_are_put_back() -> None:
    bench = Bench(two_events, pending_bytes_max=600)
    bench.insert("two_events", scheduled_start=after(60))
    turn = bench.turn(*(bench.raised("a", "x" * 100) for _ in range(4)))
    kept = bench.rows["i1"].kept
    assert 0 < len(kept) < 4
    assert len(put_back(turn)) == 4 - len(kept)
    assert put_back(turn)[0][1] == after(10)


def test_a_message_that_is_put_back_for_long_is_never_dropped() -> None:
    bench = Bench(two_events, pending_bytes_max=1)
    bench.insert("two_events", scheduled_start=after(10_000))
    message = bench.raised("a", 1)
    for _ in range(20):
        ((message, until),) = put_back(bench.turn(message))
        assert until is not None
        assert message.parked == 0
        bench.now = until
    bench.now = after(10_000)
    bench.turn(message)
    assert bench.kinds().count("EventRaised") == 1


# ------------------------------------------------------------ code that is not here


def test_f29_b15_without_code_an_instance_stays_pending_with_a_reason_and_runs_later() -> None:
    bench = Bench()
    bench.begin("one_activity", version="2")
    row = bench.rows["i1"]
    assert row.status == "PENDING"
    assert row.reason is not None
    assert "no orchestrator 'one_activity' version '2'" in row.reason
    assert bench.turn().is_empty
    assert bench.turn(bench.wake_up()).is_empty
    bench.turn(bench.raised("a", 1))
    assert len(bench.rows["i1"].kept) == 1
    bench.registry.add_orchestrator(one_activity)
    bench.turn()
    row = bench.rows["i1"]
    assert (row.status, row.reason, row.kept) == ("RUNNING", None, ())
    assert "EventRaised" in bench.kinds()


def test_f29_a_running_instance_keeps_its_messages_while_its_code_is_away() -> None:
    bench = Bench(one_activity)
    bench.begin("one_activity")
    here, bench.registry = bench.registry, Bench().registry
    bench.warm.clear()
    done = bench.task_done(1, 3)
    bench.turn(done, done, bench.task_done(1, 4))
    row = bench.rows["i1"]
    assert (row.status, len(row.kept)) == ("RUNNING", 2)
    assert row.reason is not None
    assert row.due_at is not None
    assert bench.turn().is_empty
    bench.registry = here
    bench.turn()
    assert bench.rows["i1"].output == "3"


def test_the_reason_goes_when_the_code_is_back_though_nothing_was_kept() -> None:
    bench = Bench(one_activity)
    bench.begin("one_activity")
    here, bench.registry = bench.registry, Bench().registry
    bench.warm.clear()
    bench.turn()
    assert bench.rows["i1"].reason is not None
    bench.registry = here
    bench.turn()
    assert (bench.rows["i1"].status, bench.rows["i1"].reason) == ("RUNNING", None)


def test_an_instance_without_code_can_be_terminated() -> None:
    bench = Bench()
    bench.begin("one_activity")
    bench.turn(bench.terminated("gone"))
    assert (bench.rows["i1"].status, bench.rows["i1"].reason) == ("TERMINATED", None)


def test_a_kept_timer_is_applied_when_the_code_is_back() -> None:
    bench = Bench(one_timer)
    bench.begin("one_timer")
    here, bench.registry = bench.registry, Bench().registry
    bench.warm.clear()
    bench.now = after(60)
    bench.turn(bench.fired(1, after(60)))
    bench.registry = here
    bench.now = after(90)
    bench.turn()
    assert bench.rows["i1"].output == '"rang"'
