"""Reset: what a history keeps, what is given again, and what is called off or handed over."""

from __future__ import annotations

from typing import Any

from durabletask_azure.core.history import (
    ExecutionStartedEvent,
    ExecutionTerminatedEvent,
    Handover,
    Parent,
)
from durabletask_azure.core.messages import (
    ContinuedChild,
    Message,
    ResetInstance,
    RewindInstance,
    StartInstance,
)
from durabletask_azure.core.rewind import reset_point
from durabletask_azure.core.rows import PastExecution
from tests.unit.bench import (
    Bench,
    after,
    bodies,
    ids,
    replaced,
    to_activities,
    to_partition,
)


async def two(ctx: Any, _: Any) -> list[Any]:
    return [await ctx.call_activity("a"), await ctx.call_activity("b")]


async def waits(ctx: Any, _: Any) -> Any:
    return await ctx.wait_for_external_event("go")


async def boom(ctx: Any, _: Any) -> None:
    raise KeyError("boom")


async def parent(ctx: Any, _: Any) -> Any:
    return await ctx.call_sub_orchestrator("child", instance_id="c")


async def late_parent(ctx: Any, _: Any) -> Any:
    await ctx.call_activity("a")
    child, far = ctx.call_sub_orchestrator("child", instance_id="c"), ctx.create_timer(after(9e6))
    return [await child, await far]


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


def test_a_reset_drops_results_and_gives_events_again() -> None:
    async def flow(ctx: Any, _: Any) -> Any:
        return [
            await ctx.call_activity("a"),
            await ctx.wait_for_external_event("go"),
            await ctx.call_activity("b"),
        ]

    bench = Bench(flow)
    bench.begin("flow")
    bench.turn(bench.task_done(1, "A"))
    bench.turn(bench.raised("go", "G", source="e1"))
    bench.turn(bench.task_done(2, "B"))
    assert bench.rows["i1"].status == "COMPLETED"
    turn = bench.turn(reset(bench, 1))
    assert [to_activities(out).task.task_id for out in turn.outbound] == [1]
    assert bench.kinds()[3:] == ["OrchestratorStarted", "EventRaised", "ExecutionRewound"]
    bench.turn()
    # the same event once more is still a duplicate
    assert bench.turn(bench.raised("go", "G", source="e1")).is_empty
    bench.turn(bench.task_done(1, "A2", execution="x2"))
    bench.turn(bench.task_done(2, "B2", execution="x2"))
    assert bench.rows["i1"].output == '["A2","G","B2"]'
    assert [past.sources for past in bench.rows["i1"].past] == [()]
    bench.turn(reset(bench, 0, "x3", keep_events=False, execution="x2"))
    assert bench.kinds() == ["OrchestratorStarted", "ExecutionStarted", "ExecutionRewound"]
    assert [past.sources for past in bench.rows["i1"].past] == [(), ("x1",)]
    bench.turn()
    assert bench.turn(bench.raised("go", "G", source="e1")).is_empty


def test_a_reset_keeps_an_instance_suspended() -> None:
    bench = Bench(two)
    bench.begin("two")
    bench.turn(bench.task_done(1))
    bench.turn(bench.suspended())
    bench.turn(reset(bench, 1))
    assert bench.rows["i1"].status == "SUSPENDED"
    bench.turn()
    bench.turn(bench.task_done(1, execution="x2"))
    assert bench.kinds()[-1] == "TaskCompleted"
    bench.turn(bench.resumed())
    assert bench.rows["i1"].status == "RUNNING"
    assert bench.kinds()[-1] == "TaskScheduled"


def test_a_generation_that_began_with_a_message_at_hand_is_cut_before_both() -> None:
    async def flow(ctx: Any, number: int) -> Any:
        if number:
            return [await ctx.call_activity("a"), await ctx.wait_for_external_event("go")]
        ctx.continue_as_new(1)

    bench = Bench(flow)
    bench.begin("flow", 0)
    bench.turn(bench.raised("go", "G"))
    assert bench.kinds() == [
        *("OrchestratorStarted", "ExecutionStarted", "OrchestratorStarted", "EventRaised", "TaskScheduled")
    ]
    execution = bench.rows["i1"].execution_id
    turn = bench.turn(reset(bench, 1, execution=execution))
    assert turn.outbound == ()
    assert bench.turn().outbound
    bench.turn(bench.task_done(1, "A", execution="x2"))
    assert bench.rows["i1"].output == '["A","G"]'


