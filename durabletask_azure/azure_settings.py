"""Where an Azure hub is and how it is used: every option with its unit, default and check, in one frozen object.

No SDK is imported here. What the adapters need of it is made in ``azure_targets.py``.
"""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final, NoReturn, Self, cast
from urllib.parse import unquote, urlsplit

import msgspec

from durabletask_azure.azure_places import check_host, check_service_bus, check_storage, checked_place
from durabletask_azure.connection_strings import ConnectionString, HiddenText, split_address
from durabletask_azure.errors import ArgumentTypeError, ConfigurationError, InvalidQueueSizeError
from durabletask_azure.options import KnownOptions, check_options
from durabletask_azure.targets import Proxy

__all__ = ["ENV_PREFIX", "QUEUE_SIZES_MB", "AzureSettings"]

ENV_PREFIX: Final = "DURABLETASK_"
QUEUE_SIZES_MB: Final = (1024, 2048, 3072, 4096, 5120)
_CONFIG_VARIABLE: Final = "DURABLETASK_CONFIG"
_NOT_OURS: Final = ("DURABLETASK_CONFIG", "DURABLETASK_LOCAL")
_HUB: Final = re.compile(r"[a-z][a-z0-9]{2,53}")
_GROUP: Final = re.compile(r"[a-z0-9](?:-?[a-z0-9]){0,39}")
_DAY_S: Final = 24 * 3600.0
_PARTITIONS_MAX: Final = 128


