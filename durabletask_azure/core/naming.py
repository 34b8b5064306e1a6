"""Names of orchestrators, activities and events: how they are found out, and which are allowed.

A name is what is written to the history and looked up in the registry, so it has to be the same on every worker: it
comes from the definition itself or is given explicitly, and a lambda has none.
"""

from __future__ import annotations

from typing import Any

__all__ = ["check_name", "get_name"]


def get_name(target: Any) -> str:
    """Return the name a function, class or instance is registered and called by.

    A function or class has its own, a method that of the method, any other object that of its class.

    Raises:
        ValueError: ``target`` is a lambda.
    """
    name = getattr(target, "__name__", None)
    if not isinstance(name, str):
        name = type(target).__name__
    if name == "<lambda>":
        raise ValueError("a lambda has no name; pass name=... as well")
    return name


def check_name(name: object, *, what: str, chars_max: int) -> str:
    """Return ``name`` if it may name ``what``.

    Raises:
        TypeError: it is not a string.
        ValueError: it is empty, blank or longer than ``chars_max`` characters.
    """
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a string, not {type(name).__name__}")
    if not name or name.isspace():
        raise ValueError(f"{what} must not be empty")
    if len(name) > chars_max:
        raise ValueError(f"{what} has {len(name):,} characters; at most {chars_max:,} are allowed")
    return name
