"""Wrong arguments and user errors: where they show, and how they are recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
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


CALLS: list[tuple[Callable[[Any], Any], str]] = [
    (lambda ctx: ctx.call_activity(5), "TypeError"),
    (lambda ctx: ctx.call_activity(""), "ValueError"),
    (lambda ctx: ctx.call_activity("x" * 251), "ValueError"),
    (lambda ctx: ctx.call_activity(lambda: 1), "ValueError"),
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
