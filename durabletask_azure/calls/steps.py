"""Calls of several steps: each runs on the hub's thread, and what lies between them in the caller's."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

from durabletask_azure.bulk import BulkProgress
from durabletask_azure.calls.arguments import Call
from durabletask_azure.errors import ArgumentTypeError
from durabletask_azure.hosting import HubHost

__all__ = ["OnProgress", "Steps", "acarry_out", "carry_out", "checked_progress"]

T = TypeVar("T")
Steps = Generator[Call[Any], Any, T]
"""Yields calls, is sent what each returned or thrown what it raised, and returns the result of all."""

OnProgress = Callable[[BulkProgress], object]
"""Is told how far a call has come, in the caller's thread; what it returns is not used."""


def carry_out(hub: HubHost, steps: Steps[T]) -> T:
    """Carry the steps out and return their result."""
    try:
        hub.open()
        call = next(steps)
        while True:
            try:
                answer = hub.run(call)
            except Exception as error:
                call = steps.throw(error)
            else:
                call = steps.send(answer)
    except StopIteration as done:
        return done.value
    finally:
        steps.close()


async def acarry_out(hub: HubHost, steps: Steps[T]) -> T:
    """Carry the steps out from an event loop of the caller's and return their result."""
    try:
        await hub.aopen()
        call = next(steps)
        while True:
            try:
                answer = await hub.arun(call)
            except Exception as error:
                call = steps.throw(error)
            else:
                call = steps.send(answer)
    except StopIteration as done:
        return done.value
    finally:
        steps.close()


def checked_progress(on_progress: object) -> None:
    """Refuse what cannot be called. Raises ``ArgumentTypeError``."""
    if on_progress is not None and not callable(on_progress):
        raise ArgumentTypeError(
            f"on_progress must be a function of one argument, not {type(on_progress).__name__}"
        )
