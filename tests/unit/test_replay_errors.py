"""Wrong arguments and user errors: where they show, and how they are recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.history import (
    TaskFailedEvent,
)
from durabletask_azure.core.replay import RuntimeOptions
from tests.unit.play import T0, Play


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


def test_a_failure_without_details_still_fails() -> None:
    async def flow(ctx: Any) -> None:
        await ctx.call_activity("a")

    play = Play(flow)
    play.start()
    play.turn(TaskFailedEvent(timestamp=T0, task_scheduled_id=1))
    assert play.failure.inner_failure == FailureDetails(message="failed without details", error_type="")


HOUR = timedelta(hours=1)
CALLS: list[tuple[Callable[[Any], Any], str]] = [
    (lambda ctx: ctx.call_activity(5), "ArgumentTypeError"),
    (lambda ctx: ctx.call_activity(""), "ConfigurationError"),
    (lambda ctx: ctx.call_activity("x" * 251), "ConfigurationError"),
    (lambda ctx: ctx.call_activity(lambda: 1), "ConfigurationError"),
    (lambda ctx: ctx.call_activity("a", input=object()), "SerializationError"),
    (lambda ctx: ctx.call_activity("a", retry_policy=3), "ArgumentTypeError"),
    (lambda ctx: ctx.call_activity("a", tags={"a": 1}), "ArgumentTypeError"),
    (lambda ctx: ctx.call_activity("a", tags=["a"]), "ArgumentTypeError"),
    (lambda ctx: ctx.call_sub_orchestrator(None), "ArgumentTypeError"),
    (lambda ctx: ctx.call_sub_orchestrator("a", instance_id=""), "ConfigurationError"),
    (lambda ctx: ctx.call_sub_orchestrator("a", instance_id="x" * 501), "ConfigurationError"),
    (lambda ctx: ctx.create_timer(5), "ArgumentTypeError"),
    (lambda ctx: ctx.create_timer(timedelta.max), "ConfigurationError"),
    (lambda ctx: ctx.create_timer(datetime.min.replace(tzinfo=timezone(HOUR))), "ConfigurationError"),
    (lambda ctx: ctx.wait_for_external_event(""), "ConfigurationError"),
    (lambda ctx: ctx.wait_for_external_event("a", timeout=5), "ArgumentTypeError"),
    (lambda ctx: ctx.call_activity("half \ud800 a pair"), "ConfigurationError"),
    (lambda ctx: ctx.call_activity("a", tags={"k": "\ud800"}), "ConfigurationError"),
    (lambda ctx: ctx.call_sub_orchestrator("a", instance_id="@a@b"), "ConfigurationError"),
    (lambda ctx: ctx.call_sub_orchestrator("a", version=2), "ArgumentTypeError"),
    (lambda ctx: ctx.call_sub_orchestrator("a", version="x" * 251), "ConfigurationError"),
    (lambda ctx: ctx.continue_as_new(1, new_version=2), "ArgumentTypeError"),
    (lambda ctx: ctx.send_event("", "a"), "ConfigurationError"),
    (lambda ctx: ctx.send_event("a", " "), "ConfigurationError"),
    (lambda ctx: ctx.send_event("a", "b", data=object()), "SerializationError"),
    (lambda ctx: ctx.set_custom_status(object()), "SerializationError"),
    (lambda ctx: ctx.continue_as_new(object()), "SerializationError"),
]


class TestArguments:
    """Every argument is checked at the call."""

    @pytest.mark.parametrize(("call", "error"), CALLS)
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
