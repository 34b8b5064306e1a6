"""How executions begin: duplicates, conflicts, new runs of ended instances, requests to replace."""

from __future__ import annotations

from typing import Any

import msgspec

from durabletask_azure.core.history import (
    ExecutionStartedEvent,
    Parent,
    Sender,
    SubOrchestrationInstanceFailedEvent,
)
from durabletask_azure.core.messages import ContinuedChild, FailInstance, Message, ReplaceInstance
from tests.unit.bench import Bench, after, bodies, failure, ids, put_back, to_partition

P1 = Parent("p", "px", 1, "parent")
P2 = Parent("p", "px", 2, "parent")


async def quick(ctx: Any, value: Any) -> Any:
    return value


async def waits(ctx: Any, value: Any) -> Any:
    return await ctx.wait_for_external_event("go")


def test_f21_a_duplicate_start_of_a_child_is_ignored_alive_and_ended() -> None:
    bench = Bench(waits)
    start = bench.child_start("waits", parent=P1)
    bench.turn(start, start)
    assert bench.turn(start).is_empty
    # sent again under another id, as a put-back start is, and with another execution id, as after a rewind
    assert bench.turn(bench.child_start("waits", parent=P1, execution="c9")).is_empty
    bench.turn(bench.raised("go"))
    assert bench.rows["i1"].status == "COMPLETED"
    assert bench.turn(start, bench.child_start("waits", parent=P1)).is_empty


def test_f21_a_start_for_a_living_instance_fails_the_parents_task() -> None:
    bench = Bench(waits)
    bench.begin("waits")
    start = bench.child_start("waits", parent=P1)
    turn = bench.turn(start)
    answer = to_partition(turn.eventless[0]).message
    assert (answer.instance_id, answer.execution_id) == ("p", "px")
    assert isinstance(answer.body, SubOrchestrationInstanceFailedEvent)
    assert answer.body.task_scheduled_id == 1
    assert turn.writes() == []
    assert ids(bench.turn(start).eventless) == [answer.id]


def test_a_start_nobody_asked_for_is_refused_without_an_answer() -> None:
    bench = Bench(waits)
    bench.begin("waits")
    turn = bench.turn(bench.child_start("waits", parent=None))
    assert turn.is_empty
    assert turn.notes


def test_a_new_run_of_an_ended_child_archives_the_old_one() -> None:
    bench = Bench(quick)
    bench.turn(bench.child_start("quick", parent=P1))
    bench.turn(bench.child_start("quick", execution="c2", parent=P2))
    row = bench.rows["i1"]
    assert (row.execution_id, row.parent, row.status) == ("c2", P2, "COMPLETED")
    assert [past.execution_id for past in row.past] == ["c1"]
    assert bench.lines("i1", "c1", row.past[0].segments)


def test_an_ended_child_starts_over_before_its_answer_is_sent_and_the_answer_is_not_lost() -> None:
    bench = Bench(quick, waits, is_confirming=False)
    bench.turn(bench.child_start("quick", parent=P1))
    answers = ids(bench.unsent("i1", 0))
    # what is sent right behind the start meets the new run
    bench.turn(bench.child_start("waits", execution="c2", parent=P2), bench.raised("go", 5))
    assert bench.rows["i1"].output == "5"
    assert ids(bench.unsent("i1", 0))[:1] == answers
    assert ids(bench.unsent("i1", 1)) == ids(bench.unsent("i1", 0))[1:]


def test_an_earlier_runs_start_is_recognised_after_its_execution_was_trimmed() -> None:
    bench = Bench(quick, executions_kept=0)
    first = bench.child_start("quick", execution="c1", parent=P1, sender=Sender(3, 7))
    bench.turn(first)
    bench.now = after(100_000)
    bench.turn(bench.child_start("quick", execution="c2", parent=P2))
    bench.turn(bench.child_start("quick", execution="c3", parent=Parent("p", "px", 3)))
    assert [past.execution_id for past in bench.rows["i1"].past] == ["c2"]
    # the same start, sent again by a new owner of partition 3, which never confirmed commit 7
    assert bench.turn(first, bench.child_start("quick", execution="c1", parent=P1)).is_empty


