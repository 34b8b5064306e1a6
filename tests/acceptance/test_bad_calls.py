"""Bad calls of an orchestrator: refused on the line that makes them, catchable there, fatal to that instance alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from durabletask_azure import ActivityContext, OrchestrationContext, OrchestrationStatus, RetryPolicy, TaskHub
from tests.behaviours.stage import Stage

HOUR = timedelta(hours=1)


@pytest.fixture(params=["memory", "disk"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    with TaskHub.local(tmp_path / "hub.db" if request.param == "disk" else None) as opened:
        yield Stage(opened)


def policy(**options: Any) -> RetryPolicy:
    given: dict[str, Any] = {"first_retry_interval": HOUR, "max_number_of_attempts": 3, **options}
    return RetryPolicy(**given)


LATE = datetime.max.replace(tzinfo=timezone(-HOUR))
CALLS: list[tuple[Callable[[Any], object], str, str]] = [
    (lambda c: c.call_activity(lambda: 1), "ConfigurationError", "a lambda has no name"),
    (
        lambda c: c.call_activity(5),
        "ArgumentTypeError",
        "by name, function, class or instance, not by int",
    ),
    (lambda c: c.call_activity(""), "ConfigurationError", "1 to 250 characters are allowed"),
    (lambda c: c.call_activity("a" * 251), "ConfigurationError", "at most 250 are allowed"),
    (lambda c: c.call_activity("a", input=object()), "SerializationError", "make it a dataclass"),
    (lambda c: c.call_activity("a", input=float("inf")), "SerializationError", "is not a finite number"),
    (
        lambda c: c.call_activity("a", retry_policy=3),
        "ArgumentTypeError",
        "must be a RetryPolicy, not int",
    ),
    (
        lambda c: c.call_activity("a", retry_policy=policy(max_number_of_attempts=0)),
        "ConfigurationError",
        ">= 1",
    ),
    (
        lambda c: c.call_activity("a", retry_policy=policy(retry_timeout=-HOUR)),
        "ConfigurationError",
        ">= 0",
    ),
    (lambda c: c.call_activity("a", tags={"k": 1}), "ArgumentTypeError", "must be a string, not int"),
    (lambda c: c.call_activity("a", tags="k"), "ArgumentTypeError", "a dictionary of strings, not str"),
    (lambda c: c.create_timer(5), "ArgumentTypeError", "takes a datetime or a timedelta, not int"),
    (lambda c: c.create_timer(timedelta.max), "ConfigurationError", "in the years 1 to 9999 in UTC"),
    (lambda c: c.create_timer(LATE), "ConfigurationError", "in the years 1 to 9999 in UTC"),
    (lambda c: c.wait_for_external_event(""), "ConfigurationError", "1 to 250 characters are allowed"),
    (lambda c: c.wait_for_external_event(3), "ArgumentTypeError", "event name must be a string, not int"),
    (
        lambda c: c.wait_for_external_event("e", timeout=5),
        "ArgumentTypeError",
        "must be a timedelta, not int",
    ),
    (lambda c: c.send_event("", "e"), "ConfigurationError", "1 to 500 characters are allowed"),
    (lambda c: c.send_event("i" * 501, "e"), "ConfigurationError", "at most 500 are allowed"),
    (lambda c: c.send_event("i", "\ud800"), "ConfigurationError", "text that UTF-8 can hold"),
    (lambda c: c.send_event("i", "e", data={object()}), "SerializationError", "make it a dataclass"),
    (
        lambda c: c.call_sub_orchestrator(None),
        "ArgumentTypeError",
        "by name, function, class or instance",
    ),
    (
        lambda c: c.call_sub_orchestrator("o", instance_id="@o"),
        "ConfigurationError",
        "must not start with '@'",
    ),
    (
        lambda c: c.call_sub_orchestrator("o", instance_id=5),
        "ArgumentTypeError",
        "must be a string, not int",
    ),
    (
        lambda c: c.call_sub_orchestrator("o", version=5),
        "ArgumentTypeError",
        "version must be a string, not int",
    ),
    (lambda c: c.set_custom_status(object()), "SerializationError", "make it a dataclass"),
    (lambda c: c.continue_as_new(object()), "SerializationError", "make it a dataclass"),
    (
        lambda c: c.continue_as_new(1, new_version=5),
        "ArgumentTypeError",
        "version must be a string, not int",
    ),
]


def fails(ctx: OrchestrationContext, number: int) -> None:
    CALLS[number][0](ctx)


def catches(ctx: OrchestrationContext, number: int) -> list[str]:
    try:
        CALLS[number][0](ctx)
    except Exception as error:
        return [type(error).__name__, str(error)]
    return ["accepted"]


def test_a_bad_call_is_refused_at_the_call_and_leaves_no_trace(stage: Stage) -> None:
    stage.worker(catches)
    ids = [stage.client.schedule_new_orchestration(catches, input=number) for number in range(len(CALLS))]
    for instance_id, (_, kind, message) in zip(ids, CALLS, strict=True):
        caught = stage.completed(instance_id)
        assert caught[0] == kind, caught
        assert message in caught[1]
        assert stage.events(instance_id) == ["ExecutionStarted", "ExecutionCompleted"]
        assert stage.state(instance_id).serialized_custom_status is None


def test_a_bad_call_that_nobody_catches_fails_its_instance_alone(stage: Stage) -> None:
    stage.worker(catches, fails)
    ids = [stage.client.schedule_new_orchestration(fails, input=number) for number in range(len(CALLS))]
    for instance_id, (_, kind, message) in zip(ids, CALLS, strict=True):
        state = stage.end(instance_id)
        assert state.runtime_status is OrchestrationStatus.FAILED
        assert state.failure_details is not None
        assert state.failure_details.error_type.rpartition(".")[2] == kind
        assert message in state.failure_details.message
        assert stage.events(instance_id) == ["ExecutionStarted", "ExecutionCompleted"]
    assert stage.result(catches, 0)[0] == "ConfigurationError"


def test_an_orchestration_nobody_registered_says_what_is_registered(stage: Stage) -> None:
    stage.worker(fails, catches)
    stage.client.schedule_new_orchestration("catchse", instance_id="waits", version="2")
    stage.until("waits", lambda row: row is not None and row.reason is not None)
    state = stage.state("waits")
    assert state.runtime_status is OrchestrationStatus.PENDING
    assert state.pending_reason == (
        "no orchestrator 'catchse' version '2' is registered with the worker that owns the instance"
        " (registered: catches, fails)"
    )


def test_an_activity_nobody_registered_fails_the_call_and_says_what_is(stage: Stage) -> None:
    async def asks(ctx: OrchestrationContext, _: Any) -> None:
        await ctx.call_activity("wrok")

    def work(ctx: ActivityContext, _: Any) -> str:
        return "done"

    stage.worker(asks, activities=[work])
    details = stage.run(asks).failure_details
    assert details is not None
    assert details.inner_failure is not None
    assert details.inner_failure.error_type.rpartition(".")[2] == "ActivityNotRegisteredError"
    assert "no activity 'wrok' is registered (registered: work)" in details.message
