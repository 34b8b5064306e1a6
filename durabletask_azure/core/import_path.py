"""The name by which another process finds a function or class: ``module:qualified.name``.

Only what stands in a module under its own name has one. Looking it up is the business of the process that runs it.
"""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

from durabletask_azure.errors import ArgumentTypeError, ConfigurationError

__all__ = ["Importable", "importable"]


class Importable(NamedTuple):
    """A function or class and the name ``module:qualified.name`` that another process finds it by."""

    path: str
    target: Any


def importable(target: Any, what: str) -> Importable:
    """Return a function or class with the name it is found by; ``what`` names it in messages.

    Raises:
        ArgumentTypeError: it is neither. ConfigurationError: a lambda, or defined inside a function.
    """
    if not (inspect.isfunction(target) or inspect.isclass(target)):
        raise ArgumentTypeError(
            f"{what} runs in another process, which finds it by its name: give a function or class of a module,"
            f" not {type(target).__name__}"
        )
    module, name = target.__module__, target.__qualname__
    if "<" in name:
        kind = "a lambda" if name.endswith("<lambda>") else "defined inside a function"
        raise ConfigurationError(
            f"{what} runs in another process, which finds it by its name: {module}.{name} is {kind}; move it to the top"
            " of a module"
        )
    return Importable(f"{module}:{name}", target)
