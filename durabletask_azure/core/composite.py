"""Tasks made of tasks: ``when_all`` and ``when_any``.

Each completion of a child costs O(1), so a fan-out of n tasks is linear. A composite that is done lets go of its
children: racing one long task again and again leaves nothing behind.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar, cast

from durabletask_azure.core.tasks import Task
from durabletask_azure.errors import TaskCancelledError

__all__ = ["CompositeTask", "WhenAllTask", "WhenAnyTask", "when_all", "when_any"]

T = TypeVar("T")


class CompositeTask(Task[T]):
    """A task that is composed of other tasks."""

    __slots__ = ("_remaining", "_tasks")

    def __init__(self, tasks: Iterable[Task[Any]]) -> None:
        super().__init__()
        self._tasks: list[Task[Any]] = list(tasks)
        # How often each child that has not completed occurs.
        self._remaining: dict[Task[Any], int] = {}
        for task in self._tasks:
            if not isinstance(task, Task):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"{task!r} is not a durable task")
            self._remaining[task] = self._remaining.get(task, 0) + 1
        for task in tuple(self._remaining):
            if self._is_complete:
                break
            if task.is_complete:
                self.on_child_completed(task)
            else:
                task.subscribe(self, self.on_child_completed)

    def get_tasks(self) -> list[Task[Any]]:
        """Return the child tasks, in the order given."""
        return self._tasks

    @abstractmethod
    def on_child_completed(self, task: Task[Any]) -> None:
        """Take note that a child has completed."""

    def _finish(self) -> None:
        for task in self._remaining:
            task.unsubscribe(self)
        self._remaining.clear()
        super()._finish()


class WhenAllTask(CompositeTask[list[T]]):
    """Completes when all children have; its result is theirs in order, or the first failure (B79)."""

    __slots__ = ("_completed", "_first_failure")

    def __init__(self, tasks: Iterable[Task[T]]) -> None:
        self._completed = 0
        self._first_failure: Exception | None = None
        super().__init__(tasks)
        if not self._tasks:
            self._result = []
            self._finish()

    @property
    def pending_tasks(self) -> int:
        """How many children have not completed."""
        return len(self._tasks) - self._completed

    def get_completed_tasks(self) -> int:
        """Return how many children have completed."""
        return self._completed

    def on_child_completed(self, task: Task[Any]) -> None:
        """Take note that a child has completed."""
        self._completed += self._remaining.pop(task, 0)
        if self._first_failure is None:
            if task.cancelled():
                self._first_failure = TaskCancelledError("one of the tasks was cancelled")
            elif task.is_failed:
                self._first_failure = task.get_exception()
        if self._completed == len(self._tasks):
            self._exception = self._first_failure
            if self._exception is None:
                self._result = [child.get_result() for child in self._tasks]
            self._finish()


class WhenAnyTask(CompositeTask[Task[T]], Generic[T]):
    """Completes with the first child that completes or fails; its result is that child."""

    __slots__ = ()

    def on_child_completed(self, task: Task[Any]) -> None:
        """Take the child as the winner."""
        self._result = cast(Task[T], task)
        self._finish()


def when_all(tasks: Sequence[Task[T]]) -> WhenAllTask[T]:
    """Return a task that waits for all ``tasks``; if any failed, it raises the first failure once all are done."""
    return WhenAllTask(tasks)


def when_any(tasks: Sequence[Task[T]]) -> WhenAnyTask[T]:
    """Return a task that completes with the first of ``tasks`` to complete; the others go on.

    Raises:
        ValueError: there is none, so nothing could ever complete.
    """
    if not tasks:
        raise ValueError("when_any needs at least one task")
    return WhenAnyTask(tasks)
