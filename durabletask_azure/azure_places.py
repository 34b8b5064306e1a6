"""Where an Azure hub is, as a user writes it: connection strings, names or addresses, checked before any call."""

from __future__ import annotations

import re
from typing import Final

from durabletask_azure.connection_strings import ConnectionString, looks_like_connection_string, split_address
from durabletask_azure.errors import ConfigurationError

__all__ = ["check_host", "check_service_bus", "check_storage", "checked_place"]

_NAMESPACE: Final = re.compile(r"[a-z][a-z0-9-]{4,48}[a-z0-9]", re.IGNORECASE)
_ACCOUNT: Final = re.compile(r"[a-z0-9]{3,24}")
_HOST: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?", re.IGNORECASE)


def check_host(name: str, value: str) -> None:
    """Refuse what is no name of a host. Raises ``ConfigurationError``."""
    if not _HOST.fullmatch(value):
        raise ConfigurationError(f"{name} must be the name of a host, such as windows.net")


def checked_place(name: str, value: str | ConnectionString) -> str | ConnectionString:
    """Return a connection string taken apart, or a name or address. Raises ``ConfigurationError``."""
    if isinstance(value, ConnectionString):
        return value
    text = value.strip()
    if not text:
        raise ConfigurationError(f"{name} must be a connection string, a name or an address, and is empty")
    return ConnectionString(text, name) if looks_like_connection_string(text) else text


def check_service_bus(place: str | ConnectionString) -> None:
    """Refuse what cannot be a Service Bus namespace. Raises ``ConfigurationError``."""
    if isinstance(place, str):
        _check_named("service_bus", place, _NAMESPACE, "a namespace", ("sb", "https"))
        return
    if "Endpoint" not in place:
        hint = (
            "; this looks like one of storage" if "AccountName" in place or "TableEndpoint" in place else ""
        )
        raise ConfigurationError(f"the connection string in service_bus has no Endpoint=sb://...{hint}")
    split_address(place["Endpoint"], "Endpoint of service_bus", ("sb",))
    place.flag("UseDevelopmentEmulator", "service_bus")
    if "EntityPath" in place:
        raise ConfigurationError(
            "the connection string in service_bus is one queue's (it has an EntityPath); a hub needs the namespace's"
        )
    has_key, has_name = "SharedAccessKey" in place, "SharedAccessKeyName" in place
    if has_key != has_name:
        raise ConfigurationError(
            "the connection string in service_bus needs SharedAccessKeyName and SharedAccessKey together"
        )
    if has_key == ("SharedAccessSignature" in place):
        raise ConfigurationError(
            "the connection string in service_bus needs either SharedAccessKeyName and SharedAccessKey, or a"
            " SharedAccessSignature; to sign in with a credential give the namespace's name instead"
        )


def check_storage(place: str | ConnectionString) -> None:
    """Refuse what cannot be a storage account. Raises ``ConfigurationError``."""
    if isinstance(place, str):
        _check_named("storage", place, _ACCOUNT, "a storage account", ("https", "http"))
        return
    if place.flag("UseDevelopmentStorage", "storage"):
        return
    if "Endpoint" in place:
        raise ConfigurationError(
            "the connection string in storage is one of Service Bus (it has an Endpoint)"
        )
    for name in ("TableEndpoint", "BlobEndpoint"):
        if name in place:
            split_address(place[name], f"{name} of storage", ("https", "http"))
    if "AccountName" not in place and not ("TableEndpoint" in place and "BlobEndpoint" in place):
        raise ConfigurationError(
            "the connection string in storage needs AccountName, or TableEndpoint and BlobEndpoint"
        )
    if "AccountKey" in place and "SharedAccessSignature" in place:
        raise ConfigurationError(
            "the connection string in storage needs AccountKey or SharedAccessSignature, not both"
        )


def _check_named(setting: str, text: str, name: re.Pattern[str], what: str, schemes: tuple[str, ...]) -> None:
    if "://" in text or "?" in text:
        split_address(text, setting, schemes)
    elif "." in text:
        check_host(setting, text.partition(":")[0])
    elif not name.fullmatch(text):
        raise ConfigurationError(
            f"{setting} is neither a connection string nor the name or address of {what}"
        )
