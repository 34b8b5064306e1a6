"""Microsoft's `Config.json`: the queues an emulator begins with.

The shape is that of the Service Bus emulator's own documentation: `UserConfig.Namespaces[].Queues[]`, each with a
`Name` and `Properties`. Topics are not supported: they are named in a warning and left out.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from durabletask_azure.emulator.broker.settings import FOREVER_S, QueueSettings, SettingsError
from durabletask_azure.emulator.durations import parse_duration

logger = logging.getLogger("durabletask_azure.emulator")

NAMESPACES_MAX: Final = 1


class ConfigError(Exception):
    """The file cannot be used; the text says why and where."""


class Properties(msgspec.Struct, kw_only=True, rename="pascal"):
    """The properties of a queue, as the file names them."""

    dead_lettering_on_message_expiration: bool = False
    default_message_time_to_live: str | None = None
    duplicate_detection_history_time_window: str | None = None
    forward_dead_lettered_messages_to: str | None = None
    forward_to: str | None = None
    lock_duration: str | None = None
    max_delivery_count: int | None = None
    max_size_in_megabytes: int | None = None
    requires_duplicate_detection: bool = False
    requires_session: bool = False


class QueueEntry(msgspec.Struct, kw_only=True, rename="pascal"):
    """A queue in the file."""

    name: str
    properties: Properties = msgspec.field(default_factory=Properties)


class TopicEntry(msgspec.Struct, kw_only=True, rename="pascal"):
    """A topic in the file."""

    name: str


class NamespaceEntry(msgspec.Struct, kw_only=True, rename="pascal"):
    """A namespace in the file."""

    name: str = "sbemulatorns"
    queues: list[QueueEntry] = msgspec.field(default_factory=list[QueueEntry])
    topics: list[TopicEntry] = msgspec.field(default_factory=list[TopicEntry])


class UserConfig(msgspec.Struct, kw_only=True, rename="pascal"):
    """The part of the file that matters."""

    namespaces: list[NamespaceEntry]


class ConfigFile(msgspec.Struct, kw_only=True, rename="pascal"):
    """The file."""

    user_config: UserConfig


def read_config(path: Path) -> list[QueueSettings]:
    """Read the queues of a file.

    Raises:
        ConfigError: it cannot be read, or a queue in it is not allowed.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    try:
        config = msgspec.json.decode(data.removeprefix(b"\xef\xbb\xbf"), type=ConfigFile)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path} is not a Config.json: {error}") from error
    namespaces = config.user_config.namespaces
    if len(namespaces) > NAMESPACES_MAX:
        raise ConfigError(f"{path} has {len(namespaces)} namespaces; an emulator has {NAMESPACES_MAX}")
    queues: list[QueueSettings] = []
    for namespace in namespaces:
        if namespace.topics:
            names = ", ".join(topic.name for topic in namespace.topics)
            logger.warning("topics are not supported and are left out: %s", names)
        queues += [_queue(entry, path) for entry in namespace.queues]
    return queues


def _queue(entry: QueueEntry, path: Path) -> QueueSettings:
    given = entry.properties
    base = QueueSettings(entry.name)
    try:
        settings = replace(
            base,
            dead_letters_expired=given.dead_lettering_on_message_expiration,
            ttl_s=_duration(given.default_message_time_to_live, FOREVER_S),
            duplicates_s=_duration(given.duplicate_detection_history_time_window, base.duplicates_s),
            forward_dead_letters_to=given.forward_dead_lettered_messages_to or "",
            forward_to=given.forward_to or "",
            lock_s=_duration(given.lock_duration, base.lock_s),
            deliveries_max=given.max_delivery_count or base.deliveries_max,
            size_mb_max=given.max_size_in_megabytes or base.size_mb_max,
            detects_duplicates=given.requires_duplicate_detection,
            requires_sessions=given.requires_session,
        )
        settings.validate()
    except (ValueError, SettingsError) as error:
        raise ConfigError(f"{path}, queue {entry.name!r}: {error}") from error
    return settings


def _duration(text: str | None, default: float) -> float:
    return default if not text else parse_duration(text)
