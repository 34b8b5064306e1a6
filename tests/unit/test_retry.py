"""Retry policies: validation, the pause before each attempt, and attempts as actions."""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from typing import Any

import pytest

from durabletask_azure.core.actions import CreateTimer, ScheduleTask, StartSubOrchestration
from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.retry import RetryPolicy, next_delay
from durabletask_azure.errors import ArgumentTypeError, ConfigurationError
from tests.unit.play import T0, Play, failure

SECOND = timedelta(seconds=1)


def policy(**options: Any) -> RetryPolicy:
    options = {"first_retry_interval": SECOND, "max_number_of_attempts": 3, **options}
    return RetryPolicy(**options)


@pytest.mark.parametrize(
    "wrong",
    [
        {"first_retry_interval": -SECOND},
        {"max_number_of_attempts": 0},
        {"backoff_coefficient": 0.5},
        {"backoff_coefficient": float("nan")},
        {"max_retry_interval": -SECOND},
        {"backoff_coefficient": float("inf")},
        {"retry_timeout": -SECOND},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        policy(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"first_retry_interval": 1},
        {"max_number_of_attempts": 3.0},
        {"max_number_of_attempts": True},
        {"backoff_coefficient": "2"},
        {"max_retry_interval": "1 s"},
        {"retry_timeout": 5.0},
        {"retry_predicate": "always"},
    ],
)
def test_a_policy_of_wrong_types_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ArgumentTypeError, match=next(iter(wrong))):
        policy(**wrong)


def test_a_policy_shows_what_it_was_given() -> None:
    def worth(_: FailureDetails) -> bool:
        return True

    full = policy(
        backoff_coefficient=2.0, max_retry_interval=SECOND, retry_timeout=SECOND, retry_predicate=worth
    )
    assert (full.first_retry_interval, full.max_number_of_attempts, full.backoff_coefficient) == (
        SECOND,
        3,
        2.0,
    )
    assert (full.max_retry_interval, full.retry_timeout, full.retry_predicate) == (SECOND, SECOND, worth)


def delays(chosen: RetryPolicy, attempts: int) -> list[float | None]:
    found = [next_delay(chosen, attempt, T0, T0, failure()) for attempt in range(1, attempts + 1)]
    return [None if delay is None else delay.total_seconds() for delay in found]


def test_pauses_grow_up_to_the_limit_and_end_with_the_attempts() -> None:
    assert delays(policy(max_number_of_attempts=5, backoff_coefficient=2.0), 5) == [1, 2, 4, 8, None]
    assert delays(policy(max_number_of_attempts=3, backoff_coefficient=None), 2) == [1, 1]
    limited = policy(max_number_of_attempts=5, backoff_coefficient=2.0, max_retry_interval=3 * SECOND)
    assert delays(limited, 4) == [1, 2, 3, 3]


def test_pauses_beyond_all_bounds_stay_representable() -> None:
    huge = policy(max_number_of_attempts=10_000, backoff_coefficient=10.0)
    assert next_delay(huge, 5_000, T0, T0, failure()) == timedelta.max
    assert next_delay(huge, 100, T0, T0, failure()) == timedelta.max


def test_the_timeout_counts_on_the_orchestrations_clock() -> None:
    timed = policy(retry_timeout=10 * SECOND)
    assert next_delay(timed, 1, T0, T0 + 9 * SECOND, failure()) == SECOND
    assert next_delay(timed, 1, T0, T0 + 10 * SECOND, failure()) is None
    assert next_delay(policy(retry_timeout=timedelta.max), 1, T0, T0, failure()) == SECOND


def test_final_failures_are_not_retried() -> None:
    assert next_delay(policy(), 1, T0, T0, failure(is_non_retriable=True)) is None

    def worth(seen: FailureDetails) -> bool:
        return seen.is_caused_by(ValueError)

    chosen = policy(retry_predicate=worth)
    assert next_delay(chosen, 1, T0, T0, failure()) == SECOND
    assert next_delay(chosen, 1, T0, T0, failure(error_type="KeyError")) is None


def test_each_attempt_has_a_timer_and_an_id_of_its_own() -> None:
    async def flow(ctx: Any) -> Any:
        return await ctx.call_activity("a", input=7, retry_policy=policy(), tags={"k": "v"})

    play = Play(flow)
    assert play.start().actions == (ScheduleTask(id=1, name="a", input="7", tags={"k": "v"}),)
    play.wait(seconds=5)
    assert play.turn(play.failed(1)).actions == (CreateTimer(id=2, fire_at=T0 + 6 * SECOND),)
    play.wait(seconds=1)
    assert play.turn(play.fired(2)).actions == (ScheduleTask(id=3, name="a", input="7", tags={"k": "v"}),)
    play.turn(play.completed(3, "ok"))
    assert play.result == "ok"


def test_exhausted_attempts_raise_the_last_failure() -> None:
    async def flow(ctx: Any) -> Any:
        await ctx.call_activity("a", retry_policy=policy(max_number_of_attempts=2))

    play = Play(flow)
    play.start()
    play.turn(play.failed(1, failure("first")))
    play.turn(play.fired(2))
    play.turn(play.failed(3, failure("second")))
    assert play.failure.inner_failure == failure("second")
    assert "'a' (task 1) failed" not in play.failure.message
    assert len(play.actions) == 3


def test_a_sub_orchestration_is_retried_under_a_new_generated_id() -> None:
    def flow(ctx: Any) -> Generator[Any, Any, Any]:
        found: Any = yield ctx.call_sub_orchestrator("child", retry_policy=policy())
        named: Any = yield ctx.call_sub_orchestrator("child", instance_id="mine", retry_policy=policy())
        return [found, named]

    play = Play(flow)
    play.start()
    play.turn(play.child_failed(1))
    play.turn(play.fired(2))
    play.turn(play.child_completed(3, "a"))
    play.turn(play.child_failed(4))
    play.turn(play.fired(5))
    play.turn(play.child_completed(6, "b"))
    assert play.result == ["a", "b"]
    starts = [action for action in play.actions if isinstance(action, StartSubOrchestration)]
    assert [start.instance_id for start in starts] == ["x1:0001", "x1:0003", "mine", "mine"]


def test_a_predicate_that_raises_fails_the_call() -> None:
    def broken(_: FailureDetails) -> bool:
        raise LookupError("the predicate is broken")

    async def flow(ctx: Any) -> Any:
        await ctx.call_activity("a", retry_policy=policy(retry_predicate=broken))

    play = Play(flow)
    play.start()
    play.turn(play.failed(1))
    assert play.failure.error_type == "LookupError"
