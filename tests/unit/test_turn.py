"""A turn as a whole: what is written and sent, families, tags, the custom status."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.history import (
    ExecutionCompletedEvent,
    ExecutionTerminatedEvent,
    Parent,
    Sender,
    SubOrchestrationInstanceCompletedEvent,
    SubOrchestrationInstanceCreatedEvent,
    SubOrchestrationInstanceFailedEvent,
    TimerFiredEvent,
)
from durabletask_azure.core.messages import StartInstance
from durabletask_azure.core.turn import overdue_timers
from tests.unit.bench import (
    Bench,
    after,
    bodies,
    failure,
    ids,
    put_back,
    to_activities,
    to_partition,
)

PARENT = Parent("p", "px", 1, "parent")


async def one_activity(ctx: Any, value: Any) -> Any:
    return await ctx.call_activity("work", input=value)


async def waits(ctx: Any, value: Any) -> Any:
    return await ctx.wait_for_external_event("go")


async def family(ctx: Any, value: Any) -> Any:
    await ctx.call_sub_orchestrator("waits", instance_id="first", input=value)
    return await ctx.call_sub_orchestrator("waits", instance_id="second", input=value)


# ------------------------------------------------------------ what a turn sends


def test_the_messages_of_a_turn_are_those_of_its_events() -> None:
    async def everything(ctx: Any, value: Any) -> Any:
        ctx.send_event("other", "hello", data=1)
        ctx.call_activity("work")
        ctx.call_sub_orchestrator("child", instance_id="kid")
        await ctx.create_timer(timedelta(seconds=60))

    bench = Bench(everything)
    turn = bench.begin("everything")
    assert [type(body).__name__ for body in bodies(turn.outbound)] == [
        "EventRaisedEvent",
        "ExecutionStartedEvent",
        "TimerFiredEvent",
    ]
    assert to_activities(turn.outbound[1]).task.name == "work"
    assert to_partition(turn.outbound[3]).deliver_at == after(60)
    assert len(set(ids(turn.outbound))) == 4
    assert not turn.is_empty


def test_the_answer_of_a_child_goes_to_its_parents_execution() -> None:
    bench = Bench(waits)
    bench.turn(bench.child_start("waits", parent=PARENT))
    turn = bench.turn(bench.raised("go", 7))
    message = to_partition(turn.outbound[0]).message
    assert (message.instance_id, message.execution_id, message.sender) == ("p", "px", Sender(0, 2))
    assert isinstance(message.body, SubOrchestrationInstanceCompletedEvent)
    assert message.body.result == "7"


@pytest.mark.parametrize("kind", ["terminated", "failed"])
def test_a_child_that_is_ended_from_outside_answers_all_the_same(kind: str) -> None:
    bench = Bench(waits)
    bench.turn(bench.child_start("waits", parent=PARENT))
    turn = bench.turn(bench.terminated() if kind == "terminated" else bench.fail())
    body = bodies(turn.outbound)[0]
    assert isinstance(body, SubOrchestrationInstanceFailedEvent)
    assert isinstance(body.failure, FailureDetails)
    assert kind in body.failure.message or body.failure == failure("poison")


def test_an_activity_nobody_waits_for_is_sent_and_sent_again_a_timer_is_not() -> None:
    async def leaves(ctx: Any, value: Any) -> None:
        ctx.call_activity("work")
        ctx.call_sub_orchestrator("child", instance_id="kid")
        ctx.create_timer(timedelta(seconds=60))

    bench = Bench(leaves, is_confirming=False)
    turn = bench.begin("leaves")
    assert bench.rows["i1"].status == "COMPLETED"
    assert [type(out).__name__ for out in turn.outbound] == ["ToActivities", "ToPartition"]
    assert tuple(bench.unsent("i1", 0)) == turn.outbound


def test_timers_that_were_cancelled_are_not_sent_or_taken_from_the_queue() -> None:
    async def races(ctx: Any, value: Any) -> None:
        at_once = ctx.create_timer(timedelta(hours=2))
        at_once.cancel()
        near, far = ctx.create_timer(timedelta(minutes=5)), ctx.create_timer(timedelta(hours=5))
        await ctx.wait_for_external_event("go")
        near.cancel()
        far.cancel()
        await ctx.wait_for_external_event("go")

    bench = Bench(races)
    assert len(bench.begin("races").outbound) == 2
    turn = bench.turn(bench.raised("go"))
    assert turn.cancels == (ids(bench.unsent("i1", 0))[2],)
    bench.turn(bench.fired(1, after(7200)), at=after(7200))
    assert bench.kinds().count("TimerFired") == 1


def test_overdue_timers_are_those_beyond_the_grace() -> None:
    async def two(ctx: Any, value: Any) -> str:
        first, second = ctx.create_timer(timedelta(seconds=60)), ctx.create_timer(timedelta(seconds=90))
        await first
        await second
        return "both"

    bench = Bench(two)
    bench.insert("two")
    assert overdue_timers(bench.load("i1"), after(600), 30) == []
    bench.turn(bench.wake_up())
    instance = bench.load("i1")
    assert overdue_timers(instance, after(90), 30) == []
    (one,) = overdue_timers(instance, after(91), 30)
    assert isinstance(one.message.body, TimerFiredEvent)
    both = [inbound.message for inbound in overdue_timers(instance, after(121), 30)]
    bench.turn(*both, bench.fired(1, after(60)), at=after(121))
    assert bench.rows["i1"].output == '"both"'


# ------------------------------------------------------------ termination of families


def test_b93_a_recursive_termination_goes_on_to_the_children_still_open() -> None:
    bench = Bench(family, waits)
    start = bench.begin("family")
    bench.turn(bench.child_done(1))
    turn = bench.turn(bench.terminated("over", recurse=True))
    (order,) = [to_partition(out).message for out in turn.outbound]
    assert (order.instance_id, type(order.body)) == ("second", ExecutionTerminatedEvent)
    child_start = to_partition(start.outbound[0]).message
    bench.turn(child_start, id="first")
    second = [out for out in bench.unsent("i1", 1) if to_partition(out).message.instance_id == "second"]
    bench.turn(to_partition(second[0]).message, order, id="second")
    assert (bench.rows["second"].status, bench.rows["second"].output) == ("TERMINATED", '"over"')
    assert bench.turn(order, id="second").is_empty


def test_a_termination_that_is_not_recursive_leaves_children_alone() -> None:
    bench = Bench(family)
    bench.begin("family")
    assert bench.turn(bench.terminated()).outbound == ()


def test_a_cascade_does_not_end_an_instance_that_only_has_the_childs_id() -> None:
    bench = Bench(family, waits)
    bench.begin("family")
    bench.begin("waits", id="first", execution="other")
    turn = bench.turn(bench.terminated(recurse=True))
    order = to_partition(turn.outbound[0]).message
    assert order.instance_id == "first"
    assert bench.turn(order, id="first").is_empty
    assert bench.rows["first"].status == "RUNNING"


# ------------------------------------------------------------ tags, status, families


def test_b49_the_tags_of_a_parent_merge_into_the_childs_and_the_childs_own_override() -> None:
    async def parent(ctx: Any, value: Any) -> Any:
        ctx.call_sub_orchestrator("child", instance_id="with", tags={"b": "own", "c": "3"})
        ctx.call_sub_orchestrator("child", instance_id="without")
        await ctx.call_activity("work", tags={"t": "1"})

    async def child(ctx: Any, value: Any) -> Any:
        ctx.call_sub_orchestrator("grandchild", instance_id="deep")
        return ctx.tags

    bench = Bench(parent, child)
    turn = bench.begin("parent", tags='{"a":"1","b":"2"}')
    for start in turn.outbound[:2]:
        message = to_partition(start).message
        turn = bench.turn(message, id=message.instance_id)
    assert bench.rows["with"].output == '{"a":"1","b":"own","c":"3"}'
    assert bench.rows["without"].output == '{"a":"1","b":"2"}'
    created = bench.history("without")[2]
    assert isinstance(created, SubOrchestrationInstanceCreatedEvent)
    assert created.tags == '{"a":"1","b":"2"}'


def test_a_child_without_tags_has_none() -> None:
    bench = Bench(family)
    bench.begin("family")
    created = bench.history()[2]
    assert isinstance(created, SubOrchestrationInstanceCreatedEvent)
    assert created.tags is None


def test_b96_the_custom_status_stays_until_it_is_set_again() -> None:
    async def tells(ctx: Any, value: Any) -> Any:
        ctx.set_custom_status("one")
        await ctx.wait_for_external_event("go")
        await ctx.wait_for_external_event("go")
        ctx.set_custom_status(None)
        return 1

    bench = Bench(tells)
    bench.begin("tells")
    bench.turn(bench.raised("go"))
    assert bench.rows["i1"].custom_status == '"one"'
    bench.turn(bench.raised("go"))
    assert bench.rows["i1"].custom_status is None


def test_a_turn_that_is_not_committed_leaves_no_trace_in_the_next() -> None:
    bench = Bench(one_activity)
    bench.insert("one_activity")
    start = bench.message(StartInstance())
    lost = bench.turn(start, is_committed=False)
    bench.warm.clear()
    again = bench.turn(start)
    assert ids(lost.outbound) == ids(again.outbound)
    assert lost.writes() == again.writes()


def test_a_turn_without_anything_to_do_is_empty() -> None:
    bench = Bench(waits)
    assert bench.turn().is_empty
    bench.begin("waits")
    assert bench.turn().is_empty
    assert put_back(bench.turn()) == []
    bench.turn(bench.raised("go"))
    assert bench.turn().is_empty
    completed = bench.history()[-1]
    assert isinstance(completed, ExecutionCompletedEvent)
