"""Timers longer than ``maximum_timer_interval``: made of parts, the same for the orchestrator, and safe to change."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

from durabletask_azure.core.actions import Completed, CreateTimer, Decision
from durabletask_azure.core.composite import when_any
from durabletask_azure.core.history import OrchestratorStartedEvent
from durabletask_azure.core.replay import RuntimeOptions, execute
from durabletask_azure.core.retry import RetryPolicy
from tests.unit.play import T0, Play

DAY = timedelta(days=1)
DAYS_3 = RuntimeOptions(maximum_timer_interval=3 * DAY)


def timers(play: Play) -> list[tuple[datetime, datetime | None]]:
    return [
        (action.fire_at, action.final_fire_at) for action in play.actions if isinstance(action, CreateTimer)
    ]


async def week(ctx: Any, value: Any) -> str:
    timer = ctx.create_timer(7 * DAY)
    assert timer.fire_at == T0 + 7 * DAY
    await timer
    return str(ctx.current_utc_datetime)


def week_generator(ctx: Any, value: Any) -> Any:
    yield ctx.create_timer(7 * DAY)
    return str(ctx.current_utc_datetime)


async def week_of_sleep(ctx: Any, value: Any) -> str:
    await asyncio.sleep(7 * 24 * 3600)
    return str(ctx.current_utc_datetime)


def fire_in_parts(play: Play) -> None:
    play.start()
    play.wait(days=3)
    play.turn(play.fired(1))
    play.wait(days=3)
    play.turn(play.fired(2))
    assert play.completion is None
    play.wait(days=1)
    play.turn(play.fired(3))


def test_a_long_timer_is_made_of_parts_that_follow_one_another() -> None:
    for orchestrator in (week, week_generator, week_of_sleep):
        play = Play(orchestrator, options=DAYS_3)
        fire_in_parts(play)
        end = T0 + 7 * DAY
        assert timers(play) == [(T0 + 3 * DAY, end), (T0 + 6 * DAY, end), (end, None)]
        assert play.result == str(end.replace(tzinfo=None))


def test_a_timer_within_the_limit_is_one_timer() -> None:
    async def short(ctx: Any, value: Any) -> str:
        await ctx.create_timer(3 * DAY)
        await ctx.create_timer(datetime(2020, 1, 1))  # noqa: DTZ001 - means UTC, and is long past
        return "over"

    play = Play(short, options=DAYS_3)
    play.start()
    play.wait(days=3)
    play.turn(play.fired(1))
    play.turn(play.fired(2))
    assert play.result == "over"
    assert [final for _, final in timers(play)] == [None, None]


def test_parts_count_from_when_the_last_one_was_seen_to_fire() -> None:
    play = Play(week, options=DAYS_3)
    play.start()
    play.wait(days=6.5)  # nobody worked for a while
    play.turn(play.fired(1))
    end = T0 + 7 * DAY
    assert timers(play) == [(T0 + 3 * DAY, end), (end, None)]
    play.wait(days=0.5)
    play.turn(play.fired(2))
    assert play.result == str(end.replace(tzinfo=None))


def test_a_part_is_cancelled_with_its_timer() -> None:
    async def race(ctx: Any, value: Any) -> str:
        timer, event = ctx.create_timer(7 * DAY), ctx.wait_for_external_event("go")
        await when_any([timer, event])
        timer.cancel()
        await ctx.wait_for_external_event("end")
        return f"{timer.is_cancelled}"

    play = Play(race, options=DAYS_3)
    play.start()
    play.wait(days=3)
    play.turn(play.fired(1))
    decision = play.turn(play.raised("go"))
    assert decision.cancelled_timers == (2,)
    play.turn(play.fired(2))
    assert len(timers(play)) == 2
    play.turn(play.raised("end"))
    assert play.result == "True"


def test_the_pause_of_a_retry_is_made_of_parts_too() -> None:
    policy = RetryPolicy(first_retry_interval=5 * DAY, max_number_of_attempts=2)

    async def stubborn(ctx: Any, value: Any) -> Any:
        return await ctx.call_activity("work", retry_policy=policy)

    play = Play(stubborn, options=DAYS_3)
    play.start()
    play.turn(play.failed(1))
    play.wait(days=3)
    play.turn(play.fired(2))
    play.wait(days=2)
    play.turn(play.fired(3))
    play.turn(play.completed(4, "done"))
    assert play.result == "done"


def again(play: Play, options: RuntimeOptions) -> Decision:
    """Replay what was played with other options, and go on with the last timer's firing."""
    play.now = T0 + 7 * DAY
    last = max(action.id for action in play.actions)
    new = [OrchestratorStartedEvent(timestamp=play.now), play.fired(last)]
    return execute(play.definition, play.past, new, options=options, loaded={})


def test_a_limit_may_change_while_a_long_timer_runs() -> None:
    end = str((T0 + 7 * DAY).replace(tzinfo=None))
    limits = [None, 1 * DAY, 3 * DAY, 30 * DAY]
    for before in limits:
        for after in limits:
            play = Play(week, options=RuntimeOptions(maximum_timer_interval=before))
            play.start()
            decision = again(play, RuntimeOptions(maximum_timer_interval=after))
            if before is not None and before < 7 * DAY:
                # The first part was all that was asked for: its end comes late here, and the rest is due at once.
                assert decision.actions == (CreateTimer(id=2, fire_at=T0 + 7 * DAY),)
            else:
                assert isinstance(decision.completion, Completed), (before, after, decision)
                assert end in str(decision.completion.result)
