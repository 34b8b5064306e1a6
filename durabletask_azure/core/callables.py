"""What may be called as an activity or as an orchestrator, as types: with them a call's input and result are checked.

``...Taking[I, R]`` takes an input, ``...Alone[R]`` the context only: a function, the class of objects with a method
``run`` (an activity's may be called ``execute``), or a factory that makes one. ``...Object...`` is such an object
itself; overloads that take it come later, because pyright remembers of a class that was no such object that its
instances are none either. ``R`` is what the call returns at once; what it finally yields stands in an ``Awaitable`` or
``Generator``, and whoever names these types looks for it there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from durabletask_azure.core.activity_context import ActivityContext

if TYPE_CHECKING:
    from durabletask_azure.core.context import OrchestrationContext

__all__ = [
    "ActivityAlone",
    "ActivityObjectAlone",
    "ActivityObjectTaking",
    "ActivityTaking",
    "ObjectToExecute",
    "ObjectToRun",
    "OrchestratorAlone",
    "OrchestratorTaking",
    "RunsAlone",
    "RunsWithInput",
    "Startable",
]

TInput = TypeVar("TInput")
TReturn = TypeVar("TReturn")
TInput_contra = TypeVar("TInput_contra", contravariant=True)
TReturn_co = TypeVar("TReturn_co", covariant=True)


class RunsWithInput(Protocol[TInput_contra, TReturn_co]):
    """An object with a method ``run(ctx, input)``."""

    def run(self, ctx: Any, input: TInput_contra, /) -> TReturn_co:
        """Run once."""
        ...


class RunsAlone(Protocol[TReturn_co]):
    """An object with a method ``run(ctx)``."""

    def run(self, ctx: Any, /) -> TReturn_co:
        """Run once."""
        ...


class ExecutesWithInput(Protocol[TInput_contra, TReturn_co]):
    """An object with a method ``execute(ctx, input)``."""

    def execute(self, ctx: Any, input: TInput_contra, /) -> TReturn_co:
        """Run once."""
        ...


class ExecutesAlone(Protocol[TReturn_co]):
    """An object with a method ``execute(ctx)``."""

    def execute(self, ctx: Any, /) -> TReturn_co:
        """Run once."""
        ...


class ObjectToRun(Protocol):
    """An object with a method ``run``, whatever its types."""

    @property
    def run(self) -> Callable[..., object]:
        """The method."""
        ...


class ObjectToExecute(Protocol):
    """An object with a method ``execute``, whatever its types."""

    @property
    def execute(self) -> Callable[..., object]:
        """The method."""
        ...


ActivityTaking = (
    Callable[[], RunsWithInput[TInput, TReturn] | ExecutesWithInput[TInput, TReturn]]
    | Callable[[ActivityContext, TInput], TReturn]
    | Callable[[TInput], TReturn]
)
"""The last form is a method of an object all of whose public methods are activities."""
ActivityAlone = (
    Callable[[], RunsAlone[TReturn] | ExecutesAlone[TReturn]] | Callable[[ActivityContext], TReturn]
)
ActivityObjectTaking = RunsWithInput[TInput, TReturn] | ExecutesWithInput[TInput, TReturn]
ActivityObjectAlone = RunsAlone[TReturn] | ExecutesAlone[TReturn]

OrchestratorTaking = (
    Callable[[], RunsWithInput[TInput, TReturn]] | Callable[["OrchestrationContext", TInput], TReturn]
)
OrchestratorAlone = Callable[[], RunsAlone[TReturn]] | Callable[["OrchestrationContext"], TReturn]

Startable = (
    OrchestratorTaking[TInput, object]
    | OrchestratorAlone[object]
    | RunsWithInput[TInput, object]
    | RunsAlone[object]
    | str
)
"""What a client starts: an orchestrator in any form, or the name of one."""
