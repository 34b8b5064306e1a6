"""Which messages count: duplicates, other executions, order in a batch, unknown instances, time."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from typing import Any

import pytest

from durabletask_azure.core.history import (
    EventRaisedEvent,
    Parent,
    Sender,
    TimerFiredEvent,
)
from durabletask_azure.core.messages import Message
from durabletask_azure.core.rows import PutInstance, Tombstone
from durabletask_azure.core.state import ExecutionState
from tests.unit.bench import T0, Bench, after, bodies, failure, ids, put_back, replaced


async def quick(ctx: Any, value: Any) -> Any:
    return value


async def one_activity(ctx: Any, value: Any) -> Any:
    return await ctx.call_activity("work", input=value)


async def one_child(ctx: Any, value: Any) -> Any:
    return await ctx.call_sub_orchestrator("quick", instance_id="child")


async def one_timer(ctx: Any, value: Any) -> str:
    await ctx.create_timer(timedelta(seconds=60))
    return "rang"


async def two_events(ctx: Any, value: Any) -> list[Any]:
    return [await ctx.wait_for_external_event("a"), await ctx.wait_for_external_event("a")]


# ------------------------------------------------------------ duplicates and strangers


def test_a_duplicate_start_is_ignored() -> None:
    bench = Bench(one_activity)
    bench.begin("one_activity")
    before = bench.rows["i1"]
    assert bench.turn(bench.wake_up()).is_empty
    assert bench.rows["i1"] is before


def test_f4_a_duplicate_completion_is_ignored() -> None:
    bench = Bench(one_activity, one_child, one_timer)
    bench.begin("one_activity")
    bench.turn(bench.task_done(1, 7), bench.task_done(1, 8), bench.task_failed(1))
    assert bench.rows["i1"].output == "7"
    assert bench.kinds().count("TaskCompleted") == 1
    bench.begin("one_child", execution="x2", id="i2")
    bench.turn(bench.wake_up("i2"), id="i2")
    done = replaced(bench.child_done(1, 1, execution="x2"), instance_id="i2")
    bench.turn(done, replaced(done, id="other"), id="i2")
    assert bench.kinds("i2").count("SubOrchestrationInstanceCompleted") == 1


def test_a_completion_of_another_kind_is_ignored() -> None:
    bench = Bench(one_activity, one_child)
    bench.begin("one_activity")
    assert bench.turn(bench.child_done(1), bench.child_failed(1)).is_empty
    bench.rows.clear()
    bench.warm.clear()
    bench.begin("one_child")
    assert bench.turn(bench.task_done(1), bench.task_failed(1)).is_empty
    bench.turn(bench.child_failed(1))
    assert bench.rows["i1"].status == "FAILED"


def test_f18_a_completion_for_an_old_execution_is_dropped() -> None:
    bench = Bench(one_activity)
    bench.begin("one_activity")
    turn = bench.turn(bench.task_done(1, execution="x0"))
    assert turn.is_empty
    assert "meant for execution x0" in turn.notes[0]


def test_b39_an_event_id_counts_once() -> None:
    bench = Bench(two_events)
    bench.begin("two_events")
    bench.turn(bench.raised("a", 1, source="e1"), bench.raised("a", 2, source="e1"))
    assert bench.turn(bench.raised("a", 3, source="e1")).is_empty
    bench.turn(bench.raised("a", 4, source="e2"))
    assert bench.rows["i1"].output == "[1,4]"


def test_suspension_counts_once_and_buffers() -> None:
    bench = Bench(two_events, one_activity)
    bench.begin("one_activity")
    bench.turn(bench.suspended("s1"))
    assert bench.rows["i1"].status == "SUSPENDED"
    bench.turn(bench.task_done(1, 5))
    assert bench.rows["i1"].status == "SUSPENDED"
    bench.turn(bench.resumed("r1"), bench.suspended("s1"))
    assert bench.rows["i1"].output == "5"


def test_a_termination_counts_once() -> None:
    bench = Bench(two_events)
    bench.begin("two_events")
    bench.turn(bench.raised("a", source="t1"))
    assert bench.turn(bench.terminated(source="t1")).is_empty
    bench.turn(bench.terminated("over", source="t2"), bench.terminated("again", source="t3"))
    assert (bench.rows["i1"].status, bench.rows["i1"].output) == ("TERMINATED", '"over"')
    assert bench.turn(
        bench.terminated(source="t4"), bench.fail(), bench.raised("a"), bench.wake_up()
    ).is_empty


# ------------------------------------------------------------ order within a batch


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_f19_start_event_and_terminate_come_in_any_order(order: tuple[int, ...]) -> None:
    bench = Bench(two_events)
    bench.insert("two_events")
    messages = (bench.wake_up(), bench.raised("a", 1), bench.terminated("end"))
    bench.turn(*(messages[index] for index in order))
    assert bench.rows["i1"].status == "TERMINATED"
    assert bench.kinds() == [
        "OrchestratorStarted",
        "ExecutionStarted",
        "EventRaised",
        "ExecutionTerminated",
        "ExecutionCompleted",
    ]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_a_child_start_with_all_that_follows_it_in_any_order(order: tuple[int, ...]) -> None:
    bench = Bench(two_events)
    messages = (
        bench.child_start("two_events", parent=Parent("p", "px", 1)),
        bench.raised("a", 1),
        bench.terminated("end"),
        bench.purge(),
    )
    turn = bench.turn(*(messages[index] for index in order))
    assert bench.rows["i1"].status == "TERMINATED"
    assert "EventRaised" in bench.kinds()
    # the purge waits for the end that this very batch brings
    assert put_back(turn)[0][0].body == messages[3].body
    bench.turn(put_back(turn)[0][0])
    assert bench.rows == {}


def test_what_follows_an_end_in_the_same_batch_is_dropped() -> None:
    bench = Bench(one_activity)
    bench.begin("one_activity")
    turn = bench.turn(bench.task_done(1), bench.fail(), bench.terminated())
    assert bench.rows["i1"].status == "FAILED"
    assert turn.notes == ("dropped ExecutionTerminatedEvent for 'i1': the instance has ended",)


def test_events_behind_the_last_one_the_code_needed_stay_in_the_history() -> None:
    bench = Bench(two_events)
    bench.begin("two_events")
    bench.turn(*(bench.raised("a", value) for value in range(4)))
    assert bench.rows["i1"].output == "[0,1]"
    assert bench.kinds().count("EventRaised") == 4


# ------------------------------------------------------------ unknown and purged instances


def test_f38_an_event_that_overtakes_its_instance_is_parked_and_then_applied() -> None:
    bench = Bench(two_events)
    early = bench.turn(bench.raised("a", 1, source="e1"))
    again, until = put_back(early)[0]
    assert until == after(10)
    bench.now = after(5)
    bench.turn(bench.child_start("two_events", parent=Parent("p", "px", 1)))
    bench.turn(again, bench.raised("a", 2))
    assert bench.rows["i1"].output == "[1,2]"


def test_b36_an_undeliverable_event_is_parked_three_times_and_dropped_with_a_note() -> None:
    bench = Bench(two_events)
    message = bench.raised("a")
    known = {message.id}
    for delay in (10, 60, 600):
        turn = bench.turn(message)
        assert turn.writes() == []
        ((message, until),) = put_back(turn)
        assert until == bench.now + timedelta(seconds=delay)
        assert message.id not in known
        known.add(message.id)
        bench.now += timedelta(seconds=delay)
    turn = bench.turn(message)
    assert turn.is_empty
    assert "tried again often enough" in turn.notes[0]
    assert bench.rows == {}


def test_what_is_for_an_execution_of_an_absent_instance_is_dropped() -> None:
    bench = Bench(one_activity)
    turn = bench.turn(
        bench.task_done(1),
        bench.fired(1, T0),
        bench.wake_up(),
        bench.purge(),
        bench.fail(),
        bench.wake_up(execution="x"),
    )
    assert turn.is_empty
    assert len(turn.notes) == 6


def test_f33_late_messages_to_a_purged_instance_resurrect_nothing() -> None:
    bench = Bench(quick)
    parent = Parent("p", "px", 1)
    start = bench.child_start("quick", execution="c1", parent=parent)
    bench.turn(start)
    bench.turn(bench.purge())
    assert bench.rows == {}
    late = (
        start,
        bench.raised("a"),
        bench.suspended(),
        bench.terminated(),
        bench.task_done(1),
        bench.wake_up(),
    )
    turn = bench.turn(*late, bench.replace("quick", ("COMPLETED",), execution="c1"))
    assert turn.is_empty
    assert bench.rows == {}
    # another task of the same parent may start it anew
    bench.turn(bench.child_start("quick", execution="c2", parent=Parent("p", "px", 2)))
    assert bench.rows["i1"].execution_id == "c2"


def test_a_purged_earlier_run_is_not_resurrected_either() -> None:
    bench = Bench(quick)
    first = bench.child_start("quick", execution="c1", parent=Parent("p", "px", 1))
    bench.turn(first)
    bench.turn(bench.child_start("quick", execution="c2", parent=Parent("p", "px", 2)))
    bench.turn(bench.purge())
    assert bench.turn(first).is_empty
    assert bench.rows == {}


def test_a_purged_run_whose_execution_was_trimmed_is_not_resurrected_either() -> None:
    bench = Bench(quick, executions_kept=0)
    first = bench.child_start("quick", execution="c1", parent=Parent("p", "px", 1))
    bench.turn(first)
    for number in (2, 3, 4):
        bench.turn(bench.child_start("quick", execution=f"c{number}", parent=Parent("p", "px", number)))
    assert "c1" not in {past.execution_id for past in bench.rows["i1"].past}
    bench.turn(bench.purge())
    assert bench.turn(first).is_empty
    assert bench.rows == {}


def test_a_tombstone_without_a_parent_stops_no_child() -> None:
    bench = Bench(quick)
    bench.tombstones["i1"] = Tombstone(instance_id="i1", execution_id="x0", expires_at=after(60))
    bench.turn(bench.child_start("quick", parent=Parent("p", "px", 1)))
    assert bench.rows["i1"].status == "COMPLETED"


# ------------------------------------------------------------ timers and time


def test_b20_f22_a_timer_that_comes_early_is_put_back_until_it_is_due() -> None:
    bench = Bench(one_timer)
    bench.begin("one_timer")
    early = bench.turn(bench.fired(1, after(60)), at=after(59.9))
    ((again, until),) = put_back(early)
    assert until == after(60)
    assert early.writes() == []
    bench.turn(again, at=after(60))
    assert bench.rows["i1"].output == '"rang"'
    fired = [event for event in bench.history() if isinstance(event, TimerFiredEvent)]
    assert [event.timestamp for event in fired] == [after(60)]


def test_a_timer_that_is_not_open_is_dropped() -> None:
    bench = Bench(one_timer)
    bench.begin("one_timer")
    assert bench.turn(bench.fired(2, after(60)), at=after(60)).is_empty


def test_now_never_goes_back() -> None:
    bench = Bench(two_events)
    bench.now = after(100)
    bench.begin("two_events")
    bench.turn(bench.raised("a", 1), at=after(50))
    turns = [
        event.timestamp for event in bench.history() if type(event).__name__ == "OrchestratorStartedEvent"
    ]
    assert turns == [after(100), after(100)]
    raised = [event.timestamp for event in bench.history() if isinstance(event, EventRaisedEvent)]
    assert raised == [after(50)]
    assert bench.rows["i1"].updated_at == after(100)


# ------------------------------------------------------------ ids of what is put back


def test_put_back_twice_has_different_ids_and_a_repeated_turn_the_same() -> None:
    bench = Bench(two_events)
    message = bench.raised("a")
    first = bench.turn(message, is_committed=False)
    repeated = bench.turn(message, is_committed=False)
    assert ids(first.eventless) == ids(repeated.eventless)
    bench.commit(repeated)
    second = bench.turn(message)
    assert ids(first.eventless) != ids(second.eventless)
    assert len(bench.outbox) == 2


def test_seen_ids_over_the_limit_make_events_wait_until_old_ones_expire() -> None:
    bench = Bench(two_events, seen_ids_max=3)
    bench.begin("two_events")
    turn = bench.turn(
        bench.suspended("s1"), bench.suspended("s2"), bench.suspended("s3"), bench.raised("a", 1, source="e1")
    )
    ((again, until),) = put_back(turn)
    assert until == after(3610)
    bench.now = after(3000)
    ((again, until),) = put_back(bench.turn(again))
    assert until == after(3610)
    bench.now = after(3610)
    bench.turn(again)
    assert bench.kinds().count("EventRaised") == 1


def test_seen_ids_over_the_limit_are_gone_through_once_not_for_every_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(two_events, seen_ids_max=100)
    bench.begin("two_events")
    bench.turn(*(bench.raised("b", number, source=f"b{number}") for number in range(100)))
    looks: list[int] = []
    look = ExecutionState.seen_to_carry

    def counted(state: ExecutionState, now: datetime, keep_s: float, confirmed: dict[int, int]) -> Any:
        looks.append(len(state.seen))
        return look(state, now, keep_s, confirmed)

    monkeypatch.setattr(ExecutionState, "seen_to_carry", counted)
    turn = bench.turn(*(bench.raised("b", number, source=f"c{number}") for number in range(50)))
    assert len(put_back(turn)) == 50
    # Once by the instance as it is in memory, once by the one that the bench loads to compare.
    assert looks in ([100], [100, 100])


def test_a_poison_message_fails_the_instance_visibly() -> None:
    bench = Bench(one_activity)
    bench.begin("one_activity")
    bench.turn(bench.task_done(1), broken=failure("poison"))
    assert (bench.rows["i1"].status, bench.rows["i1"].failure) == ("FAILED", failure("poison"))
    assert bench.turn(broken=failure("again")).is_empty
    assert bench.turn(id="absent", broken=failure("no row")).is_empty


def test_messages_come_out_with_the_sender_they_came_in_with() -> None:
    bench = Bench(two_events)
    sender = Sender(3, 9)
    turn = bench.turn(bench.raised("a", sender=sender))
    assert put_back(turn)[0][0].sender == sender
    assert isinstance(put_back(turn)[0][0], Message)
    assert bodies(turn.eventless)[0] == put_back(turn)[0][0].body
    assert not any(isinstance(write, PutInstance) for write in turn.writes())
