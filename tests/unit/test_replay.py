"""The runtime: histories in, decisions out. Every turn is also run from nothing, see ``play.py``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from durabletask_azure.core.actions import (
    Completed,
    CreateTimer,
    Decision,
    ScheduleTask,
    StartSubOrchestration,
)
from durabletask_azure.core.composite import when_all, when_any
from durabletask_azure.core.history import (
    ContinuedEvent,
    EventRaisedEvent,
    ExecutionTerminatedEvent,
    OrchestratorStartedEvent,
    Parent,
    SubOrchestrationInstanceCompletedEvent,
    TaskCompletedEvent,
    TaskFailedEvent,
)
from durabletask_azure.core.payloads import BlobRef
from durabletask_azure.core.replay import Execution, RuntimeOptions, execute
from durabletask_azure.errors import TaskFailedError
from tests.unit.play import T0, Play, define, failure


def typed_activity(ctx: Any, amount: int) -> list[datetime]: ...


def typed_child(ctx: Any, amount: int) -> set[int]: ...


def test_a_chain_of_activities() -> None:
    async def flow(ctx: Any, n: int) -> int:
        total = 0
        for index in range(n):
            total += await ctx.call_activity("add", input=index)
        return total

    play = Play(flow, 3)
    assert play.start().actions == (ScheduleTask(id=1, name="add", input="0"),)
    assert play.turn(play.completed(1, 10)).actions == (ScheduleTask(id=2, name="add", input="1"),)
    play.turn(play.completed(2, 20))
    play.turn(play.completed(3, 30))
    assert play.result == 60
    assert play.live.is_finished
    assert play.live.events_replayed == 0
    play.live.recorded(play.past)
    play.live.close()


def test_generator_and_async_decide_the_same() -> None:
    def generator(ctx: Any) -> Generator[Any, Any, Any]:
        try:
            yield ctx.call_activity("bad")
        except TaskFailedError as error:
            ctx.set_custom_status(error.details.message)
        winner: Any = yield when_any(
            [ctx.create_timer(timedelta(hours=1)), ctx.wait_for_external_event("go")]
        )
        both: Any = yield when_all([ctx.call_activity("a"), ctx.call_activity("b")])
        return [winner.get_result(), both, ctx.new_uuid()]

    async def coroutine(ctx: Any) -> Any:
        try:
            await ctx.call_activity("bad")
        except TaskFailedError as error:
            ctx.set_custom_status(error.details.message)
        winner = await when_any([ctx.create_timer(timedelta(hours=1)), ctx.wait_for_external_event("go")])
        both = await when_all([ctx.call_activity("a"), ctx.call_activity("b")])
        return [winner.get_result(), both, ctx.new_uuid()]

    decisions: list[list[Decision]] = []
    for orchestrator in (generator, coroutine):
        play = Play(orchestrator)
        decisions.append(
            [
                play.start(),
                play.turn(play.failed(1)),
                play.turn(play.raised("GO", "now")),
                play.turn(play.completed(4, "b"), play.completed(3, "a")),
            ]
        )
        assert play.result[:2] == ["now", ["a", "b"]]
    assert decisions[0] == decisions[1]


@pytest.mark.parametrize("yielded", [None, 5, "text", asyncio.sleep])
def test_a_generator_that_yields_something_else_fails(yielded: Any) -> None:
    closed: list[str] = []

    def flow(ctx: Any) -> Any:
        try:
            yield yielded
        finally:
            closed.append("closed")

    play = Play(flow, cold=False)
    play.start()
    assert play.failure.error_type == "TypeError"
    assert "not a durable task" in play.failure.message
    assert closed == ["closed"]


def test_an_async_generator_is_refused() -> None:
    async def flow(ctx: Any) -> Any:
        yield ctx.call_activity("a")

    play = Play(flow)
    play.start()
    assert "async generator" in play.failure.message


def test_a_plain_function_may_return_a_task() -> None:
    def flow(ctx: Any) -> Any:
        return ctx.call_activity("a")

    play = Play(flow)
    play.start()
    play.turn(play.completed(1, 4))
    assert play.result == 4


def test_results_are_rebuilt_by_return_type_or_annotation() -> None:
    async def flow(ctx: Any) -> list[str]:
        found = [
            await ctx.call_activity(typed_activity),
            await ctx.call_sub_orchestrator(typed_child),
            await ctx.call_activity("named", return_type=timedelta),
            await ctx.wait_for_external_event("e", data_type=set[str]),
            await ctx.call_activity("named"),
        ]
        return [type(value).__name__ for value in found] + [type(found[0][0]).__name__]

    play = Play(flow)
    play.start()
    play.turn(play.completed(1, ["2026-01-01T00:00:00"]))
    play.turn(play.child_completed(2, [1]))
    play.turn(play.completed(3, "PT5S"))
    play.turn(play.raised("e", ["a"]))
    play.turn(play.completed(4, "raw"))
    assert play.result == ["list", "set", "timedelta", "set", "str", "datetime"]


def test_a_result_that_does_not_fit_raises_where_it_is_awaited() -> None:
    async def flow(ctx: Any) -> str:
        try:
            await ctx.call_activity("a", return_type=timedelta)
        except TypeError as error:
            return str(error)
        return ""

    play = Play(flow)
    play.start()
    play.turn(play.completed(1, ["no"]))
    assert "does not fit timedelta" in play.result


def test_an_input_that_does_not_fit_and_a_result_that_cannot_be_stored_fail() -> None:
    async def flow(ctx: Any, when: datetime) -> object:
        return object()

    play = Play(flow, "no time")
    play.start()
    assert play.failure.error_type == "durabletask_azure.errors.SerializationError"
    play = Play(flow, "2026-01-01T00:00:00")
    play.start()
    assert "object cannot be stored" in play.failure.message


def test_what_the_context_knows() -> None:
    zone = timezone(timedelta(hours=2))

    async def flow(ctx: Any) -> list[Any]:
        first = [ctx.new_uuid(), ctx.new_uuid()]
        known = [ctx.instance_id, ctx.execution_id, ctx.parent_instance_id, ctx.version, ctx.tags]
        before = ctx.current_utc_datetime
        replayed = [ctx.is_replaying]
        await ctx.create_timer(datetime(2027, 1, 1))  # noqa: DTZ001 - means UTC
        await ctx.create_timer(datetime(2027, 1, 1, tzinfo=zone))
        return [
            *known,
            before.isoformat(),
            ctx.current_utc_datetime.isoformat(),
            first[0] != first[1],
            *replayed,
        ]

    parent = Parent(instance_id="p", execution_id="px", task_id=1)
    play = Play(flow, version="1.0", parent=parent, tags='{"team":"a"}')
    play.start()
    play.wait(days=365)
    play.turn(play.fired(1))
    # The clock does not go back.
    play.wait(days=-10)
    decision = play.live.run([OrchestratorStartedEvent(timestamp=play.now), play.fired(2)], {})
    first, second = play.actions
    assert isinstance(first, CreateTimer)
    assert isinstance(second, CreateTimer)
    assert (first.fire_at.isoformat(), second.fire_at.isoformat()) == (
        "2027-01-01T00:00:00+00:00",
        "2026-12-31T22:00:00+00:00",
    )
    play.decision = decision
    assert play.result == [
        "i1",
        "x1",
        "p",
        "1.0",
        {"team": "a"},
        "2026-01-01T00:00:00",
        "2027-01-01T00:00:00",
        True,
        False,
    ]


def test_timestamps_without_a_zone_are_utc_and_the_clock_starts_at_the_first() -> None:
    async def flow(ctx: Any) -> str:
        return ctx.current_utc_datetime.isoformat()

    play = Play(flow)
    play.now = datetime(2026, 5, 5)  # noqa: DTZ001 - means UTC
    play.start()
    assert play.result == "2026-05-05T00:00:00"


def test_is_replaying_and_the_logger_tell_old_from_new(caplog: pytest.LogCaptureFixture) -> None:
    async def flow(ctx: Any) -> None:
        logger = ctx.create_replay_safe_logger(logging.getLogger("flow"))
        logger.warning("one %s", ctx.is_replaying)
        await ctx.call_activity("a")
        logger.warning("two %s", ctx.is_replaying)
        logger.debug("too quiet")

    play = Play(flow, cold=False)
    play.start()
    caplog.clear()
    execute(play.definition, play.past, [play.completed(1)], options=play.options, loaded={})
    assert [record.getMessage() for record in caplog.records] == ["two False"]


def test_uuids_are_the_same_in_each_replay_and_differ_between_generations() -> None:
    async def flow(ctx: Any) -> str:
        return ctx.new_uuid()

    results: list[str] = []
    variants: list[dict[str, Any]] = [{}, {"execution_id": "x2"}, {"generation": 1}]
    for options in variants:
        play = Play(flow, **options)
        play.start()
        results.append(play.result)
    assert results[0] == results[1] != results[2]


def test_sub_orchestrations_merge_tags_and_generate_ids() -> None:
    async def flow(ctx: Any) -> Any:
        tasks = [
            ctx.call_sub_orchestrator("child", input={"a": 1}, tags={"b": "own"}),
            ctx.call_sub_orchestrator(typed_child, instance_id="mine", version="2"),
        ]
        results = [await task for task in tasks]
        return [results[0], sorted(results[1])]

    play = Play(flow, tags='{"a":"p","b":"p"}', options=RuntimeOptions(default_version="1"))
    assert play.start().actions == (
        StartSubOrchestration(
            id=1,
            name="child",
            instance_id="x1:0001",
            input='{"a":1}',
            version="1",
            tags={"a": "p", "b": "own"},
        ),
        StartSubOrchestration(
            id=2, name="typed_child", instance_id="mine", version="2", tags={"a": "p", "b": "p"}
        ),
    )
    # A task's completion is not a child's.
    play.turn(play.completed(1, 1), play.failed(2), play.child_completed(1, 5))
    play.turn(play.child_completed(2, [1]))
    assert play.result == [5, [1]]


def test_a_childs_failure_keeps_its_cause() -> None:
    async def flow(ctx: Any) -> None:
        await ctx.call_sub_orchestrator("child")

    play = Play(flow)
    play.start()
    inner = failure("deep", inner_failure=failure("deeper"))
    play.turn(play.child_failed(1, inner))
    assert play.failure.inner_failure == inner
    assert play.failure.message == "sub-orchestration 'child' (task 1) failed: deep"


def test_custom_status_is_reported_when_set() -> None:
    async def flow(ctx: Any) -> None:
        ctx.set_custom_status({"step": 1})
        await ctx.call_activity("a")
        await ctx.call_activity("b")
        ctx.set_custom_status(None)

    play = Play(flow)
    statuses = [
        (decision.custom_status, decision.custom_status_set)
        for decision in (play.start(), play.turn(play.completed(1)), play.turn(play.completed(2)))
    ]
    assert statuses == [('{"step":1}', True), ('{"step":1}', False), (None, True)]


def test_spilled_values_are_taken_from_what_was_loaded() -> None:
    def ref(name: str) -> BlobRef:
        return BlobRef(name=name, size=1)

    async def flow(ctx: Any, value: str) -> list[Any]:
        found: list[Any] = [value, await ctx.call_activity("a"), await ctx.wait_for_external_event("e")]
        for call in (ctx.call_activity("b"), ctx.call_sub_orchestrator("c"), ctx.call_activity("d")):
            try:
                found.append(await call)
            except Exception as error:
                found.append(str(error))
        return found

    loaded = {
        "in": '"in"',
        "out": '"out"',
        "event": '"event"',
        "fail": msgspec.json.encode(failure("stored")).decode(),
    }
    play = Play(flow, input=None, loaded=loaded)
    play.first = msgspec.structs.replace(play.first, input=ref("in"))
    play.start()
    play.turn(TaskCompletedEvent(timestamp=T0, task_scheduled_id=1, result=ref("out")))
    play.turn(EventRaisedEvent(timestamp=T0, name="e", input=ref("event")))
    play.turn(TaskFailedEvent(timestamp=T0, task_scheduled_id=2, failure=ref("fail")))
    play.turn(SubOrchestrationInstanceCompletedEvent(timestamp=T0, task_scheduled_id=3, result=ref("gone")))
    play.turn(TaskFailedEvent(timestamp=T0, task_scheduled_id=4, failure=ref("gone")))
    assert play.result[:3] == ["in", "out", "event"]
    assert "stored" in play.result[3]
    assert "gone (1 bytes) is missing" in play.result[4]
    assert "details are missing" in play.result[5]


def test_a_missing_input_or_event_fails_where_it_is_needed() -> None:
    async def flow(ctx: Any, value: Any) -> Any:
        return await ctx.wait_for_external_event("e")

    gone = BlobRef(name="gone", size=1)
    play = Play(flow, tags=gone)
    play.first = msgspec.structs.replace(play.first, input=gone)
    play.start()
    assert "gone (1 bytes) is missing" in play.failure.message
    play = Play(flow)
    play.start(EventRaisedEvent(timestamp=T0, name="e", input=gone))
    assert play.failure.error_type.endswith("PayloadMissingError")


@pytest.mark.parametrize("tags", ["https://example.invalid/", "[]", '{"a":1}'])
def test_a_start_with_tags_that_cannot_be_read_fails(tags: str) -> None:
    async def flow(ctx: Any) -> None:
        raise AssertionError("it ran")

    play = Play(flow, tags=tags)
    play.start()
    assert "the tags that it was started with cannot be read" in play.failure.message
    assert play.failure.error_type.endswith("InstanceUnreadableError")


def test_spilled_details_of_a_failure_that_cannot_be_read_are_said_to_be_so() -> None:
    async def flow(ctx: Any) -> None:
        await ctx.call_activity("a")

    details = BlobRef(name="details", size=1)
    play = Play(flow, loaded={"details": "[]"})
    play.start()
    play.turn(TaskFailedEvent(timestamp=T0, task_scheduled_id=1, failure=details))
    assert "its details cannot be read" in play.failure.message


def test_a_terminated_or_ended_history_runs_nothing() -> None:
    async def flow(ctx: Any) -> None:
        await ctx.call_activity("a")

    play = Play(flow, cold=False)
    play.start()
    decision = play.live.run([ExecutionTerminatedEvent(timestamp=T0), play.completed(1)], {})
    assert decision == Decision(unfed=1)
    assert play.live.is_finished
    for end in (ExecutionTerminatedEvent(timestamp=T0), ContinuedEvent(timestamp=T0)):
        past = [*play.past, end]
        assert execute(
            play.definition, past, [play.completed(1)], options=play.options, loaded={}
        ) == Decision(unfed=1)


def test_a_warm_execution_replays_nothing_and_a_cold_one_everything() -> None:
    async def flow(ctx: Any) -> None:
        for _ in range(10):
            await ctx.call_activity("a")

    play = Play(flow)
    play.start()
    for n in range(9):
        play.turn(play.completed(n + 1))
    cold = Execution(play.definition, play.options)
    cold.replay(play.past, {})
    assert (play.live.events_replayed, cold.events_replayed) == (0, len(play.past))
    assert cold.run([play.completed(10)], {}).completion is not None
    cold.close()


def test_code_that_now_ends_earlier_completes_in_the_next_turn() -> None:
    async def long(ctx: Any) -> str:
        await ctx.wait_for_external_event("a")
        return await ctx.wait_for_external_event("b")

    async def short(ctx: Any) -> str:
        return "short"

    play = Play(long)
    play.start()
    play.turn(play.raised("a"))
    decision = execute(define(short), play.past, [play.raised("a")], options=RuntimeOptions(), loaded={})
    assert decision.unfed == 1
    assert isinstance(decision.completion, Completed)
