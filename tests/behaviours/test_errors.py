"""B70 to B81: what goes wrong is recorded, retried as told, and seen by whoever waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest

from durabletask_azure import (
    ActivityContext,
    FailureDetails,
    NonRetriableError,
    OrchestrationContext,
    OrchestrationStatus,
    RetryPolicy,
    SerializationError,
    TaskFailedError,
    history,
    when_all,
)
from tests.behaviours.stage import Stage

SOON = timedelta(milliseconds=10)


class PaymentError(Exception):
    """An error of the test's own, with something to tell."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class CardError(PaymentError):
    """A more special one."""


class RefusedError(NonRetriableError):
    """What a program derives of its own."""


def failure_of(stage: Stage, instance_id: str) -> FailureDetails:
    state = stage.end(instance_id)
    assert state.runtime_status is OrchestrationStatus.FAILED
    assert state.failure_details is not None
    return state.failure_details


def innermost(failure: FailureDetails) -> FailureDetails:
    while failure.inner_failure is not None:
        failure = failure.inner_failure
    return failure


def broken(ctx: ActivityContext, text: str) -> None:
    raise ValueError(text)


def test_b70_a_handled_activity_error(stage: Stage) -> None:
    cleaned: list[str] = []

    def clean_up(ctx: ActivityContext, text: str) -> None:
        cleaned.append(text)

    async def careful(ctx: OrchestrationContext, _: Any) -> str:
        try:
            await ctx.call_activity(broken, input="kaputt")
        except TaskFailedError as error:
            await ctx.call_activity(clean_up, input=error.details.message)
            return f"handled {error.details.error_type}: {error.details.message}"
        return "not reached"

    stage.worker(careful, activities=[broken, clean_up])
    assert stage.result(careful, instance_id="careful") == "handled ValueError: kaputt"
    assert cleaned == ["kaputt"]
    assert stage.events("careful").count("TaskFailed") == 1


def test_b71_an_unhandled_activity_error_fails_the_orchestration(stage: Stage) -> None:
    async def careless(ctx: OrchestrationContext, _: Any) -> None:
        await ctx.call_activity(broken, input="kaputt")

    stage.worker(careless, activities=[broken])
    failure = failure_of(stage, stage.client.schedule_new_orchestration(careless))
    assert "kaputt" in failure.message
    assert innermost(failure).error_type == "ValueError"


def test_b72_an_unhandled_orchestrator_error(stage: Stage) -> None:
    async def falls(ctx: OrchestrationContext, _: Any) -> None:
        raise LookupError("nothing there")

    def falls_too(ctx: OrchestrationContext, _: Any) -> Any:
        yield ctx.create_timer(timedelta(0))
        raise LookupError("nothing there")

    stage.worker(falls, falls_too)
    for orchestrator in (falls, falls_too):
        failure = failure_of(stage, stage.client.schedule_new_orchestration(orchestrator))
        assert (failure.error_type, failure.message) == ("LookupError", "nothing there")
        assert failure.stack_trace is not None
        assert orchestrator.__name__ in failure.stack_trace


@pytest.mark.parametrize(("fails", "attempts", "completes"), [(2, 3, True), (3, 3, False), (0, 5, True)])
def test_b73_the_number_of_attempts_is_exact(
    stage: Stage, fails: int, attempts: int, completes: bool
) -> None:
    tries: list[int] = []

    def shaky(ctx: ActivityContext, fails: int) -> str:
        tries.append(ctx.task_id)
        if len(tries) <= fails:
            raise ValueError(f"try {len(tries)}")
        return "good"

    async def flow(ctx: OrchestrationContext, fails: int) -> str:
        policy = RetryPolicy(first_retry_interval=SOON, max_number_of_attempts=attempts)
        return await ctx.call_activity(shaky, input=fails, retry_policy=policy)

    stage.worker(flow, activities=[shaky])
    state = stage.run(flow, fails, instance_id="flow")
    assert state.runtime_status.name == ("COMPLETED" if completes else "FAILED")
    assert len(tries) == min(fails + 1, attempts)
    assert stage.events("flow").count("TaskScheduled") == len(tries)


