"""B20 to B27: durable timers and scheduled starts. Delays are real, so they are short."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from durabletask_azure import (
    ConfigurationError,
    OrchestrationContext,
    OrchestrationStatus,
    TaskHubWorker,
    history,
    when_all,
    when_any,
)
from tests.behaviours.stage import Stage

DAY = timedelta(days=1)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


@pytest.mark.parametrize("interval", [None, seconds(1), seconds(10)])
def test_b24_a_timer_longer_than_the_workers_limit_is_made_of_several(
    stage: Stage, interval: timedelta | None
) -> None:
    async def wait(ctx: OrchestrationContext, _: Any) -> list[Any]:
        fire_at = ctx.current_utc_datetime + seconds(1.2)
        timer = ctx.create_timer(fire_at)
        await timer
        return [ctx.current_utc_datetime >= fire_at, await ctx.wait_for_external_event("end")]

    worker = stage.worker(wait, maximum_timer_interval=interval)
    assert worker.maximum_timer_interval == interval
    instance = stage.client.schedule_new_orchestration(wait)
    parts = 2 if interval == seconds(1) else 1
    kinds = ["ExecutionStarted"] + parts * ["TimerCreated", "TimerFired"]
    stage.eventually(lambda: stage.events(instance) == kinds)
    stage.restart()
    stage.client.raise_orchestration_event(instance, "end", data="end")
    assert stage.completed(instance) == [True, "end"]


@pytest.mark.parametrize(
    "interval", [timedelta(0), -DAY, 3, timedelta(milliseconds=1), timedelta(milliseconds=999)]
)
def test_a_limit_of_timers_must_be_a_span(stage: Stage, interval: Any) -> None:
    with pytest.raises(ConfigurationError, match="maximum_timer_interval must be"):
        TaskHubWorker(stage.hub, maximum_timer_interval=interval)


@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.2])
def test_b20_a_timer_never_fires_early(stage: Stage, delay_s: float) -> None:
    async def wait(ctx: OrchestrationContext, delay_s: float) -> bool:
        fire_at = ctx.current_utc_datetime + seconds(delay_s)
        await ctx.create_timer(fire_at)
        return ctx.current_utc_datetime >= fire_at

    stage.worker(wait)
    before = datetime.now(UTC)
    assert stage.result(wait, delay_s, instance_id="early") is True
    assert datetime.now(UTC) - before >= seconds(delay_s)
    fired = [
        event
        for event in stage.client.get_orchestration_history("early")
        if isinstance(event, history.TimerFiredEvent)
    ]
    assert [event.timestamp >= event.fire_at for event in fired] == [True]


def test_b20_asyncio_sleep_is_a_durable_timer(stage: Stage) -> None:
    async def wait(ctx: OrchestrationContext, _: Any) -> float:
        before = ctx.current_utc_datetime
        await asyncio.sleep(0.1)
        return (ctx.current_utc_datetime - before).total_seconds()

    stage.worker(wait)
    assert stage.result(wait, instance_id="sleeps") >= 0.1
    assert stage.events("sleeps") == ["ExecutionStarted", "TimerCreated", "TimerFired", "ExecutionCompleted"]


def test_b21_the_timer_is_cancelled_when_the_event_wins(stage: Stage) -> None:
    async def approval(ctx: OrchestrationContext, _: Any) -> list[Any]:
        timer = ctx.create_timer(30 * DAY)
        event = ctx.wait_for_external_event("approved")
        winner = await when_any([timer, event])
        timer.cancel()
        return [winner is event, timer.is_cancelled, event.get_result()]

    stage.worker(approval)
    instance_id = stage.client.schedule_new_orchestration(approval)
    stage.client.wait_for_orchestration_start(instance_id)
    stage.client.raise_orchestration_event(instance_id, "approved", data="yes")
    assert stage.completed(instance_id) == [True, True, "yes"]
    assert "TimerFired" not in stage.events(instance_id)
    # Nobody waits for the instance any more, so its row is not due either.
    assert stage.existing_row(instance_id).due_at is None


def test_b21_a_cancelled_timer_that_comes_due_is_ignored(stage: Stage) -> None:
    async def race(ctx: OrchestrationContext, _: Any) -> str:
        timer = ctx.create_timer(seconds(0.1))
        await ctx.wait_for_external_event("first")
        timer.cancel()
        await ctx.create_timer(seconds(0.2))
        return "done"

    stage.worker(race)
    assert (
        stage.completed(stage.client.schedule_new_orchestration(race, raise_event=("first", None))) == "done"
    )


def test_b22_the_expiry_beats_the_event(stage: Stage) -> None:
    async def approval(ctx: OrchestrationContext, _: Any) -> str:
        timer = ctx.create_timer(seconds(0.05))
        event = ctx.wait_for_external_event("approved")
        winner = await when_any([timer, event])
        if winner is timer:
            await ctx.wait_for_external_event("late")
            return "expired"
        return "approved"

    stage.worker(approval)
    instance_id = stage.client.schedule_new_orchestration(approval)
    stage.until(instance_id, lambda row: row is not None and row.events >= 5)
    stage.client.raise_orchestration_event(instance_id, "approved")
    stage.client.raise_orchestration_event(instance_id, "late")
    assert stage.completed(instance_id) == "expired"


def test_b23_a_loop_on_timers(stage: Stage) -> None:
    async def poll(ctx: OrchestrationContext, rounds: int) -> list[float]:
        times = [ctx.current_utc_datetime]
        for _ in range(rounds):
            await ctx.create_timer(seconds(0.05))
            times.append(ctx.current_utc_datetime)
        return [(late - early).total_seconds() for early, late in itertools.pairwise(times)]

    stage.worker(poll)
    pauses = stage.result(poll, 5, instance_id="loop")
    assert len(pauses) == 5
    assert all(pause >= 0.05 for pause in pauses)
    assert stage.events("loop").count("TimerFired") == 5


def test_b24_a_timer_of_ninety_days(stage: Stage) -> None:
    async def quarter(ctx: OrchestrationContext, _: Any) -> str:
        timer = ctx.create_timer(90 * DAY)
        event = ctx.wait_for_external_event("early end")
        winner = await when_any([timer, event])
        return "timer" if winner is timer else "event"

    stage.worker(quarter)
    instance_id = stage.client.schedule_new_orchestration(quarter)
    row = stage.until(instance_id, lambda row: row is not None and row.status.name == "RUNNING")
    assert row is not None
    assert row.due_at is not None
    assert timedelta(0) <= row.due_at - (datetime.now(UTC) + 90 * DAY - seconds(60)) <= seconds(60)
    assert stage.events(instance_id) == ["ExecutionStarted", "TimerCreated"]
    stage.restart()
    assert stage.state(instance_id).runtime_status is OrchestrationStatus.RUNNING
    stage.client.raise_orchestration_event(instance_id, "early end")
    assert stage.completed(instance_id) == "event"


def test_b25_concurrent_timers_run_at_once_and_end_in_order_of_time(stage: Stage) -> None:
    async def many(ctx: OrchestrationContext, _: Any) -> list[Any]:
        start = ctx.current_utc_datetime
        ended: list[int] = []

        async def one(number: int) -> None:
            await ctx.create_timer(start + seconds(0.2 - number * 0.01))
            ended.append(number)

        await asyncio.gather(*(one(number) for number in range(15)))
        await when_all([ctx.create_timer(start + seconds(0.2)) for _ in range(50)])
        return [ended, (ctx.current_utc_datetime - start).total_seconds()]

    stage.worker(many)
    ended, took_s = stage.result(many)
    assert ended == list(range(14, -1, -1))
    assert 0.2 <= took_s < 5.0  # one after the other they would take twelve seconds


def test_b26_a_scheduled_start_is_honoured(stage: Stage) -> None:
    async def when(ctx: OrchestrationContext, _: Any) -> str:
        return ctx.current_utc_datetime.isoformat()

    stage.worker(when)
    start_at = datetime.now(UTC) + seconds(0.4)
    instance_id = stage.client.schedule_new_orchestration(when, start_at=start_at)
    assert stage.state(instance_id).runtime_status is OrchestrationStatus.PENDING
    began = datetime.fromisoformat(stage.completed(instance_id)).replace(tzinfo=UTC)
    assert began >= start_at
    first = stage.client.get_orchestration_history(instance_id)[0]
    assert isinstance(first, history.OrchestratorStartedEvent)
    assert first.timestamp >= start_at


def test_b26_a_scheduled_start_survives_the_worker(stage: Stage) -> None:
    async def when(ctx: OrchestrationContext, _: Any) -> str:
        return "started"

    start_at = datetime.now(UTC) + seconds(0.2)
    instance_id = stage.client.schedule_new_orchestration(when, start_at=start_at)
    stage.worker(when)
    stage.restart()
    assert stage.completed(instance_id) == "started"
    assert datetime.now(UTC) >= start_at


@pytest.mark.parametrize(
    ("start_at", "expected"),
    [
        (datetime(2090, 5, 1, 12, 30), datetime(2090, 5, 1, 12, 30)),  # noqa: DTZ001 - without a zone: UTC
        (datetime(2090, 5, 1, 12, 30, tzinfo=UTC), datetime(2090, 5, 1, 12, 30)),  # noqa: DTZ001
        (
            datetime(2090, 5, 1, 12, 30, tzinfo=timezone(timedelta(hours=2))),
            datetime(2090, 5, 1, 10, 30),  # noqa: DTZ001
        ),
    ],
    ids=["naive", "utc", "plus two hours"],
)
def test_b27_the_status_shows_the_scheduled_start_in_utc(
    stage: Stage, start_at: datetime, expected: datetime
) -> None:
    instance_id = stage.client.schedule_new_orchestration("later", start_at=start_at)
    state = stage.state(instance_id)
    assert state.scheduled_start == expected
    assert state.runtime_status is OrchestrationStatus.PENDING
    assert stage.existing_row(instance_id).due_at == expected.replace(tzinfo=UTC)


def test_b27_timers_take_naive_times_as_utc_and_convert_others(stage: Stage) -> None:
    async def three(ctx: OrchestrationContext, _: Any) -> None:
        at = datetime(2090, 1, 1, 12)  # noqa: DTZ001
        ctx.create_timer(at)
        ctx.create_timer(at.replace(tzinfo=UTC))
        ctx.create_timer(at.replace(tzinfo=timezone(timedelta(hours=-3))) - timedelta(hours=3))
        await ctx.wait_for_external_event("never")

    stage.worker(three)
    instance_id = stage.client.schedule_new_orchestration(three)
    stage.client.wait_for_orchestration_start(instance_id)
    fire_at = [
        event.fire_at
        for event in stage.client.get_orchestration_history(instance_id)
        if isinstance(event, history.TimerCreatedEvent)
    ]
    assert fire_at == [datetime(2090, 1, 1, 12, tzinfo=UTC)] * 3


def test_b20_an_overdue_timer_is_applied_by_the_sweep(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage(sweep_s=0.2, timer_grace_s=0.05)

    async def wait(ctx: OrchestrationContext, _: Any) -> str:
        await ctx.create_timer(seconds(0.1))
        return "woken"

    worker = stage.worker(wait)
    instance_id = stage.client.schedule_new_orchestration(wait)
    stage.client.wait_for_orchestration_start(instance_id)
    worker.stop()
    stage.worker(wait)
    assert stage.completed(instance_id) == "woken"
    assert stage.events(instance_id).count("TimerFired") == 1
