"""A call under way, as what answers it sees it: who asked may be a coroutine of another thread, or a blocked one."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

__all__ = ["Asked"]

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Asked(Protocol[T_contra]):
    """What is told the result of a call that was begun without a coroutine; it is told once.

    Used on the hub's thread.
    """

    quit: Callable[[], object] | None
    """Stops what is under way, for whoever waits no more; set by what begins it, forgotten with the answer."""

    def answer(self, result: T_contra) -> None:
        """Take the result."""
        ...

    def go_on(self, call: Callable[[], Coroutine[Any, Any, T_contra]]) -> None:
        """Have a coroutine find the result after all; what it raises is the call's error."""
        ...