def test_b74_the_retry_predicate_decides(stage: Stage) -> None:
    tries: list[int] = []

    def picky(ctx: ActivityContext, _: Any) -> None:
        tries.append(1)
        raise TimeoutError("slow") if len(tries) < 3 else PermissionError("no")

    async def flow(ctx: OrchestrationContext, _: Any) -> None:
        policy = RetryPolicy(
            first_retry_interval=SOON,
            max_number_of_attempts=10,
            retry_predicate=lambda failure: failure.is_caused_by(TimeoutError),
        )
        await ctx.call_activity(picky, retry_policy=policy)

    stage.worker(flow, activities=[picky])
    failure = failure_of(stage, stage.client.schedule_new_orchestration(flow))
    assert innermost(failure).error_type == "PermissionError"
    assert len(tries) == 3


def test_b75_pauses_grow_up_to_the_longest(stage: Stage) -> None:
    async def flow(ctx: OrchestrationContext, _: Any) -> None:
        policy = RetryPolicy(
            first_retry_interval=timedelta(milliseconds=20),
            max_number_of_attempts=6,
            backoff_coefficient=2.0,
            max_retry_interval=timedelta(milliseconds=50),
        )
        await ctx.call_activity(broken, input="x", retry_policy=policy)

    stage.worker(flow, activities=[broken])
    stage.run(flow, instance_id="flow")
    pauses: list[float] = []
    turn_at = None
    for event in stage.client.get_orchestration_history("flow"):
        if isinstance(event, history.OrchestratorStartedEvent):
            turn_at = event.timestamp
        elif isinstance(event, history.TimerCreatedEvent) and turn_at is not None:
            pauses.append(round((event.fire_at - turn_at).total_seconds() * 1000))
    assert pauses == [20, 40, 50, 50, 50]


def test_b76_the_retry_timeout_counts_on_the_orchestrations_clock(stage: Stage, pace: float) -> None:
    tries: list[int] = []

    def fails(ctx: ActivityContext, _: Any) -> None:
        tries.append(1)
        raise ValueError("again")

    async def flow(ctx: OrchestrationContext, _: Any) -> float:
        policy = RetryPolicy(
            first_retry_interval=timedelta(milliseconds=60 * pace),
            max_number_of_attempts=1_000,
            retry_timeout=timedelta(milliseconds=150 * pace),
        )
        first = ctx.current_utc_datetime
        try:
            await ctx.call_activity(fails, retry_policy=policy)
        except TaskFailedError:
            return (ctx.current_utc_datetime - first).total_seconds()
        return -1.0

    stage.worker(flow, activities=[fails])
    # The orchestration's clock is the newest event's time: a replay on a slow machine decides the same.
    assert stage.result(flow) >= 0.150 * pace
    assert 2 <= len(tries) <= 4


@pytest.mark.parametrize("error", [NonRetriableError, RefusedError])
def test_b77_an_error_that_is_not_to_be_retried_stops_the_retries(
    stage: Stage, error: type[NonRetriableError]
) -> None:
    tries: list[int] = []

    def hopeless(ctx: ActivityContext, _: Any) -> None:
        tries.append(1)
        raise error("give up")

    async def flow(ctx: OrchestrationContext, _: Any) -> None:
        policy = RetryPolicy(first_retry_interval=SOON, max_number_of_attempts=10)
        await ctx.call_activity(hopeless, retry_policy=policy)

    stage.worker(flow, activities=[hopeless])
    failure = failure_of(stage, stage.client.schedule_new_orchestration(flow))
    assert "give up" in failure.message
    assert tries == [1]


class PaymentProperties:
    """Takes the code out of a payment error."""

    def get_exception_properties(self, exception: Exception) -> Mapping[str, Any] | None:
        return {"code": exception.code} if isinstance(exception, PaymentError) else None


def test_b78_a_failure_keeps_type_message_trace_cause_and_properties(stage: Stage) -> None:
    def charge(ctx: ActivityContext, _: Any) -> None:
        try:
            raise ConnectionError("bank is closed")
        except ConnectionError as error:
            raise CardError("declined", 402) from error

    caught: list[FailureDetails] = []

    async def flow(ctx: OrchestrationContext, _: Any) -> None:
        try:
            await ctx.call_activity(charge)
        except TaskFailedError as error:
            caught.append(error.details)
            raise

    stage.worker(flow, activities=[charge], exception_properties_provider=PaymentProperties())
    failure = failure_of(stage, stage.client.schedule_new_orchestration(flow))
    assert failure.inner_failure is not None
    for details in (caught[0], failure.inner_failure):
        assert details.message == "declined"
        assert details.error_type == f"{__name__}.CardError"
        assert details.properties == {"code": 402}
        assert details.stack_trace is not None
        assert "bank is closed" not in details.message
        assert "in charge" in details.stack_trace
        assert details.is_caused_by(PaymentError)
        assert details.is_caused_by("CardError")
        assert not details.is_caused_by(ConnectionError)
        assert details.inner_failure is not None
        assert details.inner_failure.is_caused_by(OSError)


