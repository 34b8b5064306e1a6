"""What an activity sees of the orchestration that called it."""

from __future__ import annotations

from durabletask_azure.core.messages import ActivityTask

__all__ = ["ActivityContext", "TaskContext"]


class ActivityContext:
    """Who called an activity, and how often this call was delivered so far.

    An activity may run more than once (its worker may die before the result is sent): ``idempotency_key`` is the same
    for every run of one call and differs between calls.
    """

    __slots__ = ("_delivery_count", "_task")

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
        self._task = ActivityTask(
            id="",
            instance_id=orchestration_id,
            execution_id=execution_id,
            task_id=task_id,
            name=name,
            version=version,
        )
        self._delivery_count = delivery_count

    @property
    def orchestration_id(self) -> str:
        """The instance id of the orchestration that called the activity."""
        return self._task.instance_id

    @property
    def task_id(self) -> int:
        """The number of the call, unique within one execution of the orchestration."""
        return self._task.task_id

    @property
    def name(self) -> str:
        """The name the activity was called by."""
        return self._task.name

    @property
    def execution_id(self) -> str:
        """The execution of the orchestration that called the activity."""
        return self._task.execution_id

    @property
    def version(self) -> str | None:
        """The version the activity was called with, if any."""
        return self._task.version

    @property
    def delivery_count(self) -> int:
        """How often this call was delivered to a worker, this time included: above 1 it may have run before."""
        return self._delivery_count

    @property
    def idempotency_key(self) -> str:
        """A text that is the same for every run of this call and for no other call."""
        return f"{self._task.execution_id}/{self._task.task_id}"


class TaskContext(ActivityContext):
    """The context of an activity that is run for a task: without the other's constructor, which makes a task first."""

    __slots__ = ()

    def __init__(self, task: ActivityTask, delivery_count: int) -> None:
        self._task = task
        self._delivery_count = delivery_count