def test_f21_a_replace_request_starts_an_absent_or_ended_instance_once() -> None:
    bench = Bench(quick)
    request = bench.replace("quick", ("COMPLETED",), execution="x1", input=None)
    bench.turn(request)
    assert bench.rows["i1"].status == "COMPLETED"
    assert bench.turn(request).is_empty
    bench.turn(bench.replace("quick", ("COMPLETED",)))
    assert bench.rows["i1"].execution_id == "x2"
    # duplicates, of the first after the second too
    assert bench.turn(request, bench.replace("quick", ("COMPLETED",))).is_empty


def test_a_replace_request_keeps_to_the_statuses_it_names() -> None:
    bench = Bench(quick, waits)
    bench.begin("quick")
    turn = bench.turn(bench.replace("quick", ("FAILED",)))
    assert turn.is_empty
    assert "COMPLETED, which its start may not replace" in turn.notes[0]


def test_b100_a_living_instance_is_terminated_and_then_replaced() -> None:
    bench = Bench(quick, waits)
    bench.begin("waits")
    turn = bench.turn(bench.replace("quick", ("RUNNING",)))
    assert bench.rows["i1"].status == "TERMINATED"
    ((again, until),) = put_back(turn)
    assert until == after(1)
    assert isinstance(again.body, ReplaceInstance)
    bench.turn(again)
    row = bench.rows["i1"]
    assert (row.execution_id, row.status) == ("x2", "COMPLETED")
    assert bench.turn(again).is_empty


def test_a_pending_instance_is_replaced_as_the_status_of_the_turn_says() -> None:
    bench = Bench(quick, waits)
    bench.insert("waits")
    turn = bench.turn(bench.wake_up(), bench.replace("quick", ("PENDING",)))
    assert "RUNNING, which its start may not replace" in turn.notes[0]
    bench.insert("waits", id="i2", scheduled_start=after(60))
    turn = bench.turn(bench.replace("quick", ("PENDING",), id="i2"), id="i2")
    assert bench.rows["i2"].status == "TERMINATED"


def test_two_requests_to_replace_in_one_batch_come_one_after_the_other() -> None:
    bench = Bench(quick, waits)
    bench.begin("waits")
    first, second = (
        bench.replace("quick", ("RUNNING", "TERMINATED"), execution=name) for name in ("x2", "x3")
    )
    turn = bench.turn(first, second)
    assert len(put_back(turn)) == 2
    bench.turn(put_back(turn)[0][0])
    turn = bench.turn(put_back(turn)[1][0])
    assert "meant for execution x1, now x2" in turn.notes[0]
    assert bench.rows["i1"].execution_id == "x2"


def test_a_request_beside_a_termination_that_it_may_not_replace_waits_and_is_dropped() -> None:
    bench = Bench(quick, waits)
    bench.begin("waits")
    first = bench.replace("quick", ("RUNNING",), execution="x2")
    second = bench.replace("quick", ("COMPLETED",), execution="x3")
    turn = bench.turn(first, second)
    back = [item for item, _ in put_back(turn)]
    assert len(back) == 2
    turn = bench.turn(back[1])
    assert "TERMINATED, which its start may not replace" in turn.notes[0]


def test_a_late_request_replaces_only_the_run_its_client_has_seen() -> None:
    bench = Bench(quick, waits)
    bench.begin("quick")
    seen = bench.rows["i1"].created_at
    statuses = ("COMPLETED", "RUNNING")
    bench.now = after(5)
    bench.turn(bench.replace("waits", statuses, execution="x2", seen=seen))
    assert bench.rows["i1"].execution_id == "x2"
    turn = bench.turn(bench.replace("quick", statuses, execution="x3", seen=seen))
    assert "replaced by another one" in turn.notes[0]
    assert (bench.rows["i1"].execution_id, bench.rows["i1"].status) == ("x2", "RUNNING")


def test_a_start_for_another_id_than_its_message_is_for_starts_nothing() -> None:
    bench = Bench(quick, waits)
    bench.begin("waits")
    before = bench.rows["i1"]
    start = bench.start_of("quick", id="i1", execution="x9")
    parent = Parent("p", "px", 1, "parent")
    for body in (
        start,
        ReplaceInstance(start=start, replace=("RUNNING",)),
        ContinuedChild(start=msgspec.structs.replace(start, parent=parent), formers=("po",)),
    ):
        turn = bench.turn(bench.message(body, id="i2"), id="i2")
        assert "of another id" in turn.notes[0]
    assert bench.rows == {"i1": before}