def test_b79_of_parallel_failures_none_goes_unobserved(stage: Stage) -> None:
    finished: list[int] = []

    async def sometimes(ctx: ActivityContext, number: int) -> int:
        await asyncio.sleep(0)
        finished.append(number)
        if number % 2:
            raise ValueError(f"odd {number}")
        return number

    async def flow(ctx: OrchestrationContext, _: Any) -> list[Any]:
        tasks = [ctx.call_activity(sometimes, input=number) for number in range(10)]
        try:
            await when_all(tasks)
        except TaskFailedError as error:
            # All have ended by now, not only the first that failed.
            ended = [task.is_complete for task in tasks]
            return [error.details.message, ended, [task.is_failed for task in tasks]]
        return []

    stage.worker(flow, activities=[sometimes])
    message, ended, failed = stage.result(flow)
    assert message.startswith("odd ")
    assert ended == [True] * 10
    assert failed == [bool(number % 2) for number in range(10)]
    assert sorted(finished) == list(range(10))


def test_b80_a_value_that_cannot_be_serialised_fails_that_instance_only(stage: Stage) -> None:
    def opaque(ctx: ActivityContext, _: Any) -> object:
        return object()

    async def calls_opaque(ctx: OrchestrationContext, _: Any) -> str:
        try:
            await ctx.call_activity(opaque)
        except TaskFailedError as error:
            return error.details.error_type
        return "not reached"

    async def returns_opaque(ctx: OrchestrationContext, _: Any) -> object:
        return object()

    async def passes_opaque(ctx: OrchestrationContext, _: Any) -> None:
        await ctx.call_activity(opaque, input=object())

    async def fine(ctx: OrchestrationContext, _: Any) -> str:
        return "fine"

    stage.worker(calls_opaque, returns_opaque, passes_opaque, fine, activities=[opaque])
    assert stage.result(calls_opaque).endswith("SerializationError")
    for orchestrator in (returns_opaque, passes_opaque):
        failure = failure_of(stage, stage.client.schedule_new_orchestration(orchestrator))
        assert failure.error_type.endswith("SerializationError")
        assert "object" in failure.message
    assert stage.result(fine) == "fine"


def test_b80_at_the_client_nothing_is_written(stage: Stage) -> None:
    with pytest.raises(SerializationError, match="cannot be stored"):
        stage.client.schedule_new_orchestration("any", input=object(), instance_id="unwritten")
    with pytest.raises(SerializationError, match="nan"):
        stage.client.schedule_new_orchestration("any", input=float("nan"), instance_id="unwritten")
    assert stage.row("unwritten") is None


def test_b80_input_of_another_type_than_annotated(stage: Stage) -> None:
    async def strict(ctx: OrchestrationContext, numbers: list[int]) -> int:
        return sum(numbers)

    stage.worker(strict)
    failure = failure_of(stage, stage.client.schedule_new_orchestration("strict", input=["a"]))
    assert failure.error_type.endswith("SerializationError")


def test_b81_a_huge_exception_text_is_truncated_and_recorded(open_stage: Callable[..., Stage]) -> None:
    stage = open_stage()

    def shout(ctx: ActivityContext, _: Any) -> None:
        raise RuntimeError("x" * 5_000_000)

    async def flow(ctx: OrchestrationContext, _: Any) -> None:
        await ctx.call_activity(shout)

    stage.worker(flow, activities=[shout])
    failure = failure_of(stage, stage.client.schedule_new_orchestration(flow, instance_id="loud"))
    limit = stage.hub.settings.failure_text_bytes_max
    chain: list[FailureDetails] = []
    current: FailureDetails | None = failure
    while current is not None:
        chain.append(current)
        current = current.inner_failure
    for details in chain:
        assert len(details.message.encode()) <= limit
        assert len((details.stack_trace or "").encode()) <= limit
    assert chain[-1].error_type == "RuntimeError"
    assert "truncated: 5,000,000 bytes" in chain[-1].message
    assert len(stage.existing_row("loud").tail) < 20 * limit
