"""The runtime: histories in, decisions out. Every turn is also run from nothing, see ``play.py``."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from durabletask_azure.core.actions import (
    CreateTimer,
    Decision,
    Failed,
    ScheduleTask,
    SendEvent,
    StartSubOrchestration,
)
from durabletask_azure.core.composite import when_all, when_any
from durabletask_azure.core.failures import FailureDetails
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
    def generator(ctx: Any) -> Any:
        try:
            yield ctx.call_activity("bad")
        except TaskFailedError as error:
            ctx.set_custom_status(error.details.message)
        winner = yield when_any([ctx.create_timer(timedelta(hours=1)), ctx.wait_for_external_event("go")])
        both = yield when_all([ctx.call_activity("a"), ctx.call_activity("b")])
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
        await ctx.create_timer(datetime(2027, 1, 1))
        await ctx.create_timer(datetime(2027, 1, 1, tzinfo=zone))
        return [*known, before.isoformat(), ctx.current_utc_datetime.isoformat(), first[0] != first[1], *replayed]

    parent = Parent(instance_id="p", execution_id="px", task_id=1)
    play = Play(flow, version="1.0", parent=parent, tags='{"team":"a"}')
    play.start()
    play.wait(days=365)
    play.turn(play.fired(1))
    # The clock does not go back.
    play.wait(days=-10)
    decision = play.live.run([OrchestratorStartedEvent(timestamp=play.now), play.fired(2)], {})
    first, second = play.actions
    assert isinstance(first, CreateTimer) and isinstance(second, CreateTimer)
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
    play.now = datetime(2026, 5, 5)
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
    for options in ({}, {"execution_id": "x2"}, {"generation": 1}):
        play = Play(flow, **options)
        play.start()
        results.append(play.result)
    assert results[0] == results[1] != results[2]


def test_external_events_are_ordered_buffered_and_case_insensitive() -> None:
    async def flow(ctx: Any) -> list[Any]:
        first, second = ctx.wait_for_external_event("Go"), ctx.wait_for_external_event("GO")
        found = [await second, await first]
        found.append(await ctx.wait_for_external_event("gO"))
        return [*found, await ctx.wait_for_external_event("early")]

    play = Play(flow)
    play.start(play.raised("EARLY", 0))
    play.turn(play.raised("go", 1), play.raised("go", 2), play.raised("go", 3))
    assert play.result == [2, 1, 3, 0]


def test_cancelled_waits_are_skipped_wherever_they_stand() -> None:
    async def flow(ctx: Any) -> list[Any]:
        waits = [ctx.wait_for_external_event("e") for _ in range(5)]
        waits[2].cancel()
        waits[0].cancel()
        waits[4].cancel()
        await ctx.call_activity("a")
        both = await when_all([waits[1], waits[3]])
        last = ctx.wait_for_external_event("e")
        last.cancel()
        return [*both, await ctx.wait_for_external_event("e")]

    play = Play(flow)
    play.start()
    play.turn(play.completed(1))
    for n in range(3):
        play.turn(play.raised("e", n))
    assert play.result == [0, 1, 2]


def test_an_event_wait_with_a_timeout_either_arrives_or_raises() -> None:
    async def flow(ctx: Any) -> list[Any]:
        found = [await ctx.wait_for_external_event("e", timeout=timedelta(minutes=1))]
        try:
            await ctx.wait_for_external_event("e", timeout=timedelta(minutes=1))
        except TimeoutError as error:
            found.append(str(error))
        return [*found, await ctx.wait_for_external_event("e", timeout=timedelta(minutes=1))]

    play = Play(flow)
    play.start()
    assert play.turn(play.raised("e", 1)).cancelled_timers == (1,)
    play.wait(minutes=1)
    play.turn(play.fired(2))
    play.turn(play.raised("e", 2), play.fired(3))
    assert play.result == [1, "no event 'e' arrived within 0:01:00", 2]


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


def test_events_are_sent_and_recorded() -> None:
    async def flow(ctx: Any) -> None:
        ctx.send_event("other", "Go", data=[1])
        ctx.send_event("other", "Stop")
        await ctx.call_activity("a")

    play = Play(flow)
    assert play.start().actions[:2] == (
        SendEvent(id=1, instance_id="other", name="Go", input="[1]"),
        SendEvent(id=2, instance_id="other", name="Stop"),
    )
    play.turn(play.completed(3))


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


def test_the_last_continue_as_new_wins_and_carries_what_nobody_took() -> None:
    async def flow(ctx: Any) -> None:
        ctx.continue_as_new(1)
        await ctx.wait_for_external_event("b")
        ctx.continue_as_new(2, save_events=True, new_version="v2")

    play = Play(flow)
    a, b, c = play.raised("a", 1, "s1"), play.raised("B", 2), play.raised("c", 3)
    late = play.raised("late")
    play.start(a)
    decision = play.turn(c, b, late, play.suspended())
    assert decision.unfed == 2
    assert (play.continued.input, play.continued.version, play.continued.carried) == ("2", "v2", (a, c))
    assert play.live.run([late], {}).unfed == 1
    assert isinstance(play.first, msgspec.Struct)
    again = Play(flow, carried=(b,))
    again.start()
    assert again.continued.carried == ()


def test_continue_as_new_drops_events_unless_told_and_is_void_on_failure() -> None:
    async def dropping(ctx: Any) -> None:
        ctx.call_activity("first")
        ctx.continue_as_new(1)

    play = Play(dropping)
    decision = play.start(play.raised("a"))
    assert (play.continued.carried, len(decision.actions)) == ((), 1)

    async def failing(ctx: Any) -> None:
        ctx.continue_as_new(1)
        raise ValueError("after all")

    play = Play(failing)
    play.start()
    assert play.failure.message == "after all"


def test_suspension_holds_events_back_until_resumed() -> None:
    async def flow(ctx: Any) -> list[Any]:
        first = await ctx.wait_for_external_event("a")
        return [first, await ctx.call_activity("b"), ctx.current_utc_datetime.isoformat()]

    play = Play(flow)
    play.start()
    assert play.turn(play.suspended(), play.raised("a", 1)).actions == ()
    play.wait(seconds=5)
    assert play.turn(play.raised("a", 2)).actions == ()
    assert [action.id for action in play.turn(play.resumed()).actions] == [1]
    # Actions of the turn are recorded after the suspension that follows in the same turn.
    play.turn(play.suspended())
    play.turn(play.completed(1, "b"))
    play.wait(seconds=5)
    play.turn(play.resumed())
    assert play.result == [1, "b", "2026-01-01T00:00:10"]


def test_an_execution_may_be_suspended_before_it_starts() -> None:
    async def flow(ctx: Any) -> Any:
        return await ctx.wait_for_external_event("a")

    play = Play(flow)
    play.turn(play.suspended(), play.first, play.raised("a", 1))
    assert play.completion is None
    play.turn(play.resumed())
    assert play.result == 1


def test_events_slept_through_are_carried_when_an_earlier_one_ends_the_execution() -> None:
    async def flow(ctx: Any) -> None:
        await ctx.call_activity("a")
        ctx.continue_as_new(1, save_events=True)

    play = Play(flow)
    play.start()
    event = play.raised("x", 1)
    play.turn(play.suspended(), play.completed(1), event, play.completed(9))
    play.turn(play.resumed())
    assert play.continued.carried == (event,)

    async def ending(ctx: Any) -> str:
        await ctx.call_activity("a")
        return "done"

    play = Play(ending)
    play.start()
    play.turn(play.suspended(), play.completed(1), play.raised("x", 1))
    play.turn(play.resumed())
    assert play.result == "done"


def test_completions_nobody_waits_for_are_ignored() -> None:
    async def flow(ctx: Any) -> Any:
        timer = ctx.create_timer(timedelta(seconds=1))
        timer.cancel()
        return await ctx.call_activity("a")

    play = Play(flow)
    assert play.start().cancelled_timers == (1,)
    play.turn(play.fired(1), play.fired(7), play.completed(7), play.failed(7), play.child_failed(2), play.first)
    assert play.completion is None
    play.turn(play.completed(2, 1))
    assert play.result == 1


def test_user_errors_are_described_with_cause_and_properties() -> None:
    async def flow(ctx: Any) -> None:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer") from error

    def properties(error: BaseException) -> dict[str, Any]:
        return {"name": type(error).__name__}

    play = Play(flow, options=RuntimeOptions(exception_properties=properties))
    play.start()
    assert (play.failure.message, play.failure.properties) == ("outer", {"name": "ValueError"})
    assert play.failure.inner_failure is not None
    assert play.failure.inner_failure.error_type == "KeyError"
    assert "raise ValueError" in (play.failure.stack_trace or "")

    def broken(_: BaseException) -> dict[str, Any]:
        raise LookupError

    play = Play(flow, options=RuntimeOptions(exception_properties=broken))
    play.start()
    assert play.failure.properties is None


@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError, GeneratorExit])
def test_even_errors_that_end_programs_end_only_the_orchestration(error: type[BaseException]) -> None:
    async def flow(ctx: Any) -> None:
        raise error

    play = Play(flow)
    play.start()
    assert play.failure.error_type.endswith(error.__name__)


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


def test_a_failure_without_details_still_fails() -> None:
    async def flow(ctx: Any) -> None:
        await ctx.call_activity("a")

    play = Play(flow)
    play.start()
    play.turn(TaskFailedEvent(timestamp=T0, task_scheduled_id=1))
    assert play.failure.inner_failure == FailureDetails(message="failed without details", error_type="")


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
        return "long"

    async def short(ctx: Any) -> str:
        return "short"

    play = Play(long)
    play.start()
    decision = execute(
        define(short), play.past, [play.raised("a")], options=RuntimeOptions(), loaded={}
    )
    assert decision.unfed == 1
    assert decision.completion is not None and not isinstance(decision.completion, Failed)


class TestArguments:
    """Every argument is checked at the call."""

    @pytest.mark.parametrize(
        ("call", "error"),
        [
            (lambda ctx: ctx.call_activity(5), "TypeError"),
            (lambda ctx: ctx.call_activity(""), "ValueError"),
            (lambda ctx: ctx.call_activity("x" * 251), "ValueError"),
            (lambda ctx: ctx.call_activity(lambda c, i: 1), "ValueError"),
            (lambda ctx: ctx.call_activity("a", input=object()), "SerializationError"),
            (lambda ctx: ctx.call_activity("a", retry_policy=3), "TypeError"),
            (lambda ctx: ctx.call_activity("a", tags={"a": 1}), "TypeError"),
            (lambda ctx: ctx.call_activity("a", tags=["a"]), "TypeError"),
            (lambda ctx: ctx.call_sub_orchestrator(None), "TypeError"),
            (lambda ctx: ctx.call_sub_orchestrator("a", instance_id=""), "ValueError"),
            (lambda ctx: ctx.call_sub_orchestrator("a", instance_id="x" * 501), "ValueError"),
            (lambda ctx: ctx.create_timer(5), "TypeError"),
            (lambda ctx: ctx.wait_for_external_event(""), "ValueError"),
            (lambda ctx: ctx.wait_for_external_event("a", timeout=5), "TypeError"),
            (lambda ctx: ctx.send_event("", "a"), "ValueError"),
            (lambda ctx: ctx.send_event("a", " "), "ValueError"),
            (lambda ctx: ctx.send_event("a", "b", data=object()), "SerializationError"),
            (lambda ctx: ctx.set_custom_status(object()), "SerializationError"),
            (lambda ctx: ctx.continue_as_new(object()), "SerializationError"),
        ],
    )
    def test_a_wrong_argument_raises_at_the_call(self, call: Any, error: str) -> None:
        async def flow(ctx: Any) -> str:
            try:
                call(ctx)
            except Exception as raised:
                return type(raised).__name__
            return "accepted"

        play = Play(flow)
        assert play.start().actions == ()
        assert play.result == error