class AzureSettings(msgspec.Struct, frozen=True, kw_only=True, metaclass=KnownOptions):
    """An Azure hub: its services, its name, and what its queues are like. All checks are made when it is made.

    ``repr`` shows no secrets, and it is not pickled.

    Raises:
        InvalidQueueSizeError: the queue size is not one that Service Bus knows.
        ConfigurationError: another value is not allowed; the message names the option and what is.
        ArgumentTypeError: there is no such option, or a value is of the wrong type.
    """

    # Where
    service_bus: str | ConnectionString
    """A Service Bus connection string (``Endpoint=sb://...``; with ``UseDevelopmentEmulator=true`` an emulator's), or
    the name or address of a namespace, which is signed in to with ``credential``."""
    storage: str | ConnectionString
    """A storage connection string (account key, ``SharedAccessSignature``, explicit ``TableEndpoint`` and
    ``BlobEndpoint``, ``UseDevelopmentStorage=true``), or the name or address of an account, signed in to with
    ``credential``."""
    hub: str
    """The hub's name, from which its queues, table and container have theirs: 3 to 54 lower case letters and digits,
    the first a letter."""
    credential: object | None = None
    """A token credential of azure-identity, synchronous or asynchronous, for what has no key or signature; ``None``:
    ``DefaultAzureCredential``, made when it is first needed. It is not closed with the hub."""
    endpoint_suffix: str = "windows.net"
    """The cloud that names without an address belong to: ``windows.net``, ``chinacloudapi.cn``,
    ``usgovcloudapi.net``."""
    service_bus_address: str | None = None
    """``sb://host:port`` to connect to instead of the namespace's own address: a private endpoint or a gateway."""
    admin_url: str | None = None
    """The address of the Service Bus administration API if it is not the namespace's own. An emulator's is
    ``http://<its host>:5300`` if not given."""
    websockets: bool = False
    """Whether Service Bus is spoken through websockets, on port 443 instead of 5671."""
    proxy: str | HiddenText | None = None
    """An HTTP proxy, ``http://user:password@host:port``; Service Bus then goes through websockets."""
    ca_bundle: str | None = None
    """A PEM file of certificates to trust instead of the system's."""

    # The hub
    partitions: int | None = None
    """How many partitions the hub is created with, 1 to 128, and fixed from then on; ``None``: 4, or what it has."""
    create_if_missing: bool = False
    """Whether opening creates the hub if it is not there; needs the right to manage."""
    manage: bool = True
    """Whether this process may use the administration API (the right "Manage"). Without, opening checks no queue,
    statistics have no queue depths, and nothing can be created or deleted."""

    open_timeout_s: float = 30.0
    """Seconds that opening the hub, looking for it, and the first answer of its services before it is created, deleted
    or repaired may take, 1 to 600."""

    # The queues
    max_queue_size_in_megabytes: int = 1024
    """Size of each queue in MB: 1024, 2048, 3072, 4096 or 5120. Service Bus has no others."""
    lock_duration_s: float | None = None
    """Seconds a message or partition stays locked without renewal, 5 to 300: how long a dead worker's work waits.
    ``None``: 60, on an emulator 30."""
    max_delivery_count: int = 10
    """Deliveries of a message before it is dead-lettered, 1 to 2000 (an emulator's end at 10); at least 3."""
    duplicate_window_s: float | None = 300.0
    """Seconds in which Service Bus drops a message of an id it has seen, 20 to 604,800 (7 days); ``None``: it does not.
    Nothing rests on it."""
    time_to_live_s: float | None = None
    """Seconds after which an undelivered message is dead-lettered (and sent again by a worker), at least 3,600;
    ``None``: as long as the service allows."""
    prefetch_max: int = 100
    """Messages a link holds ahead of what is asked for, 1 to 2,000."""
    activity_groups: Mapping[str, Sequence[str]] = {}
    """Queues of their own for some activities: the group's name (lower case letters, digits, single hyphens) and the
    names of its activities. The same in every process of the hub."""

    def __post_init__(self) -> None:
        check_queue_size(self.max_queue_size_in_megabytes)
        _check_types(self)
        _check_hub(self.hub)
        check_host("endpoint_suffix", self.endpoint_suffix)
        msgspec.structs.force_setattr(self, "service_bus", checked_place("service_bus", self.service_bus))
        msgspec.structs.force_setattr(self, "storage", checked_place("storage", self.storage))
        check_service_bus(self.service_bus)
        check_storage(self.storage)
        if self.service_bus_address is not None:
            split_address(self.service_bus_address, "service_bus_address", ("sb", "amqps", "https"))
        if self.admin_url is not None:
            split_address(self.admin_url, "admin_url", ("http", "https"))
        if self.proxy is not None:
            msgspec.structs.force_setattr(self, "websockets", True)
            msgspec.structs.force_setattr(self, "proxy", HiddenText(str_of(self.proxy)))
            self.proxy_parts()
        if self.ca_bundle is not None and not os.path.isfile(self.ca_bundle):
            raise ConfigurationError(f"ca_bundle must be a PEM file; there is no file {self.ca_bundle!r}")
        if self.credential is not None and not callable(getattr(self.credential, "get_token", None)):
            raise ArgumentTypeError(
                "credential must be a token credential with a method get_token(), such as azure-identity's, not"
                f" {type(self.credential).__name__}; keys and signatures belong in connection strings"
            )
        _check_range("partitions", self.partitions, 1, _PARTITIONS_MAX)
        _check_range("open_timeout_s", self.open_timeout_s, 1, 600)
        _check_range("lock_duration_s", self.lock_duration_s, 5, 300)
        _check_range("max_delivery_count", self.max_delivery_count, 3, 2000)
        _check_range("duplicate_window_s", self.duplicate_window_s, 20, 7 * _DAY_S)
        _check_range("time_to_live_s", self.time_to_live_s, 3600, math.inf)
        _check_range("prefetch_max", self.prefetch_max, 1, 2000)
        msgspec.structs.force_setattr(self, "activity_groups", _checked_groups(self.activity_groups))
        if self.create_if_missing and not self.manage:
            raise ConfigurationError(
                "create_if_missing needs manage: without the right to manage nothing can be created; have a process"
                " that may manage create the hub first"
            )

    def __repr__(self) -> str:
        shown: list[str] = []
        for option in msgspec.structs.fields(self):
            value = getattr(self, option.name)
            if option.name == "credential":
                value = None if value is None else HiddenText("set")
            if option.required or value != option.default:
                shown.append(f"{option.name}={value!r}")
        return f"AzureSettings({', '.join(shown)})"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "AzureSettings are not pickled, they may hold secrets; make them again in the other process, as with"
            " AzureSettings.from_env()"
        )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Return the settings that environment variables give: ``DURABLETASK_`` and an option's name in upper case.

        ``DURABLETASK_SERVICE_BUS``, ``DURABLETASK_STORAGE`` and ``DURABLETASK_HUB`` are needed. ``DURABLETASK_CONFIG``
        names a file as for :meth:`from_file`, whose options the others override. Truth is ``true`` or ``false``,
        ``None`` is ``none``, ``DURABLETASK_ACTIVITY_GROUPS`` is JSON. A credential cannot be given: it is
        ``DefaultAzureCredential``, which has variables of its own.

        Raises:
            ConfigurationError: a variable is missing, misspelt, or its value is not allowed; names the variable.
        """
        environ = os.environ if environ is None else environ
        known = {ENV_PREFIX + name.upper(): name for name in _option_names()}
        options: dict[str, Any] = {}
        if environ.get(_CONFIG_VARIABLE):
            options.update(_read_file(environ[_CONFIG_VARIABLE]))
        for variable, value in environ.items():
            if variable in known:
                if value.strip():
                    options[known[variable]] = _from_text(variable, known[variable], value.strip())
            elif variable.startswith(ENV_PREFIX) and variable not in _NOT_OURS:
                near = get_close_matches(variable, known, n=1, cutoff=0.8)
                if near:
                    raise ConfigurationError(
                        f"there is no environment variable {variable}; did you mean {near[0]}?"
                    )
        return cls._of(options, "the environment", lambda name: ENV_PREFIX + name.upper())

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Return the settings that the table ``[azure]`` of a TOML file gives; its keys are the options.

        Raises:
            ConfigurationError: it cannot be read, an option is missing or unknown, or a value is not allowed.
        """
        return cls._of(_read_file(path), os.fspath(path), lambda name: f"azure.{name}")

    @classmethod
    def _of(cls, options: dict[str, Any], where: str, called: Callable[[str], str]) -> Self:
        missing = [called(name) for name in ("service_bus", "storage", "hub") if not options.get(name)]
        if missing:
            raise ConfigurationError(f"{' and '.join(missing)} must be set in {where} for an Azure hub")
        return cls(**options)

    @property
    def is_emulator(self) -> bool:
        """Whether Service Bus is an emulator."""
        place = self.service_bus
        return isinstance(place, ConnectionString) and place.flag("UseDevelopmentEmulator", "service_bus")

    @property
    def lock_s(self) -> float:
        """The lock duration in seconds, chosen if it was not given."""
        if self.lock_duration_s is not None:
            return self.lock_duration_s
        return 30.0 if self.is_emulator else 60.0

    def proxy_parts(self) -> Proxy | None:
        """Return the proxy taken apart. Raises ``ConfigurationError``."""
        if self.proxy is None:
            return None
        try:
            parts = urlsplit(str_of(self.proxy))
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ConfigurationError("proxy must be http://host:port, and is malformed") from error
        if parts.scheme != "http" or not host or port is None or parts.path.strip("/") or parts.query:
            raise ConfigurationError("proxy must be http://host:port or http://user:password@host:port")
        return Proxy(
            host=host,
            port=port,
            username=None if parts.username is None else unquote(parts.username),
            password=None if parts.password is None else unquote(parts.password),
        )


