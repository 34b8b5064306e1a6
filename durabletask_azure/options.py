"""Refuses options nobody knows, and names those that were probably meant."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches
from typing import ParamSpec, TypeVar

from durabletask_azure.errors import ArgumentTypeError

__all__ = ["check_options", "known_options"]

P = ParamSpec("P")
R = TypeVar("R")


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
