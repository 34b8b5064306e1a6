"""The hubs under torture: how their processes open them, and what is left in them, seen without our own code.

A process opens the hub that the environment names: `TORTURE_HUB_FILE` is the embedded one, otherwise it is an Azure
hub by the variables of `AzureSettings.from_env`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

import msgspec

from durabletask_azure import AzureSettings, Settings, TaskHub
from tests.torture.nemesis import Harm

FILE_VARIABLE: Final = "TORTURE_HUB_FILE"
GRACE_VARIABLE: Final = "TORTURE_STOP_GRACE_S"
"""How long a graceful stop waits for activities, if not as long as the settings here say."""
LOCK_S: Final = 5.0
_KEPT: Final = {"hub", "locks", "tombstones", "workers", "sqlite_sequence"}
"""Tables of an embedded hub that a purge of everything leaves alone."""

SETTINGS: Final = Settings(
    lock_s=LOCK_S,
    heartbeat_s=1.0,
    balance_s=0.5,
    sweep_s=10.0,
    timer_grace_s=3.0,
    unregistered_retry_s=2.0,
    park_delays_s=(0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0),
    stop_grace_s=5.0,
    link_timeout_s=5.0,
    wedged_s=15.0,
    # With locks of seconds, as long against them as the usual ones are against locks of half a minute.
    send_retry_s_max=5.0,
    storage_connect_s=3.0,
    storage_read_s=6.0,
    # A purge whose worker dies may leave segments to the tombstone: so that the end of it is seen, too.
    tombstone_s=30.0,
    # And so may a purge, or a turn that was never committed, leave spilled values to the collection.
    orphan_age_s=40.0,
    orphan_collect_s=10.0,
)


def open_hub(environment: Mapping[str, str] = os.environ) -> TaskHub:
    """Open the hub the environment names."""
    settings = SETTINGS
    if GRACE_VARIABLE in environment:
        settings = msgspec.structs.replace(settings, stop_grace_s=float(environment[GRACE_VARIABLE]))
    if FILE_VARIABLE in environment:
        return TaskHub.local(environment[FILE_VARIABLE], settings=settings)
    return TaskHub.azure(AzureSettings.from_env(environment), settings=settings)


class HubUnderTest(Protocol):
    """What the torture needs of a hub, besides opening it."""

    def environment(self, actor: str | None) -> dict[str, str]:
        """Return what a process finds it by; `None` is whoever looks at it from outside."""
        ...

    def harms(self) -> list[Harm]:
        """Return what can be done to it besides to its processes."""
        ...

    def leftovers(self) -> list[str]:
        """Return what is in it besides tombstones, locks and announcements, a line each."""
        ...

    def close(self) -> None:
        """End what was started for it."""
        ...


class FileHub:
    """The embedded hub in a file, shared by all processes."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "hub.db"

    def environment(self, actor: str | None) -> dict[str, str]:
        """Return what a process finds it by."""
        return {FILE_VARIABLE: str(self._path)}

    def harms(self) -> list[Harm]:
        """Return nothing: whoever harms the processes harms all there is."""
        return []

    def leftovers(self) -> list[str]:
        """Return what is in it besides tombstones, locks and announcements, a line each."""
        left: list[str] = []
        connection = sqlite3.connect(self._path)
        try:
            tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
            for table in sorted({name for (name,) in tables} - _KEPT):
                rows = connection.execute(f"SELECT * FROM {table} LIMIT 10").fetchall()  # noqa: S608
                left += [f"{table}: {_short(row)}" for row in rows]
        finally:
            connection.close()
        payloads = self._path.with_name(f"{self._path.name}-payloads")
        # Not Path.rglob: a folder that workers remove meanwhile is an error to it.
        left += [f"payload: {name}" for _, _, names in os.walk(payloads) for name in names]
        return left

    def close(self) -> None:
        """End nothing: there is nothing besides the files."""


def _short(row: tuple[object, ...]) -> str:
    return " ".join(str(value)[:60] for value in row)
