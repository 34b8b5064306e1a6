"""Rewind and reset: where a history is cut, what is copied, what is sent again, and what becomes of the children."""

from __future__ import annotations

from typing import Any

import pytest

from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.history import (
    EventSentEvent,
    ExecutionRewoundEvent,
    ExecutionStartedEvent,
    SubOrchestrationInstanceFailedEvent,
    TimerFiredEvent,
    decode_events,
)
from durabletask_azure.core.messages import (
    Message,
    ResetInstance,
    RewindInstance,
)
from durabletask_azure.core.payloads import BlobRef
from durabletask_azure.core.rewind import reset_point, rewind_point, split_unrun
from durabletask_azure.core.turn import Turn
from tests.unit.bench import (
    Bench,
    after,
    bodies,
    ids,
    put_back,
    replaced,
    to_activities,
)


async def two(ctx: Any, _: Any) -> list[Any]:
    return [await ctx.call_activity("a"), await ctx.call_activity("b")]


async def waits(ctx: Any, _: Any) -> Any:
    return await ctx.wait_for_external_event("go")


async def quick(ctx: Any, value: Any) -> Any:
    return value


async def boom(ctx: Any, _: Any) -> None:
    raise KeyError("boom")


async def tells(ctx: Any, _: Any) -> Any:
    ctx.send_event("other", "news")
    short, far = ctx.create_timer(after(60)), ctx.create_timer(after(1e6))
    await ctx.call_activity("a")
    await short
    await far


def rewind(
    bench: Bench, next: str = "x2", *, execution: str | None = "x1", reason: str | None = None
) -> Message:
    return bench.message(RewindInstance(next_execution_id=next, reason=reason), execution=execution)


def reset(
    bench: Bench, turn: int, next: str = "x2", *, keep_events: bool = True, execution: str | None = "x1"
) -> Message:
    bench.warm.clear()  # the engine has it loaded anew
    body = ResetInstance(next_execution_id=next, turn=turn, keep_events=keep_events)
    return bench.message(body, execution=execution)


def point(bench: Bench) -> int:
    failure = bench.rows["i1"].failure
    assert isinstance(failure, FailureDetails)
    return rewind_point(bench.history(), failure)


def failed_at_b(bench: Bench) -> Turn:
    """Play ``two`` to the failure of its second activity."""
    bench.begin("two")
    bench.turn(bench.task_done(1, "A"))
    return bench.turn(bench.task_failed(2))


# ------------------------------------------------------------ rewind


def test_a_rewound_instance_sends_what_failed_again_and_replays_the_rest() -> None:
    bench = Bench(two)
    failed_at_b(bench)
    old = bench.history()
    turn = bench.turn(rewind(bench, reason="why"))
    row = bench.rows["i1"]
    assert (row.execution_id, row.status, row.ready, row.failure) == ("x2", "RUNNING", True, None)
    assert [to_activities(out).task.execution_id for out in turn.outbound] == ["x2"]
    assert [to_activities(out).task.task_id for out in turn.outbound] == [2]
    assert bench.kinds() == [
        *("OrchestratorStarted", "ExecutionStarted", "TaskScheduled"),
        *("OrchestratorStarted", "TaskCompleted", "TaskScheduled"),
        *("OrchestratorStarted", "ExecutionRewound"),
    ]
    rewound = bench.history()[-1]
    assert isinstance(rewound, ExecutionRewoundEvent)
    assert (rewound.reason, rewound.former_execution_id) == ("why", "x1")
    started = bench.history()[1]
    assert isinstance(started, ExecutionStartedEvent)
    assert (started.execution_id, started.sources) == ("x2", ("x1",))
    # The old history is what it was.
    assert decode_events(bench.lines("i1", "x1", row.past[0].segments)) == old
    # The code runs in the next turn: it has nothing new to do.
    assert bench.turn().outbound == ()
    assert bench.rows["i1"].ready is False
    bench.turn(bench.task_done(2, "B", execution="x2"))
    assert bench.rows["i1"].output == '["A","B"]'


async def three(ctx: Any, _: Any) -> list[Any]:
    return [await ctx.call_activity(name) for name in ("a", "b", "c")]


def test_what_was_rewound_is_rewound_again_and_its_history_tells_of_each() -> None:
    bench = Bench(three)
    bench.begin("three")
    for number, (task, step) in enumerate(((1, "a"), (1, "a again"), (2, "b")), start=1):
        bench.turn(replaced(bench.task_failed(task), execution_id=f"x{number}"))
        bench.turn(rewind(bench, f"x{number + 1}", execution=f"x{number}", reason=step))
        bench.turn()
        if step == "a again":
            bench.turn(bench.task_done(1, execution="x3"))
    events = bench.history()
    told = [event for event in events if isinstance(event, ExecutionRewoundEvent)]
    assert [event.reason for event in told] == ["a", "a again", "b"]
    assert [event.former_execution_id for event in told] == ["x1", "x2", "x3"]
    bench.turn(bench.task_done(2, execution="x4"))
    bench.turn(bench.task_done(3, execution="x4"))
    assert bench.rows["i1"].status == "COMPLETED"
    assert [past.execution_id for past in bench.rows["i1"].past] == ["x1", "x2", "x3"]


