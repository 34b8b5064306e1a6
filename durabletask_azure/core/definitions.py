"""The class-based way to write orchestrations and activities, and what a registry keeps of any way.

A definition is a plain value: a name, how to start one execution of it, and the types its annotations declare. It
knows nothing of hubs or workers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from durabletask_azure.core.import_path import Importable

__all__ = [
    "ActivityDefinition",
    "OrchestratorDefinition",
    "OrchestratorKind",
    "TaskActivity",
    "TaskOrchestration",
]

TInput = TypeVar("TInput")
TOutput = TypeVar("TOutput")

OrchestratorKind = Literal["async", "generator", "plain"]


class TaskOrchestration(ABC, Generic[TInput, TOutput]):
    """An orchestration as a class: one instance lives as long as one execution stays in memory.

    Keep no state on ``self`` that is not computed in ``run``: a replay starts with a new instance.
    """

    @abstractmethod
    def run(self, ctx: Any, input: TInput, /) -> TOutput | Awaitable[TOutput] | Generator[Any, Any, TOutput]:
        """Run the orchestration: an ``async def``, a generator, or a plain function that awaits nothing."""


class TaskActivity(ABC, Generic[TInput, TOutput]):
    """An activity as a class: a new instance for each execution, unless an instance is registered."""

    @abstractmethod
    def run(self, ctx: Any, input: TInput, /) -> TOutput | Awaitable[TOutput]:
        """Do the work: sync (in a thread) or ``async def``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrchestratorDefinition:
    """A registered orchestrator. ``start(ctx, input)`` begins one execution: it returns a coroutine, a generator, or
    the result itself; ``kind`` is what it is expected to return, as far as the definition shows."""

    name: str
    version: str | None = None
    kind: OrchestratorKind
    start: Callable[[Any, Any], Any]
    input_type: Any = None
    output_type: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityDefinition:
    """A registered activity: ``fn(ctx, input)`` does the work; with ``is_async`` it returns an awaitable.

    ``process`` is set if it runs in a worker process, and says how it is found there."""

    name: str
    fn: Callable[[Any, Any], Any]
    is_async: bool
    input_type: Any = None
    output_type: Any = None
    process: Importable | None = None
