"""Connection strings of Azure services: taken apart, checked, and kept where nobody prints them by mistake.

Errors name the setting and the part that is wrong; they never repeat a value, since any part may be a secret that
slipped to the wrong place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NoReturn, Self
from urllib.parse import SplitResult, urlsplit

from durabletask_azure.errors import ConfigurationError

__all__ = ["ConnectionString", "HiddenText", "looks_like_connection_string", "split_address"]

_SHOWN: Final = (
    "accountname",
    "blobendpoint",
    "defaultendpointsprotocol",
    "endpoint",
    "endpointsuffix",
    "sharedaccesskeyname",
    "tableendpoint",
    "usedevelopmentemulator",
    "usedevelopmentstorage",
)
_HIDDEN: Final = "***"


class HiddenText:
    """A text that ``repr`` and ``str`` do not show and that is not pickled; :meth:`reveal` returns it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HiddenText) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return f"<{_HIDDEN}>"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a secret is not pickled; read the settings again in the other process, as with AzureSettings.from_env()"
        )

    def reveal(self) -> str:
        """Return the text."""
        return self._text


class ConnectionString(Mapping[str, str]):
    """The parts of a connection string, asked for by name in any case.

    ``repr`` and ``str`` show only parts that are no secrets; it is not pickled. :meth:`reveal` returns the text.
    """

    __slots__ = ("_parts", "_text")

    def __init__(self, text: str, setting: str) -> None:
        """Take ``text`` apart; ``setting`` is what an error names.

        Raises:
            ConfigurationError: a part is no ``Name=value``, or there is one twice.
        """
        self._text = text.strip()
        self._parts: dict[str, tuple[str, str]] = {}
        for number, part in enumerate(self._text.strip(";").split(";"), 1):
            name, found, value = part.strip().partition("=")
            if not found or not name.strip():
                raise ConfigurationError(
                    f"part {number} of the connection string in {setting} is not of the form Name=value; a connection"
                    " string is Name=value;Name=value, as the Azure portal shows it"
                )
            key = name.strip().lower()
            if key in self._parts:
                raise ConfigurationError(
                    f"the connection string in {setting} has two parts of the name of part {number}"
                )
            self._parts[key] = (name.strip(), value.strip())

    def __getitem__(self, name: str) -> str:
        return self._parts[name.lower()][1]

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._parts.values())

    def __len__(self) -> int:
        return len(self._parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConnectionString) and other._parts == self._parts

    def __hash__(self) -> int:
        return hash(frozenset(self._parts.items()))

    def __repr__(self) -> str:
        shown = ";".join(
            f"{name}={value if key in _SHOWN and '@' not in value and '?' not in value else _HIDDEN}"
            for key, (name, value) in self._parts.items()
        )
        return f"<{type(self).__name__} {shown}>"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a connection string is not pickled, it holds secrets; read the settings again in the other process, as"
            " with AzureSettings.from_env()"
        )

    def reveal(self) -> str:
        """Return the text, secrets and all, for the SDK."""
        return self._text

    def flag(self, name: str, setting: str) -> bool:
        """Return whether a part says ``true``; a missing one does not. Raises ``ConfigurationError``."""
        value = self.get(name, "false").lower()
        if value not in ("true", "false"):
            raise ConfigurationError(f"{name} in the connection string of {setting} must be true or false")
        return value == "true"


def looks_like_connection_string(text: str) -> bool:
    """Tell a connection string from a name or an address: only the former has ``Name=value`` before any ``?``."""
    return "=" in text.split("?", maxsplit=1)[0] or ";" in text


def split_address(text: str, setting: str, schemes: tuple[str, ...]) -> SplitResult:
    """Return the parts of an address, checked: a scheme of ``schemes``, a host, and nothing that could be a secret.

    Raises:
        ConfigurationError: it is none; the text is not repeated.
    """
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(f"the address in {setting} is malformed") from error
    allowed = " or ".join(f"{scheme}://" for scheme in schemes)
    if parts.scheme.lower() not in schemes or not host:
        raise ConfigurationError(f"the address in {setting} must begin with {allowed} and name a host")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigurationError(
            f"the address in {setting} must have no user, password, query or fragment; a shared access signature"
            " belongs in a connection string (SharedAccessSignature=...)"
        )
    return parts
