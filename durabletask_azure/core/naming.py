"""Names, instance ids, versions and tags: how names are found out, and which texts are allowed.

A name is what is written to the history and looked up in the registry, so it has to be the same on every worker: it
comes from the definition itself or is given explicitly, and a lambda has none. Everything checked here becomes part of
a row or a message as it is, so it has to be encodable as UTF-8.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import FunctionType
from typing import Any, cast

from durabletask_azure.errors import ArgumentTypeError, ConfigurationError

__all__ = [
    "check_instance_id",
    "check_name",
    "check_tags",
    "check_text",
    "check_version",
    "get_name",
    "target_name",
]

_RESERVED = "@"


def get_name(fn: Any) -> str:
    """Return the name a function, class or instance is registered and called by.

    A function or class has its own, a method that of the method, any other object that of its class.

    Raises:
        ConfigurationError: ``fn`` is a lambda.
    """
    name = getattr(fn, "__name__", None)
    if not isinstance(name, str):
        name = type(fn).__name__
    return _not_of_a_lambda(name)


def _not_of_a_lambda(name: str) -> str:
    if name == "<lambda>":
        raise ConfigurationError("a lambda has no name; pass name=... as well, or write a function")
    return name


def target_name(target: Any, what: str, *, chars_max: int) -> str:
    """Return the name of an orchestrator or activity (``what``) that is to be called, given by itself or by its name.

    Raises:
        ArgumentTypeError: nothing that could be one. ConfigurationError: its name is not allowed.
    """
    if type(target) is FunctionType:
        return _name_of_function(target.__name__, what, chars_max)
    if not isinstance(target, str):
        if not callable(target) and not hasattr(target, "run") and not hasattr(target, "execute"):
            raise ArgumentTypeError(
                f"an {what} is given by name, function, class or instance, not by {type(target).__name__}"
            )
        target = get_name(target)
    return _checked(target, what, chars_max)


@lru_cache(maxsize=1_024)
def _checked(name: str, what: str, chars_max: int) -> str:
    return check_name(name, what=f"{what} name", chars_max=chars_max)


@lru_cache(maxsize=1_024)
def _name_of_function(name: str, what: str, chars_max: int) -> str:
    return _checked(_not_of_a_lambda(name), what, chars_max)


def check_text(text: object, what: str) -> str:
    """Return ``text`` if it is a string that can be stored.

    Raises:
        ArgumentTypeError: it is not a string. ConfigurationError: it holds half a surrogate pair.
    """
    if not isinstance(text, str):
        raise ArgumentTypeError(f"{what} must be a string, not {type(text).__name__}")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ConfigurationError(
                f"{what} must be text that UTF-8 can hold; this has half a surrogate pair at {error.start}"
            ) from error
    return text


def check_name(name: object, *, what: str, chars_max: int) -> str:
    """Return ``name`` if it may name ``what``.

    Raises:
        ArgumentTypeError: it is not a string.
        ConfigurationError: it is empty, blank, longer than ``chars_max`` characters or has half a surrogate pair.
    """
    text = check_text(name, what)
    if not text or text.isspace():
        raise ConfigurationError(
            f"{what} must not be empty or blank; 1 to {chars_max:,} characters are allowed"
        )
    if len(text) > chars_max:
        raise ConfigurationError(f"{what} has {len(text):,} characters; at most {chars_max:,} are allowed")
    return text


def check_instance_id(instance_id: object, *, chars_max: int) -> str:
    """Return ``instance_id`` if an orchestration may have it; errors as :func:`check_name`."""
    text = check_name(instance_id, what="an instance id", chars_max=chars_max)
    if text.startswith(_RESERVED):
        raise ConfigurationError(
            f"an instance id must not start with {_RESERVED!r}, which is reserved for entities"
        )
    return text


def check_version(version: str | None, *, chars_max: int) -> str | None:
    """Return ``version`` if it is one or ``None``; an empty one is allowed. Errors as :func:`check_name`."""
    if version is None or version == "":
        return version
    return check_name(version, what="version", chars_max=chars_max)


def check_tags(tags: object) -> dict[str, str] | None:
    """Return a copy of ``tags``.

    Raises:
        ArgumentTypeError: not a mapping of strings to strings. ConfigurationError: one has half a surrogate pair.
    """
    if tags is None:
        return None
    if not isinstance(tags, Mapping):
        raise ArgumentTypeError(f"tags must be a dictionary of strings, not {type(tags).__name__}")
    return {
        check_text(key, "the name of a tag"): check_text(value, f"the value of the tag {key!r}")
        for key, value in cast(Mapping[object, object], tags).items()
    }
