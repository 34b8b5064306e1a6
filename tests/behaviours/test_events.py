"""B29 to B39: external events, none lost and none counted twice."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durabletask_azure import ActivityContext, OrchestrationContext, OrchestrationStatus, history, when_any
from durabletask_azure.core.history import ExecutionStartedEvent
from durabletask_azure.core.instance import pending_row
from tests.behaviours.stage import WAIT_S, Stage


async def two_words(ctx: OrchestrationContext, _: Any) -> list[str]:
    return [await ctx.wait_for_external_event("first"), await ctx.wait_for_external_event("second")]


async def count_to(ctx: OrchestrationContext, number: int) -> list[Any]:
    return [await ctx.wait_for_external_event("item") for _ in range(number)]


def insert_without_wake_up(stage: Stage, name: str, instance_id: str) -> None:
    """Do what a client does that dies between the row and the message."""
    now = datetime.now(UTC)
    started = ExecutionStartedEvent(
        timestamp=now, name=name, instance_id=instance_id, execution_id=f"execution of {instance_id}"
    )
    row = pending_row(started, created_at=now)
    store = stage.hub.ports.store
    stage.hub.run(lambda: store.insert_instance(stage.partition(instance_id), row))


def test_b29_an_event_before_the_start_message_is_kept(stage: Stage) -> None:
    insert_without_wake_up(stage, "two_words", "early")
    stage.client.raise_orchestration_event("early", "first", data="one")
    stage.worker(two_words)
    stage.client.wait_for_orchestration_start("early")
    stage.client.raise_orchestration_event("early", "second", data="two")
    assert stage.completed("early") == ["one", "two"]
    kinds = stage.events("early")
    assert kinds[:2] == ["ExecutionStarted", "EventRaised"]


def test_b29_a_termination_before_the_start_message_is_kept(stage: Stage) -> None:
    insert_without_wake_up(stage, "two_words", "doomed")
    stage.client.terminate_orchestration("doomed", output="enough")
    stage.worker(two_words)
    state = stage.end("doomed")
    assert state.runtime_status is OrchestrationStatus.TERMINATED
    assert state.get_output() == "enough"


def test_b29_an_event_before_a_scheduled_start_is_kept(stage: Stage, pace: float) -> None:
    stage.worker(two_words)
    start_at = datetime.now(UTC) + timedelta(seconds=0.4 * pace)
    instance_id = stage.client.schedule_new_orchestration(two_words, start_at=start_at)
    stage.client.raise_orchestration_event(instance_id, "first", data="one")
    row = stage.until(instance_id, lambda row: row is not None and bool(row.kept))
    assert row is not None
    assert row.status.name == "PENDING"
    stage.client.raise_orchestration_event(instance_id, "second", data="two")
    assert stage.completed(instance_id) == ["one", "two"]
    assert datetime.now(UTC) >= start_at


def test_b30_several_events_are_awaited_in_order(stage: Stage) -> None:
    stage.worker(two_words)
    instance_id = stage.client.schedule_new_orchestration(two_words)
    stage.client.wait_for_orchestration_start(instance_id)
    stage.client.raise_orchestration_event(instance_id, "first", data="one")
    stage.until(instance_id, lambda row: row is not None and row.events >= 4)
    stage.client.raise_orchestration_event(instance_id, "second", data="two")
    assert stage.completed(instance_id) == ["one", "two"]


def test_b31_events_that_come_before_the_wait_are_buffered_in_order(stage: Stage) -> None:
    gate = threading.Event()

    def hold(ctx: ActivityContext, _: Any) -> None:
        assert gate.wait(WAIT_S)

    async def busy(ctx: OrchestrationContext, _: Any) -> list[Any]:
        await ctx.call_activity(hold)
        second = await ctx.wait_for_external_event("b")
        return [second, await ctx.wait_for_external_event("a"), await ctx.wait_for_external_event("a")]

    stage.worker(busy, activities=[hold])
    instance_id = stage.client.schedule_new_orchestration(busy)
    for name, data in (("a", 1), ("b", 2), ("a", 3)):
        stage.client.raise_orchestration_event(instance_id, name, data=data)
    stage.eventually(lambda: stage.events(instance_id).count("EventRaised") == 3)
    gate.set()
    assert stage.completed(instance_id) == [2, 1, 3]


def test_b32_event_names_ignore_case(stage: Stage) -> None:
    stage.worker(two_words)
    instance_id = stage.client.schedule_new_orchestration(two_words)
    stage.client.raise_orchestration_event(instance_id, "FIRST", data=1)
    stage.client.raise_orchestration_event(instance_id, "Second", data=2)
    assert stage.completed(instance_id) == [1, 2]


def test_b33_waiting_for_an_event_with_a_timeout(stage: Stage) -> None:
    async def patient(ctx: OrchestrationContext, timeout_s: float) -> str:
        try:
            return await ctx.wait_for_external_event("go", timeout=timedelta(seconds=timeout_s))
        except TimeoutError:
            return "gave up"

    stage.worker(patient)
    assert stage.result(patient, 0.1) == "gave up"
    in_time = stage.client.schedule_new_orchestration(patient, input=3600.0, raise_event=("go", "went"))
    assert stage.completed(in_time) == "went"


def test_b34_start_with_a_raised_event(stage: Stage) -> None:
    instance_id = stage.client.schedule_new_orchestration(
        two_words, instance_id="armed", raise_event=("first", "with the start")
    )
    stage.worker(two_words)
    stage.client.raise_orchestration_event(instance_id, "second", data="later")
    assert stage.completed(instance_id) == ["with the start", "later"]
    assert stage.events(instance_id).count("EventRaised") == 2


def test_b34_start_again_with_a_raised_event(stage: Stage) -> None:
    stage.worker(count_to)
    for data in ("one", "two"):
        instance_id = stage.client.schedule_new_orchestration(
            count_to, input=1, instance_id="again", raise_event=("item", data)
        )
        assert stage.completed(instance_id) == [data]


def test_b35_events_from_instance_to_instance(stage: Stage) -> None:
    async def sender(ctx: OrchestrationContext, targets: list[str]) -> str:
        for target in targets:
            ctx.send_event(target, "item", data=f"from {ctx.instance_id}")
        return "sent"

    stage.worker(sender, count_to)
    targets = [stage.client.schedule_new_orchestration(count_to, input=2) for _ in range(3)]
    assert stage.result(sender, targets, instance_id="s1") == "sent"
    assert stage.result(sender, targets, instance_id="s2") == "sent"
    for target in targets:
        assert sorted(stage.completed(target)) == ["from s1", "from s2"]
    assert stage.events("s1").count("EventSent") == 3


def test_b36_an_undeliverable_event_is_parked_and_then_dropped(
    open_stage: Callable[..., Stage], caplog: pytest.LogCaptureFixture
) -> None:
    stage = open_stage(park_delays_s=(0.05, 0.05, 0.05))
    stage.worker(two_words)
    with caplog.at_level(logging.INFO, "durabletask_azure"):
        stage.client.raise_orchestration_event("nobody", "first", data="lost")
        stage.eventually(lambda: "tried again often enough" in caplog.text)
    assert "nobody" in caplog.text
    assert stage.row("nobody") is None
    # It is gone for good: an instance of that id that starts now never sees it.
    stage.client.schedule_new_orchestration(two_words, instance_id="nobody")
    stage.client.raise_orchestration_event("nobody", "first", data="own")
    stage.client.raise_orchestration_event("nobody", "second", data="own")
    assert stage.completed("nobody") == ["own", "own"]
    assert stage.events("nobody").count("EventRaised") == 2


def test_b36_a_parked_event_reaches_an_instance_that_starts_in_time(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage(park_delays_s=(0.1, 0.1, 30.0))
    stage.worker(count_to)
    stage.client.raise_orchestration_event("late", "item", data="waited")
    stage.client.schedule_new_orchestration(count_to, input=1, instance_id="late")
    assert stage.completed("late") == ["waited"]


def test_b37_an_event_goes_past_a_cancelled_wait_to_the_next_one(stage: Stage) -> None:
    async def rivals(ctx: OrchestrationContext, _: Any) -> list[Any]:
        given_up = ctx.wait_for_external_event("word")
        given_up.cancel()
        waiting = ctx.wait_for_external_event("word")
        other = ctx.wait_for_external_event("other")
        winner = await when_any([waiting, other])
        other.cancel()
        return [winner is waiting, waiting.get_result(), given_up.is_cancelled, other.is_cancelled]

    stage.worker(rivals)
    instance_id = stage.client.schedule_new_orchestration(rivals)
    stage.client.raise_orchestration_event(instance_id, "word", data="kept")
    assert stage.completed(instance_id) == [True, "kept", True, True]


def test_b38_an_event_right_after_the_start_is_not_lost(stage: Stage) -> None:
    stage.worker(count_to)
    ids: list[str] = []
    for number in range(30):
        instance_id = stage.client.schedule_new_orchestration(count_to, input=1)
        stage.client.raise_orchestration_event(instance_id, "item", data=number)
        ids.append(instance_id)
    assert [stage.completed(instance_id) for instance_id in ids] == [[number] for number in range(30)]


def test_b38_an_event_before_any_worker_runs_is_not_lost(stage: Stage) -> None:
    instance_id = stage.client.schedule_new_orchestration(count_to, input=1)
    stage.client.raise_orchestration_event(instance_id, "item", data="patient")
    stage.worker(count_to)
    assert stage.completed(instance_id) == ["patient"]


def test_b39_the_same_event_id_counts_once(stage: Stage) -> None:
    stage.worker(count_to)
    instance_id = stage.client.schedule_new_orchestration(count_to, input=2)
    for data, event_id in (("a", "id-1"), ("again", "id-1"), ("b", "id-2")):
        stage.client.raise_orchestration_event(instance_id, "item", data=data, event_id=event_id)
    assert stage.completed(instance_id) == ["a", "b"]
    raised = [
        event.input
        for event in stage.client.get_orchestration_history(instance_id)
        if isinstance(event, history.EventRaisedEvent)
    ]
    assert raised == ['"a"', '"b"']


def test_b39_the_same_event_id_counts_once_across_continue_as_new(stage: Stage) -> None:
    async def generations(ctx: OrchestrationContext, got: list[str]) -> list[str] | None:
        got.append(await ctx.wait_for_external_event("item"))
        if len(got) == 3:
            return got
        ctx.continue_as_new(got)
        return None

    stage.worker(generations)
    instance_id = stage.client.schedule_new_orchestration(generations, input=[])
    for generation, name in enumerate("abc"):
        stage.until(instance_id, lambda row, wanted=generation: row is not None and row.generation == wanted)
        stage.client.raise_orchestration_event(instance_id, "item", data=name, event_id=name)
        stage.client.raise_orchestration_event(instance_id, "item", data="twice", event_id=name)
        if name == "b":
            stage.restart()
            stage.client.raise_orchestration_event(instance_id, "item", data="thrice", event_id="a")
    assert stage.completed(instance_id) == ["a", "b", "c"]
