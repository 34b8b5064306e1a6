"""How a failure is recorded: type, message, stack trace, cause and custom properties, all of bounded size."""

from __future__ import annotations

import traceback
from typing import Any

import msgspec

from durabletask_azure.errors import NonRetriableError, OrchestrationFailedError, TaskFailedError

__all__ = ["FailureDetails", "describe_failure", "qualified_name", "truncate"]

_INNER_DEPTH_MAX = 8
_PROPERTY_BYTES_MAX = 4_096


class FailureDetails(
    msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag_field="kind", tag="failure"
):
    """A recorded failure, as Microsoft's ``durabletask.task.FailureDetails`` has it, with one field more.

    ``error_type`` is the exception's qualified name (``builtins.ValueError`` is written ``ValueError``), and
    ``is_non_retriable`` tells that no retry policy may retry it.
    """

    message: str
    error_type: str
    stack_trace: str | None = None
    inner_failure: FailureDetails | None = None
    properties: dict[str, Any] | None = None
    is_non_retriable: bool = False

    def is_caused_by(self, error_type: str | type[BaseException]) -> bool:
        """Return whether this failure's own type is ``error_type`` or, given a class, one of its subclasses.

        A string compares by name, qualified or not; a class also matches its subclasses that this process has
        imported (nothing is imported by name). Inner failures are not looked at.

        Raises:
            TypeError: ``error_type`` is neither a string nor an exception class.
        """
        if isinstance(error_type, str):
            if "." in error_type and "." in self.error_type:
                return error_type == self.error_type
            return bool(error_type) and error_type.rsplit(".", 1)[-1] == self.error_type.rsplit(".", 1)[-1]
        if not (isinstance(error_type, type) and issubclass(error_type, BaseException)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"is_caused_by() takes an exception class or the name of one, not {error_type!r}")
        waiting: list[type[BaseException]] = [error_type]
        visited: set[type[BaseException]] = set()
        while waiting:
            candidate = waiting.pop()
            if candidate in visited:
                continue
            visited.add(candidate)
            name = qualified_name(candidate)
            if name == self.error_type or (
                "." not in self.error_type and name.rsplit(".", 1)[-1] == self.error_type
            ):
                return True
            waiting.extend(candidate.__subclasses__())
        return False


def qualified_name(error_type: type[BaseException]) -> str:
    """Return ``module.Class``, or just ``Class`` for a built-in exception."""
    if error_type.__module__ == "builtins":
        return error_type.__qualname__
    return f"{error_type.__module__}.{error_type.__qualname__}"


def truncate(text: str, bytes_max: int) -> str:
    """Return ``text``, cut to at most ``bytes_max`` bytes of UTF-8 and saying so if it was longer."""
    if len(text) * 4 <= bytes_max and text.isascii():
        return text
    data = text.encode("utf-8", "replace")
    if len(data) <= bytes_max:
        return data.decode()
    note = f"… [truncated: {len(data):,} bytes]"
    return data[: max(0, bytes_max - len(note.encode()))].decode("utf-8", "ignore") + note


def describe_failure(
    error: BaseException, *, text_bytes_max: int, properties: dict[str, Any] | None = None, _depth: int = 0
) -> FailureDetails:
    """Return the record of ``error`` and its causes, texts truncated to ``text_bytes_max`` bytes each.

    A :class:`TaskFailedError` becomes a failure whose inner failure is the task's own; otherwise the explicit cause
    (``raise ... from``), or the context that was not suppressed, becomes the inner failure.
    """
    try:
        message = str(error)
    except Exception as failure:  # a broken __str__ must not hide the failure it describes
        message = f"<the error's text failed: {type(failure).__name__}>"
    frames = traceback.format_exception(type(error), error, error.__traceback__, chain=False, limit=-64)
    inner: FailureDetails | None = None
    if isinstance(error, TaskFailedError):
        inner = error.details
    elif isinstance(error, OrchestrationFailedError):
        inner = error.failure_details
    elif _depth < _INNER_DEPTH_MAX:
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if cause is not None:
            inner = describe_failure(cause, text_bytes_max=text_bytes_max // 2, _depth=_depth + 1)
    return FailureDetails(
        message=truncate(message, text_bytes_max),
        error_type=qualified_name(type(error)),
        stack_trace=truncate("".join(frames), text_bytes_max),
        inner_failure=inner,
        properties=_storable(properties) if properties else None,
        is_non_retriable=isinstance(error, NonRetriableError),
    )


def _storable(properties: dict[str, Any]) -> dict[str, Any]:
    """Return the user's own properties of an error, those that JSON cannot hold as their text."""
    storable: dict[str, Any] = {}
    for key, value in properties.items():
        name = truncate(str(key), _PROPERTY_BYTES_MAX)
        try:
            # As it will be read back: what the orchestrator sees now and in a replay is the same, and nobody else's.
            storable[name] = msgspec.json.decode(msgspec.json.encode(value))
        except Exception:  # a type msgspec does not know, half a surrogate pair, a cycle
            storable[name] = truncate(ascii(value), _PROPERTY_BYTES_MAX)
    return storable
