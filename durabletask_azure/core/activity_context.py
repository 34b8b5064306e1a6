"""What an activity sees of the orchestration that called it."""

from __future__ import annotations

__all__ = ["ActivityContext"]


class ActivityContext:
    """Who called an activity, and how often this call was delivered so far.

    An activity may run more than once (its worker may die before the result is sent): ``idempotency_key`` is the same
    for every run of one call and differs between calls.
    """

    __slots__ = (
        "_delivery_count",
        "_execution_id",
        "_name",
        "_orchestration_id",
        "_task_id",
        "_version",
    )

    def __init__(
        self,
        orchestration_id: str,
        task_id: int,
        *,
        name: str = "",
        execution_id: str = "",
        version: str | None = None,
        delivery_count: int = 1,
    ) -> None:
        self._orchestration_id = orchestration_id
        self._task_id = task_id
        self._name = name
        self._execution_id = execution_id
        self._version = version
        self._delivery_count = delivery_count

    @property
    def orchestration_id(self) -> str:
        """The instance id of the orchestration that called the activity."""
        return self._orchestration_id

    @property
    def task_id(self) -> int:
        """The number of the call, unique within one execution of the orchestration."""
        return self._task_id

    @property
    def name(self) -> str:
        """The name the activity was called by."""
        return self._name

    @property
    def execution_id(self) -> str:
        """The execution of the orchestration that called the activity."""
        return self._execution_id

    @property
    def version(self) -> str | None:
        """The version the activity was called with, if any."""
        return self._version

    @property
    def delivery_count(self) -> int:
        """How often this call was delivered to a worker, this time included: above 1 it may have run before."""
        return self._delivery_count

    @property
    def idempotency_key(self) -> str:
        """A text that is the same for every run of this call and for no other call."""
        return f"{self._execution_id}/{self._task_id}"