def test_a_second_copy_of_a_rewind_and_old_results_are_dropped() -> None:
    bench = Bench(two)
    failed_at_b(bench)
    order = rewind(bench)
    bench.turn(order)
    bench.turn()
    assert bench.turn(order).is_empty
    assert bench.turn(bench.task_done(2, "late")).is_empty
    assert bench.rows["i1"].status == "RUNNING"


@pytest.mark.parametrize("status", ["RUNNING", "COMPLETED", "TERMINATED"])
def test_only_what_failed_is_rewound(status: str) -> None:
    bench = Bench(waits)
    bench.begin("waits")
    if status == "COMPLETED":
        bench.turn(bench.raised("go"))
    elif status == "TERMINATED":
        bench.turn(bench.terminated())
    turn = bench.turn(reset_to_rewind(bench))
    assert turn.is_empty
    assert f"is {status}: only failed ones" in turn.notes[0]


def test_a_late_rewind_does_not_disturb_an_instance_that_runs_again() -> None:
    bench = Bench(waits)
    bench.begin("waits")
    turn = bench.turn(bench.message(RewindInstance(next_execution_id="x2")))
    assert "is RUNNING: only failed ones" in turn.notes[0]
    bench.turn(bench.raised("go", 1))
    assert bench.rows["i1"].status == "COMPLETED"


def reset_to_rewind(bench: Bench) -> Message:
    bench.warm.clear()
    return rewind(bench)


def test_an_order_for_an_instance_that_is_not_there_is_dropped() -> None:
    bench = Bench(waits)
    turn = bench.turn(rewind(bench), reset(bench, 0))
    assert turn.is_empty
    assert len(turn.notes) == 2


def test_an_order_behind_what_ends_the_instance_comes_back() -> None:
    bench = Bench(waits)
    bench.begin("waits")
    turn = bench.turn(bench.replace("waits", ("RUNNING",)), reset(bench, 0))
    again = [message for message, _ in put_back(turn) if isinstance(message.body, ResetInstance)]
    assert len(again) == 1
    bench.turn(again[0])
    assert (bench.rows["i1"].execution_id, bench.rows["i1"].status) == ("x2", "RUNNING")


def test_a_failure_of_no_action_runs_from_the_start_again() -> None:
    bench = Bench(boom)
    bench.begin("boom")
    bench.turn(rewind(bench))
    bench.registry.add_orchestrator(quick, name="boom2")
    assert bench.kinds() == ["OrchestratorStarted", "ExecutionStarted", "ExecutionRewound"]
    bench.turn()
    assert bench.rows["i1"].status == "FAILED"


def test_what_waits_for_its_code_is_rewound_without_it() -> None:
    bench = Bench(two)
    failed_at_b(bench)
    order = rewind(bench)
    bench.registry = Bench().registry
    bench.turn(order)
    bench.turn()
    assert (bench.rows["i1"].status, bench.rows["i1"].execution_id) == ("RUNNING", "x2")
    assert bench.rows["i1"].reason is not None


def test_events_right_behind_a_rewind_wait_for_its_first_turn() -> None:
    bench = Bench(waits)
    bench.begin("waits")
    bench.turn(bench.fail())
    turn = bench.turn(rewind(bench), bench.raised("go", 5))
    assert (len(bench.rows["i1"].kept), turn.eventless) == (1, ())
    bench.turn()
    assert (bench.rows["i1"].status, bench.rows["i1"].output) == ("COMPLETED", "5")


def test_a_termination_right_behind_a_rewind_ends_it() -> None:
    bench = Bench(two)
    failed_at_b(bench)
    bench.turn(rewind(bench), bench.terminated())
    row = bench.rows["i1"]
    assert (row.status, row.execution_id, row.ready) == ("TERMINATED", "x2", False)


def test_what_the_old_execution_had_not_sent_is_still_sent_once() -> None:
    bench = Bench(tells, is_confirming=False)
    begun = bench.begin("tells")
    bench.turn(bench.fail())
    turn = bench.turn(rewind(bench))
    # The event goes out under the old execution's id only; task and timers again, under the new one's.
    told = [out for out in bench.unsent("i1", 0) if ids([out]) == ids(begun.outbound[:1])]
    assert len(told) == 1
    kept = [event for event in bench.history() if isinstance(event, EventSentEvent)]
    assert [event.commit for event in kept] == [0]
    assert len(turn.outbound) == 3
    assert [body.timer_id for body in bodies(turn.outbound) if isinstance(body, TimerFiredEvent)] == [2, 3]
    assert set(ids(turn.outbound)).isdisjoint(ids(begun.outbound))
    # The far timer of the old execution need not stay in the queue.
    assert turn.cancels == (ids(begun.outbound)[2],)


