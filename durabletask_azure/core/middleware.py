"""Code around orchestrations and activities: sees and replaces inputs, results and errors (B125).

A middleware is an ``async def (ctx, input, call_next)``, or an object whose ``__call__`` is one. ``await
call_next(input)`` goes on inwards, to the next middleware and at last to the orchestrator or activity, with the input
it is given; it returns the result or raises the error. What a middleware returns is the result for the one outside of
it, and what it raises is the error. It may call ``call_next`` once, several times, or not at all.

The first one registered is the outermost. Inputs are objects, built by the type the orchestrator or activity declares
for its input; results are made into JSON after the outermost has returned.

*Around orchestrations* a middleware is orchestrator code: it runs again in each replay, may await durable tasks and
asyncio's own tools, must decide the same each time, and must be the same on all workers of a hub. ``ctx.is_replaying``
tells a replay. *Around activities* it is ordinary async code: it runs on the event loop of async activities, also
around a sync one, which runs in its thread meanwhile and sees the context variables that were set around it.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from durabletask_azure.errors import ArgumentTypeError

if TYPE_CHECKING:
    from durabletask_azure.core.activity_context import ActivityContext
    from durabletask_azure.core.context import OrchestrationContext

__all__ = ["ActivityMiddleware", "CallNext", "OrchestrationMiddleware", "checked_middleware", "surround"]

CallNext = Callable[[Any], Awaitable[Any]]
"""``await call_next(input)``: goes on inwards, and returns the result or raises the error."""

_Middleware = Callable[[Any, Any, CallNext], Awaitable[Any]]
M = TypeVar("M")
_PARAMETERS = 3


class OrchestrationMiddleware(Protocol):
    """Code around every orchestration of a worker; deterministic, like an orchestrator."""

    async def __call__(self, ctx: OrchestrationContext, input: Any, call_next: CallNext, /) -> Any:
        """Run one execution, and return its result or raise its error."""
        ...


class ActivityMiddleware(Protocol):
    """Code around every activity call of a worker."""

    async def __call__(self, ctx: ActivityContext, input: Any, call_next: CallNext, /) -> Any:
        """Run one call, and return its result or raise its error."""
        ...


def surround(middleware: Sequence[_Middleware], ctx: Any, inner: CallNext) -> CallNext:
    """Return ``inner`` inside all of ``middleware``, the first outermost."""
    for outer in reversed(middleware):
        inner = _inside(outer, ctx, inner)
    return inner


def _inside(outer: _Middleware, ctx: Any, inner: CallNext) -> CallNext:
    return lambda value: outer(ctx, value, inner)


def checked_middleware(middleware: M) -> M:
    """Return ``middleware`` if it is one.

    Raises:
        ArgumentTypeError: it is not an async function, or not one of three parameters.
    """
    target: Any = middleware
    if isinstance(target, type) or not callable(target):
        raise ArgumentTypeError(
            f"a middleware is an async def (ctx, input, call_next), or an object with such a __call__; not {target!r}"
        )
    if not (inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(type(target).__call__)):
        raise ArgumentTypeError(
            f"a middleware must be an async def (ctx, input, call_next); {target!r} is not async"
        )
    try:
        inspect.signature(target).bind(*range(_PARAMETERS))
    except TypeError:
        raise ArgumentTypeError(
            f"a middleware takes three parameters: (ctx, input, call_next); {target!r} does not"
        ) from None
    return middleware
