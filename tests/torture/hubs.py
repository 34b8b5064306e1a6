"""The hubs under torture: how their processes open them, and what is left in them, seen without our own code.

A process opens the hub that the environment names: `TORTURE_HUB_FILE` is the embedded one.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from durabletask_azure import Settings, TaskHub

FILE_VARIABLE: Final = "TORTURE_HUB_FILE"
LOCK_S: Final = 5.0

SETTINGS: Final = Settings(
    lock_s=LOCK_S,
    heartbeat_s=1.0,
    balance_s=0.5,
    sweep_s=10.0,
    timer_grace_s=3.0,
    unregistered_retry_s=2.0,
    park_delays_s=(0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0),
    stop_grace_s=5.0,
)


def open_hub(environment: Mapping[str, str] = os.environ) -> TaskHub:
    """Open the hub the environment names."""
    return TaskHub.local(environment[FILE_VARIABLE], settings=SETTINGS)


class HubUnderTest(Protocol):
    """What the torture needs of a hub, besides opening it."""

    @property
    def environment(self) -> dict[str, str]:
        """What a process finds it by."""
        ...

    def leftovers(self) -> list[str]:
        """Return what is in it besides tombstones and locks, a line each; nobody works with it meanwhile."""
        ...

    def close(self) -> None:
        """End what was started for it."""
        ...


class FileHub:
    """The embedded hub in a file, shared by all processes."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "hub.db"

    @property
    def environment(self) -> dict[str, str]:
        """What a process finds it by."""
        return {FILE_VARIABLE: str(self._path)}

    def leftovers(self) -> list[str]:
        """Return what is in it besides tombstones and locks, a line each."""
        left: list[str] = []
        connection = sqlite3.connect(self._path)
        try:
            for table in ("instances", "segments", "outbox", "messages", "tasks", "dead", "workers"):
                rows = connection.execute(f"SELECT * FROM {table} LIMIT 10").fetchall()  # noqa: S608
                left += [f"{table}: {_short(row)}" for row in rows]
        finally:
            connection.close()
        payloads = self._path.with_name(f"{self._path.name}-payloads")
        left += [f"payload: {path.name}" for path in payloads.rglob("*") if path.is_file()]
        return left

    def close(self) -> None:
        """End nothing: there is nothing besides the files."""


def _short(row: tuple[object, ...]) -> str:
    return " ".join(str(value)[:60] for value in row)
