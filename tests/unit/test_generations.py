"""Continue-as-new: what one execution hands to the next, and when past ones go; histories in segments."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from durabletask_azure.core.history import (
    ExecutionStartedEvent,
    Sender,
)
from durabletask_azure.core.rows import PastExecution
from tests.unit.bench import (
    Bench,
    after,
    replaced,
)


async def waits(ctx: Any, value: Any) -> Any:
    return await ctx.wait_for_external_event("go")


async def collects(ctx: Any, value: Any) -> None:
    """Adds one event to its input and continues as new."""
    got = await ctx.wait_for_external_event("a")
    ctx.continue_as_new([*(value or []), got], save_events=True)


async def forgets(ctx: Any, value: Any) -> None:
    await ctx.wait_for_external_event("a")
    ctx.continue_as_new(None)


async def counts(ctx: Any, value: Any) -> Any:
    if value == 0:
        return "done"
    ctx.continue_as_new(value - 1)
    return None


# ------------------------------------------------------------ continue-as-new


def test_b60_each_generation_is_a_turn_of_its_own_and_needs_no_message() -> None:
    bench = Bench(counts)
    bench.begin("counts", 3)
    assert bench.rows["i1"].ready
    generations = [bench.rows["i1"].execution_id]
    while bench.rows["i1"].status == "RUNNING":
        bench.turn()
        generations.append(bench.rows["i1"].execution_id)
    row = bench.rows["i1"]
    assert (row.output, row.generation, row.ready) == ('"done"', 3, False)
    assert len({"x1", *generations}) == 4
    assert len(row.past) == 3


def test_a_waiting_generation_meets_events_that_came_before_its_first_turn() -> None:
    bench = Bench(collects)
    bench.begin("collects")
    bench.turn(bench.raised("a", 1))
    assert bench.rows["i1"].ready
    bench.turn(bench.raised("a", 2))
    bench.turn()
    assert bench.rows["i1"].input == "[1,2]"
    assert not bench.rows["i1"].ready


def test_f20_an_event_behind_continue_as_new_in_the_same_batch_is_carried_over_once() -> None:
    for orchestrator in (collects, forgets):
        bench = Bench(orchestrator)
        bench.begin(orchestrator.__name__)
        second = bench.raised("a", 2, source="e2")
        bench.turn(bench.raised("a", 1, source="e1"), second, bench.suspended("s1"), bench.resumed("r1"))
        started = bench.history()[1]
        assert isinstance(started, ExecutionStartedEvent)
        assert [event.source_id for event in started.carried] == ["e2"]
        assert bench.kinds()[2:] == ["ExecutionSuspended", "ExecutionResumed"]
        # the same event again, before and after the generation's first turn
        bench.turn(second)
        assert bench.rows["i1"].generation == 2
        bench.turn(second)
        assert bench.rows["i1"].generation == 2


def test_b61_events_nobody_waited_for_are_carried_or_dropped_as_asked() -> None:
    for orchestrator, carried in ((collects, ["b1"]), (forgets, [])):
        bench = Bench(orchestrator)
        bench.begin(orchestrator.__name__)
        bench.turn(bench.raised("b", source="b1"))
        bench.turn(bench.raised("a"))
        started = bench.history()[1]
        assert isinstance(started, ExecutionStartedEvent)
        assert [event.source_id for event in started.carried] == carried
        assert "b1" in [seen.id for seen in started.seen]


def test_seen_ids_are_kept_an_hour_and_those_of_unconfirmed_senders_longer() -> None:
    bench = Bench(collects)
    bench.confirmed = {3: 4, 5: 9}
    bench.begin("collects")
    bench.turn(
        bench.raised("b", source="old"),
        bench.raised("b", source="unconfirmed", sender=Sender(3, 5)),
        bench.raised("b", source="unheard of", sender=Sender(4, 1)),
        bench.raised("b", source="confirmed", sender=Sender(5, 9)),
    )
    bench.now = after(3601)
    bench.turn(bench.raised("a", source="new"))
    started = bench.history()[1]
    assert isinstance(started, ExecutionStartedEvent)
    # carried events are known by themselves
    assert {seen.id for seen in started.seen} == {"unconfirmed", "unheard of", "new"}
    assert bench.turn(bench.raised("b", source="old")).is_empty is False
    bench.confirmed = {3: 5, 4: 1, 5: 9}
    bench.now = after(10_000)
    bench.turn(bench.raised("a", source="newer"))
    started = bench.history()[1]
    assert isinstance(started, ExecutionStartedEvent)
    assert {seen.id for seen in started.seen} == {"newer"}


def test_b62_continue_as_new_changes_the_version() -> None:
    async def moves(ctx: Any, value: Any) -> Any:
        if ctx.version == "2":
            return ctx.version
        ctx.continue_as_new(None, new_version="2")
        return None

    bench = Bench(moves)
    bench.begin("moves", version="1")
    bench.turn()
    assert (bench.rows["i1"].version, bench.rows["i1"].output) == ("2", '"2"')


def test_tasks_left_open_by_continue_as_new_are_sent_and_their_results_dropped() -> None:
    async def leaves(ctx: Any, value: Any) -> Any:
        if value:
            return value
        ctx.call_activity("work")
        ctx.create_timer(timedelta(seconds=60))
        ctx.continue_as_new(1)
        return None

    bench = Bench(leaves, is_confirming=False)
    turn = bench.begin("leaves")
    assert [type(out).__name__ for out in turn.outbound] == ["ToActivities"]
    assert tuple(bench.unsent("i1", 0)) == turn.outbound
    assert bench.turn(bench.task_done(1), bench.fired(1, after(60))).notes


def test_a_new_generation_without_code_waits_with_a_reason() -> None:
    bench = Bench(counts)
    bench.begin("counts", 1)
    here, bench.registry = bench.registry, Bench().registry
    bench.warm.clear()
    bench.turn()
    assert bench.rows["i1"].ready
    assert bench.rows["i1"].reason is not None
    assert bench.turn().is_empty
    bench.registry = here
    bench.turn()
    assert bench.rows["i1"].output == '"done"'


def test_a_waiting_generation_can_be_terminated() -> None:
    bench = Bench(counts)
    bench.begin("counts", 5)
    bench.turn(bench.terminated())
    assert (bench.rows["i1"].status, bench.rows["i1"].ready) == ("TERMINATED", False)


# ------------------------------------------------------------ past executions


def test_b66_past_executions_are_trimmed_but_only_when_sent() -> None:
    bench = Bench(counts, is_confirming=False, executions_kept=2)
    bench.begin("counts", 8)
    for _ in range(4):
        bench.turn()
    assert len(bench.rows["i1"].past) == 5
    bench.sent = 3
    turn = bench.turn()
    row = bench.rows["i1"]
    assert [past.commit for past in row.past] == [4, 5, 6]
    assert len(turn.writes()) == 1 + 3
    assert len(turn.dropped_payloads) == 3
    assert {key[1] for key in bench.segments} == {past.execution_id for past in row.past}


def test_b68_a_thousand_generations_leave_storage_flat() -> None:
    bench = Bench(counts, executions_kept=3)
    bench.begin("counts", 200)
    while bench.rows["i1"].status == "RUNNING":
        bench.turn()
    assert len(bench.segments) == 3
    assert bench.rows["i1"].generation == 200


def past_rows(bench: Bench, *past: PastExecution) -> None:
    """Have a pending row name earlier executions, with their segments in storage."""
    row = bench.insert("counts", 0, execution="x9")
    bench.rows["i1"] = replaced(row, past=past)
    for one in past:
        for index in range(one.segments):
            bench.segments["i1", one.execution_id, index] = b""


def test_a_past_execution_without_segments_needs_no_deletion() -> None:
    bench = Bench(counts, executions_kept=0)
    past_rows(bench, PastExecution("x0", 0, 0, readable=False))
    turn = bench.turn(bench.wake_up())
    assert len(turn.writes()) == 1
    assert bench.rows["i1"].past == ()


def test_a_very_long_past_execution_goes_over_several_turns() -> None:
    bench = Bench(waits, executions_kept=0)
    bench.registry.add_orchestrator(waits, name="counts")
    past_rows(bench, PastExecution("x0", 150, 0), PastExecution("x1", 3, 0))
    turns = 0
    while bench.rows["i1"].past:
        turn = bench.turn(bench.suspended(f"s{turns}"))
        turns += 1
        assert all(not past.readable for past in bench.rows["i1"].past if past.execution_id == "x0")
        assert len(turn.writes()) <= 3
    assert turns > 1
    assert bench.segments == {}


# ------------------------------------------------------------ long histories


def test_a_history_over_the_inline_limit_moves_to_segments() -> None:
    bench = Bench(collects, history_inline_bytes_max=1_000, segment_bytes_max=700)
    bench.begin("collects")
    staged = 0
    for index in range(30):
        turn = bench.turn(*(bench.raised("b", "y" * 50) for _ in range(3)))
        staged += len(turn.segments)
        assert len(bench.rows["i1"].tail) <= 1_000, index
    assert bench.rows["i1"].segments == staged > 5
    assert bench.kinds().count("EventRaised") == 90
