"""External events, suspension and continue-as-new, as the runtime handles them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from durabletask_azure.core.actions import (
    SendEvent,
)
from durabletask_azure.core.composite import when_all
from tests.unit.play import Play


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


def test_several_events_of_a_name_that_come_before_they_are_waited_for_are_found_one_by_one() -> None:
    async def flow(ctx: Any) -> list[Any]:
        await ctx.call_activity("a")
        return [await ctx.wait_for_external_event("early") for _ in range(3)]

    play = Play(flow)
    play.start(play.raised("early", 1), play.raised("Early", 2))
    play.turn(play.completed(1))
    assert play.completion is None
    play.turn(play.raised("early", 3))
    assert play.result == [1, 2, 3]


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
    play.turn(
        play.fired(1), play.fired(7), play.completed(7), play.failed(7), play.child_failed(2), play.first
    )
    assert play.completion is None
    play.turn(play.completed(2, 1))
    assert play.result == 1