def test_a_turn_in_which_the_parent_changed_is_a_turn_like_any_other() -> None:
    bench = Bench(two)
    bench.turn(bench.child_start("two", parent=Parent("p", "px", 1, "parent")))
    bench.turn(bench.task_done(1, "A", execution="c1"), bench.task_done(9, "unknown", execution="c1"))
    start = bench.start_of("two", id="i1", execution="c2", parent=Parent("p", "py", 1, "parent"))
    bench.turn(bench.message(ContinuedChild(start=start, formers=("px",), handover=Handover())))
    kinds = bench.kinds()
    assert kinds[-1] == "ExecutionRewound"
    assert kinds.count("OrchestratorStarted") == 2
    assert reset_point(bench.history(), 1) == 3
    began, *_, told = bench.history()
    two_turns = bench.history()[:4]
    assert reset_point([*two_turns, told, began], 2) == len(two_turns) + 1


def test_a_reset_to_a_turn_that_is_not_there_is_dropped() -> None:
    bench = Bench(two)
    bench.begin("two")
    turn = bench.turn(reset(bench, 9))
    assert turn.is_empty
    assert "turn 9: the history has 1 turns" in turn.notes[0]


def test_a_pending_instance_is_started_first() -> None:
    bench = Bench(two)
    bench.insert("two")
    bench.turn(bench.message(StartInstance()), reset(bench, 0))
    assert bench.rows["i1"].execution_id == "x2"
    assert bench.kinds("i1")[:2] == ["OrchestratorStarted", "ExecutionStarted"]


def test_a_reset_terminates_the_children_started_since_and_cancels_far_timers() -> None:
    bench = Bench(late_parent)
    bench.begin("late_parent")
    begun = bench.turn(bench.task_done(1))
    turn = bench.turn(reset(bench, 1))
    (order,) = bodies(turn.eventless)
    assert isinstance(order, ExecutionTerminatedEvent)
    assert (order.recurse, order.parent_execution_id) == (True, "x1")
    assert to_partition(turn.eventless[0]).message.instance_id == "c"
    assert turn.cancels == (ids(begun.outbound)[1],)
    bench.turn()
    bench.turn(bench.task_done(1, execution="x2"))
    # The child of the new task takes the id of the one that was called off.
    started = [body for body in bodies(bench.unsent("i1", bench.n - 1)) if isinstance(body, ContinuedChild)]
    assert [(one.handover, one.formers, one.start.instance_id) for one in started] == [(None, ("x1",), "c")]


def test_children_of_the_prefix_are_handed_over() -> None:
    bench = Bench(parent)
    begun = bench.begin("parent")
    assert [type(body) for body in bodies(begun.outbound)] == [ExecutionStartedEvent]
    bench.turn(bench.child_failed(1))
    (first,) = bodies(bench.turn(rewind(bench, reason="why")).outbound)
    assert isinstance(first, ContinuedChild)
    assert (first.formers, first.handover) == (("x1",), Handover(rewind=True, reason="why"))
    assert first.start.parent == Parent("i1", "x2", 1, "parent")
    bench.turn()
    (second,) = bodies(bench.turn(reset(bench, 1, "x3", execution="x2")).outbound)
    assert isinstance(second, ContinuedChild)
    assert (second.formers, second.handover) == (("x1", "x2"), Handover())
    assert second.start.execution_id != first.start.execution_id


# ------------------------------------------------------------ spilled values


async def loads(ctx: Any, _: Any) -> Any:
    return [await ctx.call_activity("a"), len(await ctx.call_activity("b"))]


def test_values_of_a_copied_history_go_when_nobody_reads_them_any_more() -> None:
    bench = Bench(boom, waits, executions_kept=0)
    row = bench.insert("waits", None, execution="x9")
    bench.rows["i1"] = replaced(
        row,
        past=(
            PastExecution("x0", 0, 0),
            PastExecution("x1", 0, 0, sources=("x0",)),
        ),
    )
    turn = bench.turn(bench.wake_up())
    assert sorted(prefix.rsplit("/", 2)[1] for prefix in turn.dropped_payloads) == ["x0", "x1"]
    # One that was copied from x1 reads the values of both.
    bench = Bench(waits, executions_kept=0)
    bench.begin("waits")
    bench.turn(bench.fail())
    bench.turn(rewind(bench))
    turn = bench.turn()
    assert (bench.rows["i1"].past, turn.dropped_payloads) == ((), ())
    bench.turn(bench.fail())
    turn = bench.turn(bench.replace("waits", ("FAILED",), execution="x3"))
    turn = bench.turn(bench.suspended())
    assert sorted(prefix.rsplit("/", 2)[1] for prefix in turn.dropped_payloads) == ["x1", "x2"]
