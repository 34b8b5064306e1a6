"""What the annotations of a user's function say about its input and its result.

Discovery never fails: whatever cannot be resolved counts as not annotated (``None``), and the payload is then handed
over as plain JSON. Answers are cached, since they are asked for at every call.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import lru_cache
from typing import Any, NamedTuple

__all__ = ["Signature", "signature_of"]


class Signature(NamedTuple):
    """How many positional parameters a callable takes (``None``: unknown or any) and the types it declares."""

    positional: int | None
    first: Any
    second: Any
    result: Any
    first_name: str = ""


_UNKNOWN = Signature(None, None, None, None)


def signature_of(function: Callable[..., Any]) -> Signature:
    """Return what ``function`` declares; ``self`` of a bound method is not counted."""
    try:
        return _cached(function)
    except TypeError:  # an unhashable callable
        return _inspect(function)


@lru_cache(maxsize=4096)
def _cached(function: Callable[..., Any]) -> Signature:
    return _inspect(function)


def _inspect(function: Callable[..., Any]) -> Signature:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return _UNKNOWN
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # a name that only exists while type checking: take it as not annotated
        hints = {}
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    unlimited = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    types = [hints.get(p.name) for p in positional[:2]] + [None, None]
    return Signature(
        positional=None if unlimited else len(positional),
        first=types[0],
        second=types[1],
        result=_result(hints.get("return")),
        first_name=positional[0].name if positional else "",
    )


def _result(annotation: Any) -> Any:
    """Return what a call of the function finally yields: generators and awaitables are looked through."""
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is Generator or origin is Coroutine:
        return arguments[2] if len(arguments) == 3 else None
    if origin is Awaitable:
        return arguments[0]
    return None if annotation is type(None) else annotation
