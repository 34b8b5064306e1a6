"""Values on their way out of a turn: where they are stored, and what happens when they cannot be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from durabletask_azure.core.codec import DataConverter
from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.history import (
    EventRaisedEvent,
    ExecutionStartedEvent,
    ExecutionTerminatedEvent,
    Parent,
    SubOrchestrationInstanceCompletedEvent,
    SubOrchestrationInstanceFailedEvent,
)
from durabletask_azure.core.payloads import BlobRef, payload_prefix
from durabletask_azure.core.replay import RuntimeOptions
from tests.unit.bench import (
    Bench,
    bodies,
    to_activities,
    to_partition,
)

PARENT = Parent("p", "px", 1, "parent")
BIG = "x" * 2_000


async def waits(ctx: Any, value: Any) -> Any:
    return await ctx.wait_for_external_event("go")


async def family(ctx: Any, value: Any) -> Any:
    await ctx.call_sub_orchestrator("waits", instance_id="first", input=value)
    return await ctx.call_sub_orchestrator("waits", instance_id="second", input=value)


# ------------------------------------------------------------ spilled values


def test_b110_values_are_stored_where_they_are_read() -> None:
    async def spills(ctx: Any, value: Any) -> Any:
        ctx.set_custom_status(value + "s")
        ctx.send_event("other", "hello", data=value + "e")
        await ctx.call_activity("work", input=value + "a", tags={"k": value})
        return await ctx.call_sub_orchestrator("child", instance_id="kid", input=value + "c")

    bench = Bench(spills, payload_inline_bytes_max=1_000)
    bench.insert("spills", BIG)
    turn = bench.turn(bench.wake_up())
    event, activity = turn.outbound
    ref = to_partition(event).message.body
    assert isinstance(ref, EventRaisedEvent)
    assert isinstance(ref.input, BlobRef)
    assert ref.input.name.startswith(payload_prefix(0, "other"))
    task = to_activities(activity).task
    assert isinstance(task.input, BlobRef)
    assert isinstance(task.tags, BlobRef)
    assert task.input.name.startswith(payload_prefix(0, "i1"))
    assert json.loads(bench.payloads[task.input.name]) == BIG + "a"
    status = bench.rows["i1"].custom_status
    assert isinstance(status, BlobRef)
    assert json.loads(bench.payloads[status.name]) == BIG + "s"
    turn = bench.turn(bench.task_done(1 + 1, "small"))
    started = to_partition(turn.outbound[0]).message.body
    assert isinstance(started, ExecutionStartedEvent)
    assert isinstance(started.input, BlobRef)
    assert started.input.name.startswith(f"{payload_prefix(0, 'kid')}{started.execution_id}/")


@pytest.mark.parametrize("is_failing", [False, True])
def test_a_spilled_answer_is_stored_for_the_parent_too(is_failing: bool) -> None:
    async def answers(ctx: Any, value: Any) -> Any:
        if is_failing:
            raise ValueError(BIG)
        return BIG

    bench = Bench(answers, payload_inline_bytes_max=1_000)
    turn = bench.turn(bench.child_start("answers", parent=PARENT))
    body = bodies(turn.outbound)[0]
    assert isinstance(body, (SubOrchestrationInstanceCompletedEvent, SubOrchestrationInstanceFailedEvent))
    copy = body.failure if isinstance(body, SubOrchestrationInstanceFailedEvent) else body.result
    own = bench.rows["i1"].failure if is_failing else bench.rows["i1"].output
    assert isinstance(copy, BlobRef)
    assert isinstance(own, BlobRef)
    assert copy.name.startswith(f"{payload_prefix(0, 'p')}px/")
    assert own.name.startswith(payload_prefix(0, "i1"))
    assert bench.payloads[copy.name] == bench.payloads[own.name]


def test_a_spilled_answer_of_a_top_level_instance_is_stored_once() -> None:
    async def answers(ctx: Any, value: Any) -> Any:
        if value:
            raise ValueError(BIG)
        return BIG

    bench = Bench(answers, payload_inline_bytes_max=1_000)
    bench.begin("answers")
    bench.begin("answers", 1, id="i2", execution="x2")
    assert isinstance(bench.rows["i1"].output, BlobRef)
    assert isinstance(bench.rows["i2"].failure, BlobRef)
    assert len(bench.payloads) == 2


def test_a_spilled_output_of_a_termination_stays_with_the_parent() -> None:
    bench = Bench(family)
    bench.begin("family")
    ref = BlobRef(name="p000/x/-/y", size=9)
    order = ExecutionTerminatedEvent(timestamp=bench.now, input=ref, recurse=True, source_id="t")
    turn = bench.turn(bench.message(order))
    assert bench.rows["i1"].output == ref
    body = bodies(turn.outbound)[0]
    assert isinstance(body, ExecutionTerminatedEvent)
    assert body.input is None


def test_tags_and_carried_events_outlive_the_execution_they_were_stored_by() -> None:
    async def moves(ctx: Any, value: Any) -> Any:
        if value == 0:
            return [ctx.tags["k"], await ctx.wait_for_external_event("b")]
        ctx.continue_as_new(value - 1, save_events=True)
        return None

    bench = Bench(moves, payload_inline_bytes_max=1_000, executions_kept=1)
    tags = BlobRef(name=f"{payload_prefix(0, 'i1')}x1/tags", size=2_000)
    data = BlobRef(name=f"{payload_prefix(0, 'i1')}x1/data", size=2_000)
    bench.payloads = {tags.name: json.dumps({"k": BIG}), data.name: json.dumps("event")}
    event = EventRaisedEvent(timestamp=bench.now, name="b", input=data, source_id="e1")
    bench.insert("moves", 6, tags=tags, kept=(bench.message(event),))
    bench.turn(bench.wake_up())
    while bench.rows["i1"].status == "RUNNING":
        bench.turn()
    output = bench.rows["i1"].output
    assert isinstance(output, BlobRef)
    assert json.loads(bench.payloads[output.name]) == [BIG, "event"]


# ------------------------------------------------------------ what cannot be stored


@pytest.mark.parametrize("what", ["input", "status", "result", "event", "child", "continue"])
def test_b112_a_value_over_the_cap_fails_the_instance_and_nothing_else_is_scheduled(what: str) -> None:
    async def too_much(ctx: Any, value: Any) -> Any:
        huge = "x" * 5_000
        ctx.set_custom_status("small" if what != "status" else huge)
        ctx.call_activity("small", input="y" * 1_500)
        if what == "input":
            await ctx.call_activity("work", input=huge)
        elif what == "event":
            ctx.send_event("other", "hello", data=huge)
        elif what == "child":
            await ctx.call_sub_orchestrator("child", input=huge)
        elif what == "continue":
            ctx.continue_as_new(huge)
        elif what == "result":
            return huge
        return None

    bench = Bench(too_much, payload_inline_bytes_max=1_000, payload_bytes_max=4_000)
    turn = bench.begin("too_much")
    row = bench.rows["i1"]
    assert row.status == "FAILED"
    assert isinstance(row.failure, FailureDetails)
    assert row.failure.error_type == "PayloadTooLargeError"
    assert "at most 4,000 are allowed" in row.failure.message
    assert (turn.outbound, turn.uploads, row.custom_status) == ((), {}, None)
    assert bench.kinds() == ["OrchestratorStarted", "ExecutionStarted", "ExecutionCompleted"]


@pytest.mark.parametrize("what", ["activity", "tags", "failure"])
def test_b80_what_no_json_can_hold_fails_the_instance_alone(what: str) -> None:
    async def odd(ctx: Any, value: Any) -> Any:
        if what == "activity":
            await ctx.call_activity("half \ud800 a pair")
        elif what == "tags":
            await ctx.call_activity("work", tags={"k": "\ud800"})
        raise ValueError("half \ud800 a pair")

    bench = Bench(odd)
    turn = bench.begin("odd")
    row = bench.rows["i1"]
    assert row.status == "FAILED"
    assert isinstance(row.failure, FailureDetails)
    assert row.failure.error_type.endswith("ValueError" if what == "failure" else ".ConfigurationError")
    assert turn.outbound == ()


def test_a_converter_that_makes_text_no_utf8_can_hold_fails_the_instance_alone() -> None:
    class Odd(DataConverter):
        def serialize(self, value: Any) -> str | None:
            return "\ud800"

        def deserialize(self, data: str | None, target_type: Any = None) -> Any:
            return data

    async def returns(ctx: Any, value: Any) -> Any:
        return 1

    bench = Bench(returns)
    bench.options = RuntimeOptions(codec=Odd())
    bench.begin("returns")
    assert bench.rows["i1"].status == "FAILED"


def test_properties_of_an_error_that_json_cannot_hold_are_kept_as_text() -> None:
    async def raises(ctx: Any, value: Any) -> Any:
        raise ValueError("no")

    bench = Bench(raises)
    bench.options = RuntimeOptions(
        exception_properties=lambda error: {"code": 5, "odd": {1j}, "half": "\ud800"}
    )
    bench.begin("raises")
    recorded = bench.rows["i1"].failure
    assert isinstance(recorded, FailureDetails)
    assert recorded.properties == {"code": 5, "odd": "{1j}", "half": "'\\ud800'"}


def test_b81_a_failure_over_the_inline_limit_is_spilled() -> None:
    async def raises(ctx: Any, value: Any) -> Any:
        raise ValueError("x" * 5_000_000)

    bench = Bench(raises)
    bench.options = RuntimeOptions(failure_text_bytes_max=64 * 1024)
    bench.begin("raises")
    ref = bench.rows["i1"].failure
    assert isinstance(ref, BlobRef)
    recorded = json.loads(bench.payloads[ref.name])
    assert len(recorded["message"]) <= 64 * 1024
    assert "truncated: 5,000,000 bytes" in recorded["message"]
