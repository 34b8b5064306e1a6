"""How an orchestrator's code is run on the loop, whichever way it is written.

``async def``, generators that yield durable tasks, and plain functions become one coroutine; what they decide is the
same for the same history.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Generator
from functools import partial
from typing import Any, cast

from durabletask_azure.core.codec import rebuilt_as_declared
from durabletask_azure.core.definitions import OrchestratorDefinition
from durabletask_azure.core.journal import RuntimeOptions
from durabletask_azure.core.loop import drop_coroutine
from durabletask_azure.core.middleware import surround
from durabletask_azure.core.tasks import Task

__all__ = ["run_definition"]


async def run_definition(
    definition: OrchestratorDefinition, context: Any, options: RuntimeOptions, text: str | Exception | None
) -> Any:
    """Run one execution to its end, inside the middleware, and return its result.

    ``text`` is the input, or why it cannot be had.
    """
    if isinstance(text, Exception):
        raise text
    value = rebuilt_as_declared(options.codec, text, definition.input_type)
    if options.orchestration_middleware:
        call = partial(_run, definition, context)
        return await surround(options.orchestration_middleware, context, call)(value)
    outcome: object = definition.start(context, value)
    awaited = _awaited(definition, outcome)
    return outcome if awaited is None else await awaited


async def _run(definition: OrchestratorDefinition, context: Any, value: Any) -> Any:
    outcome: object = definition.start(context, value)
    awaited = _awaited(definition, outcome)
    return outcome if awaited is None else await awaited


def _awaited(definition: OrchestratorDefinition, outcome: object) -> Awaitable[Any] | None:
    """Return what has to be awaited for the result; ``None`` if ``outcome`` is the result."""
    if inspect.isgenerator(outcome):
        return _drive(cast(Generator[Any, Any, Any], outcome))
    if inspect.isawaitable(outcome):
        return outcome
    if inspect.isasyncgen(outcome):
        raise TypeError(
            f"{definition.name!r} is an async generator: await the tasks, or yield them without async"
        )
    return None


async def _drive(generator: Generator[Any, Any, Any]) -> Any:
    """Run a generator that yields durable tasks; each ``yield`` gives the task's result or raises its error."""
    try:
        yielded = next(generator)
        while True:
            if not isinstance(yielded, Task):
                raise TypeError(
                    f"the orchestrator yielded {type(yielded).__name__}, which is not a durable task"
                )
            error: Exception | None = None
            result: Any = None
            try:
                result = await cast(Task[Any], yielded)
            except Exception as raised:
                error = raised
            # Outside of the except block: the generator's own errors shall not get this one as their context twice.
            yielded = generator.send(result) if error is None else generator.throw(error)
    except StopIteration as stop:
        return stop.value
    finally:
        drop_coroutine(generator)
