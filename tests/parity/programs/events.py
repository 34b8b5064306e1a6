"""Programs about timers and events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tests.parity.book import Run, program
from tests.parity.sides import Side, Steps

SOON = timedelta(milliseconds=20)


@dataclass
class Payment:
    """Who paid how much."""

    who: str
    amount: int


@program
def a_timer(side: Side) -> Run:
    def flow(ctx: Any, _: Any) -> Steps:
        before = ctx.current_utc_datetime
        timer = ctx.create_timer(SOON)
        assert isinstance(timer, side.api.task.TimerTask)
        result = yield timer
        return [result, ctx.current_utc_datetime >= before + SOON]

    side.add(flow)
    return lambda: side.run(flow)


@program
def a_timer_at_a_time(side: Side) -> Run:
    def flow(ctx: Any, _: Any) -> Steps:
        due = ctx.current_utc_datetime + SOON
        yield ctx.create_timer(due)
        return ctx.current_utc_datetime >= due

    side.add(flow)
    return lambda: side.run(flow)


@program
def several_timers(side: Side) -> Run:
    def flow(ctx: Any, _: Any) -> Steps:
        late, early = ctx.create_timer(5 * SOON), ctx.create_timer(SOON)
        winner = yield side.api.task.when_any([late, early])
        first = winner == early
        yield late
        return [first, late.is_complete]

    side.add(flow)
    return lambda: side.run(flow)


def awaiting(side: Side, **waiting: Any) -> Any:
    """Return an orchestrator that waits for an event and returns its data."""

    def flow(ctx: Any, _: Any) -> Steps:
        task = ctx.wait_for_external_event("Paid", **waiting)
        assert isinstance(task, side.api.task.CancellableTask)
        data = yield task
        return [type(data).__name__, data]

    side.add(flow)
    return flow


@program
def an_event(side: Side) -> Run:
    flow = awaiting(side)

    def run() -> Any:
        instance_id = side.start(flow)
        side.client.wait_for_orchestration_start(instance_id, timeout=30)
        side.client.raise_orchestration_event(instance_id, "Paid", data={"by": "Kim"})
        side.end(instance_id)
        return side.observe(instance_id)

    return run


@program
def an_event_in_other_letters_without_data(side: Side) -> Run:
    flow = awaiting(side)

    def run() -> Any:
        instance_id = side.start(flow)
        side.client.raise_orchestration_event(instance_id, "pAID")
        side.end(instance_id)
        return side.observe(instance_id)

    return run


@program
def an_event_of_a_type(side: Side) -> Run:
    flow = awaiting(side, data_type=Payment)

    def run() -> Any:
        instance_id = side.start(flow)
        side.client.raise_orchestration_event(instance_id, "Paid", data=Payment("Kim", 3))
        side.end(instance_id)
        return side.observe(instance_id)

    return run


@program
def events_in_their_order(side: Side) -> Run:
    def flow(ctx: Any, count: int) -> Steps:
        yield ctx.wait_for_external_event("go")
        found: list[Any] = []
        for _ in range(count):
            found.append((yield ctx.wait_for_external_event("item")))
        return found

    def run() -> Any:
        instance_id = side.start(flow, 3)
        for number in range(3):
            side.client.raise_orchestration_event(instance_id, "item", data=number)
        side.client.raise_orchestration_event(instance_id, "go")
        side.end(instance_id)
        return side.observe(instance_id)

    side.add(flow)
    return run


@program
def several_waits_for_one_name(side: Side) -> Run:
    def flow(ctx: Any, _: Any) -> Steps:
        waits = [ctx.wait_for_external_event("item") for _ in range(3)]
        return (yield side.api.task.when_all(waits))

    def run() -> Any:
        instance_id = side.start(flow)
        for number in range(3):
            side.client.raise_orchestration_event(instance_id, "item", data=number)
        side.end(instance_id)
        return side.observe(instance_id)["output"]

    side.add(flow)
    return run


def racing(side: Side, timeout: timedelta) -> Any:
    """Return an orchestrator in which an event races a timer, and the loser is cancelled."""

    def race(ctx: Any, _: Any) -> Steps:
        task = side.api.task
        approval, timer = ctx.wait_for_external_event("approved"), ctx.create_timer(timeout)
        winner = yield task.when_any([approval, timer])
        loser = timer if winner == approval else approval
        found = [loser.cancel(), loser.is_cancelled, winner.is_cancelled, winner.cancel(), loser.cancel()]
        try:
            loser.get_result()
        except task.TaskCancelledError:
            found.append("cancelled")
        return ["approved" if winner == approval else "too late", found]

    side.add(race)
    return race


@program
def an_event_before_its_timer(side: Side) -> Run:
    race = racing(side, timedelta(hours=1))

    def run() -> Any:
        instance_id = side.start(race)
        side.client.wait_for_orchestration_start(instance_id, timeout=30)
        side.client.raise_orchestration_event(instance_id, "approved")
        side.end(instance_id)
        return side.observe(instance_id)

    return run


@program
def a_timer_before_its_event(side: Side) -> Run:
    race = racing(side, SOON)
    return lambda: side.run(race)


@program
def a_wait_after_a_cancelled_one(side: Side) -> Run:
    def flow(ctx: Any, _: Any) -> Steps:
        first = ctx.wait_for_external_event("item")
        yield ctx.create_timer(timedelta(0))
        first.cancel()
        ctx.set_custom_status("waiting")
        return (yield ctx.wait_for_external_event("item"))

    def run() -> Any:
        instance_id = side.start(flow)
        side.eventually(
            lambda: side.client.get_orchestration_state(instance_id).get_custom_status() == "waiting"
        )
        side.client.raise_orchestration_event(instance_id, "item", data="for the second")
        side.end(instance_id)
        return side.observe(instance_id)

    side.add(flow)
    return run


@program
def from_instance_to_instance(side: Side) -> Run:
    def receiver(ctx: Any, _: Any) -> Steps:
        return (yield ctx.wait_for_external_event("ping"))

    def sender(ctx: Any, target: str) -> Steps:
        ctx.send_event(target, "ping", data=[1, 2])
        yield ctx.create_timer(timedelta(0))
        return "sent"

    def run() -> Any:
        side.start(receiver, instance_id=side.id("receiver"))
        side.client.wait_for_orchestration_start(side.id("receiver"), timeout=30)
        sent = side.run(sender, side.id("receiver"))
        side.end(side.id("receiver"))
        return [sent, side.observe(side.id("receiver"))]

    side.add(receiver, sender)
    return run
