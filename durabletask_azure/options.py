"""Refuses options nobody knows, and names those that were probably meant."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import msgspec

from durabletask_azure.errors import ArgumentTypeError

__all__ = ["KnownOptions", "check_options", "known_options"]

P = ParamSpec("P")
R = TypeVar("R")


class KnownOptions(msgspec.StructMeta):
    """Makes structs that refuse options they do not have, or lack, with an error of this package."""

    # Type checkers shall see the options themselves.
    if not TYPE_CHECKING:

        def __call__(cls, *args: Any, **options: Any) -> Any:
            """Make one, once the names of its options are checked."""
            if args:
                raise ArgumentTypeError(
                    f"{cls.__name__} takes its options by name, as {cls.__name__}(name=value)"
                )
            check_options(options, cls.__struct_fields__, cls.__name__)
            required = cls.__struct_fields__[: len(cls.__struct_fields__) - len(cls.__struct_defaults__)]
            missing = [name for name in required if name not in options]
            if missing:
                raise ArgumentTypeError(f"{cls.__name__} needs {', '.join(missing)}")
            return super().__call__(**options)


def check_options(given: Iterable[str], known: Collection[str], what: str) -> None:
    """Refuse option names that ``what`` does not have.

    Raises:
        ArgumentTypeError: names the first unknown option and the known ones nearest to it, or all if none is near.
    """
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, n=3, cutoff=0.5)
            meant = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(sorted(known))}"
            raise ArgumentTypeError(f"{what} has no option {name!r}; {meant}")


def known_options(what: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a callable so that it refuses keywords it does not have with an error of this package."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        known = [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]

        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            check_options(kwargs, known, what)
            return function(*args, **kwargs)

        return checked

    return decorate