def check_queue_size(size_mb: object) -> None:
    """Refuse a queue size that Service Bus does not have. Raises ``InvalidQueueSizeError``."""
    if isinstance(size_mb, bool) or not isinstance(size_mb, int) or size_mb not in QUEUE_SIZES_MB:
        allowed = ", ".join(str(size) for size in QUEUE_SIZES_MB[:-1])
        raise InvalidQueueSizeError(
            f"max_queue_size_in_megabytes must be {allowed} or {QUEUE_SIZES_MB[-1]} (MB), not {size_mb!r}: Service Bus"
            " has no queues of other sizes"
        )


_CALLED: Final[Mapping[object, str]] = {
    str: "a string",
    str | ConnectionString: "a string",
    str | None: "a string or None",
    str | HiddenText | None: "a string or None",
    bool: "True or False",
    int: "a whole number",
    int | None: "a whole number or None",
    float: "a number of seconds",
    float | None: "a number of seconds or None",
}
"""The types of options, and what an error calls them."""


def str_of(text: str | HiddenText) -> str:
    """Return a text that may be hidden."""
    return text.reveal() if isinstance(text, HiddenText) else text


def _option_names() -> list[str]:
    """Return the options that a text can give."""
    return [name for name in AzureSettings.__struct_fields__ if name != "credential"]


