"""The arguments of a client's calls: each checked in the caller's thread, before anything is written."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from durabletask_azure.core.codec import DataConverter, checked_converter
from durabletask_azure.core.naming import check_instance_id, check_name, check_text, check_version
from durabletask_azure.core.payload_codec import PayloadCodecs
from durabletask_azure.errors import ArgumentTypeError, ConfigurationError, SerializationError
from durabletask_azure.query import OrchestrationStatus
from durabletask_azure.settings import Settings

__all__ = ["TERMINAL", "Arguments", "Call", "check_flag", "seconds", "text_or_none"]

T = TypeVar("T")
Call = Callable[[], Coroutine[Any, Any, T]]
"""Makes the coroutine that the hub's thread runs."""

TERMINAL = (OrchestrationStatus.COMPLETED, OrchestrationStatus.FAILED, OrchestrationStatus.TERMINATED)


class Arguments:
    """What a client's calls take for granted, and how their arguments are checked."""

    def __init__(
        self,
        settings: Settings,
        *,
        default_version: str | None,
        converter: DataConverter | None,
        codecs: PayloadCodecs,
    ) -> None:
        self.settings = settings
        self.default_version = self.version(default_version)
        self.codecs = codecs
        self.plain = checked_converter(converter)
        self.converter = codecs.converter(self.plain)

    def name(self, name: object, what: str) -> str:
        """Return the name of an orchestrator, event or such. Raises ``ConfigurationError``."""
        return check_name(name, what=what, chars_max=self.settings.name_chars_max)

    def instance_id(self, instance_id: object) -> str:
        """Return an instance id. Raises ``ConfigurationError``."""
        return check_instance_id(instance_id, chars_max=self.settings.instance_id_chars_max)

    def version(self, version: str | None) -> str | None:
        """Return a version. Raises ``ConfigurationError``."""
        return check_version(version, chars_max=self.settings.name_chars_max)

    def serialized(self, value: Any) -> str | None:
        """Return a value as text, encoded. Raises ``SerializationError``, ``PayloadCodecError``."""
        text: object = self.plain.serialize(value)
        try:
            checked = text_or_none(text, "what the data converter returns")
        except ConfigurationError as error:
            raise SerializationError(f"a value cannot be stored: {error}") from error
        return self.codecs.encode(checked)

    def reason(self, reason: object) -> str | None:
        """Return a reason, encoded. Raises ``ConfigurationError``, ``PayloadCodecError``."""
        return self.codecs.encode(text_or_none(reason, "reason"))

    def page_size(self, count: object, what: str) -> int:
        """Return the size of a page, at most what the settings allow. Raises ``ConfigurationError``."""
        if count is None:
            return self.settings.page_size_max
        if isinstance(count, bool) or not isinstance(count, int):
            raise ArgumentTypeError(f"{what} must be a whole number, not {type(count).__name__}")
        if count < 1:
            raise ConfigurationError(
                f"{what} must be at least 1, not {count}; leave it out for {self.settings.page_size_max}"
            )
        return min(count, self.settings.page_size_max)


def text_or_none(text: object, what: str) -> str | None:
    """Return a text that can be stored, or ``None``. Raises ``ConfigurationError``."""
    return None if text is None else check_text(text, what)


def check_flag(flag: object, what: str = "recursive") -> None:
    """Refuse what is not a bool. Raises ``ArgumentTypeError``."""
    if not isinstance(flag, bool):
        raise ArgumentTypeError(f"{what} must be True or False, not {flag!r}")


def seconds(timeout: float | None) -> float:
    """Return a timeout in seconds, infinite for ``None``. Raises ``ConfigurationError``."""
    if timeout is None:
        return math.inf
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ArgumentTypeError(f"timeout must be a number of seconds or None, not {timeout!r}")
    if not timeout >= 0:
        raise ConfigurationError(f"timeout must be 0 seconds or more, or None for ever, not {timeout}")
    return float(timeout)