def test_a_timer_that_fired_before_the_failure_is_not_set_again() -> None:
    bench = Bench(tells)
    bench.begin("tells")
    bench.now = after(60)
    bench.turn(bench.fired(2, after(60)))
    bench.turn(bench.fail())
    turn = bench.turn(rewind(bench))
    assert [body.timer_id for body in bodies(turn.outbound) if isinstance(body, TimerFiredEvent)] == [3]
    assert bench.kinds()[-3:] == ["OrchestratorStarted", "TimerFired", "ExecutionRewound"]


def test_open_tasks_of_the_prefix_come_back_after_a_change_of_owner() -> None:
    bench = Bench(two)
    failed_at_b(bench)
    turn = bench.turn(rewind(bench))
    assert tuple(bench.unsent("i1", bench.n - 1)) == turn.outbound
    assert bench.unsent("i1", bench.n) == []


# ------------------------------------------------------------ where it is cut


async def cleans_up(ctx: Any, _: Any) -> Any:
    first = await ctx.call_activity("a")
    try:
        return [first, await ctx.call_activity("b")]
    except Exception:
        await ctx.call_activity("clean up")
        raise


def test_what_followed_the_failure_that_was_passed_on_is_cut_off() -> None:
    bench = Bench(cleans_up)
    bench.begin("cleans_up")
    bench.turn(bench.task_done(1))
    bench.turn(bench.task_failed(2))
    bench.turn(bench.task_done(3))
    assert bench.rows["i1"].status == "FAILED"
    events = bench.history()
    assert [event.event_id for event in events[: point(bench)] if event.event_id > 0] == [1, 2]
    turn = bench.turn(rewind(bench))
    assert [to_activities(out).task.task_id for out in turn.outbound] == [2]


def test_the_failure_is_looked_into_when_it_was_spilled_and_passed_by_when_it_is_lost() -> None:
    for is_lost in (False, True):
        bench = Bench(cleans_up, payload_inline_bytes_max=400)
        bench.begin("cleans_up")
        bench.turn(bench.task_done(1))
        bench.turn(bench.task_failed(2))
        bench.turn(bench.task_done(3))
        assert isinstance(bench.rows["i1"].failure, BlobRef)
        if is_lost:
            bench.payloads.clear()
        turn = bench.turn(rewind(bench))
        assert [to_activities(out).task.task_id for out in turn.outbound] == ([] if is_lost else [2])


async def handles(ctx: Any, _: Any) -> Any:
    try:
        await ctx.call_activity("a")
    except Exception:
        await ctx.call_activity("instead")
    await ctx.call_activity("b")
    raise KeyError("own")


def test_a_failure_that_was_handled_is_kept() -> None:
    bench = Bench(handles)
    bench.begin("handles")
    bench.turn(bench.task_failed(1))
    bench.turn(bench.task_done(2))
    bench.turn(bench.task_done(3))
    events = bench.history()
    assert bench.rows["i1"].status == "FAILED"
    assert [event.event_id for event in events[: point(bench)] if event.event_id > 0] == [1, 2, 3]
    turn = bench.turn(rewind(bench))
    assert turn.outbound == ()
    assert bench.kinds()[-3:] == ["OrchestratorStarted", "TaskCompleted", "ExecutionRewound"]


async def outer_and_own(ctx: Any, _: Any) -> Any:
    await ctx.call_activity("x")
    return await ctx.call_sub_orchestrator("child", instance_id="c")


def test_a_childs_failure_that_quotes_a_task_of_its_own_is_not_taken_for_ours() -> None:
    bench = Bench(outer_and_own)
    bench.begin("outer_and_own")
    bench.turn(bench.task_done(1))
    inner = FailureDetails(message="activity 'x' (task 1) failed: boom", error_type="TaskFailedError")
    body = SubOrchestrationInstanceFailedEvent(timestamp=bench.now, task_scheduled_id=2, failure=inner)
    bench.turn(bench.message(body, execution="x1"))
    events = bench.history()
    assert [event.event_id for event in events[: point(bench)] if event.event_id > 0] == [1, 2]


def test_the_first_turn_goes_with_the_next_if_it_took_no_action() -> None:
    bench = Bench(waits)
    bench.begin("waits")
    bench.turn(bench.raised("other"))
    events = bench.history()
    assert [reset_point(events, turn) for turn in (0, 1)] == [0, 0]
    bench.turn(bench.raised("go"))
    events = bench.history()
    assert [reset_point(events, turn) for turn in (0, 1, 2)] == [0, 0, 4]
    with pytest.raises(IndexError, match="turn 3: the history has 3 turns"):
        reset_point(events, 3)
    with pytest.raises(IndexError):
        reset_point(events, -1)


def test_a_history_that_has_not_run_is_split_at_its_last_turn() -> None:
    bench = Bench(two)
    failed_at_b(bench)
    bench.turn(rewind(bench))
    past, new = split_unrun(bench.history())
    assert (len(past), len(new)) == (6, 2)
