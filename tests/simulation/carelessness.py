"""Mutants' replacements, as in ``sabotage``, of the care that is taken of what ends its workers (F30)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

__all__ = [
    "attempts_forgotten",
    "never_on",
    "owners_in_vain_forgotten",
    "start_forgotten",
    "sweep_clears_suspicion",
]


def owners_in_vain_forgotten(original: Any) -> Any:
    async def resume(self: Any, before: Any) -> None:
        await original(self, msgspec.structs.replace(before, vain=0))

    return resume


def sweep_clears_suspicion(original: Any) -> Any:
    async def execute(self: Any, transaction: Any, **lock: Any) -> Any:
        return await original(self, transaction, **(lock | {"vain": 0} if "n" in lock else lock))

    return execute


def attempts_forgotten(original: Any) -> Callable[[Any, Any], None]:
    def take_over(self: Any, noted: Any) -> None:
        original(self, ())

    return take_over


def never_on(original: Any) -> Callable[[Any, Any], bool]:
    return lambda self, waiting: False


def start_forgotten(original: Any) -> Any:
    async def fail(self: Any, message: Any, letter: Any) -> None:
        stripped = msgspec.structs.replace(message, body=_Nothing())
        await original(self, stripped, letter)

    return fail


class _Nothing:
    """The body of a message that starts nobody."""