def test_a_late_request_does_not_bring_a_purged_instance_back() -> None:
    bench = Bench(quick)
    turn = bench.turn(bench.replace("quick", ("COMPLETED",), seen=bench.now))
    assert "there is no such instance" in turn.notes[0]
    assert "i1" not in bench.rows
    # One that says nothing of what it has seen is of an older version.
    bench.turn(bench.replace("quick", ("COMPLETED",)))
    assert bench.rows["i1"].status == "COMPLETED"


def test_a_replacement_may_start_later() -> None:
    bench = Bench(quick)
    bench.begin("quick")
    bench.turn(bench.replace("quick", ("COMPLETED",), scheduled_start=after(60)))
    row = bench.rows["i1"]
    assert (row.status, row.due_at, row.execution_id) == ("PENDING", after(60), "x2")
    assert "x1" in [seen.id for seen in row.seen] or row.past[0].execution_id == "x1"
    bench.now = after(60)
    bench.turn()
    assert (bench.rows["i1"].status, bench.rows["i1"].seen) == ("COMPLETED", ())
    started = bench.history()[1]
    assert isinstance(started, ExecutionStartedEvent)
    assert "x2" in [seen.id for seen in started.seen]


def test_a_new_run_remembers_the_events_of_the_old_one() -> None:
    bench = Bench(waits)
    bench.begin("waits")
    event = bench.raised("go", source="e1")
    bench.turn(event)
    bench.turn(bench.replace("waits", ("COMPLETED",)))
    assert bench.turn(event).is_empty
    assert bench.rows["i1"].status == "RUNNING"


def test_a_start_without_code_waits_with_its_row() -> None:
    bench = Bench()
    bench.turn(bench.child_start("quick", parent=P1), bench.raised("go"))
    row = bench.rows["i1"]
    assert (row.status, len(row.kept)) == ("PENDING", 1)
    assert row.reason is not None
    assert bodies(bench.turn(bench.child_start("quick", execution="c2", parent=P2)).eventless)


def failed_start(bench: Bench, start: Message) -> Message:
    """Return what the reader of dead letters sends for a start that could not be handled."""
    assert isinstance(start.body, ExecutionStartedEvent | ReplaceInstance)
    return bench.message(FailInstance(failure=failure("poison"), start=start.body), id=start.instance_id)


def test_f30_a_child_that_cannot_even_be_started_fails_and_its_parent_is_told() -> None:
    bench = Bench(waits)
    fails = failed_start(bench, bench.child_start("waits", parent=P1))
    turn = bench.turn(fails)
    assert bench.rows["i1"].status == "FAILED"
    answer = to_partition(turn.outbound[0]).message
    assert isinstance(answer.body, SubOrchestrationInstanceFailedEvent)
    assert (answer.instance_id, answer.body.failure) == ("p", failure("poison"))
    assert bench.turn(fails).is_empty


def test_f30_a_start_that_could_not_be_handled_fails_a_living_instance_that_it_started_only() -> None:
    bench = Bench(waits)
    start = bench.child_start("waits", parent=P1)
    bench.turn(start)
    bench.turn(failed_start(bench, start))
    assert bench.rows["i1"].status == "FAILED"

    bench.begin("waits", id="i2")
    turn = bench.turn(failed_start(bench, bench.child_start("waits", id="i2", parent=P2)), id="i2")
    assert bench.rows["i2"].status == "RUNNING"
    assert isinstance(to_partition(turn.eventless[0]).message.body, SubOrchestrationInstanceFailedEvent)


def test_f30_a_request_to_replace_that_could_not_be_handled_ends_as_a_failed_instance() -> None:
    bench = Bench(quick)
    bench.begin("quick")
    bench.turn(failed_start(bench, bench.replace("quick", ("COMPLETED",))))
    row = bench.rows["i1"]
    assert (row.status, row.execution_id) == ("FAILED", "x2")

    bench.turn(failed_start(bench, bench.replace("quick", ("COMPLETED",), execution="x3")))
    assert bench.rows["i1"] == row
    # Nobody sends such a thing.
    other = bench.child_start("quick", id="i3", parent=P1)
    forged = msgspec.structs.replace(failed_start(bench, other), instance_id="i2")
    assert bench.turn(forged, id="i2").notes
    assert "i2" not in bench.rows
