"""The names an orchestrator or activity is written with, as ``durabletask.task`` has them.

``from durabletask_azure import task`` and then ``task.when_all``, ``task.RetryPolicy``, ``task.OrchestrationContext``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

from durabletask_azure.core.activity_context import ActivityContext
from durabletask_azure.core.composite import CompositeTask, WhenAllTask, WhenAnyTask, when_all, when_any
from durabletask_azure.core.context import OrchestrationContext
from durabletask_azure.core.definitions import TaskActivity, TaskOrchestration
from durabletask_azure.core.failures import FailureDetails
from durabletask_azure.core.naming import get_name
from durabletask_azure.core.replay_logger import ReplaySafeLogger
from durabletask_azure.core.retry import RetryPolicy
from durabletask_azure.core.tasks import CancellableTask, CompletableTask, Task, TimerTask
from durabletask_azure.errors import (
    NonDeterminismError,
    NonRetriableError,
    OrchestrationStateError,
    TaskCancelledError,
    TaskFailedError,
)

__all__ = [
    "Activity",
    "ActivityContext",
    "CancellableTask",
    "CompletableTask",
    "CompositeTask",
    "FailureDetails",
    "NonDeterminismError",
    "NonRetriableError",
    "OrchestrationContext",
    "OrchestrationStateError",
    "Orchestrator",
    "ReplaySafeLogger",
    "RetryPolicy",
    "Task",
    "TaskActivity",
    "TaskCancelledError",
    "TaskFailedError",
    "TaskOrchestration",
    "TimerTask",
    "WhenAllTask",
    "WhenAnyTask",
    "get_name",
    "when_all",
    "when_any",
]

TInput = TypeVar("TInput")
TOutput = TypeVar("TOutput")

Orchestrator = Callable[
    [OrchestrationContext, TInput], Generator[Task[Any], Any, TOutput] | Awaitable[TOutput] | TOutput
]
"""An orchestrator function: ``async def``, a generator that yields tasks, or a plain function."""

Activity = Callable[[ActivityContext, TInput], Awaitable[TOutput] | TOutput]
"""An activity function, sync or async."""
