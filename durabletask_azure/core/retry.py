"""When a failed activity or sub-orchestration is tried again.

``next_delay`` is a pure function of the policy, the attempt and the orchestration's clock: the wall clock would make a
replay decide otherwise (B76).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from math import isfinite

from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.errors import ArgumentTypeError, ConfigurationError

__all__ = ["RetryPolicy", "next_delay"]

_ZERO = timedelta(0)


class RetryPolicy:
    """How often and how patiently a failed task is tried again.

    Args:
        first_retry_interval: pause before the second attempt.
        max_number_of_attempts: attempts in all, the first included.
        backoff_coefficient: each further pause is this many times the one before (``None``: 1).
        max_retry_interval: no pause is longer.
        retry_timeout: no attempt begins later than this after the first one, by the orchestration's clock.
        retry_predicate: asked with the failure; false means that it is final. It must be deterministic.

    Raises:
        ConfigurationError: (a ``ValueError``) a negative interval, no attempts, or a coefficient below 1 or infinite.
        ArgumentTypeError: (a ``TypeError``) an argument is of the wrong type.
    """

    def __init__(
        self,
        *,
        first_retry_interval: timedelta,
        max_number_of_attempts: int,
        backoff_coefficient: float | None = 1.0,
        max_retry_interval: timedelta | None = None,
        retry_timeout: timedelta | None = None,
        retry_predicate: Callable[[FailureDetails], bool] | None = None,
    ) -> None:
        _check_span("first_retry_interval", first_retry_interval)
        _check_number("max_number_of_attempts", max_number_of_attempts, (int,))
        if backoff_coefficient is not None:
            _check_number("backoff_coefficient", backoff_coefficient, (int, float))
        if max_retry_interval is not None:
            _check_span("max_retry_interval", max_retry_interval)
        if retry_timeout is not None:
            _check_span("retry_timeout", retry_timeout)
        if retry_predicate is not None and not callable(retry_predicate):
            raise ArgumentTypeError(
                f"retry_predicate must be a function, not {type(retry_predicate).__name__}"
            )
        self._first_retry_interval = first_retry_interval
        self._max_number_of_attempts = max_number_of_attempts
        self._backoff_coefficient = backoff_coefficient
        self._max_retry_interval = max_retry_interval
        self._retry_timeout = retry_timeout
        self._retry_predicate = retry_predicate

    @property
    def first_retry_interval(self) -> timedelta:
        """The pause before the second attempt."""
        return self._first_retry_interval

    @property
    def max_number_of_attempts(self) -> int:
        """Attempts in all, the first included."""
        return self._max_number_of_attempts

    @property
    def backoff_coefficient(self) -> float | None:
        """By how much each further pause grows."""
        return self._backoff_coefficient

    @property
    def max_retry_interval(self) -> timedelta | None:
        """The longest pause."""
        return self._max_retry_interval

    @property
    def retry_timeout(self) -> timedelta | None:
        """How long after the first attempt another one may begin."""
        return self._retry_timeout

    @property
    def retry_predicate(self) -> Callable[[FailureDetails], bool] | None:
        """Says whether a failure is worth another attempt."""
        return self._retry_predicate


def _check_span(name: str, span: object) -> None:
    if not isinstance(span, timedelta):
        raise ArgumentTypeError(f"{name} must be a timedelta, not {type(span).__name__}")
    if span < _ZERO:
        raise ConfigurationError(f"{name} must be >= 0, not {span}")


def _check_number(
    name: str, number: object, kinds: tuple[type[int], ...] | tuple[type[int], type[float]]
) -> None:
    if isinstance(number, bool) or not isinstance(number, kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise ArgumentTypeError(f"{name} must be {wanted}, not {type(number).__name__}")
    if not (number >= 1 and isfinite(number)):
        raise ConfigurationError(f"{name} must be a finite number >= 1, not {number}")


def next_delay(
    policy: RetryPolicy, attempt: int, first_attempt_at: datetime, now: datetime, failure: FailureDetails
) -> timedelta | None:
    """Return the pause before the next attempt after ``attempt`` (1, 2, ...) failed, or ``None`` to give up.

    ``first_attempt_at`` and ``now`` are times of the orchestration's clock. What the policy's predicate raises is
    passed on.
    """
    if attempt >= policy.max_number_of_attempts or failure.is_non_retriable:
        return None
    try:
        seconds = policy.first_retry_interval.total_seconds() * (policy.backoff_coefficient or 1.0) ** (
            attempt - 1
        )
        delay = timedelta(seconds=seconds)
    except OverflowError:
        delay = timedelta.max
    if policy.max_retry_interval is not None:
        delay = min(delay, policy.max_retry_interval)
    # timedelta.max means "no limit" to many callers, so compare spans: adding it to a date would overflow.
    if policy.retry_timeout is not None and now - first_attempt_at >= policy.retry_timeout:
        return None
    if policy.retry_predicate is not None and not policy.retry_predicate(failure):
        return None
    return delay