def _type_of(name: str) -> object:
    return next(option.type for option in msgspec.structs.fields(AzureSettings) if option.name == name)


def _check_types(settings: AzureSettings) -> None:
    for option in msgspec.structs.fields(settings):
        kind: Any = option.type
        if kind not in _CALLED:
            continue
        value = getattr(settings, option.name)
        kind = kind | int if kind in (float, float | None) else kind
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ArgumentTypeError(
                f"{option.name} must be {_CALLED[option.type]}, not {type(value).__name__}"
            )


def _check_range(name: str, value: float | None, least: float, most: float) -> None:
    if value is None:
        return
    if not math.isfinite(value) or not least <= value <= most:
        span = f"at least {least:g}" if math.isinf(most) else f"from {least:g} to {most:g}"
        raise ConfigurationError(f"{name} must be {span}, not {value!r}")


def _check_hub(name: str) -> None:
    if not _HUB.fullmatch(name) or name == "tables":
        raise ConfigurationError(
            f"hub must be 3 to 54 lower case letters and digits, the first a letter, and not 'tables', not {name!r}:"
            " queues, table and container are named after it"
        )


def _checked_groups(groups: object) -> dict[str, tuple[str, ...]]:
    if not isinstance(groups, Mapping):
        raise ArgumentTypeError("activity_groups must map names of groups to lists of names of activities")
    checked: dict[str, tuple[str, ...]] = {}
    home: dict[str, str] = {}
    for group, names in cast(Mapping[object, object], groups).items():
        if not isinstance(group, str) or not _GROUP.fullmatch(group):
            raise ConfigurationError(
                "the name of an activity group must be 1 to 40 lower case letters, digits and single hyphens, not"
                f" {group!r}"
            )
        if isinstance(names, str) or not isinstance(names, Sequence) or not names:
            raise ArgumentTypeError(
                f"activity group {group!r} must be a list of one or more names of activities"
            )
        for activity in cast(Sequence[object], names):
            if not isinstance(activity, str) or not activity:
                raise ArgumentTypeError(f"activity group {group!r} must hold names of activities")
            if home.setdefault(activity, group) != group:
                raise ConfigurationError(
                    f"activity {activity!r} is in the groups {home[activity]!r} and {group!r}; it must be in one"
                )
        checked[group] = tuple(cast(Sequence[str], names))
    return checked


def _read_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise ConfigurationError(f"the settings file {name} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        # Not the line itself: it may hold a key. The decoder's message has only its place.
        raise ConfigurationError(f"the settings file {name} is not TOML: {error}") from None
    table = content.get("azure")
    if not isinstance(table, dict):
        raise ConfigurationError(f"the settings file {name} has no table [azure]")
    options = cast(dict[str, Any], table)
    check_options(options, _option_names(), f"[azure] in {name}")
    return dict(options)


def _from_text(variable: str, name: str, text: str) -> object:
    """Return the value of an option that an environment variable gives as text."""
    kind = _type_of(name)
    if name != "activity_groups" and isinstance(None, cast(Any, kind)) and text.lower() == "none":
        return None
    try:
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if kind in (int, int | None):
            return int(text)
        if kind in (float, float | None):
            return float(text)
        if name == "activity_groups":
            return json.loads(text)
    except (KeyError, ValueError):
        wanted = "a JSON object of lists" if name == "activity_groups" else _CALLED[kind]
        raise ConfigurationError(f"{variable} must be {wanted}, not {text!r}") from None
    return text
